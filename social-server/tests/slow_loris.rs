//! Callers that hold connections half-open and drip: the healthy one beside them is served, and they are gone in time (S10).
//!
//! The short form runs with all tests. The full one, 2,000 connections with a byte every five seconds, holds its numbers on a quiet machine in
//! a release build:
//!
//! ```text
//! cargo test --release -p social-server --test slow_loris -- --ignored --nocapture
//! ```

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use social_core::{memory::MemoryStore, vault::KeyRing};
use social_server::{
    State,
    accept::Acceptor,
    app,
    config::{Config, Secret, Switch},
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};
use tokio_util::sync::CancellationToken;

/// How an attack goes, and what the server allows.
#[derive(Debug, Clone, Copy)]
struct Attack {
    connections: usize,
    /// Between two bytes of a connection.
    every: Duration,
    /// What the server grants to a head.
    head_within: Duration,
    /// What is sent before it becomes slow.
    beginnings: &'static [&'static str],
}

/// What came of it.
#[derive(Debug)]
struct Outcome {
    /// How long the healthy caller waited, sorted.
    waits: Vec<Duration>,
    /// When the last slow connection was gone, since it was opened.
    gone: Duration,
}

impl Outcome {
    fn p99(&self) -> Duration {
        self.waits[(self.waits.len() - 1) * 99 / 100]
    }
}

/// Slow in the first line, and in a header.
const HEADS: &[&str] = &["GE", "GET /healthz HTTP/1.1\r\nhost: a\r\nx-a: "];
/// In these and in the body.
const ALL: &[&str] = &[
    HEADS[0],
    HEADS[1],
    "POST /users HTTP/1.1\r\nhost: a\r\nauthorization: Bearer the-admin-key-of-this-test-0123456789\r\ncontent-type: application/json\r\ncontent-length: 1000\r\n\r\n{",
];

/// Drips until the server ends the connection; answers with how long that took.
async fn drip(address: SocketAddr, beginning: &'static str, every: Duration, open: Arc<AtomicUsize>) -> Duration {
    let mut stream = TcpStream::connect(address).await.expect("a connection");
    stream.write_all(beginning.as_bytes()).await.ok();
    open.fetch_add(1, Ordering::SeqCst);
    let since = Instant::now();
    let (mut read, mut write) = stream.split();
    let dripping = async {
        loop {
            tokio::time::sleep(every).await;
            // A body is dripped as spaces too, which are good JSON so far.
            if write.write_all(b" ").await.is_err() {
                return;
            }
        }
    };
    let ending = async {
        let mut piece = [0; 256];
        while read.read(&mut piece).await.is_ok_and(|read| read > 0) {}
    };
    tokio::select! {
        () = dripping => {}
        () = ending => {}
    }
    since.elapsed()
}

/// Attacks a server of its own while somebody healthy asks it again and again.
async fn attack(attack: Attack) -> Outcome {
    let folder = tempfile::tempdir().unwrap();
    let (_, keys) = KeyRing::generate("k1").unwrap();
    let mut config = Config::default();
    config.master_keys = Some(Secret::from(keys.as_str()));
    config.admin_key = Some(Secret::from("the-admin-key-of-this-test-0123456789"));
    config.request_limits = Switch::Off;
    config.media_dir = folder.path().to_owned();
    let state = State::builder(config).store(Arc::new(MemoryStore::new())).build().unwrap();
    let acceptor = Acceptor::bind("127.0.0.1:0".parse().unwrap()).await.unwrap().head_within(attack.head_within);
    let (address, stop) = (acceptor.address().unwrap(), CancellationToken::new());
    let serving = tokio::spawn(acceptor.serve(app(state), stop.clone(), Duration::from_secs(5)));

    let open = Arc::new(AtomicUsize::new(0));
    let mut slow = tokio::task::JoinSet::new();
    for number in 0..attack.connections {
        slow.spawn(drip(address, attack.beginnings[number % attack.beginnings.len()], attack.every, Arc::clone(&open)));
    }
    while open.load(Ordering::SeqCst) < attack.connections {
        tokio::task::yield_now().await;
    }
    let over = Arc::new(AtomicBool::new(false));
    let healthy = tokio::spawn({
        let over = Arc::clone(&over);
        async move {
            let client = reqwest::Client::builder().no_proxy().build().unwrap();
            let mut waits = Vec::new();
            while !over.load(Ordering::SeqCst) || waits.len() < 50 {
                let began = Instant::now();
                let answer = client.get(format!("http://{address}/readyz")).send().await.expect("an answer");
                assert_eq!(answer.status(), 200);
                waits.push(began.elapsed());
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            waits
        }
    });
    let gone = tokio::time::timeout(Duration::from_secs(120), slow.join_all()).await.expect("all of them are let go");
    over.store(true, Ordering::SeqCst);
    let mut waits = healthy.await.unwrap();
    waits.sort_unstable();
    stop.cancel();
    serving.await.unwrap();
    Outcome { waits, gone: gone.into_iter().max().unwrap_or_default() }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn slow_callers_are_let_go_and_others_are_served_meanwhile() {
    let short = Attack {
        connections: 150,
        every: Duration::from_millis(100),
        head_within: Duration::from_millis(500),
        beginnings: HEADS,
    };
    let outcome = attack(short).await;
    // Nothing here hangs on the speed of this machine: everybody was answered, and everybody slow was let go.
    assert!(outcome.waits.len() >= 50, "{outcome:?}");
    println!("p99 {:?}, the last was gone after {:?}", outcome.p99(), outcome.gone);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs a quiet machine and 4,200 open files: the full form, 15 s"]
async fn two_thousand_slow_callers_do_not_slow_a_healthy_one() {
    let full = Attack {
        connections: 2000,
        every: Duration::from_secs(5),
        head_within: Duration::from_secs(10),
        beginnings: ALL,
    };
    let outcome = attack(full).await;
    println!("p99 {:?}, the last was gone after {:?}", outcome.p99(), outcome.gone);
    assert!(outcome.p99() < Duration::from_millis(100), "p99 {:?}", outcome.p99());
    // The deadlines are 10 s for a head and 12 s for a body.
    assert!(outcome.gone < Duration::from_secs(15), "the last was gone after {:?}", outcome.gone);
}
