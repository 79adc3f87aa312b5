//! The guarded fetcher against a hostile world: addresses, names that change, redirects, and servers that will not stop.

#![expect(clippy::expect_used, clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::HashMap;
use std::io;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use http::HeaderMap;
use social_core::http::guarded::{
    FetchRefused, Fetched, GuardedFetcher, GuardedFetcherBuilder, HostResolver, MAX_REDIRECTS, Stage, USER_AGENT,
    is_public,
};
use tokio::io::{AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use url::Url;

// ---- addresses ----

#[test]
fn public_addresses_are_told_from_all_others() {
    let public = [
        "1.1.1.1",
        "8.8.8.8",
        "9.255.255.255",
        "11.0.0.0",
        "100.63.255.255",
        "100.128.0.0",
        "126.255.255.255",
        "128.0.0.0",
        "169.253.255.255",
        "169.255.0.0",
        "172.15.255.255",
        "172.32.0.0",
        "192.0.1.0",
        "192.0.3.0",
        "192.167.255.255",
        "192.169.0.0",
        "198.17.255.255",
        "198.20.0.0",
        "198.51.99.255",
        "198.51.101.0",
        "203.0.112.255",
        "203.0.114.0",
        "223.255.255.255",
        "2001:200::1",
        "2001:4860:4860::8888",
        "2606:4700::1111",
        "2a00:1450:4001::1",
        "2001:db7::1",
        "2001:db9::1",
        "3ffe::1",
        "2003::1",
    ];
    let special = [
        "0.0.0.0",
        "0.1.2.3",
        "10.0.0.0",
        "10.255.255.255",
        "100.64.0.0",
        "100.127.255.255",
        "127.0.0.1",
        "127.255.255.255",
        "169.254.0.1",
        "169.254.169.254",
        "172.16.0.1",
        "172.31.255.255",
        "192.0.0.1",
        "192.0.0.8",
        "192.0.0.170",
        "192.0.2.1",
        "192.31.196.1",
        "192.52.193.1",
        "192.88.99.1",
        "192.168.0.1",
        "192.175.48.1",
        "198.18.0.1",
        "198.19.255.255",
        "198.51.100.1",
        "203.0.113.1",
        "224.0.0.1",
        "239.255.255.255",
        "240.0.0.1",
        "255.255.255.255",
        "::",
        "::1",
        "::ffff:127.0.0.1",
        "::ffff:8.8.8.8",
        "::7f00:1",
        "::ffff:0:8.8.8.8",
        "64:ff9b::8.8.8.8",
        "64:ff9b:1::1",
        "100::1",
        "100:0:0:1::1",
        "2001:1::2",
        "2001:1::3",
        "2001::1",
        "2001:0:4136:e378:8000:63bf:3fff:fdd2",
        "2001:1::1",
        "2001:2::1",
        "2001:3::1",
        "2001:4:112::1",
        "2001:10::1",
        "2001:20::1",
        "2001:30::1",
        "2001:db8::1",
        "2002:7f00:1::",
        "2002:808:808::1",
        "2620:4f:8000::1",
        "3fff::1",
        "3fff:fff::1",
        "5f00::1",
        "fc00::1",
        "fd00:ec2::254",
        "fdff::1",
        "fe80::1",
        "fe80::a9fe:a9fe",
        "fec0::1",
        "ff02::1",
        "ff0e::1",
        "4000::1",
        "8000::1",
    ];
    assert!(public.len() + special.len() >= 60);
    for text in public {
        assert!(is_public(text.parse().unwrap()), "{text} is public");
    }
    for text in special {
        assert!(!is_public(text.parse().unwrap()), "{text} is not public");
    }
}

// ---- what a URL says about itself ----

#[derive(Debug, Clone, Copy, PartialEq)]
enum Why {
    Private,
    Scheme,
    Port,
    User,
}

#[tokio::test]
async fn urls_are_refused_for_what_they_say() {
    use Why::{Port, Private, Scheme, User};
    let cases = [
        ("http://169.254.169.254/latest/meta-data/", Private),
        ("https://[fd00:ec2::254]/latest/", Private),
        ("https://127.0.0.1/", Private),
        ("https://127.1/", Private),
        ("https://0/", Private),
        ("https://0x7f.1/", Private),
        ("https://0177.0.0.1/", Private),
        ("https://2130706433/", Private),
        ("https://127.0.0.1./", Private),
        ("https://１２７.0.0.1/", Private),
        ("https://[::1]/", Private),
        ("https://[::ffff:127.0.0.1]/", Private),
        ("https://[::ffff:7f00:1]/", Private),
        ("https://[64:ff9b::7f00:1]/", Private),
        ("https://[2002:7f00:1::]/", Private),
        ("https://10.0.0.1/", Private),
        ("https://192.168.1.1/admin", Private),
        ("https://100.100.100.200/", Private),
        ("https://localhost/", Private),
        ("https://localhost./", Private),
        ("https://LOCALHOST/", Private),
        ("https://intranet/", Private),
        ("https://0.0.0.0/", Private),
        ("https://127.0.1/", Private),
        ("https://0x7f000001/", Private),
        ("https://017700000001/", Private),
        ("https://0x7F.0.0.0x1/", Private),
        ("https://127%2e0%2e0%2e1/", Private),
        ("https://127。0。0。1/", Private),
        ("https://①②⑦.0.0.1/", Private),
        ("https://[::]/", Private),
        ("https://[0:0:0:0:0:ffff:a9fe:a9fe]/", Private),
        ("https://[::ffff:0:127.0.0.1]/", Private),
        ("https://[::127.0.0.1]/", Private),
        ("https://[2001:0:4136:e378:8000:63bf:80ff:fffe]/", Private),
        ("https://[fe80::1]/", Private),
        ("https://[fc00::1]/", Private),
        ("https://[ff02::1]/", Private),
        ("https://172.31.255.255/", Private),
        ("https://100.64.0.1/", Private),
        ("https://198.18.0.1/", Private),
        ("https://192.0.2.1/", Private),
        ("https://224.0.0.1/", Private),
        ("https://255.255.255.255/", Private),
        ("https://metadata.google.internal/", Private),
        ("https://translated.example/", Private),
        ("https://mixed.example/", Private),
        ("https://sixth.example/", Private),
        ("ftp://public.example/", Scheme),
        ("file:///etc/passwd", Scheme),
        ("gopher://public.example/", Scheme),
        ("data:text/plain,hello", Scheme),
        ("javascript:alert(1)", Scheme),
        ("ws://public.example/", Scheme),
        ("unix:/run/docker.sock", Scheme),
        ("https://public.example:22/", Port),
        ("https://public.example:8080/", Port),
        ("https://public.example:0/", Port),
        ("http://public.example:6379/", Port),
        ("https://user@public.example/", User),
        ("https://user:secret@public.example/", User),
        ("https://:secret@public.example/", User),
        ("https://public.example@10.0.0.1/", User),
    ];
    let names = Names::new([
        ("localhost", vec![vec!["127.0.0.1", "::1"]]),
        ("localhost.", vec![vec!["127.0.0.1"]]),
        ("intranet", vec![vec!["10.1.2.3"]]),
        ("mixed.example", vec![vec!["93.184.216.34", "10.0.0.1"]]),
        ("metadata.google.internal", vec![vec!["169.254.169.254"]]),
        ("translated.example", vec![vec!["64:ff9b::a00:1"]]),
        ("sixth.example", vec![vec!["::ffff:93.184.216.34"]]),
    ]);
    let fetcher = GuardedFetcher::builder().allow_http().resolver(names).build().unwrap();
    assert!(cases.len() >= 60, "{} cases", cases.len());
    for (url, why) in cases {
        let error = fetch(&fetcher, url).await.expect_err(url);
        let found = match error {
            FetchRefused::PrivateAddress { .. } => Private,
            FetchRefused::BadScheme { .. } => Scheme,
            FetchRefused::BadPort { .. } => Port,
            FetchRefused::Userinfo { .. } => User,
            other => panic!("{url}: {other:?}"),
        };
        assert_eq!(found, why, "{url}");
    }
}

#[tokio::test]
async fn http_is_refused_unless_allowed() {
    let names = Names::new([("public.example", vec![vec!["93.184.216.34"]])]);
    let strict = GuardedFetcher::builder().resolver(Arc::clone(&names) as _).build().unwrap();
    assert!(matches!(fetch(&strict, "http://public.example/").await, Err(FetchRefused::BadScheme { .. })));
    assert_eq!(names.asked(), 0, "nobody was asked about the name");
    assert!(strict.check(&Url::parse("https://public.example/").unwrap()).is_ok());
}

#[tokio::test]
async fn a_name_without_an_address_is_not_found() {
    let fetcher = GuardedFetcher::builder().resolver(Names::new([("empty.example", vec![vec![]])])).build().unwrap();
    for url in ["https://empty.example/", "https://unknown.example/"] {
        assert!(matches!(fetch(&fetcher, url).await, Err(FetchRefused::Dns { .. })), "{url}");
    }
}

// ---- names that change their mind ----

#[tokio::test]
async fn the_checked_address_is_the_dialled_one() {
    let server = Server::start(|_| Answer::ok("fine")).await;
    let names = Names::new([("rebind.example", vec![vec!["127.0.0.1"], vec!["127.0.0.9"]])]);
    let fetcher = server.guard().resolver(Arc::clone(&names) as _).build().unwrap();
    let url = format!("http://rebind.example:{}/", server.port);
    assert_eq!(fetch(&fetcher, &url).await.unwrap().1, b"fine");
    assert_eq!(names.asked(), 1, "the name was asked for once, so the check and the call cannot differ");
    assert!(
        matches!(fetch(&fetcher, &url).await, Err(FetchRefused::PrivateAddress { .. })),
        "the second answer is refused"
    );
    assert_eq!(server.requests().len(), 1);
}

#[tokio::test]
async fn a_name_that_changes_before_a_redirect_is_checked_again() {
    let server = Server::start(|_| Answer::redirect("/again")).await;
    let names = Names::new([("rebind.example", vec![vec!["127.0.0.1"], vec!["127.0.0.9"]])]);
    let fetcher = server.guard().resolver(names).build().unwrap();
    let url = format!("http://rebind.example:{}/", server.port);
    assert!(matches!(fetch(&fetcher, &url).await, Err(FetchRefused::PrivateAddress { .. })));
    assert_eq!(server.requests().len(), 1);
}

#[tokio::test]
async fn one_private_address_among_public_ones_spoils_the_name() {
    let server = Server::start(|_| Answer::ok("fine")).await;
    let names = Names::new([("mixed.example", vec![vec!["127.0.0.1", "192.168.0.1"]])]);
    let fetcher = server.guard().resolver(names).build().unwrap();
    let refused = fetch(&fetcher, &format!("http://mixed.example:{}/", server.port)).await;
    assert!(matches!(refused, Err(FetchRefused::PrivateAddress { .. })));
    assert!(server.requests().is_empty(), "the good address was not dialled either");
}

// ---- redirects ----

#[tokio::test]
async fn redirects_are_followed_three_times() {
    let server = Server::start(|path| match path.trim_start_matches('/').parse::<usize>() {
        Ok(0) => Answer::ok("arrived"),
        Ok(left) => Answer::redirect(&format!("/{}", left - 1)),
        Err(_) => Answer::redirect("/loop"),
    })
    .await;
    let fetcher = server.guard().build().unwrap();
    let (fetched, body) = fetch(&fetcher, &server.url("/3")).await.unwrap();
    assert_eq!((body.as_slice(), fetched.final_url_host.as_str()), (&b"arrived"[..], "127.0.0.1"));
    for path in ["/4", "/loop"] {
        let before = server.requests().len();
        assert!(
            matches!(fetch(&fetcher, &server.url(path)).await, Err(FetchRefused::TooManyRedirects { .. })),
            "{path}"
        );
        assert_eq!(server.requests().len() - before, MAX_REDIRECTS + 1, "{path}");
    }
}

#[tokio::test]
async fn each_redirect_is_checked_like_the_first_url() {
    let inner = TcpListener::bind("127.0.0.9:0").await.unwrap();
    let inner_port = inner.local_addr().unwrap().port();
    let targets = [
        (format!("http://127.0.0.9:{inner_port}/"), Why::Private),
        (format!("//127.0.0.9:{inner_port}/"), Why::Private),
        ("http://169.254.169.254/".to_owned(), Why::Private),
        ("http://[::ffff:127.0.0.1]/".to_owned(), Why::Private),
        ("file:///etc/passwd".to_owned(), Why::Scheme),
        ("http://127.0.0.1:22/".to_owned(), Why::Port),
        ("http://user:pass@127.0.0.1/".to_owned(), Why::User),
    ];
    for (target, why) in targets {
        let to = target.clone();
        let server = Server::start(move |_| Answer::redirect(&to)).await;
        let fetcher = server.guard().allow_ports([server.port, inner_port, 80]).build().unwrap();
        let found = match fetch(&fetcher, &server.url("/")).await {
            Err(FetchRefused::PrivateAddress { .. }) => Why::Private,
            Err(FetchRefused::BadScheme { .. }) => Why::Scheme,
            Err(FetchRefused::BadPort { .. }) => Why::Port,
            Err(FetchRefused::Userinfo { .. }) => Why::User,
            other => panic!("{target}: {other:?}"),
        };
        assert_eq!(found, why, "{target}");
        assert_eq!(server.requests().len(), 1, "{target}");
    }
    let knock = tokio::time::timeout(Duration::from_millis(1), inner.accept()).await;
    assert!(knock.is_err(), "nobody knocked at the inner server");
}

#[tokio::test]
async fn a_redirect_carries_nothing_along() {
    let server = Server::start(|path| match path {
        "/start?token=secret" => Answer::redirect("/end").header("Set-Cookie: session=1; Path=/"),
        _ => Answer::ok("end"),
    })
    .await;
    let fetcher = server.guard().build().unwrap();
    fetch(&fetcher, &server.url("/start?token=secret#fragment")).await.unwrap();
    let requests = server.requests();
    assert_eq!(requests.len(), 2);
    for request in &requests {
        let lower = request.to_lowercase();
        assert!(lower.contains(&format!("user-agent: {}", USER_AGENT.to_lowercase())), "{request}");
        assert!(lower.contains("accept-encoding: identity"), "{request}");
        for absent in ["cookie:", "authorization:", "referer:", "fragment", "gzip"] {
            assert!(!lower.contains(absent), "{absent} in {request}");
        }
    }
    assert!(!requests[1].contains("secret"), "{}", requests[1]);
}

#[tokio::test]
async fn answers_other_than_success_are_refused_with_their_status() {
    for status in [201, 204, 206, 300, 304, 400, 401, 403, 404, 410, 429, 500, 503] {
        let server = Server::start(move |_| Answer::status(status)).await;
        let refused = fetch(&server.guard().build().unwrap(), &server.url("/")).await;
        assert!(
            matches!(refused, Err(FetchRefused::Status { status: found, .. }) if found == status),
            "{status}: {refused:?}"
        );
    }
    for target in ["", "http://[broken"] {
        let server =
            Server::start(move |_| if target.is_empty() { Answer::status(302) } else { Answer::redirect(target) })
                .await;
        let refused = fetch(&server.guard().build().unwrap(), &server.url("/")).await;
        assert!(
            matches!(refused, Err(FetchRefused::Status { status: 302, .. })),
            "a redirect to {target:?}: {refused:?}"
        );
    }
}

// ---- sizes ----

#[tokio::test]
async fn both_sides_of_the_largest_size() {
    let server = Server::start(|path| Answer::ok("x".repeat(path[1..].parse().unwrap()))).await;
    let fetcher = server.guard().max_bytes(1000).build().unwrap();
    let (fetched, body) = fetch(&fetcher, &server.url("/1000")).await.unwrap();
    assert_eq!((fetched.bytes, body.len()), (1000, 1000));
    let (refused, body) = fetch_with_sink(&fetcher, &server.url("/1001")).await;
    assert!(matches!(refused, Err(FetchRefused::TooLarge { max_bytes: 1000, .. })));
    assert!(body.is_empty(), "it announced its length");
}

#[tokio::test]
async fn a_stream_without_end_is_cut_off() {
    let huge = Answer::raw("HTTP/1.1 200 OK\r\nContent-Length: 10737418240\r\n\r\n").endless(b"data");
    let chunked = Answer::raw("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n").endless(b"4\r\ndata\r\n");
    let until_close = Answer::raw("HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n").endless(b"data");
    for answer in [huge, chunked, until_close] {
        let server = Server::start(move |_| answer.clone()).await;
        let fetcher = server.guard().max_bytes(1 << 20).build().unwrap();
        let (refused, body) = fetch_with_sink(&fetcher, &server.url("/")).await;
        assert!(matches!(refused, Err(FetchRefused::TooLarge { .. })), "{refused:?}");
        assert!(body.len() <= 1 << 20, "{}", body.len());
    }
}

#[tokio::test]
async fn a_wrong_length_is_a_broken_transfer() {
    for answer in [
        "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nshort",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nshort\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nshort",
        "not http at all\r\n\r\n",
        "",
    ] {
        let server = Server::start(move |_| Answer::raw(answer)).await;
        let refused = fetch(&server.guard().build().unwrap(), &server.url("/")).await;
        assert!(matches!(refused, Err(FetchRefused::Io { .. })), "{answer:?}: {refused:?}");
    }
    let server = Server::start(|_| Answer::raw("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nlonger than that")).await;
    let (fetched, body) = fetch(&server.guard().build().unwrap(), &server.url("/")).await.unwrap();
    assert_eq!((fetched.bytes, body.as_slice()), (5, &b"longe"[..]), "what follows is another message");
}

#[tokio::test]
async fn compressed_bytes_are_not_inflated() {
    // Ten bytes that would become a thousand.
    let bomb: &[u8] = &[0x1F, 0x8B, 8, 0, 0, 0, 0, 0, 0, 3, 0x4B, 0x4C, 0x1C, 5, 0xA3, 0x60];
    for encoding in ["gzip", "br", "zstd", "deflate"] {
        let answer = Answer::ok(bomb).header(&format!("Content-Encoding: {encoding}"));
        let server = Server::start(move |_| answer.clone()).await;
        let (fetched, body) = fetch(&server.guard().build().unwrap(), &server.url("/")).await.unwrap();
        assert_eq!((fetched.bytes, body.as_slice()), (bomb.len() as u64, bomb), "{encoding}");
    }
}

#[tokio::test]
async fn the_claimed_type_is_reported() {
    let server = Server::start(|path| match path {
        "/named" => Answer::ok("x").header("Content-Type: image/png"),
        "/long" => Answer::ok("x").header(&format!("Content-Type: {}", "x".repeat(300))),
        _ => Answer::ok("x"),
    })
    .await;
    let fetcher = server.guard().build().unwrap();
    let mut types = Vec::new();
    for path in ["/named", "/long", "/none"] {
        types.push(fetch(&fetcher, &server.url(path)).await.unwrap().0.content_type);
    }
    assert_eq!(types, [Some("image/png".to_owned()), None, None]);
}

// ---- time ----

const SOON: Duration = Duration::from_millis(40);

#[tokio::test]
async fn a_server_that_does_not_answer_runs_out_of_time() {
    let server = Server::start(|_| Answer::raw("HTTP/1.1 200 OK\r\nContent-").silent()).await;
    let fetcher = server.guard().first_byte_timeout(SOON).build().unwrap();
    let refused = fetch(&fetcher, &server.url("/")).await;
    assert!(matches!(refused, Err(FetchRefused::TimedOut { stage: Stage::FirstByte, .. })), "{refused:?}");
}

#[tokio::test]
async fn a_server_that_stops_runs_out_of_time() {
    let server = Server::start(|_| Answer::raw("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf").silent()).await;
    let fetcher = server.guard().idle_timeout(SOON).build().unwrap();
    let (refused, body) = fetch_with_sink(&fetcher, &server.url("/")).await;
    assert!(matches!(refused, Err(FetchRefused::TimedOut { stage: Stage::NextBytes, .. })), "{refused:?}");
    assert_eq!(body, b"half");
}

#[tokio::test]
async fn a_server_that_drips_runs_out_of_time_in_total() {
    let drip = Answer::raw("HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n").dripping(b"x");
    let server = Server::start(move |_| drip.clone()).await;
    let fetcher = server.guard().total_timeout(Duration::from_millis(150)).build().unwrap();
    let refused = fetch(&fetcher, &server.url("/")).await;
    assert!(matches!(refused, Err(FetchRefused::TimedOut { stage: Stage::Total, .. })), "{refused:?}");
}

#[tokio::test]
async fn a_server_that_drips_all_the_while_is_told_by_its_pace() {
    let drip = Answer::raw("HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n").dripping(b"x");
    let server = Server::start(move |_| drip.clone()).await;
    let fetcher = server.guard().slowest(1 << 20, SOON).total_timeout(Duration::from_secs(5)).build().unwrap();
    let refused = fetch(&fetcher, &server.url("/")).await;
    assert!(matches!(refused, Err(FetchRefused::TimedOut { stage: Stage::Pace, .. })), "{refused:?}");
    // As slow a transfer that is over before anybody looks is none.
    let quick = Server::start(|_| Answer::ok("fine")).await;
    let fetcher = quick.guard().slowest(u64::MAX, Duration::from_secs(60)).build().unwrap();
    assert_eq!(fetch(&fetcher, &quick.url("/")).await.unwrap().1, b"fine");
}

#[tokio::test]
async fn a_resolver_that_hangs_runs_out_of_time() {
    #[derive(Debug)]
    struct Hanging;
    #[async_trait]
    impl HostResolver for Hanging {
        async fn resolve(&self, _: &str) -> io::Result<Vec<IpAddr>> {
            std::future::pending().await
        }
    }
    let fetcher = GuardedFetcher::builder().connect_timeout(SOON).resolver(Arc::new(Hanging)).build().unwrap();
    let refused = fetch(&fetcher, "https://slow.example/").await;
    assert!(matches!(refused, Err(FetchRefused::TimedOut { stage: Stage::Connect, .. })), "{refused:?}");
}

// ---- what is not told ----

#[tokio::test]
async fn errors_name_the_host_and_nothing_else_of_the_url() {
    let closed = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = closed.local_addr().unwrap().port();
    drop(closed);
    let server = Server::start(|_| Answer::status(404)).await;
    let fetcher = server.guard().allow_ports([port, server.port, 443, 80]).build().unwrap();
    let urls = [
        format!("http://127.0.0.1:{port}/secret?sig=secret"),
        format!("http://127.0.0.1:{}/secret?sig=secret", server.port),
        "http://10.0.0.1/secret?sig=secret".to_owned(),
        "http://user:secret@example.com/secret".to_owned(),
        "http://example.com:9/secret".to_owned(),
        "mailto:secret@example.com".to_owned(),
    ];
    for url in urls {
        let error = fetch(&fetcher, &url).await.expect_err(&url);
        let mut told = format!("{error} {error:?}");
        let mut cause: Option<&dyn std::error::Error> = Some(&error);
        while let Some(inner) = cause {
            told += &inner.to_string();
            cause = inner.source();
        }
        assert!(!told.contains("secret"), "{told}");
    }
    assert!(!format!("{fetcher:?}").contains("secret"));
}

#[tokio::test]
async fn a_sink_that_fails_is_our_own_fault() {
    struct Full;
    impl AsyncWrite for Full {
        fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, _: &[u8]) -> Poll<io::Result<usize>> {
            Poll::Ready(Err(io::ErrorKind::StorageFull.into()))
        }
        fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }
        fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }
    }
    let server = Server::start(|_| Answer::ok("fine")).await;
    let refused = server.guard().build().unwrap().fetch_to(&Url::parse(&server.url("/")).unwrap(), &mut Full).await;
    assert!(matches!(refused, Err(FetchRefused::Sink(error)) if error.kind() == io::ErrorKind::StorageFull));
}

