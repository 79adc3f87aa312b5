//! What is wrong with a draft on LinkedIn beyond what the descriptor can say.

use social_core::{
    AccountKind, AccountProfile, Draft, PlatformDescriptor, Violation,
    descriptor::LinkRules,
    media::MediaKind,
    text::{TextUnit, count},
    validate::{by_descriptor, too_long},
};

use crate::{
    descriptor::{POLL_OPTION_MAX, POLL_OPTIONS, POLL_QUESTION_MAX},
    little_text,
    options::{LinkedInOptions, Poll, Visibility, is_post_urn},
    publish::full_text,
};

pub(crate) fn violations(descriptor: &PlatformDescriptor, draft: &Draft, account: &AccountProfile) -> Vec<Violation> {
    let (options, unreadable) = match LinkedInOptions::of(draft) {
        Ok(options) => (options, None),
        Err(reason) => (LinkedInOptions::default(), Some(reason)),
    };
    // A mention counts as the name that readers see.
    let mut shown = draft.clone();
    shown.text = little_text::visible(&draft.text);
    let mut found = if options.link_in_text {
        by_descriptor(&PlatformDescriptor { link: LinkRules::InText, ..descriptor.clone() }, &shown, account)
    } else {
        by_descriptor(descriptor, &shown, account)
    };

    if let Some(reason) = unreadable {
        found.push(Violation::error(
            "options_invalid",
            "options.linkedin",
            reason,
            "Correct or remove the LinkedIn options.",
        ));
    }
    if options.reshare_parent.is_some() {
        found.retain(|violation| !(violation.code == "text_missing" && violation.field == "content"));
    }
    let wire = count(TextUnit::Scalars, &little_text::escape(&full_text(draft, &options)));
    let max = descriptor.text.max;
    if wire > max && !found.iter().any(|violation| violation.code == "text_too_long" && violation.field == "content") {
        let warning = Violation::warning(
            "text_near_limit",
            "content",
            format!("with its escaped characters the text has {wire} characters, and LinkedIn may count them all"),
            "Shorten it to be safe, or use fewer brackets, underscores and the like.",
        );
        found.push(warning.measured(max as u64, wire as u64, "characters"));
    }
    if options.visibility == Visibility::Connections && account.kind == AccountKind::Organization {
        found.push(Violation::error(
            "visibility_unsupported",
            "options.linkedin.visibility",
            "a page has no connections",
            "Use public or logged_in for pages.",
        ));
    }
    let has_card = draft.link.is_some() && !options.link_in_text;
    let alone = draft.media.is_empty() && !has_card;
    if let Some(parent) = &options.reshare_parent {
        if !is_post_urn(parent) {
            found.push(Violation::error(
                "reshare_invalid",
                "options.linkedin.reshare_parent",
                "this is not the URN of a LinkedIn post",
                "Use a URN such as urn:li:share:123 or urn:li:activity:123.",
            ));
        }
        if !alone || options.poll.is_some() {
            found.push(Violation::error(
                "reshare_not_alone",
                "options.linkedin.reshare_parent",
                "a reshare carries no media, link card or poll of its own",
                "Remove them, or write the address into the text.",
            ));
        }
    }
    if let Some(poll) = &options.poll {
        poll_violations(poll, alone, &mut found);
    }
    thumbnail(draft, has_card, &mut found);
    found
}

fn poll_violations(poll: &Poll, alone: bool, found: &mut Vec<Violation>) {
    const FIELD: &str = "options.linkedin.poll";
    if !alone {
        found.push(Violation::error(
            "poll_not_alone",
            FIELD,
            "a poll carries no media and no link card",
            "Remove them.",
        ));
    }
    let mut text = |field: String, text: &str, max| {
        if text.trim().is_empty() {
            found.push(Violation::error("text_missing", &field, "this text of the poll is empty", "Write something."));
        }
        found.extend(too_long("text_too_long", &field, text, TextUnit::Scalars, max));
    };
    text(format!("{FIELD}.question"), &poll.question, POLL_QUESTION_MAX);
    for (index, option) in poll.options.iter().enumerate() {
        text(format!("{FIELD}.options[{index}]"), option, POLL_OPTION_MAX);
    }
    let answers = poll.options.len();
    if !POLL_OPTIONS.contains(&answers) {
        let limit = if answers < *POLL_OPTIONS.start() { *POLL_OPTIONS.start() } else { *POLL_OPTIONS.end() };
        let violation = Violation::error(
            "poll_options",
            format!("{FIELD}.options"),
            format!("{answers} answers where 2 to 4 are allowed"),
            "Give two, three or four answers.",
        );
        found.push(violation.measured(limit as u64, answers as u64, "answers"));
    }
}

fn thumbnail(draft: &Draft, has_card: bool, found: &mut Vec<Violation>) {
    let stored = draft.link.as_ref().and_then(|link| link.thumbnail.as_ref()?.stored());
    if let Some(stored) = stored.filter(|stored| has_card && stored.facts.kind != MediaKind::Image) {
        found.push(Violation::error(
            "media_type",
            "link.thumbnail",
            format!("{} is not accepted as the picture of a link", stored.facts.mime),
            "Use a JPEG or PNG picture.",
        ));
    }
}
