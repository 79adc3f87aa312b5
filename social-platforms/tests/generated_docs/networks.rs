//! What the descriptors say about each network, in the words of the pages.

use social_core::{
    ClientSecret, Credentials, PlatformDescriptor,
    descriptor::{ClientAuth, LinkRules, MediaRule, Pkce, RefreshStyle},
    media::MediaKind,
    rate::{RateRule, RateScope, WindowKind},
    text::TextUnit,
};

use crate::{table, tick};

/// The networks of this build as an operator gets them without changing anything.
pub(crate) fn networks() -> Vec<PlatformDescriptor> {
    let made = social_platforms::KNOWN.iter().map(|name| {
        let mut credentials = Credentials::new("id");
        credentials.client_secret = ClientSecret::parse("secret");
        social_platforms::build(name, credentials).unwrap().descriptor().clone()
    });
    made.collect()
}

pub(crate) fn overview() -> String {
    table(
        [
            "network",
            "text",
            "media in one post",
            "thread",
            "first comment",
            "poll",
            "link",
            "delete",
            "numbers",
            "a lost answer is settled by",
        ],
        networks().into_iter().map(|network| {
            let id = &network.id;
            let abilities = network.abilities;
            [
                format!("[{}](docs/networks/{id}.md)", network.name),
                format!("{} {}", grouped(network.text.max as u64), unit(network.text.unit)),
                network.media.kinds.iter().map(counted).collect::<Vec<_>>().join(", "),
                if abilities.thread { format!("up to {} parts", network.text.max_thread_parts) } else { String::new() },
                tick(abilities.first_comment),
                tick(abilities.poll),
                match network.link {
                    LinkRules::InText => "in the text",
                    LinkRules::Card { .. } => "a card",
                }
                .to_owned(),
                tick(abilities.delete),
                match (abilities.post_analytics, abilities.account_analytics) {
                    (true, true) => "posts, accounts",
                    (true, false) => "posts",
                    (false, true) => "accounts",
                    (false, false) => "",
                }
                .to_owned(),
                if network.flow.reconciles { "asking the network" } else { "a person" }.to_owned(),
            ]
        }),
    )
}

pub(crate) fn facts(network: &PlatformDescriptor) -> String {
    let oauth = &network.oauth;
    let life = |seconds: Option<u64>| seconds.map_or_else(|| "not documented".to_owned(), span);
    let refresh = match network.tokens.refresh {
        RefreshStyle::None => "not at all: the person connects again",
        RefreshStyle::Static => "with a refresh token that stays the same",
        RefreshStyle::Rotating => "with a refresh token that works once",
        RefreshStyle::Exchange => "by exchanging the access token",
        other => panic!("{other:?} needs a word"),
    };
    let rows = [
        ("version of the interface", network.api_version.clone()),
        ("last compared with its documentation", network.checked_on.clone()),
        ("documentation", format!("<{}>", network.docs)),
        ("people are sent to", format!("`{}`", oauth.authorize_url)),
        ("code challenge (PKCE)", if oauth.pkce == Pkce::S256 { "S256" } else { "none" }.to_owned()),
        (
            "the app proves who it is by",
            if oauth.client_auth == ClientAuth::Basic { "HTTP Basic" } else { "the form" }.to_owned(),
        ),
        ("an access token lives", life(network.tokens.access_life_s)),
        ("it is renewed", refresh.to_owned()),
        ("a refresh token lives", life(network.tokens.refresh_life_s)),
        ("grants can be revoked", if oauth.revoke_url.is_some() { "yes" } else { "no" }.to_owned()),
        ("the visible call may take", span(network.flow.commit_deadline_s)),
        ("deliveries in flight for each worker", network.flow.max_in_flight.to_string()),
        ("after a lost answer the network is first asked", format!("{} later", span(network.flow.reconcile_after_s))),
    ];
    table(["", ""], rows.map(|(name, value)| [name.to_owned(), value]))
}

pub(crate) fn scopes(network: &PlatformDescriptor) -> String {
    table(
        ["preset", "for", "scopes"],
        network.oauth.presets.iter().enumerate().map(|(index, preset)| {
            let default = if index == 0 { " (default)" } else { "" };
            [format!("`{}`{default}", preset.name), preset.purpose.clone(), format!("`{}`", preset.scopes.join(" "))]
        }),
    )
}