// ---- the environment ----

#[tokio::test]
async fn a_plain_file_is_fetched() {
    let server = Server::start(|_| Answer::ok("fine")).await;
    let (fetched, body) = fetch(&server.guard().build().unwrap(), &server.url("/")).await.unwrap();
    assert_eq!(fetched, Fetched { bytes: 4, content_type: None, final_url_host: "127.0.0.1".into() });
    assert_eq!(body, b"fine");
}

#[test]
fn proxy_variables_are_ignored() {
    // Nobody listens at this proxy, so a fetch through it would fail.
    let mut again = std::process::Command::new(std::env::current_exe().unwrap());
    again.args(["--exact", "a_plain_file_is_fetched"]).env_remove("NO_PROXY").env_remove("no_proxy");
    for name in ["HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"] {
        again.env(name, "http://127.0.0.1:1");
    }
    let output = again.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
    assert!(String::from_utf8_lossy(&output.stdout).contains("1 passed"));
}

// ---- posting ----

#[tokio::test]
async fn a_message_is_posted_once_and_its_status_returned() {
    for status in [200, 302, 410, 503] {
        let server =
            Server::start(move |_| if status == 302 { Answer::redirect("/other") } else { Answer::status(status) })
                .await;
        let fetcher = server.guard().build().unwrap();
        let headers = HeaderMap::from_iter([(http::header::CONTENT_TYPE, "application/json".parse().unwrap())]);
        let url = Url::parse(&server.url("/hook")).unwrap();
        assert_eq!(fetcher.post(&url, headers, Bytes::from_static(b"{}")).await.unwrap(), status);
        let requests = server.requests();
        assert_eq!(requests.len(), 1, "{status}");
        assert!(requests[0].starts_with("POST /hook ") && requests[0].ends_with("\r\n\r\n{}"), "{}", requests[0]);
        assert!(requests[0].to_lowercase().contains("content-type: application/json"));
    }
    let fetcher = GuardedFetcher::builder().build().unwrap();
    let refused = fetcher.post(&Url::parse("https://10.0.0.1/hook").unwrap(), HeaderMap::new(), Bytes::new()).await;
    assert!(matches!(refused, Err(FetchRefused::PrivateAddress { .. })));
}

