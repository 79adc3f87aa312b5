//! Numbers of posts and accounts. X charges for each post that it tells about.

use std::collections::{BTreeMap, HashMap};

use async_trait::async_trait;
use jiff::SignedDuration;
use social_core::{
    Account, Analytics, CallContext, Error, RemotePostId, TokenSet,
    platform::{AccountMetrics, PostMetrics},
};

use crate::{
    X, ask, operation,
    wire::{self, Numbers, Post},
};

/// Posts in one request.
const BATCH: usize = 100;
/// X gives private numbers for 30 days; asking for an older post's is an error.
const PRIVATE_LIFE: SignedDuration = SignedDuration::from_hours(29 * 24);

/// Our names for numbers, and X's in both vocabularies.
const PUBLIC: [(&str, &[&str]); 6] = [
    ("impressions", &["impression_count"]),
    ("likes", &["like_count"]),
    ("comments", &["reply_count"]),
    ("shares", &["retweet_count", "repost_count"]),
    ("quotes", &["quote_count"]),
    ("saves", &["bookmark_count"]),
];
const PRIVATE: [(&str, &[&str]); 4] = [
    ("impressions", &["impression_count"]),
    ("clicks", &["url_link_clicks"]),
    ("profile_clicks", &["user_profile_clicks"]),
    ("engagements", &["engagements"]),
];
const ACCOUNT: [(&str, &[&str]); 4] = [
    ("followers", &["followers_count"]),
    ("following", &["following_count"]),
    ("posts", &["tweet_count", "post_count"]),
    ("listed", &["listed_count"]),
];

#[async_trait]
impl Analytics for X {
    /// Asks for 100 posts at a time. Private numbers (clicks, engagements) are there for 30 days.
    async fn posts(
        &self,
        cx: &CallContext,
        tokens: &TokenSet,
        _account: &Account,
        ids: &[RemotePostId],
    ) -> Result<Vec<PostMetrics>, Error> {
        let now = cx.now();
        let is_young = |id: &&str| wire::id_time(id).is_some_and(|made| now.duration_since(made) < PRIVATE_LIFE);
        let known = ids.iter().map(RemotePostId::as_str).filter(|id| wire::is_id(id));
        let (young, old): (Vec<&str>, Vec<&str>) = known.partition(is_young);
        let mut metrics = Vec::with_capacity(ids.len());
        for (ids, private) in [(young, true), (old, false)] {
            for batch in ids.chunks(BATCH) {
                let request =
                    cx.http().get(operation::POST_NUMBERS, self.endpoint(&["2", "tweets"])).bearer(&tokens.access);
                let request = request.query([("ids", batch.join(","))]).query(self.vocabulary.numbers(private));
                let page: wire::Many<Post> = ask(request).await?.json().map_err(Error::effect_none)?;
                let views: HashMap<&str, i64> = page
                    .includes
                    .media
                    .iter()
                    .filter_map(|media| Some((media.media_key.as_str(), media.public_metrics.number(&["view_count"])?)))
                    .collect();
                metrics.extend(page.data.iter().map(|post| PostMetrics {
                    id: RemotePostId::new(post.id.as_str()),
                    values: values(post, &views),
                    at: now,
                }));
            }
        }
        Ok(metrics)
    }

    async fn account(&self, cx: &CallContext, tokens: &TokenSet, _account: &Account) -> Result<AccountMetrics, Error> {
        let me = self.me(cx, tokens, operation::ACCOUNT_NUMBERS).await?;
        let mut values = BTreeMap::new();
        collect(&mut values, &me.public_metrics, &ACCOUNT);
        Ok(AccountMetrics { values, at: cx.now() })
    }
}

fn values(post: &Post, views: &HashMap<&str, i64>) -> BTreeMap<String, i64> {
    let mut values = BTreeMap::new();
    collect(&mut values, &post.public_metrics, &PUBLIC);
    // The private numbers are the fuller ones.
    collect(&mut values, &post.non_public_metrics, &PRIVATE);
    let views: Vec<i64> = post.media_keys().iter().filter_map(|key| views.get(key.as_str()).copied()).collect();
    if !views.is_empty() {
        values.insert("views".to_owned(), views.iter().sum());
    }
    values
}

fn collect(values: &mut BTreeMap<String, i64>, numbers: &Numbers, names: &[(&str, &[&str])]) {
    for (ours, theirs) in names {
        if let Some(number) = numbers.number(theirs) {
            values.insert((*ours).to_owned(), number);
        }
    }
}
