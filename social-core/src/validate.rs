//! What is wrong with a draft, found before anything is scheduled. The general checks read the descriptor; adapters add their own.

use serde::Serialize;

use crate::{
    account::AccountProfile,
    descriptor::{LinkRules, MediaRule, PlatformDescriptor},
    draft::{Draft, StoredMedia},
    id::{AccountId, PlatformId},
    media::MediaKind,
    text::{self, TextUnit},
};

/// Whether a violation stops a post.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// It would be refused.
    Error,
    /// It would go out, perhaps not as meant.
    Warning,
}

/// One thing that is wrong with a draft for one account.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Violation {
    /// A stable name such as `text_too_long`.
    pub code: String,
    /// Whether it stops the post.
    pub severity: Severity,
    /// For which account; filled in by whoever validates for several.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub account_id: Option<AccountId>,
    /// On which network.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub platform: Option<PlatformId>,
    /// The field of the draft, such as `content`, `thread[1]`, `media[0].alt_text`, `options.x.reply_settings`.
    pub field: String,
    /// The limit.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limit: Option<u64>,
    /// What was found.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub actual: Option<u64>,
    /// The unit of both.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unit: Option<String>,
    /// What is wrong.
    pub message: String,
    /// What to do.
    pub advice: String,
}

impl Violation {
    /// An error in `field`.
    #[must_use]
    pub fn error(code: &str, field: impl Into<String>, message: impl Into<String>, advice: impl Into<String>) -> Self {
        Self {
            code: code.to_owned(),
            severity: Severity::Error,
            account_id: None,
            platform: None,
            field: field.into(),
            limit: None,
            actual: None,
            unit: None,
            message: message.into(),
            advice: advice.into(),
        }
    }

    /// A warning about `field`.
    #[must_use]
    pub fn warning(
        code: &str,
        field: impl Into<String>,
        message: impl Into<String>,
        advice: impl Into<String>,
    ) -> Self {
        Self { severity: Severity::Warning, ..Self::error(code, field, message, advice) }
    }

    /// Adds the limit, what was found, and their unit.
    #[must_use]
    pub fn measured(mut self, limit: u64, actual: u64, unit: &str) -> Self {
        (self.limit, self.actual, self.unit) = (Some(limit), Some(actual), Some(unit.to_owned()));
        self
    }
}

/// Checks everything that the descriptor says about text, thread, first comment, link and media. Adapters call it and add what only they know.
#[must_use]
pub fn by_descriptor(descriptor: &PlatformDescriptor, draft: &Draft, _account: &AccountProfile) -> Vec<Violation> {
    let mut found = Vec::new();
    texts(descriptor, draft, &mut found);
    link(descriptor, draft, &mut found);
    media(descriptor, draft, &mut found);
    found
}

/// The main text as the network will count it: a link that has no card of its own is written behind the text.
#[must_use]
pub fn full_text(descriptor: &PlatformDescriptor, draft: &Draft) -> String {
    match &draft.link {
        Some(link) if descriptor.link == LinkRules::InText && !draft.text.contains(&link.url) => {
            if draft.text.is_empty() { link.url.clone() } else { format!("{}\n{}", draft.text.trim_end(), link.url) }
        }
        _ => draft.text.clone(),
    }
}

/// How a unit is called in messages.
#[must_use]
pub fn unit_name(unit: TextUnit) -> &'static str {
    match unit {
        TextUnit::Weighted => "weighted characters",
        TextUnit::Utf16 => "UTF-16 units",
        TextUnit::Bytes => "bytes",
        TextUnit::Graphemes => "graphemes",
        _ => "characters",
    }
}

/// An error if `text` is longer than `max`.
#[must_use]
pub fn too_long(code: &str, field: &str, text: &str, unit: TextUnit, max: usize) -> Option<Violation> {
    let actual = text::count(unit, text);
    (actual > max).then(|| {
        Violation::error(
            code,
            field,
            format!("{actual} {} where {max} are allowed", unit_name(unit)),
            format!("Shorten it by {}.", actual - max),
        )
        .measured(max as u64, actual as u64, unit_name(unit))
    })
}

