//! What only a real connection shows: slow callers, live events, an orderly end.

use std::{net::SocketAddr, time::Duration};

use futures_util::StreamExt as _;
use serde_json::json;
use social_server::accept::Acceptor;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    task::JoinHandle,
};
use tokio_util::sync::CancellationToken;

use crate::world::World;

struct Served {
    address: SocketAddr,
    stop: CancellationToken,
    task: JoinHandle<()>,
}

async fn serve(world: &World, head_within: Duration) -> Served {
    let acceptor = Acceptor::bind("127.0.0.1:0".parse().unwrap()).await.unwrap().head_within(head_within);
    let (address, stop) = (acceptor.address().unwrap(), CancellationToken::new());
    let (app, token) = (world.app.clone(), stop.clone());
    let task = tokio::spawn(async move { acceptor.serve(app, token, Duration::from_secs(5)).await });
    Served { address, stop, task }
}

#[tokio::test]
async fn callers_that_dawdle_over_their_first_line_are_let_go_and_others_are_served() {
    let world = World::new();
    let served = serve(&world, Duration::from_millis(300)).await;
    let mut slow = Vec::new();
    for _ in 0..50 {
        let mut stream = TcpStream::connect(served.address).await.unwrap();
        stream.write_all(b"GET /healthz HTTP/1.1\r\nx-a: ").await.unwrap();
        slow.push(stream);
    }
    let url = format!("http://{}/healthz", served.address);
    assert_eq!(reqwest::get(&url).await.unwrap().status(), 200);
    for mut stream in slow {
        // Ends without our doing: an answer of 408 or nothing, then the end.
        let mut rest = Vec::new();
        tokio::time::timeout(Duration::from_secs(10), stream.read_to_end(&mut rest)).await.expect("let go").ok();
    }
    assert_eq!(reqwest::get(&url).await.unwrap().status(), 200);
    served.stop.cancel();
    served.task.await.unwrap();
}

#[tokio::test]
async fn heads_that_never_end_are_refused_before_they_do() {
    let world = World::new();
    let served = serve(&world, Duration::from_secs(10)).await;
    let many = "x-a: b\r\n".repeat(150);
    let large = format!("x-a: {}\r\n", "a".repeat(200_000));
    let target = "a".repeat(200_000);
    for (what, head) in [
        ("many", format!("GET /healthz HTTP/1.1\r\n{many}\r\n")),
        ("large", format!("GET /healthz HTTP/1.1\r\n{large}\r\n")),
        ("long", format!("GET /{target} HTTP/1.1\r\n\r\n")),
    ] {
        let mut stream = TcpStream::connect(served.address).await.unwrap();
        // The server may close before all of it is written.
        stream.write_all(head.as_bytes()).await.ok();
        let mut answer = Vec::new();
        let read = tokio::time::timeout(Duration::from_secs(20), stream.read_to_end(&mut answer)).await;
        read.expect("an end").ok();
        let text = String::from_utf8_lossy(&answer);
        let status = text.split(' ').nth(1).unwrap_or_default();
        assert!(["", "431", "414"].contains(&status), "{what}: {text}");
    }
    let healthy = reqwest::get(format!("http://{}/healthz", served.address)).await.unwrap();
    assert_eq!(healthy.status(), 200);
    served.stop.cancel();
    served.task.await.unwrap();
}

#[tokio::test]
async fn events_are_live_resumable_and_end_with_the_server() {
    let world = World::new();
    let (tenant, accounts) = world.connected("a@example.com").await;
    let (stranger, _) = world.connected("b@example.com").await;
    let served = serve(&world, Duration::from_secs(10)).await;
    let client = reqwest::Client::new();
    let listen = async |key: &str, last: Option<&str>| {
        let mut request = client.get(format!("http://{}/events", served.address)).bearer_auth(key);
        if let Some(last) = last {
            request = request.header("last-event-id", last);
        }
        request.send().await.unwrap()
    };
    let live = listen(&tenant.key, None).await;
    assert_eq!(live.headers()["content-type"], "text/event-stream");
    let others = listen(&stranger.key, None).await;
    let body = json!({ "content": "secret plan", "accounts": [accounts[0]] });
    world.post("/post/schedule", &tenant.key, body).await.expect(201);
    world.work().await;
    let mut text = String::new();
    let mut pieces = live.bytes_stream();
    while !text.contains("\"phase\":\"published\"") {
        let piece = tokio::time::timeout(Duration::from_secs(20), pieces.next()).await.expect("events arrive");
        text.push_str(std::str::from_utf8(&piece.unwrap().unwrap()).unwrap());
    }
    assert!(text.contains("event: delivery") && text.contains("\"phase\":\"committing\""), "{text}");
    assert!(!text.contains("secret plan"), "texts are not told");
    let ids: Vec<&str> = text.lines().filter_map(|line| line.strip_prefix("id: ")).collect();
    let mut again = listen(&tenant.key, Some(ids[0])).await.bytes_stream();
    let piece =
        tokio::time::timeout(Duration::from_secs(20), again.next()).await.expect("events arrive").unwrap().unwrap();
    let resumed = std::str::from_utf8(&piece).unwrap();
    assert!(resumed.contains(ids[1]) && !resumed.contains(ids[0]), "{resumed}");
    // The end: streams end by themselves, and the server with them.
    world.state.begin_stopping();
    served.stop.cancel();
    tokio::time::timeout(Duration::from_secs(4), served.task).await.expect("an orderly end").unwrap();
    let rest: Vec<_> = others.bytes_stream().collect().await;
    let rest: Vec<u8> = rest.into_iter().flatten().flatten().collect();
    assert!(!String::from_utf8_lossy(&rest).contains("delivery"), "a stranger was told");
}

