//! The judge: compares what became visible with what the store says, one to one. Pure, so that it can be fed with every crime.

#[cfg(test)]
mod tests;
mod violation;

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use jiff::SignedDuration;
use serde::Serialize;
use social_core::{PhaseName, time::signed};

pub use self::violation::{Rule, Violation};
use crate::{
    evidence::{Delivered, Evidence, Object},
    load::Marker,
};

/// A visible call that is answered takes less than this; X is not asked about a lost one before.
const DOUBT: SignedDuration = SignedDuration::from_secs(30);

/// When a delivery may stay unconfirmed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Unconfirmed {
    /// Never.
    #[default]
    Never,
    /// Only if a request for the part in doubt reached the network, or if the part was permitted again after proof that the first call had no
    /// effect, and that second call was in doubt too: a third one is left to a person.
    IfReceived,
    /// Whenever; the scenario judges by itself.
    Anyway,
}

/// What a scenario allows.
#[derive(Debug, Clone, Default)]
pub struct Allowed {
    /// When a delivery may stay unconfirmed.
    pub unconfirmed: Unconfirmed,
    /// Whether deliveries may end as failed, canceled or missed.
    pub given_up: bool,
    /// Posts of which the network said that they were out although they were not, without naming them: no client can know.
    pub lied_about: BTreeSet<usize>,
    /// How much earlier than its time an object may appear, for clocks that are wrong on purpose.
    pub early: Duration,
}

/// What was counted.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Figures {
    /// Deliveries that were wanted.
    pub deliveries: usize,
    /// Objects that became visible.
    pub objects: usize,
    /// Deliveries that are out.
    pub published: usize,
    /// Deliveries that ended without being out: failed, canceled, missed.
    pub given_up: usize,
    /// Deliveries that wait for a person.
    pub unconfirmed: usize,
    /// Parts that are there more than once.
    pub duplicates: usize,
    /// Deliveries that are out by the store's word and not there, or open for ever.
    pub lost: usize,
    /// Deliveries on X of which a visible call was in doubt.
    pub x_in_doubt: usize,
    /// Those among them that wait for a person.
    pub x_unconfirmed: usize,
    /// Visible calls that were made, by the sandbox's count.
    pub visible_calls: u64,
}

/// What the judge says.
#[derive(Debug, Clone, Default)]
pub struct Verdict {
    /// What was broken.
    pub violations: Vec<Violation>,
    /// What was counted.
    pub figures: Figures,
}

impl Verdict {
    fn broken(&mut self, number: usize, rule: Rule, seen: impl Into<String>) {
        self.violations.push(Violation { number: Some(number), rule, seen: seen.into() });
    }
}

/// Judges.
#[must_use]
pub fn check(evidence: &Evidence, allowed: &Allowed) -> Verdict {
    let mut verdict = Verdict::default();
    let mut objects: BTreeMap<Marker, Vec<&Object>> = BTreeMap::new();
    let wanted: BTreeMap<usize, &Delivered> = evidence.deliveries.iter().map(|one| (one.number, one)).collect();
    for object in &evidence.objects {
        let delivery = object.marker.and_then(|marker| Some((marker, wanted.get(&marker.number)?)));
        match delivery.filter(|(marker, delivery)| (1..=delivery.parts).contains(&marker.part)) {
            Some((marker, _)) => objects.entry(marker).or_default().push(object),
            None => {
                let seen = format!("{} of {} on {} belongs to no delivery", object.id, object.author, object.platform);
                verdict.violations.push(Violation { number: None, rule: Rule::Foreign, seen });
            }
        }
    }
    if evidence.strangers > 0 {
        let seen = format!("{} deliveries that nobody planned", evidence.strangers);
        verdict.violations.push(Violation { number: None, rule: Rule::Foreign, seen });
    }
    if wanted.len() < evidence.deliveries.len() {
        let seen = format!("{} deliveries share a number", evidence.deliveries.len() - wanted.len());
        verdict.violations.push(Violation { number: None, rule: Rule::Foreign, seen });
    }
    for delivery in &evidence.deliveries {
        ended(&mut verdict, delivery, evidence, allowed);
        shown(&mut verdict, delivery, &objects, allowed);
        remembered(&mut verdict, delivery);
    }
    let mut lost: BTreeSet<Option<usize>> = BTreeSet::new();
    for violation in &verdict.violations {
        if matches!(violation.rule, Rule::Open | Rule::Lost) {
            lost.insert(violation.number);
        }
    }
    let figures = &mut verdict.figures;
    figures.deliveries = evidence.deliveries.len();
    figures.objects = evidence.objects.len();
    figures.visible_calls = evidence.received.values().sum();
    figures.duplicates = objects.values().filter(|there| there.len() > 1).count();
    figures.lost = lost.len();
    for delivery in &evidence.deliveries {
        match delivery.phase {
            PhaseName::Published => figures.published += 1,
            PhaseName::Failed | PhaseName::Canceled | PhaseName::Missed => figures.given_up += 1,
            PhaseName::Unconfirmed => figures.unconfirmed += 1,
            _ => {}
        }
        if delivery.platform == "x" {
            let unconfirmed = delivery.phase == PhaseName::Unconfirmed;
            figures.x_in_doubt += usize::from(unconfirmed || was_in_doubt(delivery));
            figures.x_unconfirmed += usize::from(unconfirmed);
        }
    }
    verdict
}

