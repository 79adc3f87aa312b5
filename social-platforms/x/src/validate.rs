//! What X would refuse, found before anything is scheduled: the descriptor's limits and what only X knows.

use social_core::{
    AccountProfile, Draft, PlatformDescriptor, Violation,
    draft::StoredMedia,
    media::MediaKind,
    text::{self, EntityKind, TextUnit},
    validate::{by_descriptor, full_text, too_long},
};

use crate::{X, options::XOptions, wire::is_id};

/// Attribute of an account: its subscription, as X names it.
pub(crate) const SUBSCRIPTION: &str = "subscription_type";

/// Most pixels of an animation, all frames together.
const GIF_PIXELS: u64 = 300_000_000;
/// What X recommends for the shorter edge of a video.
const VIDEO_SHORT_EDGE: u32 = 1024;
const PREMIUM_VIDEO_SHORT_EDGE: u32 = 1080;
const VIDEO_FRAME_RATE_MILLI: u32 = 60_000;

impl X {
    /// The facts that hold for an account: its subscription decides about long texts and videos.
    pub(crate) fn facts_for(&self, account: &AccountProfile) -> &PlatformDescriptor {
        if is_premium(account) { &self.premium } else { &self.descriptor }
    }
}

fn is_premium(account: &AccountProfile) -> bool {
    account.attributes.get(SUBSCRIPTION).is_some_and(|level| matches!(level.as_str(), "Premium" | "PremiumPlus"))
}

pub(crate) fn check(x: &X, draft: &Draft, account: &AccountProfile) -> Vec<Violation> {
    let facts = x.facts_for(account);
    let mut found = by_descriptor(facts, draft, account);
    let handle = account.handle.as_deref();
    one_text("content", &full_text(facts, draft), handle, &mut found);
    for (index, part) in draft.thread.iter().enumerate() {
        one_text(&format!("thread[{index}]"), part, handle, &mut found);
    }
    if let Some(comment) = &draft.first_comment {
        one_text("first_comment", comment, handle, &mut found);
    }
    for (index, attachment) in draft.media.iter().enumerate() {
        if let Some(stored) = attachment.media.stored() {
            let described = attachment.alt_text.as_deref().is_some_and(|alt| !alt.trim().is_empty());
            one_file(&format!("media[{index}]"), stored, described, is_premium(account), &mut found);
        }
    }
    match draft.options_for::<XOptions>(&X::ID) {
        Ok(options) => self::options(x, draft, &options, &mut found),
        Err(reason) => found.push(Violation::error(
            "options_invalid",
            "options.x",
            format!("the options for X have another shape: {reason}"),
            "Correct or remove the options for X.",
        )),
    }
    for violation in &mut found {
        violation.platform = Some(X::ID);
    }
    found
}

fn one_text(field: &str, text: &str, own: Option<&str>, found: &mut Vec<Violation>) {
    if !text::weigh(text).clean {
        found.push(Violation::error(
            "text_characters",
            field,
            "the text contains a code point that X refuses (U+FFFE, U+FEFF or U+FFFF)",
            "Write the text anew instead of pasting it.",
        ));
    }
    let entities = text::entities(text);
    let cashtags = entities.iter().filter(|entity| entity.kind == EntityKind::Cashtag).count();
    if cashtags > 1 {
        found.push(
            Violation::error(
                "too_many_cashtags",
                field,
                format!("{cashtags} cashtags where 1 is allowed"),
                "Keep one cashtag, or write the others without the dollar sign.",
            )
            .measured(1, cashtags as u64, "cashtags"),
        );
    }
    let mentions_others = entities
        .iter()
        .filter(|entity| entity.kind == EntityKind::Mention)
        .any(|entity| own.is_none_or(|own| !entity.value(text).eq_ignore_ascii_case(own)));
    if mentions_others {
        found.push(Violation::warning(
            "mentions_restricted",
            field,
            "X restricts mentions of others in posts that programs make",
            "Leave the mention out if X refuses the post.",
        ));
    }
}

