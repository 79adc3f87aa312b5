//! Phases and transitions, asked of the function that the engine uses.

use social_core::{
    Checkpoint, Event, Phase, PhaseName, RemotePost,
    phase::invariant::{keeps_attempt, outside_may_change},
};

use crate::{table, tick};

fn at() -> Checkpoint {
    Checkpoint::write(1, &"here")
}

/// Every event once. A new one fails to compile in [`meaning`] and is added here too.
fn events() -> Vec<Event> {
    vec![
        Event::Started,
        Event::Progressed(at()),
        Event::Prepared(at()),
        Event::Permitted,
        Event::PermitReturned,
        Event::Published(RemotePost::unknown()),
        Event::PartPublished(at()),
        Event::Accepted(at()),
        Event::ReplyLost,
        Event::StillUnknown(at()),
        Event::ProvenAbsent,
        Event::CannotTell,
        Event::FailedForNow,
        Event::Limited,
        Event::ConnectionLost,
        Event::FailedForGood,
        Event::CheckpointUnreadable,
        Event::TooLate,
        Event::CanceledByUser,
        Event::Reconnected,
        Event::RetryRequested,
        Event::PartResolved,
        Event::ResolvedResend,
        Event::ResolvedFailed,
    ]
}

fn meaning(event: &Event) -> &'static str {
    match event {
        Event::Started => "a worker begins, or begins again",
        Event::Progressed(_) => "preparation got further; the checkpoint is kept",
        Event::Prepared(_) => "preparation is complete",
        Event::Permitted => "the write-ahead: the visible call is about to be made",
        Event::PermitReturned => "the permit was not used, and it is certain that no call was made",
        Event::Published(_) => "it is out, says the call, a look at the network, or a person",
        Event::PartPublished(_) => "one part of a thread, or the post before its first comment, is out",
        Event::Accepted(_) => "the network took it and is still working",
        Event::ReplyLost => "the answer was lost: it may be out",
        Event::StillUnknown(_) => "the network was asked and cannot tell yet",
        Event::ProvenAbsent => "a complete read proves that the call had no effect",
        Event::CannotTell => "nobody can tell",
        Event::FailedForNow => "failed without effect, to be tried again",
        Event::Limited => "a limit has to pass",
        Event::ConnectionLost => "the account has to be connected again",
        Event::FailedForGood => "failed, and trying again would not help",
        Event::CheckpointUnreadable => "the stored checkpoint cannot be read",
        Event::TooLate => "its time passed by more than the late limit",
        Event::CanceledByUser => "the user calls it off",
        Event::Reconnected => "the account was connected again",
        Event::RetryRequested => "the user asks for another try",
        Event::PartResolved => "a person looked: this part is out, and others follow",
        Event::ResolvedResend => "a person looked: it is not out, send it again",
        Event::ResolvedFailed => "a person looked: it is not out, leave it",
    }
}

fn every_phase() -> impl Iterator<Item = Phase> {
    PhaseName::ALL.into_iter().map(|name| Phase::restore(name, Some(at()), Some(RemotePost::unknown())))
}

pub(crate) fn phases() -> String {
    let what = |name: PhaseName| match name {
        PhaseName::Scheduled => "waits for its time",
        PhaseName::Preparing => "repeatable, invisible work is being done",
        PhaseName::Ready => "everything is there; the visible call may be made",
        PhaseName::Committing => "the visible call may be under way, or its answer was lost",
        PhaseName::Settling => "the network accepted it and is still working",
        PhaseName::Published => "it is out",
        PhaseName::Retrying => "it failed without effect and is tried again",
        PhaseName::AwaitingReconnect => "the user has to connect the account again",
        PhaseName::AwaitingLimit => "a limit of the network has to pass",
        PhaseName::Missed => "its time passed by more than the late limit",
        PhaseName::Failed => "it cannot be published",
        PhaseName::Canceled => "the user called it off",
        PhaseName::Unconfirmed => "nobody can tell whether it is out; a person decides",
    };
    table(
        [
            "phase",
            "meaning",
            "final",
            "cancel and edit win",
            "the public may see it",
            "entering it never uses an attempt",
        ],
        PhaseName::ALL.map(|name| {
            let may = tick(name.can_cancel());
            assert_eq!(name.can_cancel(), outside_may_change(name, PhaseName::Canceled), "{name}");
            let name_cell = format!("`{name}`");
            [
                name_cell,
                what(name).to_owned(),
                tick(name.is_final()),
                may,
                tick(name.may_be_visible()),
                tick(keeps_attempt(name)),
            ]
        }),
    )
}

pub(crate) fn transitions() -> String {
    table(
        ["event in the history", "what happened", "from", "to"],
        events().into_iter().flat_map(|event| {
            // Phases that this event leads to, each with where it comes from, in the order of the phases.
            let mut ways: Vec<(PhaseName, Vec<PhaseName>)> = Vec::new();
            for from in every_phase() {
                let name = from.name();
                let Ok(to) = from.on(event.clone()) else { continue };
                match ways.iter_mut().find(|(known, _)| *known == to.name()) {
                    Some((_, froms)) => froms.push(name),
                    None => ways.push((to.name(), vec![name])),
                }
            }
            assert!(!ways.is_empty(), "{event:?} happens nowhere");
            let rows: Vec<[String; 4]> = ways
                .into_iter()
                .enumerate()
                .map(|(index, (to, froms))| {
                    let froms: Vec<String> = froms.iter().map(|name| format!("`{name}`")).collect();
                    let (name, what) = match index {
                        0 => (format!("`{}`", event.name()), meaning(&event).to_owned()),
                        _ => (String::new(), String::new()),
                    };
                    [name, what, froms.join(", "), format!("`{to}`")]
                })
                .collect();
            rows
        }),
    )
}
