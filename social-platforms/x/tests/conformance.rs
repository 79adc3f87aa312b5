//! X against the sandbox, by the suite that every adapter passes.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has to end")]

use std::{sync::Arc, time::Duration};

use serde_json::json;
use social_core::{Draft, Link, Platform, media::sample};
use social_testkit::{
    sandboxed::{SandboxNet, Simulated},
    world::Shape,
};
use social_x::X;
use url::Url;

#[derive(Debug)]
struct OnX;

impl Simulated for OnX {
    const PLATFORM: &'static str = "x";
    const PERSONA: &'static str = "ada";
    const VISIBLE: &'static [&'static str] = &["posts.create"];
    const OTHERS: &'static [&'static str] = &[
        "posts.timeline",
        "posts.delete",
        "media.upload",
        "media.initialize",
        "media.append",
        "media.finalize",
        "media.status",
        "media.metadata",
        "users.me",
    ];
    const TOKEN_LIFE: Duration = Duration::from_secs(7200);

    fn adapter(base: Url) -> Arc<dyn Platform> {
        Arc::new(X::builder("sandbox-x-client", "sandbox-x-secret").base_url(base).build().unwrap())
    }

    fn shapes() -> Vec<Shape> {
        let link = Link { url: "https://example.org/a?b=c".into(), title: None, description: None, thumbnail: None };
        let images = Draft::text("Four views of the harbour.")
            .image(sample::png(640, 480), "the harbour at dawn")
            .image(sample::jpeg(640, 480), "the harbour at noon")
            .image(sample::png(320, 200), "the harbour at dusk")
            .image(sample::png(320, 201), "the harbour at night");
        let video = sample::Mp4::new(640, 360, 5_000).total_bytes(2_500_000).bytes();
        let poll = json!({ "poll": { "options": ["Tea", "Coffee"], "duration_minutes": 60 } });
        vec![
            Shape::one("a text", Draft::text("Good morning, harbour 🌊")),
            Shape::one(
                "a text that comes back changed",
                Draft::text("Tea & cake <3 at  the cafe\u{301}, shop.example.com"),
            ),
            Shape::one("a link", Draft::text("Read this.").link(link)),
            Shape::one("four images", images),
            Shape::one("a gif", Draft::text("It moves.").image(sample::gif(200, 200, 3), "a moving square")),
            Shape::one("a video", Draft::text("A film of the sea.").video(video)),
            Shape::one("a poll", Draft::text("What do you drink?").option(X::ID, poll)),
            Shape::one("a thread", Draft::text("One.").then("Two.").then("Three.")).parts(3),
            Shape::one("a first comment", Draft::text("A post.").first_comment("And a comment.")).parts(2),
        ]
    }
}

social_testkit::platform_suite!(SandboxNet<OnX>);