// ---- helpers ----

async fn fetch(fetcher: &GuardedFetcher, url: &str) -> Result<(Fetched, Vec<u8>), FetchRefused> {
    let (fetched, body) = fetch_with_sink(fetcher, url).await;
    fetched.map(|fetched| (fetched, body))
}

async fn fetch_with_sink(fetcher: &GuardedFetcher, url: &str) -> (Result<Fetched, FetchRefused>, Vec<u8>) {
    let mut body = Vec::new();
    let fetched = fetcher.fetch_to(&Url::parse(url).expect(url), &mut body).await;
    (fetched, body)
}

/// Answers for each name one list of addresses after the other; the last one stays.
#[derive(Debug)]
struct Names {
    answers: HashMap<&'static str, Vec<Vec<&'static str>>>,
    asked: AtomicUsize,
}

impl Names {
    fn new(answers: impl IntoIterator<Item = (&'static str, Vec<Vec<&'static str>>)>) -> Arc<Self> {
        Arc::new(Self { answers: answers.into_iter().collect(), asked: AtomicUsize::new(0) })
    }

    fn asked(&self) -> usize {
        self.asked.load(Ordering::SeqCst)
    }
}

#[async_trait]
impl HostResolver for Names {
    async fn resolve(&self, host: &str) -> io::Result<Vec<IpAddr>> {
        let turn = self.asked.fetch_add(1, Ordering::SeqCst);
        let answers = self.answers.get(host).ok_or(io::ErrorKind::NotFound)?;
        Ok(answers[turn.min(answers.len() - 1)].iter().map(|ip| ip.parse().unwrap()).collect())
    }
}

