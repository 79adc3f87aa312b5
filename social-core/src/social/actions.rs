//! What a client may do with a delivery now, so that no client guesses.

use serde::Serialize;

use crate::{descriptor::Abilities, phase::PhaseName, store::Delivery};

/// Something that a client may want to do with a delivery.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Action {
    /// `cancel`, `edit`, `retry`, `resolve` or `delete_remote`.
    pub name: &'static str,
    /// Whether it is possible now.
    pub allowed: bool,
    /// Why it is not.
    pub reason: Option<&'static str>,
}

/// All actions with whether they are possible.
#[must_use]
pub fn actions(delivery: &Delivery, abilities: Abilities) -> Vec<Action> {
    let phase = delivery.phase.name();
    let too_late = match phase {
        PhaseName::Committing | PhaseName::Settling => Some("it is being published right now"),
        PhaseName::Published => Some("it is published"),
        PhaseName::Unconfirmed => Some("it may be published: say first whether it is"),
        PhaseName::Failed | PhaseName::Canceled | PhaseName::Missed => Some("it has ended"),
        _ => None,
    };
    let retry = match phase {
        PhaseName::Failed | PhaseName::Missed | PhaseName::Canceled => None,
        PhaseName::Unconfirmed => Some("it may be published: say first whether it is"),
        PhaseName::Published => Some("it is published"),
        _ => Some("it has not ended"),
    };
    let resolve = (phase != PhaseName::Unconfirmed).then_some("there is no doubt about it");
    let has_remote_id = matches!(&delivery.phase, crate::phase::Phase::Published { remote } if remote.id.is_some());
    let delete = match () {
        () if !abilities.delete => Some("this network cannot delete through its interface"),
        () if phase != PhaseName::Published => Some("it is not published"),
        () if !has_remote_id => Some("its id on the network is not known: delete it there"),
        () => None,
    };
    [("cancel", too_late), ("edit", too_late), ("retry", retry), ("resolve", resolve), ("delete_remote", delete)]
        .into_iter()
        .map(|(name, reason)| Action { name, allowed: reason.is_none(), reason })
        .collect()
}
