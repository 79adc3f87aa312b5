//! Numbers about posts and pages. They depend on the id alone, so that they repeat.

use super::{Caller, errors};
use crate::answer::{self, Answer, Input};
use crate::lock;
use crate::rng::metric;
use crate::world::World;
use serde_json::{Value, json};

fn totals(key: &str) -> Value {
    let impressions = 100 + metric(key, "impressions", 9_900);
    let (clicks, likes) = (metric(key, "clicks", 200), metric(key, "likes", 120));
    let (comments, shares) = (metric(key, "comments", 20), metric(key, "shares", 15));
    #[expect(clippy::cast_precision_loss, reason = "the counts are small")]
    let engagement = (clicks + likes + comments + shares) as f64 / impressions as f64;
    json!({
        "impressionCount": impressions,
        "uniqueImpressionsCount": impressions * 2 / 3,
        "clickCount": clicks,
        "likeCount": likes,
        "commentCount": comments,
        "shareCount": shares,
        "engagement": engagement
    })
}

fn elements(list: &[Value]) -> Answer {
    let paging = json!({ "start": 0, "count": 10, "total": list.len(), "links": [] });
    answer::json(200, &json!({ "elements": list, "paging": paging }))
}

/// Start and end in milliseconds of a `timeIntervals` value.
fn interval(text: &str) -> Option<(i64, i64)> {
    let number = |name: &str| {
        let rest = text.split_once(name)?.1;
        rest[..rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len())].parse::<i64>().ok()
    };
    let (start, end) = (number("start:")?, number("end:")?);
    (start < end).then_some((start, end))
}

pub(super) fn shares(world: &World, input: &Input, caller: &Caller) -> Result<Answer, Answer> {
    let query = input.query();
    let entity = query.get("organizationalEntity").ok_or_else(|| errors::parameter("organizationalEntity"))?;
    if query.get("q") != Some("organizationalEntity") {
        return Err(errors::parameter("q"));
    }
    let state = lock(&world.linkedin);
    if !state.administers(caller, entity) {
        return Err(errors::denied("organizationalEntityShareStatistics.FINDER-organizationalEntity"));
    }
    if let Some(text) = query.get("timeIntervals") {
        const DAY_MS: i64 = 86_400_000;
        let (start, end) = interval(text).ok_or_else(|| errors::parameter("timeIntervals"))?;
        let days: Vec<Value> = (0..)
            .map(|day| start + day * DAY_MS)
            .take_while(|from| *from < end)
            .take(366)
            .map(|from| {
                json!({
                    "organizationalEntity": entity,
                    "timeRange": { "start": from, "end": (from + DAY_MS).min(end) },
                    "totalShareStatistics": totals(&format!("{entity}{from}"))
                })
            })
            .collect();
        return Ok(elements(&days));
    }
    let mut found = Vec::new();
    for (parameter, member) in [("shares", "share"), ("ugcPosts", "ugcPost")] {
        for urn in query.get(parameter).map(super::list).unwrap_or_default() {
            let own =
                state.post_urn(&urn).and_then(|urn| state.posts.get(&urn)).is_some_and(|post| post.author == entity);
            if own && urn.starts_with(&format!("urn:li:{member}:")) {
                let mut element = json!({ "organizationalEntity": entity, "totalShareStatistics": totals(&urn) });
                element[member] = json!(urn);
                found.push(element);
            }
        }
    }
    if query.get("shares").is_none() && query.get("ugcPosts").is_none() {
        found.push(json!({ "organizationalEntity": entity, "totalShareStatistics": totals(entity) }));
    }
    Ok(elements(&found))
}

pub(super) fn followers(world: &World, input: &Input, caller: &Caller) -> Result<Answer, Answer> {
    let query = input.query();
    let entity = query.get("organizationalEntity").ok_or_else(|| errors::parameter("organizationalEntity"))?;
    if !lock(&world.linkedin).administers(caller, entity) {
        return Err(errors::denied("organizationalEntityFollowerStatistics.FINDER-organizationalEntity"));
    }
    let gains = json!({
        "organicFollowerGain": metric(entity, "organic", 40),
        "paidFollowerGain": metric(entity, "paid", 10)
    });
    let mut element = json!({ "organizationalEntity": entity, "followerGains": gains });
    if let Some((start, end)) = query.get("timeIntervals").and_then(interval) {
        element["timeRange"] = json!({ "start": start, "end": end });
    }
    Ok(elements(&[element]))
}

