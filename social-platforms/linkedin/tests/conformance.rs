//! The promises of every adapter, kept against the simulated LinkedIn: as a member and a page without refresh tokens, and as a partner app.

use std::{sync::Arc, time::Duration};

use serde_json::json;
use social_core::{AccountKind, Attachment, Draft, Link, Platform, PlatformId, media::sample};
use social_linkedin::LinkedIn;
use social_testkit::{
    sandboxed::{SandboxNet, Simulated},
    world::Shape,
};
use url::Url;

/// An ordinary app: no refresh tokens, read access to pages only.
#[derive(Debug)]
struct Ordinary;

/// A partner: refresh tokens.
#[derive(Debug)]
struct Partner;

const VISIBLE: &[&str] = &["posts.create", "comments.create"];
const OTHERS: &[&str] = &[
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
    "posts.finder",
    "comments.list",
];
const LIFE: Duration = Duration::from_secs(60 * 24 * 3600);

#[expect(clippy::expect_used, reason = "a test that cannot go on has to end")]
fn adapter(base: Url, app: &str) -> Arc<dyn Platform> {
    let (id, secret) = (format!("sandbox-linkedin-{app}client"), format!("sandbox-linkedin-{app}secret"));
    Arc::new(LinkedIn::builder(id, secret).base_url(base).build().expect("a complete adapter"))
}

fn file(bytes: Vec<u8>, title: Option<&str>) -> Attachment {
    Attachment { media: bytes.into(), alt_text: None, title: title.map(Into::into) }
}

fn shapes() -> Vec<Shape> {
    let on_page = |shape: Shape| shape.on(AccountKind::Organization);
    let linkedin = PlatformId::from_static("linkedin");
    let poll = json!({ "poll": { "question": "Tea or coffee?", "options": ["Tea", "Coffee"] } });
    let link =
        Link { url: "https://example.com/news".into(), title: Some("News".into()), description: None, thumbnail: None };
    vec![
        Shape::one(
            "a text",
            Draft::text("Sale (today) #rust_lang by @[Analytical Engines](urn:li:organization:2414183) 🎉"),
        ),
        Shape::one("a link", Draft::text("Read this.").link(link)),
        Shape::one("a poll", Draft::text("What do you drink?").option(linkedin, poll)),
        Shape::one("a picture", Draft::text("A picture.").image(sample::png(8, 8), "eight by eight")),
        Shape::one("a video", Draft::text("A video.").video(sample::mp4(640, 360, 5_000, 100_000))),
        on_page(Shape::one("a text of a page", Draft::text("The page says hello."))),
        on_page(Shape::one(
            "two pictures of a page",
            Draft::text("Two.").image(sample::png(8, 8), "one").image(sample::jpeg(9, 9), "two"),
        )),
        on_page(Shape::one("a document of a page", Draft::text("A plan.").attach(file(sample::pdf(), None)))),
        on_page(Shape::one("a post with a comment", Draft::text("The post.").first_comment("The comment (plain).")))
            .parts(2),
    ]
}

impl Simulated for Ordinary {
    const PLATFORM: &'static str = "linkedin";
    const PERSONA: &'static str = "ada";
    const VISIBLE: &'static [&'static str] = VISIBLE;
    const OTHERS: &'static [&'static str] = OTHERS;
    const TOKEN_LIFE: Duration = LIFE;

    fn adapter(base: Url) -> Arc<dyn Platform> {
        adapter(base, "")
    }

    fn shapes() -> Vec<Shape> {
        shapes()
    }
}

impl Simulated for Partner {
    const PLATFORM: &'static str = "linkedin";
    const PERSONA: &'static str = "grace";
    const VISIBLE: &'static [&'static str] = VISIBLE;
    const OTHERS: &'static [&'static str] = OTHERS;
    const TOKEN_LIFE: Duration = LIFE;

    fn adapter(base: Url) -> Arc<dyn Platform> {
        adapter(base, "partner-")
    }

    fn shapes() -> Vec<Shape> {
        shapes().into_iter().take(1).collect()
    }
}

mod ordinary {
    social_testkit::platform_suite!(super::SandboxNet<super::Ordinary>);
}

/// What differs where there are refresh tokens.
mod partner {
    use social_testkit::platform;

    type Net = super::SandboxNet<super::Partner>;

    #[tokio::test]
    async fn an_expired_token_is_refreshed_and_the_post_goes_out() {
        platform::an_expired_token_is_refreshed_and_the_post_goes_out::<Net>().await;
    }

    #[tokio::test]
    async fn an_ended_grant_waits_for_reconnecting_and_then_goes_out() {
        platform::an_ended_grant_waits_for_reconnecting_and_then_goes_out::<Net>().await;
    }

    #[tokio::test]
    async fn a_revoked_grant_is_gone_and_revoking_again_is_fine() {
        platform::a_revoked_grant_is_gone_and_revoking_again_is_fine::<Net>().await;
    }

    #[tokio::test]
    async fn no_secret_is_printed_or_stored() {
        platform::no_secret_is_printed_or_stored::<Net>().await;
    }
}
