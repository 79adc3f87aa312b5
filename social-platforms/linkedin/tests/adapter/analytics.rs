//! Numbers.

use serde_json::json;
use social_core::{Actor, Analytics as _, ErrorKind, RemotePostId};
use wiremock::ResponseTemplate;

use crate::support::{Net, assert_versioned, fault, header, member, page, tokens};

fn ids(urns: &[&str]) -> Vec<RemotePostId> {
    urns.iter().map(|&urn| RemotePostId::new(urn)).collect()
}

#[tokio::test]
async fn posts_of_a_page_come_in_one_call_and_silence_means_zero() {
    let net = Net::start().await;
    let counts = json!({
        "impressionCount": 100, "uniqueImpressionsCounts": 60, "clickCount": 5, "likeCount": 4, "commentCount": 3, "shareCount": 2,
        "engagement": 0.14
    });
    let answer = json!({ "elements": [{ "organizationalEntity": "x", "ugcPost": "urn:li:ugcPost:2", "totalShareStatistics": counts }] });
    net.on("GET", "rest/organizationalEntityShareStatistics", ResponseTemplate::new(200).set_body_json(answer)).await;
    let asked = ids(&["urn:li:share:1", "urn:li:ugcPost:2", "urn:li:share:3", "urn:li:activity:4"]);
    let found = net.linkedin.posts(&net.call, &tokens(&[]), &page(), &asked).await.unwrap();
    let seen: Vec<_> =
        found.iter().map(|post| (post.id.as_str(), post.values["impressions"], post.values["reach"])).collect();
    assert_eq!(seen, [("urn:li:share:1", 0, 0), ("urn:li:ugcPost:2", 100, 60), ("urn:li:share:3", 0, 0)]);
    assert_eq!((found[1].values["likes"], found[1].values["shares"], found[1].values.len()), (4, 2, 6));
    let request = &net.requests().await[0];
    assert_versioned(request);
    assert_eq!(header(request, "x-restli-method"), Some("FINDER"));
    let query = "q=organizationalEntity&organizationalEntity=urn%3Ali%3Aorganization%3A2414183\
                 &shares=List(urn%3Ali%3Ashare%3A1,urn%3Ali%3Ashare%3A3)&ugcPosts=List(urn%3Ali%3AugcPost%3A2)";
    assert_eq!(request.url.query(), Some(query));
    assert_eq!(net.requests().await.len(), 1);
}

#[tokio::test]
async fn many_posts_take_several_calls_and_none_takes_none() {
    let net = Net::start().await;
    net.on(
        "GET",
        "rest/organizationalEntityShareStatistics",
        ResponseTemplate::new(200).set_body_json(json!({ "elements": [] })),
    )
    .await;
    let many: Vec<_> = (0..101).map(|n| RemotePostId::new(format!("urn:li:share:{n}"))).collect();
    assert_eq!(net.linkedin.posts(&net.call, &tokens(&[]), &page(), &many).await.unwrap().len(), 101);
    assert_eq!(net.requests().await.len(), 3);
    assert!(net.linkedin.posts(&net.call, &tokens(&[]), &page(), &[]).await.unwrap().is_empty());
    assert!(net.linkedin.posts(&net.call, &tokens(&[]), &member(), &[]).await.unwrap().is_empty());
    assert_eq!(net.requests().await.len(), 3);
}

#[tokio::test]
async fn posts_of_a_member_need_the_product_and_a_call_for_each_number() {
    let net = Net::start().await;
    let asked = ids(&["urn:li:ugcPost:2"]);
    let error = net.linkedin.posts(&net.call, &tokens(&["w_member_social"]), &member(), &asked).await.unwrap_err();
    assert_eq!((error.kind(), error.who()), (ErrorKind::Permission, Actor::Operator));
    assert!(error.advice_text().contains("Community Management"));
    assert!(net.requests().await.is_empty());

    let path = "rest/memberCreatorPostAnalytics";
    for element in [
        json!({ "count": 10, "metricType": "IMPRESSION" }),
        json!({ "count": 9, "metricType": { "com.linkedin.x": "MEMBERS_REACHED" } }),
        json!({ "value": 8 }),
        json!({ "count": 7.0 }),
    ] {
        net.once("GET", path, ResponseTemplate::new(200).set_body_json(json!({ "elements": [element] }))).await;
    }
    net.on("GET", path, ResponseTemplate::new(200).set_body_json(json!({ "elements": [], "paging": {} }))).await;
    let found = net.linkedin.posts(&net.call, &tokens(&["r_member_postAnalytics"]), &member(), &asked).await.unwrap();
    let value = |name: &str| found[0].values[name];
    assert_eq!(["impressions", "reach", "shares", "likes", "comments"].map(value), [10, 9, 8, 7, 0]);
    let requests = net.requests().await;
    assert_eq!(requests.len(), 5);
    let query = "q=entity&entity=(ugc:urn%3Ali%3AugcPost%3A2)&queryType=IMPRESSION&aggregation=TOTAL";
    assert_eq!(requests[0].url.query(), Some(query));
    assert_versioned(&requests[0]);
}

#[tokio::test]
async fn followers_are_known_of_pages_only() {
    let net = Net::start().await;
    let path = "rest/networkSizes/urn%3Ali%3Aorganization%3A2414183";
    net.once("GET", path, ResponseTemplate::new(200).set_body_json(json!({ "firstDegreeSize": 1234 }))).await;
    let found = net.linkedin.account(&net.call, &tokens(&[]), &page()).await.unwrap();
    assert_eq!((found.values["followers"], found.at), (1234, net.call.now()));
    assert_eq!(net.requests().await[0].url.query(), Some("edgeType=COMPANY_FOLLOWED_BY_MEMBER"));
    net.once("GET", path, fault(403, "ACCESS_DENIED", "no")).await;
    assert_eq!(net.linkedin.account(&net.call, &tokens(&[]), &page()).await.unwrap_err().kind(), ErrorKind::Permission);
    assert_eq!(
        net.linkedin.account(&net.call, &tokens(&[]), &member()).await.unwrap_err().kind(),
        ErrorKind::Unsupported
    );
}
