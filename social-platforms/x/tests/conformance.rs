//! What every adapter promises, held against the sandbox.

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
struct InSandbox;

impl Simulated for InSandbox {
    const PLATFORM: &'static str = "x";
    const PERSONA: &'static str = "ada";
    const VISIBLE: &'static [&'static str] = &["posts.create"];
    const OTHERS: &'static [&'static str] = &[
        "posts.timeline",
        "posts.delete",
        "users.me",
        "media.upload",
        "media.initialize",
        "media.append",
        "media.finalize",
        "media.status",
        "media.metadata",
    ];
    const TOKEN_LIFE: Duration = Duration::from_secs(7200);

    fn adapter(base: Url) -> Arc<dyn Platform> {
        Arc::new(X::builder("sandbox-x-client", "sandbox-x-secret").base_url(base).build().unwrap())
    }

    fn shapes() -> Vec<Shape> {
        let link =
            Link { url: "https://shop.example.com/a?b=c".into(), title: None, description: None, thumbnail: None };
        let poll =
            json!({"poll": {"options": ["Tea", "Coffee ☕"], "duration_minutes": 60}, "reply_settings": "following"});
        let pictures = Draft::text("A lighthouse at dusk").image(sample::png(800, 600), "A lighthouse.");
        vec![
            Shape::one("text", Draft::text("Hello & welcome <3 👋 cafe\u{301}")),
            Shape::one("link", Draft::text("New in the shop").link(link)),
            Shape::one("pictures", pictures.image(sample::jpeg(640, 480), "")),
            Shape::one("animation", Draft::text("It moves").image(sample::gif(320, 200, 3), "A wave.")),
            Shape::one("video", Draft::text("").video(sample::mp4(1280, 720, 2_000, 3 * 1024 * 1024 + 1))),
            Shape::one("poll", Draft::text("What do you drink?").option(X::ID, poll)),
            Shape::one("thread", Draft::text("One").then("Two").then("Three")).parts(3),
            Shape::one("first comment", Draft::text("A post").first_comment("More at shop.example.com")).parts(2),
        ]
    }
}

social_testkit::platform_suite!(SandboxNet<InSandbox>);
