//! The judge is fed with every crime and has to see it.

use jiff::Timestamp;

use super::*;
use crate::evidence::Row;

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(1_800_000_000 + second).unwrap()
}

fn row(event: &str, second: i64, remote_id: Option<&str>) -> Row {
    Row { event: event.to_owned(), success: None, remote_id: remote_id.map(str::to_owned), at: at(second) }
}

fn object(number: usize, part: usize, id: &str, answers: Option<&str>) -> Object {
    Object {
        platform: "x".to_owned(),
        author: "77".to_owned(),
        id: id.to_owned(),
        marker: Some(Marker { number, part }),
        media: 0,
        in_reply_to: answers.map(str::to_owned),
        created_at: at(100 + i64::try_from(part).unwrap()),
        deleted: false,
    }
}

fn delivery(number: usize, claimed: &[&str]) -> Delivered {
    let mut history = vec![row("scheduled", 0, None)];
    for (nth, id) in claimed.iter().enumerate() {
        history.push(row("committing", 100, None));
        let last = nth + 1 == claimed.len();
        let told = if last { claimed[0] } else { id };
        history.push(row(if last { "published" } else { "part_published" }, 101, Some(told)));
    }
    Delivered {
        number,
        platform: "x".to_owned(),
        author: "77".to_owned(),
        parts: claimed.len(),
        media: 0,
        due: at(100),
        phase: PhaseName::Published,
        claimed: claimed.iter().map(|id| Some((*id).to_owned())).collect(),
        history,
    }
}

/// One text and one thread, as they should be.
fn innocent() -> Evidence {
    let objects = vec![
        object(1, 1, "a", None),
        object(2, 1, "b1", None),
        object(2, 2, "b2", Some("b1")),
        object(2, 3, "b3", Some("b2")),
    ];
    let received = objects.iter().filter_map(|object| Some((object.marker?, 1))).collect();
    Evidence {
        deliveries: vec![delivery(1, &["a"]), delivery(2, &["b1", "b2", "b3"])],
        objects,
        received,
        strangers: 0,
    }
}

fn rules(evidence: &Evidence, allowed: &Allowed) -> Vec<Rule> {
    check(evidence, allowed).violations.iter().map(|violation| violation.rule).collect()
}

/// The rules that are broken after a change of what was innocent.
fn after(crime: impl FnOnce(&mut Evidence)) -> Vec<Rule> {
    let mut evidence = innocent();
    crime(&mut evidence);
    rules(&evidence, &Allowed::default())
}

/// Puts the first delivery into a phase with a history that fits.
fn end_first(evidence: &mut Evidence, phase: PhaseName) {
    let first = &mut evidence.deliveries[0];
    (first.phase, first.claimed) = (phase, Vec::new());
    first.history = vec![row("scheduled", 0, None), row("committing", 100, None)];
    if phase != PhaseName::Committing {
        first.history.push(row(phase.as_str(), 101, None));
    }
}

#[test]
fn innocence_is_seen() {
    let verdict = check(&innocent(), &Allowed::default());
    assert_eq!(verdict.violations, []);
    let figures = verdict.figures;
    assert_eq!((figures.deliveries, figures.published, figures.objects, figures.visible_calls), (2, 2, 4, 4));
    assert_eq!((figures.duplicates, figures.lost, figures.x_in_doubt), (0, 0, 0));
}

#[test]
fn a_duplicate_is_seen_however_it_is_claimed() {
    assert_eq!(after(|e| e.objects.push(object(1, 1, "a again", None))), [Rule::Duplicate]);
    let mut evidence = innocent();
    evidence.objects.push(object(2, 3, "b3 again", Some("b2")));
    let verdict = check(&evidence, &Allowed::default());
    assert_eq!(verdict.figures.duplicates, 1);
    assert!(verdict.violations[0].to_string().contains("chaos000002"), "{}", verdict.violations[0]);
}

#[test]
fn a_loss_is_seen() {
    assert_eq!(after(|e| drop(e.objects.remove(0))), [Rule::Lost]);
    assert!(after(|e| drop(e.objects.pop())).contains(&Rule::Lost));
    assert_eq!(after(|e| e.objects[0].deleted = true), [Rule::Lost]);
    // Half a thread that says that it is whole.
    let half = after(|e| {
        e.objects.pop();
        e.deliveries[1] = Delivered { parts: 3, ..delivery(2, &["b1", "b2"]) };
    });
    assert_eq!(half, [Rule::Lost]);
}

#[test]
fn what_never_ends_is_seen() {
    for phase in [PhaseName::Scheduled, PhaseName::Committing, PhaseName::Retrying, PhaseName::AwaitingLimit] {
        let found = after(|e| {
            end_first(e, phase);
            e.objects.remove(0);
        });
        assert_eq!(found, [Rule::Open], "{phase}");
    }
}

#[test]
fn a_foreign_object_is_seen() {
    assert_eq!(after(|e| e.objects.push(object(9, 1, "z", None))), [Rule::Foreign]);
    assert_eq!(after(|e| e.objects.push(Object { marker: None, ..object(1, 1, "z", None) })), [Rule::Foreign]);
    assert_eq!(after(|e| e.objects.push(object(1, 2, "z", Some("a")))), [Rule::Foreign]);
    assert_eq!(after(|e| e.strangers = 1), [Rule::Foreign]);
    assert_eq!(after(|e| e.deliveries.push(delivery(1, &["a"]))), [Rule::Foreign]);
}

