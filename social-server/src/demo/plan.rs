//! What the demo publishes, and waiting for it.

use std::{collections::BTreeMap, time::Duration};

use jiff::{Timestamp, tz::TimeZone};
use serde_json::{Value, json};
use social_core::media::sample;

use super::{
    client::{Client, Trouble},
    name_of,
    picture::landscape,
};
use crate::cli::say;

/// A connected account.
#[derive(Debug, Clone)]
pub(super) struct Place {
    pub(super) id: String,
    pub(super) platform: String,
    pub(super) kind: String,
    pub(super) handle: Option<String>,
    pub(super) display_name: String,
}

/// The connected accounts by their part in the demo.
#[derive(Debug)]
pub(super) struct Places {
    x: Place,
    member: Place,
    organization: Place,
}

/// A scheduled post.
#[derive(Debug, Clone)]
pub(super) struct Planned {
    pub(super) id: String,
    pub(super) flavor: &'static str,
    /// Delivery and place.
    pub(super) deliveries: Vec<(String, Place)>,
}

impl Planned {
    pub(super) fn place_of(&self, delivery: &str) -> Option<&Place> {
        self.deliveries.iter().find(|(id, _)| id == delivery).map(|(_, place)| place)
    }
}

/// Asks which accounts there are.
pub(super) async fn places(client: &Client) -> Result<Places, Trouble> {
    let listed = client.get("/accounts").await?;
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let all: Vec<Place> = listed["items"]
        .as_array()
        .into_iter()
        .flatten()
        .map(|account| Place {
            id: text(&account["id"]),
            platform: text(&account["platform"]),
            kind: text(&account["kind"]),
            handle: account["handle"].as_str().filter(|_| account["platform"] == "x").map(str::to_owned),
            display_name: text(&account["display_name"]),
        })
        .collect();
    for place in &all {
        say(&format!("    {:<9} {:<13} {}", place.platform, place.kind, name_of(place)));
    }
    let find = |platform: &str, kind: &str| {
        let found = all.iter().find(|place| place.platform == platform && place.kind == kind).cloned();
        found.ok_or_else(|| Trouble::from(format!("no {kind} of {platform} was connected")))
    };
    Ok(Places {
        x: find("x", "profile")?,
        member: find("linkedin", "member")?,
        organization: find("linkedin", "organization")?,
    })
}

/// Uploaded files by name.
pub(super) async fn upload(client: &Client) -> Result<BTreeMap<&'static str, Value>, Trouble> {
    let mut files = BTreeMap::new();
    for (name, mime, bytes) in [
        ("dawn", "image/png", landscape(0.08)),
        ("noon", "image/png", landscape(0.5)),
        ("dusk", "image/png", landscape(0.93)),
        ("video", "video/mp4", sample::mp4(1280, 720, 6_000, 3_000_000)),
        ("document", "application/pdf", sample::pdf()),
    ] {
        let made = client.upload(mime, bytes).await?;
        let size = match (made["width"].as_u64(), made["height"].as_u64()) {
            (Some(width), Some(height)) => format!("{width} x {height}, "),
            _ => String::new(),
        };
        let bytes = made["size_bytes"].as_u64().unwrap_or_default();
        say(&format!("  {name:<10} {mime:<16} {size}{bytes} bytes"));
        files.insert(name, made["id"].clone());
    }
    Ok(files)
}