/// Every delivery has ended, and in a way that is allowed.
fn ended(verdict: &mut Verdict, delivery: &Delivered, evidence: &Evidence, allowed: &Allowed) {
    let number = delivery.number;
    match delivery.phase {
        PhaseName::Published => {
            if delivery.claimed.len() != delivery.parts {
                let seen = format!("published with {} of {} parts", delivery.claimed.len(), delivery.parts);
                verdict.broken(number, Rule::Lost, seen);
            }
        }
        PhaseName::Failed | PhaseName::Canceled | PhaseName::Missed => {
            if !allowed.given_up {
                verdict.broken(number, Rule::GivenUp, format!("it ended as {}", delivery.phase));
            }
        }
        PhaseName::Unconfirmed => {
            let part = Marker { number, part: delivery.claimed.len() + 1 };
            let received = evidence.received.get(&part).copied().unwrap_or_default();
            match allowed.unconfirmed {
                Unconfirmed::Never => verdict.broken(number, Rule::Unconfirmed, "it waits for a person"),
                Unconfirmed::IfReceived if received == 0 && !was_permitted_again(delivery) => {
                    verdict.broken(number, Rule::Unconfirmed, "it waits for a person although no request left");
                }
                Unconfirmed::IfReceived | Unconfirmed::Anyway => {}
            }
        }
        open => verdict.broken(number, Rule::Open, format!("it is still {open}")),
    }
}

/// What is claimed is there, once, in order; what is there is claimed.
fn shown(verdict: &mut Verdict, delivery: &Delivered, objects: &BTreeMap<Marker, Vec<&Object>>, allowed: &Allowed) {
    let number = delivery.number;
    let mut before: Option<&Object> = None;
    for part in 1..=delivery.parts {
        let there = objects.get(&Marker { number, part }).map(Vec::as_slice).unwrap_or_default();
        if there.len() > 1 {
            let ids: Vec<_> = there.iter().map(|object| object.id.as_str()).collect();
            verdict.broken(number, Rule::Duplicate, format!("part {part} is there as {}", ids.join(" and ")));
        }
        match (delivery.claimed.get(part - 1), there.first()) {
            (Some(claimed), Some(_)) => {
                if let Some(id) = claimed
                    && !there.iter().any(|object| object.id == *id)
                {
                    let seen = format!("part {part} claims {id} and is {}", there[0].id);
                    verdict.broken(number, Rule::OtherId, seen);
                }
            }
            (Some(None), None) if allowed.lied_about.contains(&number) => {}
            (Some(claimed), None) => {
                let id = claimed.as_deref().unwrap_or("an unknown id");
                verdict.broken(number, Rule::Lost, format!("part {part} claims {id} and is not there"));
            }
            // The part in doubt may be there.
            (None, Some(_)) if delivery.phase == PhaseName::Unconfirmed && part == delivery.claimed.len() + 1 => {}
            (None, Some(object)) => {
                let seen = format!("part {part} is there as {} and the delivery is {}", object.id, delivery.phase);
                verdict.broken(number, Rule::Unclaimed, seen);
            }
            (None, None) => {}
        }
        if let Some(object) = there.first() {
            looks(verdict, delivery, part, object, before, allowed);
        }
        before = there.first().copied();
    }
}

