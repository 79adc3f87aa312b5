//! LinkedIn against the sandbox, by the suite that every adapter passes: as a member and as an organization.

use std::{sync::Arc, time::Duration};

use serde_json::json;
use social_core::{AccountKind, Draft, Link, Platform, draft::MediaRef, media::sample};
use social_linkedin::LinkedIn;
use social_testkit::{
    sandboxed::{SandboxNet, Simulated},
    world::Shape,
};
use url::Url;

#[derive(Debug)]
struct OnLinkedIn;

impl Simulated for OnLinkedIn {
    const PLATFORM: &'static str = "linkedin";
    const PERSONA: &'static str = "ada";
    const VISIBLE: &'static [&'static str] = &["posts.create", "comments.create"];
    const OTHERS: &'static [&'static str] = &[
        "posts.finder",
        "images.initialize",
        "images.upload",
        "images.get",
        "videos.initialize",
        "videos.upload",
        "videos.finalize",
        "videos.get",
        "documents.initialize",
        "documents.upload",
        "documents.get",
        "comments.list",
        "userinfo.get",
    ];
    const TOKEN_LIFE: Duration = Duration::from_secs(60 * 24 * 3600);

    fn adapter(base: Url) -> Arc<dyn Platform> {
        Arc::new(LinkedIn::builder("sandbox-linkedin-client", "sandbox-linkedin-secret").base_url(base).build().unwrap())
    }

    fn shapes() -> Vec<Shape> {
        let thumbnail = Some(MediaRef::from(sample::png(640, 480)));
        let link = |thumbnail| Link { url: "https://example.org/a?b=c".into(), title: Some("A title".into()), description: None, thumbnail };
        let images = Draft::text("Two views of the harbour.")
            .image(sample::png(640, 480), "the harbour at dawn")
            .image(sample::jpeg(640, 480), "the harbour at noon");
        let video = || sample::Mp4::new(640, 360, 5_000).total_bytes(9_000_000).bytes();
        let poll = json!({ "poll": { "question": "What do you drink?", "options": ["Tea", "Coffee"] } });
        let page = AccountKind::Organization;
        vec![
            Shape::one("a text", Draft::text("Good morning (harbour) *stars* #sea_side {x} <y> ~ @ [z] 🌊")),
            Shape::one("an article", Draft::text("Read this.").link(link(None))),
            Shape::one("one image", Draft::text("The harbour.").image(sample::png(640, 480), "the harbour")),
            Shape::one("two images", images.clone()),
            Shape::one("a video", Draft::text("A film of the sea.").video(video())),
            Shape::one("a document", Draft::text("Our report.").document(sample::pdf(), "Report")),
            Shape::one("a poll", Draft::text("Tell us.").option(LinkedIn::ID, poll)),
            Shape::one("a first comment", Draft::text("A post.").first_comment("And a comment.")).parts(2),
            Shape::one("a text of a page", Draft::text("Good morning from the company.")).on(page),
            Shape::one("an article of a page", Draft::text("Read ours.").link(link(thumbnail))).on(page),
            Shape::one("images of a page", images).on(page),
            Shape::one("a video of a page", Draft::text("A film of the company.").video(video())).on(page),
        ]
    }
}

social_testkit::platform_suite!(SandboxNet<OnLinkedIn>);