#[test]
fn an_object_of_a_delivery_that_does_not_know_it_is_seen() {
    let mut evidence = innocent();
    end_first(&mut evidence, PhaseName::Failed);
    assert_eq!(rules(&evidence, &Allowed::default()), [Rule::GivenUp, Rule::Unclaimed]);
    assert_eq!(rules(&evidence, &Allowed { given_up: true, ..Allowed::default() }), [Rule::Unclaimed]);
    evidence.objects.remove(0);
    assert_eq!(rules(&evidence, &Allowed { given_up: true, ..Allowed::default() }), []);
}

#[test]
fn a_doubt_is_allowed_only_where_a_request_left_and_never_two_objects() {
    let allowed = Allowed { unconfirmed: Unconfirmed::IfReceived, ..Allowed::default() };
    let mut evidence = innocent();
    end_first(&mut evidence, PhaseName::Unconfirmed);
    assert_eq!(rules(&evidence, &Allowed::default()), [Rule::Unconfirmed]);
    assert_eq!(rules(&evidence, &allowed), []);
    assert_eq!(check(&evidence, &allowed).figures.x_unconfirmed, 1);
    evidence.objects.push(object(1, 1, "a again", None));
    assert_eq!(rules(&evidence, &allowed), [Rule::Duplicate]);
    evidence.objects.retain(|object| object.marker.is_some_and(|marker| marker.number == 2));
    assert_eq!(rules(&evidence, &allowed), []);
    evidence.received.retain(|marker, _| marker.number == 2);
    assert_eq!(rules(&evidence, &allowed), [Rule::Unconfirmed]);
    // Twice in doubt, with proof in between: who died before the first byte both times leaves no request.
    let history = &mut evidence.deliveries[0].history;
    history.splice(1..1, [row("committing", 90, None), row("proven_absent", 95, None)]);
    assert_eq!(rules(&evidence, &allowed), []);
    evidence.deliveries[0].history.remove(3);
    assert!(rules(&evidence, &allowed).contains(&Rule::Unconfirmed), "proof, and no second call");
}

#[test]
fn wrong_ids_places_files_and_times_are_seen() {
    assert!(after(|e| e.objects[0].id = "other".to_owned()).contains(&Rule::OtherId));
    assert_eq!(after(|e| e.objects[0].author = "78".to_owned()), [Rule::OtherPlace]);
    assert_eq!(after(|e| e.objects[0].platform = "linkedin".to_owned()), [Rule::OtherPlace]);
    assert_eq!(after(|e| e.objects[0].author = "urn:li:person:77".to_owned()), []);
    assert_eq!(after(|e| e.objects[0].media = 1), [Rule::OtherMedia]);
    assert_eq!(after(|e| e.objects[0].created_at = at(99)), [Rule::Early]);
    let mut evidence = innocent();
    evidence.objects[0].created_at = at(99);
    assert_eq!(rules(&evidence, &Allowed { early: Duration::from_secs(2), ..Allowed::default() }), []);
}

#[test]
fn parts_out_of_order_are_seen() {
    assert_eq!(after(|e| e.objects[3].in_reply_to = Some("b1".to_owned())), [Rule::Disorder]);
    assert_eq!(after(|e| e.objects[2].in_reply_to = None), [Rule::Disorder]);
    assert_eq!(after(|e| e.objects[0].in_reply_to = Some("b1".to_owned())), [Rule::Disorder]);
    assert!(after(|e| e.objects[2].created_at = at(200)).contains(&Rule::Disorder));
}

#[test]
fn a_history_that_tells_another_story_is_seen() {
    assert_eq!(after(|e| drop(e.deliveries[0].history.pop())), [Rule::History, Rule::History]);
    assert_eq!(after(|e| drop(e.deliveries[0].history.remove(1))), [Rule::NoPermit]);
    let twice = after(|e| {
        let again = e.deliveries[0].history[1].clone();
        e.deliveries[0].history.insert(2, again);
    });
    assert_eq!(twice, [Rule::SecondPermit]);
    let proven = after(|e| {
        let history = &mut e.deliveries[0].history;
        history.insert(2, row("proven_absent", 400, None));
        history.insert(3, row("committing", 400, None));
    });
    assert_eq!(proven, []);
    // A worker that was stopped and comes back notes what it had heard.
    assert_eq!(after(|e| e.deliveries[0].history.push(row("late_answer", 500, Some("a1")))), []);
    assert_eq!(after(|e| e.deliveries[0].history[2].remote_id = None), [Rule::History]);
    assert_eq!(after(|e| e.deliveries[1].history[2].remote_id = Some("b2".to_owned())), [Rule::History]);
}

#[test]
fn a_lie_that_no_client_can_see_through_is_allowed_where_it_was_told() {
    let mut evidence = innocent();
    evidence.objects.remove(0);
    evidence.deliveries[0].claimed = vec![None];
    evidence.deliveries[0].history[2].remote_id = None;
    assert_eq!(rules(&evidence, &Allowed::default()), [Rule::Lost]);
    assert_eq!(rules(&evidence, &Allowed { lied_about: [1].into(), ..Allowed::default() }), []);
    // Where an id was named, it has to be there.
    let mut evidence = innocent();
    evidence.objects.remove(0);
    assert_eq!(rules(&evidence, &Allowed { lied_about: [1].into(), ..Allowed::default() }), [Rule::Lost]);
}

#[test]
fn doubts_are_counted_by_rows_and_by_time() {
    let doubts = |change: &dyn Fn(&mut Delivered)| {
        let mut evidence = innocent();
        change(&mut evidence.deliveries[0]);
        check(&evidence, &Allowed::default()).figures.x_in_doubt
    };
    assert_eq!(doubts(&|_| {}), 0);
    assert_eq!(doubts(&|one| one.history[2].at = at(131)), 1);
    assert_eq!(doubts(&|one| one.history.insert(2, row("reply_lost", 101, None))), 1);
    assert_eq!(doubts(&|one| one.platform = "linkedin".to_owned()), 0);
}
