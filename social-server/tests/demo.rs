//! The demo is the one test of everything together over real HTTP: networks with their rules, the API, a worker, a client.

use social_server::demo::{Options, Stage};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn everything_is_published_exactly_once() {
    let options = Options { once: true, port: Some(0), database: None, ahead: 1, processing_ms: 50 };
    let stage = Stage::set(&options).await.unwrap();
    let (summary, _) = stage.play(&options).await.unwrap();
    stage.clear().await;
    let json = summary.json();
    assert!(summary.ok(), "{json:#}");
    let published = json["published"].as_array().unwrap();
    let has = |platform: &str, kind: &str, flavor: &str| {
        published.iter().any(|row| row["platform"] == platform && row["kind"] == kind && row["flavor"] == flavor)
    };
    for flavor in ["text", "link", "image", "images", "video"] {
        for (platform, kind) in [("x", "profile"), ("linkedin", "member"), ("linkedin", "organization")] {
            assert!(has(platform, kind, flavor), "{flavor} on {platform} {kind}: {json:#}");
        }
    }
    assert!(has("x", "profile", "thread"), "{json:#}");
    assert!(published.iter().all(|row| row["permalink"].is_string()), "{json:#}");
    assert_eq!(json["ledger"]["objects"], 20, "17 posts, a thread of three: {json:#}");
}
