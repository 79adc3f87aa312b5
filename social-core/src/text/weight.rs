//! Weighted length: the count that X applies (twitter-text configuration 3).

use std::borrow::Cow;

use unicode_normalization::{IsNormalized, UnicodeNormalization, is_nfc_quick};
use unicode_segmentation::UnicodeSegmentation;

use super::chars::{Scan, is_invalid};
use super::entity::Span;
use super::link::{self, Link};
use super::{emoji, entity};

/// The largest weight of a post by an account without a subscription.
pub const MAX_WEIGHT: usize = 280;
/// What every link weighs, however long it is: the network shortens them all.
pub const URL_WEIGHT: usize = 23;
const EMOJI_WEIGHT: usize = 2;

/// What [`weigh`] found out about a text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WeightedText {
    /// The weighted length.
    pub weight: usize,
    /// Whether the text can be a post: not empty, at most [`MAX_WEIGHT`], no code points that the network refuses.
    pub valid: bool,
    /// Whether the text is free of the code points U+FFFE, U+FEFF and U+FFFF, which the network refuses at any length.
    pub clean: bool,
    /// The links in the text as it was given.
    pub urls: Vec<Span>,
}

impl WeightedText {
    /// As [`valid`](Self::valid), with the limit of another kind of account.
    #[must_use]
    pub fn fits(&self, max: usize) -> bool {
        self.clean && (1..=max).contains(&self.weight)
    }
}

/// Weighs `text`: links count [`URL_WEIGHT`], an emoji sequence 2, code points of most alphabets and their punctuation 1,
/// everything else 2, after normalising to NFC.
///
/// A word that may or may not be a link (its top level domain came or went in recent years) gets the larger count, so that
/// a text which fits here also fits there.
#[must_use]
pub fn weigh(text: &str) -> WeightedText {
    let normalized = nfc(text);
    let scan = Scan::new(&normalized);
    let links = link::find(&scan);
    let weight = Pieces::new(&scan, &links, 0, scan.len()).sum();
    let urls = match &normalized {
        Cow::Borrowed(_) => links.iter().map(|link| Span::new(&scan, link.start, link.end)).collect(),
        Cow::Owned(_) => {
            let all = entity::entities(text);
            all.into_iter().filter(|e| e.kind == entity::EntityKind::Url).map(|e| e.span).collect()
        }
    };
    let clean = !text.chars().any(is_invalid);
    let mut weighed = WeightedText { weight, valid: false, clean, urls };
    weighed.valid = weighed.fits(MAX_WEIGHT);
    weighed
}

/// A beginning that weighs at most `max`, ends between visible characters and never inside a link; as long as can be found
/// by bisection.
pub(super) fn truncate(text: &str, max: usize) -> &str {
    if weigh(text).weight <= max {
        return text;
    }
    let scan = Scan::new(text);
    let links = link::find(&scan);
    let mut links = links.iter().map(|l| scan.byte(l.start)..scan.byte(l.end)).peekable();
    // Every visible character and every link weighs at least 1, so the answer lies within the first `max` of them.
    let mut cuts: Vec<usize> = Vec::new();
    for (at, _) in text.grapheme_indices(true) {
        while links.next_if(|link| link.end <= at).is_some() {}
        if links.peek().is_none_or(|link| at <= link.start) {
            cuts.push(at);
        }
        if cuts.len() > max {
            break;
        }
    }
    // Cutting can make a link (`foo.comm` becomes `foo.com`) or unmake one, so each candidate is weighed itself.
    let fits = |cut: &usize| weigh(&text[..*cut]).weight <= max;
    let first_too_heavy = cuts.partition_point(fits);
    let cut = cuts[..first_too_heavy].iter().rev().find(|cut| fits(cut)).copied().unwrap_or(0);
    &text[..cut]
}

/// `text` in Unicode normalisation form C, the form in which networks keep and compare texts. Borrowed if it is in that form already.
#[must_use]
pub fn nfc(text: &str) -> Cow<'_, str> {
    match is_nfc_quick(text.chars()) {
        IsNormalized::Yes => Cow::Borrowed(text),
        _ => Cow::Owned(text.nfc().collect()),
    }
}

fn code_point_weight(c: char) -> usize {
    match u32::from(c) {
        0..=4351 | 8192..=8205 | 8208..=8223 | 8242..=8247 => 1,
        _ => 2,
    }
}

/// The weights of what is counted, in order: links, emoji, single code points.
struct Pieces<'s> {
    scan: &'s Scan,
    links: &'s [Link],
    at: usize,
    end: usize,
}

impl<'s> Pieces<'s> {
    fn new(scan: &'s Scan, links: &'s [Link], at: usize, end: usize) -> Self {
        Self { scan, links, at, end }
    }
}

impl Iterator for Pieces<'_> {
    type Item = usize;

    fn next(&mut self) -> Option<usize> {
        if self.at >= self.end {
            return None;
        }
        if let Some((link, rest)) = self.links.split_first()
            && link.start == self.at
        {
            self.links = rest;
            self.at = link.end;
            let as_text = || Pieces::new(self.scan, &[], link.start, link.end).sum();
            let weight = if link.certain { URL_WEIGHT } else { URL_WEIGHT.max(as_text()) };
            return Some(weight);
        }
        let next_link = self.links.first().map_or(self.end, |link| link.start);
        if let Some(length) = emoji::leading(&self.scan.chars[self.at..next_link]) {
            self.at += length;
            return Some(EMOJI_WEIGHT);
        }
        self.at += 1;
        Some(code_point_weight(self.scan.chars[self.at - 1]))
    }
}
