//! A broken promise.

use std::fmt;

use crate::load::Marker;

/// Which promise.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Rule {
    /// A part is visible more than once.
    Duplicate,
    /// Something is out by the store's word and is not there.
    Lost,
    /// A delivery never ends.
    Open,
    /// A delivery ended without being out.
    GivenUp,
    /// A delivery waits for a person without need.
    Unconfirmed,
    /// Something is visible that belongs to no delivery.
    Foreign,
    /// Something is visible of which its delivery does not know.
    Unclaimed,
    /// The store's id is not the network's.
    OtherId,
    /// It is on another account than it was meant for.
    OtherPlace,
    /// Its files are not those that were meant.
    OtherMedia,
    /// It came before its time.
    Early,
    /// Parts do not follow each other.
    Disorder,
    /// A visible call was permitted while an earlier one was in doubt.
    SecondPermit,
    /// An outcome without a permitted call.
    NoPermit,
    /// History and phase tell different stories.
    History,
}

/// A broken promise.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    /// Which post of the run, if it is one's.
    pub number: Option<usize>,
    /// Which promise.
    pub rule: Rule,
    /// What was seen.
    pub seen: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}: ", self.rule)?;
        if let Some(number) = self.number {
            let marker = Marker { number, part: 0 }.to_string();
            write!(f, "{}: ", marker.trim_end_matches("p0"))?;
        }
        f.write_str(&self.seen)
    }
}