/// An object is where it was to be, when, and with what.
fn looks(
    verdict: &mut Verdict,
    delivery: &Delivered,
    part: usize,
    object: &Object,
    before: Option<&Object>,
    allowed: &Allowed,
) {
    let number = delivery.number;
    let own = object.author == delivery.author || object.author.ends_with(&format!(":{}", delivery.author));
    if object.platform != delivery.platform || !own {
        let seen = format!("part {part} is on {} as {}", object.platform, object.author);
        verdict.broken(number, Rule::OtherPlace, seen);
    }
    let media = if part == 1 { delivery.media } else { 0 };
    if object.media != media {
        verdict.broken(number, Rule::OtherMedia, format!("part {part} has {} files, not {media}", object.media));
    }
    if object.deleted {
        verdict.broken(number, Rule::Lost, format!("part {part} was taken away"));
    }
    if object.created_at < delivery.due - signed(allowed.early) {
        let early = delivery.due.duration_since(object.created_at);
        verdict.broken(number, Rule::Early, format!("part {part} came {early:#} early"));
    }
    if part > 1 {
        let answers = before.is_some_and(|before| {
            object.in_reply_to.as_deref().is_some_and(|id| id == before.id) && object.created_at >= before.created_at
        });
        if !answers {
            verdict.broken(number, Rule::Disorder, format!("part {part} does not follow part {}", part - 1));
        }
    } else if object.in_reply_to.is_some() {
        verdict.broken(number, Rule::Disorder, "part 1 answers something");
    }
}

/// The history tells the same story: every visible call was permitted before, no second one without proof, and the last row is the phase.
fn remembered(verdict: &mut Verdict, delivery: &Delivered) {
    let number = delivery.number;
    let (mut open, mut parts, mut whole) = (false, Vec::new(), Vec::new());
    for row in &delivery.history {
        match row.event.as_str() {
            "committing" => {
                if open {
                    verdict.broken(number, Rule::SecondPermit, "a visible call was permitted while one was in doubt");
                }
                open = true;
            }
            event @ ("published" | "part_published") => {
                if !open {
                    verdict.broken(number, Rule::NoPermit, format!("{event} without a permitted call"));
                }
                open = false;
                if event == "published" { &mut whole } else { &mut parts }.push(row.remote_id.clone());
            }
            "permit_returned" | "proven_absent" | "retrying" | "awaiting_limit" | "awaiting_reconnect" | "failed"
            | "resolved_resend" | "resolved_failed" => open = false,
            _ => {}
        }
    }
    // What a worker heard before it lost its lease is noted when that worker comes back, whatever others have found out meanwhile.
    let told = delivery.history.iter().rev().find(|row| row.event != "late_answer");
    let last = told.map_or("nothing", |row| row.event.as_str());
    let rests = delivery.phase.is_final() || delivery.phase == PhaseName::Unconfirmed;
    if rests && last != delivery.phase.as_str() {
        let seen = format!("the phase is {} and the history ends with {last}", delivery.phase);
        verdict.broken(number, Rule::History, seen);
    }
    if delivery.phase == PhaseName::Published {
        let agree = match delivery.claimed.as_slice() {
            [only] => whole == [only.clone()] && parts.is_empty(),
            [first, ..] => whole == [first.clone()] && parts == delivery.claimed[..delivery.claimed.len() - 1],
            [] => false,
        };
        if !agree {
            let seen = format!("claimed are {:?}, the history tells {parts:?} and {whole:?}", delivery.claimed);
            verdict.broken(number, Rule::History, seen);
        }
    } else if !whole.is_empty() || parts != delivery.claimed {
        let seen = format!("it is {}, and the history tells {parts:?} and {whole:?}", delivery.phase);
        verdict.broken(number, Rule::History, seen);
    }
}

/// Whether the part that is in doubt was permitted once more after proof that nothing had become of it.
fn was_permitted_again(delivery: &Delivered) -> bool {
    let of_this_part = delivery.history.iter().rev().take_while(|row| row.event != "part_published");
    let mut permitted = false;
    for row in of_this_part {
        match row.event.as_str() {
            "committing" => permitted = true,
            "proven_absent" if permitted => return true,
            _ => {}
        }
    }
    false
}

/// Whether the answer to a visible call did not come the usual way.
fn was_in_doubt(delivery: &Delivered) -> bool {
    let mut permitted = None;
    for row in &delivery.history {
        match row.event.as_str() {
            "committing" => permitted = Some(row.at),
            "reply_lost" | "still_unknown" | "proven_absent" => return true,
            _ => {
                if permitted.take().is_some_and(|at| row.at.duration_since(at) >= DOUBT) {
                    return true;
                }
            }
        }
    }
    false
}