/// What the server sends, byte by byte if need be.
#[derive(Debug, Clone)]
struct Answer {
    head: Vec<u8>,
    body: Vec<u8>,
    then: Then,
}

#[derive(Debug, Clone)]
enum Then {
    Close,
    Silence,
    Repeat(&'static [u8], Duration),
}

impl Answer {
    fn ok(body: impl AsRef<[u8]>) -> Self {
        let body = body.as_ref().to_vec();
        let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n", body.len());
        Self { head: head.into(), body, then: Then::Close }
    }

    fn status(status: u16) -> Self {
        let length = if matches!(status, 204 | 304) { "" } else { "Content-Length: 0\r\n" };
        Self { head: format!("HTTP/1.1 {status} Whatever\r\n{length}").into(), body: Vec::new(), then: Then::Close }
    }

    fn redirect(to: &str) -> Self {
        Self::status(302).header(&format!("Location: {to}"))
    }

    /// Sent as it is.
    fn raw(text: &str) -> Self {
        Self { head: Vec::new(), body: text.into(), then: Then::Close }
    }

    fn header(mut self, line: &str) -> Self {
        self.head.extend(line.as_bytes());
        self.head.extend(b"\r\n");
        self
    }

    fn silent(mut self) -> Self {
        self.then = Then::Silence;
        self
    }

