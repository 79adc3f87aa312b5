//! A small exhaustive check of the publishing protocol: every order in which two workers, a database, a network and a person can act on one
//! delivery, with pauses at every step, deaths, lost writes, writes that land late, lost answers and lagging read-back.
//!
//! What decides is the real code: phases change through [`Phase::on`](social_core::Phase::on), what a worker does with what it finds is
//! [`PhaseName::duty`](social_core::PhaseName::duty), and who may write is [`Ownership`](social_core::store::Ownership), by which the store
//! in memory lives; [`replay`] plays traces to every store and compares the rows. What is modelled by hand is the order of the driver's steps.
//!
//! Assumed, as everywhere in this project: the check of the lease is the last thing before the request leaves, and a network that is asked
//! again after its settling time shows everything that it took.

mod replay;
mod rules;
mod search;
mod state;
mod steps;

use serde::Serialize;

pub use self::{
    replay::replay,
    search::{explore, explore_for},
};

/// How a network can be asked what became of a call whose answer was lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Network {
    /// By reading the account's posts, which show a new one after a while.
    ReadsBack,
    /// By sending the identical call again, which the network recognises.
    Recognises,
    /// Not at all.
    Blind,
}

/// How much may go wrong in one trace.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Bounds {
    /// The network.
    pub network: Network,
    /// Visible calls that the delivery makes: 1, or 2 for a thread. At most 2.
    pub parts: u8,
    /// Deaths, lost and late writes, lost answers, stops. At most 3. Pauses and ended leases are free.
    pub faults: u8,
    /// Things that a person does: cancel, edit, retry, resolve. At most 3.
    pub outside: u8,
}

impl Bounds {
    /// Quick enough for a test in a debug build.
    pub const QUICK: [Self; 3] = [
        Self { network: Network::Recognises, parts: 1, faults: 1, outside: 1 },
        Self { network: Network::ReadsBack, parts: 2, faults: 1, outside: 0 },
        Self { network: Network::ReadsBack, parts: 1, faults: 1, outside: 1 },
    ];

    /// For a release build: seconds to minutes.
    pub const THOROUGH: [Self; 5] = [
        Self { network: Network::ReadsBack, parts: 1, faults: 2, outside: 2 },
        Self { network: Network::ReadsBack, parts: 1, faults: 3, outside: 1 },
        Self { network: Network::ReadsBack, parts: 2, faults: 2, outside: 1 },
        Self { network: Network::Recognises, parts: 2, faults: 2, outside: 1 },
        Self { network: Network::Blind, parts: 2, faults: 2, outside: 1 },
    ];
}

/// What the protocol rests on. Each may be taken away, to see the check fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Protections {
    /// A write counts only under the current epoch (E2, I3).
    pub fence: bool,
    /// `committing` is durable before the visible call (E4, I1).
    pub write_ahead: bool,
    /// What is found in `committing` is asked about, not sent again (E9, I2).
    pub reclaim_to_reconcile: bool,
    /// The lease is looked at right before the request leaves (E5).
    pub lease_check_before_send: bool,
    /// An answer that was lost is a doubt, not a failure (E7).
    pub lost_answer_is_doubt: bool,
    /// "Not there" counts only after the network's settling time, from a second look (E10).
    pub absence_after_settling: bool,
    /// Cancel and edit lose against a write-ahead that came first (E12, I5).
    pub outside_loses_to_permit: bool,
    /// Giving a claim back moves the epoch on, so that a write of it that lands later does not count.
    pub hand_back_moves_epoch: bool,
    /// A write after which its worker goes on counts only under a lease, so that one that lands after the claim was given back does not.
    pub going_on_needs_lease: bool,
    /// A write that is repeated because its answer was lost counts once: by the id of its row of the history.
    pub write_once: bool,
}

impl Protections {
    /// All of them.
    pub const ALL: Self = Self {
        fence: true,
        write_ahead: true,
        reclaim_to_reconcile: true,
        lease_check_before_send: true,
        lost_answer_is_doubt: true,
        absence_after_settling: true,
        outside_loses_to_permit: true,
        hand_back_moves_epoch: true,
        going_on_needs_lease: true,
        write_once: true,
    };

    /// Each of them taken away alone, with its name. Of the two that keep late writes out after a claim was given back each makes up for the
    /// other, so these go together.
    #[must_use]
    pub fn each_missing() -> Vec<(&'static str, Self)> {
        vec![
            ("fence", Self { fence: false, ..Self::ALL }),
            ("write_ahead", Self { write_ahead: false, ..Self::ALL }),
            ("reclaim_to_reconcile", Self { reclaim_to_reconcile: false, ..Self::ALL }),
            ("lease_check_before_send", Self { lease_check_before_send: false, ..Self::ALL }),
            ("lost_answer_is_doubt", Self { lost_answer_is_doubt: false, ..Self::ALL }),
            ("absence_after_settling", Self { absence_after_settling: false, ..Self::ALL }),
            ("outside_loses_to_permit", Self { outside_loses_to_permit: false, ..Self::ALL }),
            ("hand_back_moves_epoch", Self { hand_back_moves_epoch: false, going_on_needs_lease: false, ..Self::ALL }),
            ("write_once", Self { write_once: false, ..Self::ALL }),
        ]
    }
}

impl Default for Protections {
    fn default() -> Self {
        Self::ALL
    }
}

/// What no trace may break.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Promise {
    /// Nothing is visible twice without proof of absence or a person's word.
    NeverTwice,
    /// No two permits of one delivery are open at once.
    OnePermit,
    /// Somebody looks at whatever has not ended.
    NeverLost,
    /// From everywhere there is a way to an end, or to a person, without further faults.
    NeverStuck,
    /// What is said to be out is out, and what is said not to be out is not.
    Truth,
    /// The state machine allows what the protocol needs.
    Possible,
}

impl Promise {
    /// All of them.
    pub const ALL: [Self; 6] =
        [Self::NeverTwice, Self::OnePermit, Self::NeverLost, Self::NeverStuck, Self::Truth, Self::Possible];
}

/// What was found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Report {
    /// How far was looked.
    pub bounds: Bounds,
    /// With which protections.
    pub protections: Protections,
    /// Whether no trace breaks the promises.
    pub held: bool,
    /// Different states that were reached. Workers are interchangeable, and counted as such.
    pub states: u64,
    /// Different steps between them.
    pub steps: u64,
    /// Different traces of [`trace_steps`](Self::trace_steps) steps that lead through these states; the largest number means "or more".
    pub traces: u64,
    /// How long the counted traces are.
    pub trace_steps: u32,
    /// The shortest trace that breaks a promise.
    pub broken: Option<Broken>,
}

/// A trace that breaks a promise.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Broken {
    /// Which.
    pub promise: Promise,
    /// How it comes to that, step by step.
    pub trace: Vec<String>,
}

/// Explores several bounds with all protections, and answers with all reports: the scenario `model`.
#[must_use]
pub fn explore_all(bounds: &[Bounds]) -> Vec<Report> {
    bounds.iter().map(|bounds| explore(*bounds, Protections::ALL)).collect()
}