#[tokio::test]
async fn a_request_under_way_is_finished_when_the_server_stops() {
    let world = World::new();
    let served = serve(&world, Duration::from_secs(10)).await;
    let tenant = world.tenant("a@example.com").await;
    let mut stream = TcpStream::connect(served.address).await.unwrap();
    let body = json!({ "platform": "x" }).to_string();
    let head = format!(
        "POST /auth/links HTTP/1.1\r\nhost: a\r\nauthorization: Bearer {}\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n",
        tenant.key,
        body.len()
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    // The server has seen the head when it asks for nothing more: give the other side a turn, then stop it.
    tokio::time::sleep(Duration::from_millis(100)).await;
    served.stop.cancel();
    stream.write_all(body.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 201"), "{answer}");
    served.task.await.unwrap();
    assert!(TcpStream::connect(served.address).await.is_err(), "nothing new is accepted");
}

#[tokio::test]
async fn one_address_cannot_take_the_places_of_all() {
    let world = World::new();
    let acceptor = Acceptor::bind("127.0.0.1:0".parse().unwrap()).await.unwrap();
    let proxy = "127.0.0.9".parse().unwrap();
    let acceptor = acceptor.most_connections(64).count_loopback().most_per_address(4, [proxy]);
    let (address, stop) = (acceptor.address().unwrap(), CancellationToken::new());
    let (app, token) = (world.app.clone(), stop.clone());
    let task = tokio::spawn(async move { acceptor.serve(app, token, Duration::from_secs(5)).await });
    let from = async |ip: &str| {
        let socket = tokio::net::TcpSocket::new_v4().unwrap();
        socket.bind(format!("{ip}:0").parse().unwrap()).unwrap();
        socket.connect(address).await.unwrap()
    };
    let ask = async |stream: &mut TcpStream| {
        stream.write_all(b"GET /healthz HTTP/1.1\r\nhost: a\r\n\r\n").await.ok();
        let mut answer = [0; 12];
        let read = tokio::time::timeout(Duration::from_secs(20), stream.read_exact(&mut answer)).await.expect("an end");
        read.is_ok().then(|| String::from_utf8_lossy(&answer).into_owned())
    };
    let mut held = Vec::new();
    for number in 0..8 {
        let mut stream = from("127.0.0.1").await;
        let answer = ask(&mut stream).await;
        assert_eq!(answer.is_some(), number < 4, "connection {number}: {answer:?}");
        held.push(stream);
    }
    assert_eq!(ask(&mut from("127.0.0.2").await).await.as_deref(), Some("HTTP/1.1 200"), "others are served");
    let mut proxied = Vec::new();
    for _ in 0..8 {
        let mut stream = from("127.0.0.9").await;
        assert_eq!(ask(&mut stream).await.as_deref(), Some("HTTP/1.1 200"), "a trusted proxy speaks for many");
        proxied.push(stream);
    }
    drop(held);
    // Whoever has gone gives the place back.
    while ask(&mut from("127.0.0.1").await).await.is_none() {}
    stop.cancel();
    drop(proxied);
    task.await.unwrap();
}

#[tokio::test]
async fn events_end_with_the_key_and_cost_one_look_for_all_windows_of_a_user() {
    let world = World::new();
    let (tenant, accounts) = world.connected("a@example.com").await;
    let watcher = world.key(&tenant, &["posts:read"]).await;
    let served = serve(&world, Duration::from_secs(10)).await;
    let client = reqwest::Client::new();
    let listen = async |key: &str| {
        let answer = client.get(format!("http://{}/events", served.address)).bearer_auth(key).send().await.unwrap();
        answer.bytes_stream()
    };
    let mut windows = Vec::new();
    for _ in 0..20 {
        windows.push(listen(&watcher).await);
    }
    let full = client.get(format!("http://{}/events", served.address)).bearer_auth(&tenant.key).send().await.unwrap();
    assert_eq!(full.status(), 429, "a user has twenty");
    // Quiet for a while: who looks is one, not twenty. Each window looked once when it opened.
    let before = world.probe.looks();
    tokio::time::sleep(Duration::from_millis(2500)).await;
    let looks = world.probe.looks() - before;
    assert!(looks <= 4, "{looks} looks");
    world.post("/post/schedule", &tenant.key, json!({ "content": "a", "accounts": [accounts[0]] })).await.expect(201);
    for window in &mut windows {
        let piece = tokio::time::timeout(Duration::from_secs(20), window.next()).await.expect("all of them are told");
        assert!(String::from_utf8_lossy(&piece.unwrap().unwrap()).contains("delivery"));
    }
    // The key goes, and with it the streams.
    let id = watcher.split('_').nth(2).unwrap();
    world.call("DELETE", &format!("/keys/{id}"), &tenant.key, None).await.expect(204);
    for window in windows {
        let rest = window.collect::<Vec<_>>();
        tokio::time::timeout(Duration::from_secs(20), rest).await.expect("the stream ends");
    }
    drop(listen(&tenant.key).await);
    world.state.begin_stopping();
    served.stop.cancel();
    served.task.await.unwrap();
}