    fn endless(mut self, piece: &'static [u8]) -> Self {
        self.then = Then::Repeat(piece, Duration::ZERO);
        self
    }

    fn dripping(mut self, piece: &'static [u8]) -> Self {
        self.then = Then::Repeat(piece, Duration::from_millis(5));
        self
    }

    async fn send(self, stream: &mut TcpStream) -> io::Result<()> {
        if !self.head.is_empty() {
            stream.write_all(&self.head).await?;
            stream.write_all(b"\r\n").await?;
        }
        stream.write_all(&self.body).await?;
        match self.then {
            Then::Close => stream.shutdown().await,
            // Until the other side gives up.
            Then::Silence => stream.read(&mut [0]).await.map(drop),
            Then::Repeat(piece, pause) if pause.is_zero() => {
                let many = piece.repeat(4096);
                loop {
                    stream.write_all(&many).await?;
                }
            }
            Then::Repeat(piece, pause) => loop {
                stream.write_all(piece).await?;
                tokio::time::sleep(pause).await;
            },
        }
    }
}

/// A server on a port of its own that keeps what it was asked.
struct Server {
    port: u16,
    requests: Arc<Mutex<Vec<String>>>,
    task: tokio::task::JoinHandle<()>,
}

impl Server {
    async fn start(answer: impl Fn(&str) -> Answer + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let requests = Arc::new(Mutex::new(Vec::new()));
        let (kept, answer) = (Arc::clone(&requests), Arc::new(answer));
        let task = tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let (kept, answer) = (Arc::clone(&kept), Arc::clone(&answer));
                tokio::spawn(async move {
                    let request = read_request(&mut stream).await?;
                    let path = request.split(' ').nth(1).unwrap_or_default().to_owned();
                    kept.lock().unwrap().push(request);
                    answer(&path).send(&mut stream).await
                });
            }
        });
        Self { port, requests, task }
    }

    /// A fetcher that may reach this server and nothing else at home.
    fn guard(&self) -> GuardedFetcherBuilder {
        let home: IpAddr = "127.0.0.1".parse().unwrap();
        GuardedFetcher::builder().allow_http().allow_ports([self.port]).allow_addresses([(home, 32)])
    }

    fn url(&self, path: &str) -> String {
        format!("http://127.0.0.1:{}{path}", self.port)
    }

    fn requests(&self) -> Vec<String> {
        self.requests.lock().unwrap().clone()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn read_request(stream: &mut TcpStream) -> io::Result<String> {
    let mut request = Vec::new();
    let mut piece = [0; 4096];
    loop {
        let read = stream.read(&mut piece).await?;
        request.extend(&piece[..read]);
        let text = String::from_utf8_lossy(&request);
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let length =
                head.lines().find_map(|line| line.to_lowercase().strip_prefix("content-length: ")?.parse().ok());
            if read == 0 || body.len() >= length.unwrap_or(0) {
                return Ok(text.into_owned());
            }
        } else if read == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
}