fn texts(descriptor: &PlatformDescriptor, draft: &Draft, found: &mut Vec<Violation>) {
    let rules = &descriptor.text;
    let name = &descriptor.name;
    let main = full_text(descriptor, draft);
    found.extend(too_long("text_too_long", "content", &main, rules.unit, rules.max));
    if main.trim().is_empty() && draft.media.is_empty() && (rules.required_without_media || draft.link.is_none()) {
        found.push(Violation::error(
            "text_missing",
            "content",
            "the post is empty",
            "Write something or add a picture.",
        ));
    }
    let parts = 1 + draft.thread.len();
    if parts > rules.max_thread_parts {
        let (message, advice) = if rules.max_thread_parts == 1 {
            (format!("{name} has no threads"), "Put everything into one post.".to_owned())
        } else {
            (format!("{parts} parts where {} are allowed", rules.max_thread_parts), "Use fewer parts.".to_owned())
        };
        let violation = Violation::error("thread_too_long", "thread", message, advice);
        found.push(violation.measured(rules.max_thread_parts as u64, parts as u64, "parts"));
    }
    for (index, part) in draft.thread.iter().enumerate() {
        let field = format!("thread[{index}]");
        if part.trim().is_empty() {
            found.push(Violation::error(
                "text_missing",
                &field,
                "this part of the thread is empty",
                "Write something or remove the part.",
            ));
        }
        found.extend(too_long("text_too_long", &field, part, rules.unit, rules.max));
    }
    if let Some(comment) = &draft.first_comment {
        match rules.first_comment_max {
            Some(max) => found.extend(too_long("text_too_long", "first_comment", comment, rules.unit, max)),
            None => found.push(Violation::error(
                "first_comment_unsupported",
                "first_comment",
                format!("{name} has no first comment"),
                "Remove the first comment.",
            )),
        }
        if comment.trim().is_empty() {
            found.push(Violation::error(
                "text_missing",
                "first_comment",
                "the first comment is empty",
                "Write something or remove it.",
            ));
        }
    }
}

fn link(descriptor: &PlatformDescriptor, draft: &Draft, found: &mut Vec<Violation>) {
    let Some(link) = &draft.link else { return };
    let is_web = url::Url::parse(&link.url).is_ok_and(|url| matches!(url.scheme(), "http" | "https") && url.has_host());
    if !is_web {
        found.push(Violation::error(
            "link_invalid",
            "link.url",
            "this is not a web address",
            "Use an address that begins with https://.",
        ));
    }
    if let LinkRules::Card { title_max, description_max } = descriptor.link {
        let long = |field, text: &Option<String>, max| {
            text.as_deref().and_then(|text| too_long("text_too_long", field, text, TextUnit::Scalars, max))
        };
        found.extend(long("link.title", &link.title, title_max));
        found.extend(long("link.description", &link.description, description_max));
        if !draft.media.is_empty() {
            found.push(Violation::error(
                "link_with_media",
                "link",
                format!("{} shows either a link card or media", descriptor.name),
                "Remove the media, or write the address into the text.",
            ));
        }
    }
}