/// Schedules everything, one post behind the other.
pub(super) async fn schedule(
    client: &Client,
    places: &Places,
    files: &BTreeMap<&'static str, Value>,
    ahead: Duration,
) -> Result<Vec<Planned>, Trouble> {
    let Places { x, member, organization } = places;
    let file = |name: &str, alt: &str| json!({ "id": files[name], "alt_text": alt });
    let all = vec![x.clone(), member.clone(), organization.clone()];
    let linkedin = vec![member.clone(), organization.clone()];
    let posts: Vec<(&'static str, Vec<Place>, Value)> = vec![
        (
            "text",
            all.clone(),
            json!({
                "content": "The lighthouse opens its doors on Saturday at ten. 🎉",
                "overrides": {
                    member.id.as_str(): { "content": "For two years we have repaired an old lighthouse in our free time. On Saturday at ten it opens its doors. I could not be prouder of this team." },
                    organization.id.as_str(): { "content": "Opening day: Saturday, ten o'clock. The lighthouse can be visited again after 40 years (free entry)." },
                },
            }),
        ),
        (
            "link",
            all.clone(),
            json!({
                "content": "How we did it, step by step:",
                "link": { "url": "https://lighthouse.example/story", "title": "Two years, one lighthouse", "description": "What it takes to bring a light back.", "thumbnail": files["dusk"] },
            }),
        ),
        (
            "image",
            all.clone(),
            json!({ "content": "This morning, from the gallery.", "media": [file("dawn", "Hills under a sky before sunrise")] }),
        ),
        (
            "images",
            all.clone(),
            json!({
                "content": "One day in three pictures.",
                "media": [
                    file("dawn", "Hills under a sky before sunrise"),
                    file("noon", "The same hills at noon"),
                    file("dusk", "The same hills at dusk"),
                ],
            }),
        ),
        (
            "video",
            all,
            json!({ "content": "Six seconds of light.", "media": [{ "id": files["video"], "title": "Six seconds of light" }] }),
        ),
        (
            "document",
            linkedin,
            json!({ "content": "The plan of the day.", "media": [{ "id": files["document"], "title": "Opening day" }] }),
        ),
        (
            "thread",
            vec![x.clone()],
            json!({
                "content": "Three things that nobody tells you about lighthouses. First: the stairs. There are 217 of them.",
                "thread": ["Second: the wind. Everything that is not tied down is gone by noon.", "Third: the view. It is worth all of it. See you on Saturday!"],
            }),
        ),
    ];
    let due = Timestamp::now() + ahead;
    let mut planned = Vec::new();
    for (index, (flavor, places, mut body)) in posts.into_iter().enumerate() {
        let at = due + Duration::from_millis(400 * index as u64);
        body["accounts"] = places.iter().map(|place| place.id.as_str()).collect();
        // One as a wall-clock time with its zone, the others as instants.
        let when = if flavor == "thread" {
            let local = at.to_zoned(TimeZone::get("Europe/Berlin").unwrap_or(TimeZone::UTC)).datetime();
            body["local_time"] = json!(local.to_string());
            body["time_zone"] = json!("Europe/Berlin");
            format!("{} in Berlin", local.strftime("%H:%M:%S"))
        } else {
            body["scheduled_time"] = json!(at.to_string());
            at.strftime("%H:%M:%SZ").to_string()
        };
        let checked = client.post("/post/validate", &body).await?;
        if checked["ok"] != true {
            return Err(format!("the {flavor} post would be refused: {}", checked["violations"]).into());
        }
        let made = client.post("/post/schedule", &body).await?;
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let mut deliveries = Vec::new();
        for delivery in made["deliveries"].as_array().into_iter().flatten() {
            let place = places.iter().find(|place| delivery["account_id"] == place.id.as_str());
            let place = place.ok_or("a delivery goes to an account that was not asked for")?;
            deliveries.push((text(&delivery["id"]), place.clone()));
        }
        let to: Vec<String> = deliveries.iter().map(|(_, place)| name_of(place)).collect();
        say(&format!("  {flavor:<10} {when:<19} to {}", to.join(", ")));
        planned.push(Planned { id: text(&made["id"]), flavor, deliveries });
    }
    Ok(planned)
}

/// A post as it ended.
#[derive(Debug)]
pub(super) struct Ended {
    pub(super) planned: Planned,
    pub(super) post: Value,
}

/// Waits until every delivery has ended, and gives the posts as they are then.
pub(super) async fn wait(client: &Client, planned: &[Planned]) -> Result<Vec<Ended>, Trouble> {
    let mut ended = Vec::new();
    for one in planned {
        loop {
            let post = client.get(&format!("/posts/{}", one.id)).await?;
            let over = |delivery: &Value| {
                matches!(
                    delivery["phase"].as_str(),
                    Some("published" | "failed" | "canceled" | "missed" | "unconfirmed" | "awaiting_reconnect")
                )
            };
            if post["deliveries"].as_array().is_some_and(|all| !all.is_empty() && all.iter().all(over)) {
                ended.push(Ended { planned: one.clone(), post });
                break;
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }
    Ok(ended)
}
