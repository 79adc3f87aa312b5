//! Networks that refuse, break and lie, and secrets that must not leak.

use std::sync::{Arc, Mutex, PoisonError};

use social_core::{Draft, Phase, error::ErrorKind};
use tracing_subscriber::fmt::MakeWriter;

use crate::{
    secrets,
    world::{Calls, Disturbance, Harness, Instead, Shape, World, assert_published_once},
};

fn text() -> Shape {
    Shape::one("a text", Draft::text("A post for a network in trouble."))
}

/// 429 makes a delivery wait without using an attempt; afterwards it goes out once.
pub async fn a_refusal_for_too_many_calls_waits_and_uses_no_attempt<H: Harness>() {
    let world = World::<H>::start().await;
    let shape = text();
    let answer = Instead::Answer {
        status: 429,
        body: "{\"title\":\"Too Many Requests\",\"status\":429}".into(),
        headers: Vec::new(),
    };
    world.net.arm(Disturbance { calls: Calls::Visible, effect: false, instead: answer, skip: 0, times: Some(1) });
    let post = world.schedule(&shape).await;
    world.round().await;
    let waiting = world.deliveries(&post).await.remove(0);
    assert!(matches!(waiting.phase, Phase::AwaitingLimit { .. }), "{waiting:?}");
    assert_eq!(waiting.attempt, 0, "a limit uses no attempt");
    assert!(waiting.wake_at.is_some());
    let delivery = world.run_to_rest(&post).await.remove(0);
    assert_published_once(&world, &shape, &delivery, "after 429");
}

/// 5xx without effect is ambiguous: the network is asked before anything is sent again.
pub async fn a_server_error_before_the_effect_publishes_once<H: Harness>() {
    for status in [500, 502, 503] {
        let world = World::<H>::start().await;
        let shape = text();
        let answer = Instead::Answer { status, body: String::new(), headers: Vec::new() };
        world.net.arm(Disturbance { calls: Calls::Visible, effect: false, instead: answer, skip: 0, times: Some(1) });
        let delivery = world.publish(&shape).await;
        assert_published_once(&world, &shape, &delivery, &format!("after {status}"));
    }
}

/// Bodies that no network sends: no panic, no second post, and an end that tells the truth.
pub async fn hostile_bodies_never_publish_twice_or_panic<H: Harness>() {
    let huge = format!("{{\"data\":\"{}\"}}", "x".repeat(3 * 1024 * 1024));
    let deep = "[".repeat(100_000);
    let bodies = [
        "<html>gateway</html>",
        "",
        "{",
        "null",
        "[]",
        "\"text\"",
        "{\"data\":null}",
        "{\"data\":{\"id\":7}}",
        &huge,
        &deep,
    ];
    for body in bodies {
        for (status, effect) in
            [(200, true), (400, false), (403, false), (404, false), (418, false), (500, false), (500, true)]
        {
            let world = World::<H>::start().await;
            let shape = text();
            let answer = Instead::Answer { status, body: body.to_owned(), headers: Vec::new() };
            world.net.arm(Disturbance { calls: Calls::Visible, effect, instead: answer, skip: 0, times: Some(1) });
            let delivery = world.publish(&shape).await;
            let visible = world.net.visible().len();
            let told = format!("status {status}, effect {effect}, body {:.20}: ended as {:?}", body, delivery.phase);
            match delivery.phase {
                Phase::Published { .. } => assert_eq!(visible, 1, "{told}"),
                Phase::Failed { .. } => assert_eq!(visible, 0, "{told}"),
                Phase::Unconfirmed { .. } => assert!(visible <= 1, "{told}"),
                _ => panic!("{told}"),
            }
        }
    }
    // The same on every call, reads included.
    for body in bodies {
        let world = World::<H>::start().await;
        let shape = text();
        let answer = Instead::Answer { status: 200, body: body.to_owned(), headers: Vec::new() };
        world.net.arm(Disturbance { calls: Calls::All, effect: true, instead: answer, skip: 0, times: Some(3) });
        let delivery = world.publish(&shape).await;
        let visible = world.net.visible().len();
        assert!(visible <= 1, "body {body:.20}: ended as {:?} and is visible {visible} times", delivery.phase);
    }
}

#[derive(Clone, Default)]
struct Captured(Arc<Mutex<Vec<u8>>>);

impl std::io::Write for Captured {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Captured {
    type Writer = Self;
    fn make_writer(&'a self) -> Self {
        self.clone()
    }
}

/// No token, code or secret that the network issued stands in the logs, in errors, or in anything that is stored.
pub async fn no_secret_is_printed_or_stored<H: Harness>() {
    let captured = Captured::default();
    let subscriber =
        tracing_subscriber::fmt().with_max_level(tracing::Level::TRACE).with_writer(captured.clone()).finish();
    // While there is one dispatcher only, `tracing` asks the thread that comes first whether an event is wanted at all, and remembers the
    // answer for all threads. The other tests want none.
    let _second = tracing::Dispatch::new(tracing_subscriber::registry());
    let _guard = tracing::subscriber::set_default(subscriber);
    // With one subscriber alive, a place in the code that another test's thread reaches first is switched off for all threads; with two, each
    // is asked.
    let _second = tracing::Dispatch::new(tracing_subscriber::registry());
    let mut world = World::<H>::start().await;
    let mut printed = String::new();
    for shape in world.net.shapes() {
        let delivery = world.publish(&shape).await;
        printed.push_str(&format!("{delivery:?}"));
    }
    // Errors of every kind, with bodies that repeat what was sent.
    for status in [400, 401, 403, 500] {
        let tokens = world.social.keeper().tokens(world.accounts[0].connection, None).await;
        let access = tokens.map(|tokens| tokens.access.expose().to_owned()).unwrap_or_default();
        let body = format!("{{\"detail\":\"token {access} is no good\",\"access_token\":\"{access}\"}}");
        let answer = Instead::Answer { status, body, headers: vec![("x-request-id".into(), access)] };
        world.net.arm(Disturbance { calls: Calls::Visible, effect: false, instead: answer, skip: 0, times: Some(1) });
        let shape = Shape::one("trouble", Draft::text(format!("A post that meets status {status}.")));
        printed.push_str(&format!("{:?}", world.publish(&shape).await));
        world.connect().await;
    }
    if let Err(error) = world.social.refresh(world.user, world.accounts[0].connection).await {
        assert_ne!(error.kind(), ErrorKind::Storage);
        printed.push_str(&format!("{error} {error:?}"));
    }
    let logged = String::from_utf8_lossy(&captured.0.lock().unwrap_or_else(PoisonError::into_inner)).into_owned();
    assert!(logged.contains("social_core"), "the scan has something to look at");
    let issued = world.net.issued_secrets();
    assert!(issued.len() >= 2, "the scan has something to look for");
    for (place, text) in [("logs", &logged), ("debug output", &printed), ("store", &world.dump())] {
        for secret in &issued {
            assert!(
                !secrets::holds(text.as_bytes(), secret.as_bytes()),
                "a secret of the network stands in the {place}"
            );
        }
    }
}