pub(crate) fn media(network: &PlatformDescriptor) -> String {
    let mut out = table(
        ["kind", "in one post", "types", "size", "pixels", "length", "width to height"],
        network.media.kinds.iter().map(|rule| {
            let pixels = [
                rule.min_side.map(|side| format!("sides from {side}")),
                rule.max_width.zip(rule.max_height).map(|(w, h)| format!("up to {w} x {h}")),
                rule.max_pixels.map(|pixels| format!("up to {} in all", grouped(pixels))),
                rule.max_frames.map(|frames| format!("{frames} frames")),
            ];
            let ms = |ms: u64| if ms.is_multiple_of(1000) { span(ms / 1000) } else { format!("{ms} ms") };
            let aspect = |milli: u32| format!("{}.{:03}", milli / 1000, milli % 1000);
            [
                kind(rule.kind).to_owned(),
                rule.max_count.to_string(),
                rule.mime.join(", "),
                between(rule.min_bytes.map(bytes), rule.max_bytes.map(bytes)),
                pixels.into_iter().flatten().collect::<Vec<_>>().join(", "),
                between(rule.min_duration_ms.map(ms), rule.max_duration_ms.map(ms)),
                between(rule.min_aspect_milli.map(aspect), rule.max_aspect_milli.map(aspect)),
            ]
        }),
    );
    let alt = network.media.alt_text_max.map_or_else(
        || "Pictures have no descriptions there.".to_owned(),
        |max| format!("A description has up to {} characters.", grouped(max as u64)),
    );
    let mixing = if network.media.mixing { "Kinds may be mixed." } else { "Kinds do not mix in one post." };
    out.push_str(&format!("\n{alt} {mixing}\n"));
    out
}

pub(crate) fn limits(network: &PlatformDescriptor) -> String {
    table(
        ["limit", "counts for", "calls", "allows", "within"],
        network.limits.iter().map(|rule: &RateRule| {
            let per = match rule.per {
                RateScope::App => "the app, all users together",
                RateScope::Connection => "a connection",
                RateScope::Account => "an account",
            };
            let calls: Vec<String> = rule.operations.iter().map(|operation| format!("`{operation}`")).collect();
            let window = match rule.kind {
                WindowKind::Day => "a day in UTC".to_owned(),
                WindowKind::Fixed => span(rule.window.as_secs()),
            };
            [
                format!("`{}`", rule.name),
                per.to_owned(),
                if calls.is_empty() { "all".to_owned() } else { calls.join(", ") },
                grouped(rule.amount.into()),
                window,
            ]
        }),
    )
}

fn counted(rule: &MediaRule) -> String {
    let name = kind(rule.kind);
    match rule.max_count {
        1 => format!("1 {name}"),
        count => format!("{count} {name}s"),
    }
}

fn kind(kind: MediaKind) -> &'static str {
    match kind {
        MediaKind::Image => "picture",
        MediaKind::Gif => "GIF",
        MediaKind::Video => "video",
        MediaKind::Document => "document",
        other => panic!("{other:?} needs a word"),
    }
}

fn unit(unit: TextUnit) -> &'static str {
    match unit {
        TextUnit::Weighted => "weighted characters",
        TextUnit::Scalars => "characters",
        TextUnit::Utf16 => "UTF-16 units",
        TextUnit::Graphemes => "characters as read",
        TextUnit::Bytes => "bytes",
        other => panic!("{other:?} needs a word"),
    }
}

fn between(least: Option<String>, most: Option<String>) -> String {
    match (least, most) {
        (Some(least), Some(most)) => format!("{least} to {most}"),
        (None, Some(most)) => format!("up to {most}"),
        (Some(least), None) => format!("from {least}"),
        (None, None) => String::new(),
    }
}

/// Bytes in the unit in which networks state them.
fn bytes(bytes: u64) -> String {
    for (size, name) in [(1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")] {
        if bytes >= size && bytes.is_multiple_of(size) {
            return format!("{} {name}", bytes / size);
        }
    }
    for (size, name) in [(1_000_000_000, "GB"), (1_000_000, "MB"), (1_000, "kB")] {
        if bytes >= size && bytes.is_multiple_of(size) {
            return format!("{} {name}", bytes / size);
        }
    }
    format!("{} bytes", grouped(bytes))
}

/// Seconds in the largest unit that fits without a rest.
fn span(seconds: u64) -> String {
    let (count, name) = match seconds {
        s if s >= 2 * 86_400 && s.is_multiple_of(86_400) => (s / 86_400, "day"),
        s if s >= 3600 && s.is_multiple_of(3600) => (s / 3600, "hour"),
        s if s >= 60 && s.is_multiple_of(60) => (s / 60, "minute"),
        s => (s, "second"),
    };
    format!("{count} {name}{}", if count == 1 { "" } else { "s" })
}

fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut out = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}