fn media(descriptor: &PlatformDescriptor, draft: &Draft, found: &mut Vec<Violation>) {
    let rules = &descriptor.media;
    let name = &descriptor.name;
    let mut kinds: Vec<(MediaKind, usize)> = Vec::new();
    for (index, attachment) in draft.media.iter().enumerate() {
        let field = format!("media[{index}]");
        if let Some(alt) = &attachment.alt_text {
            match rules.alt_text_max {
                Some(max) => found.extend(too_long(
                    "alt_text_too_long",
                    &format!("{field}.alt_text"),
                    alt,
                    TextUnit::Scalars,
                    max,
                )),
                None => found.push(Violation::warning(
                    "alt_text_unsupported",
                    format!("{field}.alt_text"),
                    format!("{name} takes no descriptions"),
                    "It is left out there.",
                )),
            }
        }
        let Some(stored) = attachment.media.stored() else { continue };
        match kinds.iter_mut().find(|(kind, _)| *kind == stored.facts.kind) {
            Some((_, count)) => *count += 1,
            None => kinds.push((stored.facts.kind, 1)),
        }
        match rules.rule(stored.facts.kind) {
            Some(rule) => one_file(rule, stored, &field, found),
            None => found.push(Violation::error(
                "media_unsupported",
                &field,
                format!("{name} does not take this kind of file ({})", stored.facts.mime),
                "Remove it for this account.",
            )),
        }
    }
    if kinds.len() > 1 && !rules.mixing {
        found.push(Violation::error(
            "media_mixed",
            "media",
            format!("{name} does not mix pictures, animations, videos and documents in one post"),
            "Use one kind only.",
        ));
    }
    for (kind, count) in kinds {
        if let Some(rule) = rules.rule(kind).filter(|rule| count > rule.max_count) {
            let violation = Violation::error(
                "media_too_many",
                "media",
                format!("{count} files where {} are allowed", rule.max_count),
                format!("Use {} at the most.", rule.max_count),
            );
            found.push(violation.measured(rule.max_count as u64, count as u64, "files"));
        }
    }
}

fn one_file(rule: &MediaRule, stored: &StoredMedia, field: &str, found: &mut Vec<Violation>) {
    let facts = &stored.facts;
    if !rule.mime.contains(&facts.mime) {
        let accepted = rule.mime.join(", ");
        found.push(Violation::error(
            "media_type",
            field,
            format!("{} is not accepted", facts.mime),
            format!("Use one of these types: {accepted}."),
        ));
    }
    let mut at_most = |code: &str, actual: Option<u64>, limit: Option<u64>, unit: &str, advice: &str| {
        if let (Some(actual), Some(limit)) = (actual, limit)
            && actual > limit
        {
            let message = format!("{actual} {unit} where {limit} are allowed");
            found.push(Violation::error(code, field, message, advice).measured(limit, actual, unit));
        }
    };
    let (width, height) = (facts.width.map(u64::from), facts.height.map(u64::from));
    let pixels = width.zip(height).map(|(w, h)| w.saturating_mul(h));
    at_most("media_too_large", Some(facts.size_bytes), rule.max_bytes, "bytes", "Make the file smaller.");
    at_most("media_too_wide", width, rule.max_width.map(u64::from), "pixels", "Make the picture smaller.");
    at_most("media_too_high", height, rule.max_height.map(u64::from), "pixels", "Make the picture smaller.");
    at_most("media_too_many_pixels", pixels, rule.max_pixels, "pixels", "Make the picture smaller.");
    at_most(
        "media_too_many_frames",
        facts.frames.map(u64::from),
        rule.max_frames.map(u64::from),
        "frames",
        "Use a shorter animation.",
    );
    at_most("media_too_long", facts.duration_ms, rule.max_duration_ms, "milliseconds", "Use a shorter video.");
    let aspect = width.zip(height).and_then(|(w, h)| (w * 1000).checked_div(h));
    at_most(
        "media_too_broad",
        aspect,
        rule.max_aspect_milli.map(u64::from),
        "thousandths of width to height",
        "Crop it.",
    );
    let mut at_least = |code: &str, actual: Option<u64>, limit: Option<u64>, unit: &str, advice: &str| {
        if let (Some(actual), Some(limit)) = (actual, limit)
            && actual < limit
        {
            let message = format!("{actual} {unit} where at least {limit} are needed");
            found.push(Violation::error(code, field, message, advice).measured(limit, actual, unit));
        }
    };
    at_least("media_too_small", Some(facts.size_bytes), rule.min_bytes, "bytes", "Use a larger file.");
    at_least(
        "media_too_narrow",
        width.zip(height).map(|(w, h)| w.min(h)),
        rule.min_side.map(u64::from),
        "pixels",
        "Use a larger picture.",
    );
    at_least("media_too_short", facts.duration_ms, rule.min_duration_ms, "milliseconds", "Use a longer video.");
    at_least(
        "media_too_slim",
        aspect,
        rule.min_aspect_milli.map(u64::from),
        "thousandths of width to height",
        "Crop it.",
    );
}