pub(super) fn network_size(world: &World, input: &Input, urn: &str, caller: &Caller) -> Result<Answer, Answer> {
    let known = matches!(input.query().get("edgeType"), Some("COMPANY_FOLLOWED_BY_MEMBER" | "CompanyFollowedByMember"));
    if !known {
        return Err(errors::parameter("edgeType"));
    }
    if !lock(&world.linkedin).administers(caller, urn) {
        return Err(errors::denied("networkSizes.GET"));
    }
    Ok(answer::json(200, &json!({ "firstDegreeSize": 200 + metric(urn, "followers", 9_000) })))
}

const BASIC: &[&str] = &["IMPRESSION", "MEMBERS_REACHED", "RESHARE", "REACTION", "COMMENT"];
const FROM_202604: &[&str] = &[
    "POST_SAVE",
    "POST_SEND",
    "LINK_CLICKS",
    "PREMIUM_CTA_CLICKS",
    "FOLLOWER_GAINED_FROM_CONTENT",
    "PROFILE_VIEW_FROM_CONTENT",
];

pub(super) fn member(world: &World, input: &Input, caller: &Caller) -> Result<Answer, Answer> {
    if !caller.has("r_member_postAnalytics") {
        return Err(errors::denied("memberCreatorPostAnalytics.FINDER-entity"));
    }
    let query = input.query();
    let kind = query.get("queryType").unwrap_or_default();
    let known = BASIC.contains(&kind) || (caller.version >= 202_604 && FROM_202604.contains(&kind));
    if !known {
        return Err(errors::parameter("queryType"));
    }
    let state = lock(&world.linkedin);
    let own = state.urn_of(caller.app, caller.member);
    let key = match query.get("q") {
        Some("me") => own,
        Some("entity") => {
            let text = query.get("entity").unwrap_or_default();
            let inner = text.strip_prefix('(').and_then(|rest| rest.strip_suffix(')')).unwrap_or(text);
            let urn = inner.strip_prefix("share:").or_else(|| inner.strip_prefix("ugc:"));
            let urn = urn.ok_or_else(|| errors::parameter("entity"))?;
            let urn = state.post_urn(urn).ok_or_else(errors::not_found)?;
            if state.posts.get(&urn).is_none_or(|post| post.author != own) {
                return Err(errors::denied("memberCreatorPostAnalytics.FINDER-entity"));
            }
            urn
        }
        _ => return Err(errors::parameter("q")),
    };
    // The metric's type became a plain string in 202605.
    let metric_type = if caller.version >= 202_605 {
        json!(kind)
    } else {
        json!({ "com.linkedin.adsexternalapi.memberanalytics.v1.CreatorPostAnalyticsMetricTypeV1": kind })
    };
    let range = query.get("dateRange").map(|range| json!({ "dateRange": range }));
    let mut element = json!({ "count": metric(&key, kind, 5_000), "metricType": metric_type, "targetEntity": key });
    match query.get("aggregation") {
        None | Some("TOTAL") => {}
        Some("DAILY") => {
            if let Some(range) = range {
                element["dateRange"] = range["dateRange"].clone();
            }
        }
        Some(_) => return Err(errors::parameter("aggregation")),
    }
    Ok(elements(&[element]))
}

#[cfg(test)]
mod tests {
    #[test]
    fn an_interval_is_read_raw_or_decoded() {
        let text = "(timeRange:(start:1000,end:2000),timeGranularityType:DAY)";
        assert_eq!(super::interval(text), Some((1_000, 2_000)));
        assert_eq!(super::interval("(timeRange:(start:2000,end:1000))"), None);
    }
}