fn one_file(field: &str, stored: &StoredMedia, described: bool, premium: bool, found: &mut Vec<Violation>) {
    let facts = &stored.facts;
    match facts.kind {
        MediaKind::Gif => {
            let pixels = facts.width.zip(facts.height).zip(facts.frames);
            let pixels = pixels.map_or(0, |((w, h), frames)| u64::from(w) * u64::from(h) * u64::from(frames));
            if pixels > GIF_PIXELS {
                let violation = Violation::error(
                    "media_too_many_pixels",
                    field,
                    format!("{pixels} pixels in all frames together where {GIF_PIXELS} are allowed"),
                    "Make the animation smaller or shorter.",
                );
                found.push(violation.measured(GIF_PIXELS, pixels, "pixels"));
            }
        }
        MediaKind::Video => {
            if described {
                found.push(Violation::warning(
                    "alt_text_unsupported",
                    format!("{field}.alt_text"),
                    "X takes descriptions for pictures and animations only",
                    "It is left out there.",
                ));
            }
            // X applies these while it processes, and not always.
            let short = facts.width.zip(facts.height).map_or(0, |(w, h)| w.min(h));
            let recommended = if premium { PREMIUM_VIDEO_SHORT_EDGE } else { VIDEO_SHORT_EDGE };
            if short > recommended {
                let message = format!("the shorter edge has {short} pixels where X recommends at most {recommended}");
                let violation = Violation::warning("media_may_be_refused", field, message, "Make the video smaller.");
                found.push(violation.measured(u64::from(recommended), u64::from(short), "pixels"));
            }
            let rate = facts.frame_rate_milli.unwrap_or(0);
            if rate > VIDEO_FRAME_RATE_MILLI {
                let message = format!("{} frames per second where X takes 60", rate / 1000);
                let violation =
                    Violation::warning("media_may_be_refused", field, message, "Use 60 frames per second at most.");
                found.push(violation.measured(60, u64::from(rate / 1000), "frames per second"));
            }
        }
        _ => {}
    }
}

fn options(x: &X, draft: &Draft, options: &XOptions, found: &mut Vec<Violation>) {
    let present = [
        (!draft.media.is_empty(), "media"),
        (options.poll.is_some(), "a poll"),
        (options.quote_tweet_id.is_some(), "a quoted post"),
    ];
    let present: Vec<&str> = present.into_iter().filter_map(|(there, name)| there.then_some(name)).collect();
    if present.len() > 1 {
        found.push(Violation::error(
            "options_exclusive",
            "options.x",
            format!("X takes only one of media, poll and quoted post, and there are {}", present.join(" and ")),
            "Keep one of them.",
        ));
    }
    if let Some(poll) = &options.poll {
        let count = poll.options.len();
        if !(2..=4).contains(&count) {
            let message = format!("{count} answers where 2 to 4 are allowed");
            let violation = Violation::error("poll_options", "options.x.poll.options", message, "Give 2 to 4 answers.");
            found.push(violation.measured(if count < 2 { 2 } else { 4 }, count as u64, "answers"));
        }
        for (index, answer) in poll.options.iter().enumerate() {
            let field = format!("options.x.poll.options[{index}]");
            if answer.trim().is_empty() {
                found.push(Violation::error("poll_option_empty", &field, "this answer is empty", "Write something."));
            }
            found.extend(too_long("poll_option_too_long", &field, answer, TextUnit::Scalars, 25));
        }
        let minutes = u64::from(poll.duration_minutes);
        if !(5..=10_080).contains(&minutes) {
            let violation = Violation::error(
                "poll_duration",
                "options.x.poll.duration_minutes",
                format!("{minutes} minutes where 5 to 10080 are allowed"),
                "Choose 5 minutes to 7 days.",
            );
            found.push(violation.measured(if minutes < 5 { 5 } else { 10_080 }, minutes, "minutes"));
        }
    }
    let ids = [("quote_tweet_id", &options.quote_tweet_id), ("community_id", &options.community_id)];
    for (name, id) in ids.into_iter().filter_map(|(name, id)| Some((name, id.as_deref()?))) {
        if !is_id(id) {
            let advice = "Use the number at the end of its address.";
            found.push(Violation::error("id_invalid", format!("options.x.{name}"), "this is no id of X", advice));
        }
    }
    if options.quote_tweet_id.is_some() && !x.quotes {
        found.push(Violation::error(
            "quote_unsupported",
            "options.x.quote_tweet_id",
            "X does not let this app quote posts",
            "Put the address of the post into the text instead.",
        ));
    }
}
