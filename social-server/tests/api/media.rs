//! Files: taking them in, looking into them, giving them out.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use axum::body::{Body, Bytes};
use futures_util::{StreamExt as _, stream};
use http::{Request, header};
use serde_json::{Value, json};
use social_core::media::sample;

use crate::world::{Answer, Tenant, World, path_of};

async fn upload(world: &World, tenant: &Tenant, kind: Option<&str>, bytes: Vec<u8>, once: Option<&str>) -> Answer {
    let mut request = Request::post("/media").header(header::AUTHORIZATION, format!("Bearer {}", tenant.key));
    if let Some(kind) = kind {
        request = request.header(header::CONTENT_TYPE, kind);
    }
    if let Some(once) = once {
        request = request.header("idempotency-key", once);
    }
    world.send(request.body(Body::from(bytes)).unwrap()).await
}

async fn get(world: &World, path: &str, headers: &[(&str, &str)]) -> Answer {
    let mut request = Request::get(path);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    world.send(request.body(Body::empty()).unwrap()).await
}

fn form(name: &str, file_name: Option<&str>, kind: &str, bytes: &[u8]) -> (String, Vec<u8>) {
    let file_name = file_name.map_or(String::new(), |file| format!("; filename=\"{file}\""));
    let head = format!(
        "--B\r\nContent-Disposition: form-data; name=\"note\"\r\n\r\nhello\r\n--B\r\n\
                        Content-Disposition: form-data; name=\"{name}\"{file_name}\r\nContent-Type: {kind}\r\n\r\n"
    );
    ("multipart/form-data; boundary=B".into(), [head.as_bytes(), bytes, b"\r\n--B--\r\n"].concat())
}

fn left_behind(world: &World) -> Vec<String> {
    world.media_files().into_iter().filter(|name| name.ends_with(".part")).collect()
}

#[tokio::test]
async fn a_picture_is_taken_in_measured_and_posted() {
    let world = World::new();
    let (tenant, accounts) = world.connected("a@example.com").await;
    let png = sample::png(40, 30);
    let made = upload(&world, &tenant, Some("image/png"), png.clone(), None).await.expect(201);
    assert_eq!((made["kind"].as_str(), made["mime"].as_str()), (Some("image"), Some("image/png")));
    assert_eq!((made["width"].as_u64(), made["height"].as_u64()), (Some(40), Some(30)));
    assert_eq!((made["size_bytes"].as_u64(), made["sha256"].as_str().unwrap().len()), (Some(png.len() as u64), 64));
    let shown = world.get(&format!("/media/{}", made["id"].as_str().unwrap()), &tenant.key).await.expect(200);
    assert_eq!(shown["sha256"], made["sha256"]);
    let body =
        json!({ "content": "a", "accounts": [accounts[0]], "media": [{ "id": made["id"], "alt_text": "a square" }] });
    let post = world.post("/post/schedule", &tenant.key, body).await.expect(201);
    assert_eq!(
        post["media"],
        json!([{ "id": made["id"], "kind": "image", "mime": "image/png", "alt_text": "a square", "title": null }])
    );
    world.work().await;
    assert_eq!(world.network.posts().len(), 1);
    let gif = upload(&world, &tenant, None, sample::gif(4, 4, 2), None).await.expect(201);
    let body = json!({ "content": "a", "accounts": [accounts[0]], "media": [{ "id": gif["id"] }] });
    let problem = world.post("/post/schedule", &tenant.key, body).await.refused(422, "invalid");
    assert_eq!(problem["violations"][0]["field"], "media[0]");
}

#[tokio::test]
async fn a_form_is_as_good_as_a_raw_body() {
    let world = World::new();
    let tenant = world.tenant("a@example.com").await;
    let png = sample::png(8, 8);
    for (name, file) in [("file", Some("a.png")), ("picture", Some("a.png")), ("file", None)] {
        let (kind, body) = form(name, file, "image/png", &png);
        let made = upload(&world, &tenant, Some(&kind), body, None).await.expect(201);
        assert_eq!(made["size_bytes"], png.len());
    }
    let (kind, body) = form("other", None, "image/png", &png);
    let problem = upload(&world, &tenant, Some(&kind), body, None).await.refused(422, "invalid");
    assert_eq!(problem["violations"][0]["code"], "file_missing");
    upload(&world, &tenant, Some("multipart/form-data"), png.clone(), None).await.refused(400, "form_invalid");
    let (kind, body) = form("file", Some("a.png"), "image/png", &png);
    upload(&world, &tenant, Some(&kind), body[..body.len() - 20].to_vec(), None).await.refused(400, "body_broken");
    assert_eq!(left_behind(&world), Vec::<String>::new());
}

/// A form that has these pieces, and how many bytes of it were asked for.
fn streamed(tenant: &Tenant, once: Option<&str>, pieces: Vec<Bytes>) -> (Request<Body>, Arc<AtomicUsize>) {
    let asked = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&asked);
    let pieces = stream::iter(pieces).map(move |piece| {
        let total = counter.fetch_add(piece.len(), Ordering::SeqCst) + piece.len();
        assert!(total <= 2 * 1024 * 1024, "{total} bytes were read");
        Ok::<_, std::io::Error>(piece)
    });
    let mut request = Request::post("/media")
        .header(header::AUTHORIZATION, format!("Bearer {}", tenant.key))
        .header(header::CONTENT_TYPE, "multipart/form-data; boundary=B");
    if let Some(once) = once {
        request = request.header("idempotency-key", once);
    }
    (request.body(Body::from_stream(pieces)).unwrap(), asked)
}

#[tokio::test]
async fn a_form_that_never_comes_to_its_file_is_refused_early() {
    let world = World::new();
    let tenant = world.tenant("a@example.com").await;
    let png = sample::png(8, 8);
    upload(&world, &tenant, None, png, Some("u1")).await.expect(201);
    let filler = |size: usize| vec![Bytes::from(vec![b'x'; size]); 5 * 1024 * 1024 / size];
    let field = "--B\r\nContent-Disposition: form-data; name=\"note\"\r\n\r\n";
    for (start, once) in [("", None), ("--B\r\nx: ", None), (field, None), ("", Some("u1")), (field, Some("u1"))] {
        for size in [100, 16 * 1024, 512 * 1024] {
            let pieces = [vec![Bytes::from_static(start.as_bytes())], filler(size)].concat();
            let (request, asked) = streamed(&tenant, once, pieces);
            world.send(request).await.refused(413, "payload_too_large");
            assert!(asked.load(Ordering::SeqCst) > 1024 * 1024);
        }
    }
    assert_eq!(world.media_files().len(), 1);
}

#[tokio::test]
async fn a_form_may_come_in_pieces_of_any_size() {
    let world = World::new();
    let tenant = world.tenant("a@example.com").await;
    let png = [sample::png(8, 8), b"\r\n--".repeat(20_000)].concat();
    let (_, body) = form("file", Some("a.png"), "image/png", &png);
    for size in [7, 1000, 64 * 1024, body.len()] {
        let pieces = body.chunks(size).map(Bytes::copy_from_slice).collect();
        let made = world.send(streamed(&tenant, None, pieces).0).await.expect(201);
        assert_eq!(made["size_bytes"], png.len(), "{size}");
    }
    // A file may be longer than what comes before it, even if both come at once.
    let png = [sample::png(8, 8), vec![0; 3 * 1024 * 1024]].concat();
    let (kind, body) = form("file", Some("a.png"), "image/png", &png);
    let first = upload(&world, &tenant, Some(&kind), body.clone(), Some("u1")).await.expect(201);
    assert_eq!(first["size_bytes"], png.len());
    assert_eq!(upload(&world, &tenant, Some(&kind), body, Some("u1")).await.expect(201)["id"], first["id"]);
}

#[tokio::test]
async fn files_that_arrive_at_once_do_not_pass_a_quota_together() {
    let world = World::with(|config| config.media_quota_bytes = 1500);
    let tenant = world.tenant("a@example.com").await;
    let fits = [sample::png(8, 8), vec![0; 800]].concat();
    let (go, wait) = tokio::sync::oneshot::channel::<()>();
    let (started, running) = tokio::sync::oneshot::channel::<()>();
    let rest = fits[100..].to_vec();
    let first = fits[..100].to_vec();
    let pieces = stream::once(async move {
        started.send(()).unwrap();
        Ok::<_, std::io::Error>(first)
    });
    let pieces = pieces.chain(stream::once(async move {
        wait.await.unwrap();
        Ok(rest)
    }));
    let slow = Request::post("/media")
        .header(header::AUTHORIZATION, format!("Bearer {}", tenant.key))
        .body(Body::from_stream(pieces))
        .unwrap();
    let quick = async {
        running.await.unwrap();
        upload(&world, &tenant, None, fits.clone(), None).await.expect(201);
        go.send(()).unwrap();
    };
    let (slow, ()) = tokio::join!(world.send(slow), quick);
    slow.refused(413, "media_quota");
    assert_eq!(world.media_files().len(), 1);
}

#[tokio::test]
async fn what_is_not_what_it_is_called_or_no_media_is_refused_and_removed() {
    let world = World::new();
    let tenant = world.tenant("a@example.com").await;
    let html = b"<!doctype html><script>alert(1)</script>".to_vec();
    let svg = b"<svg xmlns='http://www.w3.org/2000/svg'/>".to_vec();
    for (kind, bytes, code) in [
        (Some("image/png"), html.clone(), "media_unusable"),
        (None, html, "media_unusable"),
        (Some("image/svg+xml"), svg, "media_unusable"),
        (Some("image/png"), sample::jpeg(8, 8), "media_type_mismatch"),
        (Some("video/mp4"), sample::png(8, 8), "media_type_mismatch"),
        (Some("image/png"), sample::png(8, 8)[..20].to_vec(), "media_unusable"),
        (Some("image/png"), Vec::new(), "media_empty"),
    ] {
        let problem = upload(&world, &tenant, kind, bytes, None).await.refused(422, "invalid");
        assert_eq!(problem["violations"][0]["code"], code, "{kind:?}");
    }
    assert_eq!(world.media_files(), Vec::<String>::new());
}

#[tokio::test]
async fn pictures_that_would_unfold_to_gigabytes_and_boxes_that_lie_are_refused_and_removed() {
    let world = World::new();
    let tenant = world.tenant("a@example.com").await;
    // A few hundred kilobytes at most, whatever they say of themselves.
    let mut png = sample::png(8, 8);
    png[16..24].copy_from_slice(&[0, 0, 0x27, 0x11, 0, 0, 0x27, 0x11]);
    let mut gif = sample::gif(8, 8, 2);
    gif[6..10].copy_from_slice(&[0xFF, 0xFF, 0xFF, 0xFF]);
    let mut jpeg = sample::jpeg(8, 8);
    let frame = jpeg.windows(2).position(|two| two == [0xFF, 0xC0]).unwrap();
    jpeg[frame + 5..frame + 9].copy_from_slice(&[0xFF, 0xFF, 0xFF, 0xFF]);
    let film = sample::mp4(320, 240, 5000, 20_000);
    let claims = |kind: &[u8; 4], size: u32| {
        let mut film = film.clone();
        let at = film.windows(4).position(|four| four == kind).unwrap();
        film[at - 4..at].copy_from_slice(&size.to_be_bytes());
        film
    };
    for (what, bytes) in [
        ("a picture of 10,001 by 10,001", png),
        ("an animation of 65,535 by 65,535", gif),
        ("a photograph of 65,535 by 65,535", jpeg),
        ("an index that reaches beyond the file", claims(b"moov", u32::MAX)),
        ("a track shorter than its own header", claims(b"trak", 7)),
        ("a table longer than its box", claims(b"stsd", 1 << 30)),
        ("a film without its end", film[..film.len() / 2].to_vec()),
    ] {
        let answer = upload(&world, &tenant, None, bytes, None).await;
        assert_eq!(answer.status, 422, "{what}: {answer:?}");
        assert_eq!(answer.refused(422, "invalid")["violations"][0]["code"], "media_unusable", "{what}");
    }
    assert_eq!(world.media_files(), Vec::<String>::new());
}

#[tokio::test]
async fn sizes_and_quotas_hold_with_and_without_an_announced_length() {
    let world = World::with(|config| {
        config.media_max_bytes = 1000;
        config.media_quota_bytes = 1500;
    });
    let (tenant, other) = (world.tenant("a@example.com").await, world.tenant("b@example.com").await);
    let large = [sample::png(8, 8), vec![0; 1000]].concat();
    upload(&world, &tenant, None, large.clone(), None).await.refused(413, "media_too_large");
    let pieces: Vec<Result<Vec<u8>, std::io::Error>> = large.chunks(100).map(|piece| Ok(piece.to_vec())).collect();
    let unannounced = Request::post("/media")
        .header(header::AUTHORIZATION, format!("Bearer {}", tenant.key))
        .body(Body::from_stream(futures_util::stream::iter(pieces)))
        .unwrap();
    world.send(unannounced).await.refused(413, "media_too_large");
    let lying = Request::post("/media")
        .header(header::AUTHORIZATION, format!("Bearer {}", tenant.key))
        .header(header::CONTENT_LENGTH, "10")
        .body(Body::from_stream(futures_util::stream::iter([Ok::<_, std::io::Error>(large.clone())])))
        .unwrap();
    world.send(lying).await.refused(413, "media_too_large");
    let fits = [sample::png(8, 8), vec![0; 800]].concat();
    upload(&world, &tenant, None, fits.clone(), None).await.expect(201);
    upload(&world, &tenant, None, fits.clone(), None).await.refused(413, "media_quota");
    upload(&world, &other, None, fits, None).await.expect(201);
    assert_eq!(left_behind(&world), Vec::<String>::new());
}

#[tokio::test]
async fn an_upload_that_breaks_off_leaves_nothing() {
    let world = World::new();
    let tenant = world.tenant("a@example.com").await;
    let pieces = [Ok(sample::png(8, 8)), Err(std::io::Error::other("gone"))];
    let broken = Request::post("/media")
        .header(header::AUTHORIZATION, format!("Bearer {}", tenant.key))
        .body(Body::from_stream(futures_util::stream::iter(pieces)))
        .unwrap();
    world.send(broken).await.refused(400, "body_broken");
    assert_eq!(world.media_files(), Vec::<String>::new());
}

#[tokio::test]
async fn the_same_key_uploads_once_and_compares_content() {
    let world = World::new();
    let tenant = world.tenant("a@example.com").await;
    let png = sample::png(8, 8);
    let first = upload(&world, &tenant, None, png.clone(), Some("u1")).await.expect(201);
    let again = upload(&world, &tenant, None, png.clone(), Some("u1")).await;
    assert_eq!(again.header("idempotency-replayed"), Some("true"));
    assert_eq!(again.expect(201)["id"], first["id"]);
    let (kind, body) = form("file", Some("a.png"), "image/png", &png);
    assert_eq!(upload(&world, &tenant, Some(&kind), body, Some("u1")).await.expect(201)["id"], first["id"]);
    upload(&world, &tenant, None, sample::png(9, 9), Some("u1")).await.refused(422, "idempotency_mismatch");
    assert_eq!(world.media_files().len(), 1);
    upload(&world, &tenant, None, b"nothing".to_vec(), Some("u2")).await.refused(422, "invalid");
    upload(&world, &tenant, None, png, Some("u2")).await.expect(201);
}

#[tokio::test]
async fn a_signed_address_gives_the_file_and_its_ranges() {
    let world = World::new();
    let tenant = world.tenant("a@example.com").await;
    let png = sample::png(64, 64);
    let made = upload(&world, &tenant, None, png.clone(), None).await.expect(201);
    let path = path_of(made["url"].as_str().unwrap());
    let whole = get(&world, &path, &[]).await;
    assert_eq!((whole.status.as_u16(), whole.bytes.as_slice()), (200, png.as_slice()));
    assert_eq!(whole.header("content-type"), Some("image/png"));
    assert_eq!(whole.header("content-disposition"), Some("inline; filename=\"media.png\""));
    assert_eq!((whole.header("x-content-type-options"), whole.header("set-cookie")), (Some("nosniff"), None));
    assert_eq!(whole.header("content-security-policy"), Some("default-src 'none'; sandbox"));
    let length = png.len().to_string();
    assert_eq!(whole.header("content-length"), Some(length.as_str()));
    let part = get(&world, &path, &[("range", "bytes=1-3")]).await;
    assert_eq!((part.status.as_u16(), part.bytes.as_slice()), (206, b"PNG".as_slice()));
    assert_eq!(part.header("content-range"), Some(format!("bytes 1-3/{length}").as_str()));
    let tail = get(&world, &path, &[("range", "bytes=-4")]).await;
    assert_eq!(tail.bytes, png[png.len() - 4..]);
    let tag = whole.header("etag").unwrap();
    assert_eq!(get(&world, &path, &[("if-none-match", tag)]).await.status, 304);
    assert_eq!(get(&world, &path, &[("range", "bytes=1-3"), ("if-range", tag)]).await.status, 206);
    assert_eq!(get(&world, &path, &[("range", "bytes=1-3"), ("if-range", "\"other\"")]).await.status, 200);
    let beyond = get(&world, &path, &[("range", "bytes=99999-")]).await;
    assert_eq!(beyond.header("content-range"), Some(format!("bytes */{length}").as_str()));
    beyond.refused(416, "range_not_satisfiable");
    let head = world.call("HEAD", &path, "", None).await;
    assert_eq!(
        (head.status.as_u16(), head.bytes.len(), head.header("content-length")),
        (200, 0, Some(length.as_str()))
    );
    let (first, last) = path.split_at(path.len() - 10);
    let changed = format!("{first}{}{}", if last.starts_with('A') { 'B' } else { 'A' }, &last[1..]);
    get(&world, &changed, &[]).await.refused(404, "not_found");
    world.advance(3601);
    get(&world, &path, &[]).await.refused(404, "not_found");
    let pdf = upload(&world, &tenant, None, sample::pdf(), None).await.expect(201);
    let shown = get(&world, &path_of(pdf["url"].as_str().unwrap()), &[]).await;
    assert_eq!(shown.header("content-disposition"), Some("attachment; filename=\"media.pdf\""));
}

/// A world that may fetch files from a server on this machine, and that server.
async fn fetching(files: axum::Router) -> (World, std::net::SocketAddr, tokio::task::JoinHandle<std::io::Result<()>>) {
    let web = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = web.local_addr().unwrap();
    let serving = tokio::spawn(async move { axum::serve(web, files).await });
    let world = World::with(|config| {
        config.fetch_http = social_server::config::Switch::On;
        config.fetch_ports = vec![address.port()];
        config.fetch_allow = vec!["127.0.0.1".parse().unwrap()];
    });
    (world, address, serving)
}

#[tokio::test]
async fn an_address_is_fetched_through_the_guard_and_looked_into() {
    let files = axum::Router::new()
        .route("/a.png", axum::routing::get(async || sample::png(16, 16)))
        .route("/page", axum::routing::get(async || "<html>hello</html>"));
    let (world, address, serving) = fetching(files).await;
    let (tenant, accounts) = world.connected("a@example.com").await;
    let to = |path: &str| json!({ "content": "a", "accounts": [accounts[0]], "media_url": format!("http://{address}{path}") });
    let post = world.post("/post/schedule", &tenant.key, to("/a.png")).await.expect(201);
    assert_eq!(post["media"][0]["mime"], "image/png");
    let problem: Value = world.post("/post/schedule", &tenant.key, to("/page")).await.refused(422, "invalid");
    assert_eq!(
        (problem["violations"][0]["field"].as_str(), problem["violations"][0]["code"].as_str()),
        (Some("media[0].url"), Some("media_unusable"))
    );
    let problem: Value = world.post("/post/schedule", &tenant.key, to("/gone")).await.refused(422, "invalid");
    assert!(problem["detail"].as_str().unwrap().contains("status 404"), "{problem}");
    assert_eq!(world.media_files().len(), 1);
    serving.abort();
}

#[tokio::test]
async fn a_file_of_a_post_in_doubt_stays_and_one_of_a_refused_post_goes() {
    let files = axum::Router::new().route("/a.png", axum::routing::get(async || sample::png(16, 16)));
    let (world, address, serving) = fetching(files).await;
    let (tenant, accounts) = world.connected("a@example.com").await;
    let body = |text: &str| json!({ "content": text, "accounts": [accounts[0]], "media_url": format!("http://{address}/a.png") });
    // The caller goes away when the post is stored and nobody has learnt of it.
    world.probe.die_at(1);
    tokio::select! {
        _ = world.post("/post/schedule", &tenant.key, body("a")) => panic!("the store has not answered"),
        () = world.probe.died() => {}
    }
    world.probe.live();
    // The request's deadline and the look afterwards pass at once.
    tokio::time::pause();
    world.state.finish_tasks().await;
    tokio::time::resume();
    assert_eq!(world.media_files().len(), 1, "the stored post names it");
    world.post("/post/schedule", &tenant.key, body(&"x".repeat(100_000))).await.refused(422, "invalid");
    assert_eq!(world.media_files().len(), 1, "the file of the refused post is gone");
    serving.abort();
}

#[tokio::test]
async fn a_fetch_ends_where_the_quota_does() {
    let web = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = web.local_addr().unwrap();
    let served = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&served);
    let endless = async move || {
        let piece = Bytes::from(vec![0; 64 * 1024]);
        let pieces = stream::repeat_with(move || {
            counter.fetch_add(piece.len(), Ordering::SeqCst);
            Ok::<_, std::io::Error>(piece.clone())
        });
        Body::from_stream(pieces)
    };
    let files = axum::Router::new().route("/endless", axum::routing::get(endless));
    let serving = tokio::spawn(async move { axum::serve(web, files).await });
    let world = World::with(|config| {
        config.fetch_http = social_server::config::Switch::On;
        config.fetch_ports = vec![address.port()];
        config.fetch_allow = vec!["127.0.0.1".parse().unwrap()];
        config.media_max_bytes = 256 * 1024 * 1024;
        config.media_quota_bytes = 100_000;
    });
    let (tenant, accounts) = world.connected("a@example.com").await;
    let body = json!({ "content": "a", "accounts": [accounts[0]], "media_url": format!("http://{address}/endless") });
    world.post("/post/schedule", &tenant.key, body).await.refused(413, "media_quota");
    assert!(served.load(Ordering::SeqCst) < 64 * 1024 * 1024);
    assert_eq!(world.media_files(), Vec::<String>::new());
    serving.abort();
}

/// A web server with these routes, and a world that may fetch from it.
async fn beside(files: axum::Router, change: impl FnOnce(&mut social_server::config::Config)) -> (World, String) {
    let web = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = web.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(web, files).await });
    let world = World::with(|config| {
        config.fetch_http = social_server::config::Switch::On;
        config.fetch_ports = vec![address.port()];
        config.fetch_allow = vec!["127.0.0.1".parse().unwrap()];
        change(config);
    });
    (world, format!("http://{address}"))
}

#[tokio::test]
async fn files_of_a_post_that_does_not_come_about_are_removed() {
    let files = axum::Router::new().route("/a.png", axum::routing::get(async || sample::png(16, 16)));
    let (world, web) = beside(files, |_| {}).await;
    let (tenant, accounts) = world.connected("a@example.com").await;
    let user: social_core::UserId = tenant.id.parse().unwrap();
    let picture = json!({ "url": format!("{web}/a.png") });
    let schedule = async |body: Value, once: Option<&str>| {
        world.keyed("POST", "/post/schedule", &tenant.key, Some(body), once).await
    };
    let held = async || social_core::store::MediaStore::media_bytes(&world.store, user).await.unwrap();
    // Refused by the network's rules, by a second file that is not there, and by the time.
    let long = json!({ "content": "x".repeat(101), "accounts": [accounts[0]], "media": [picture] });
    schedule(long, None).await.refused(422, "invalid");
    let gone =
        json!({ "content": "a", "accounts": [accounts[0]], "media": [picture, { "url": format!("{web}/gone") }] });
    schedule(gone, None).await.refused(422, "invalid");
    let past = json!({ "content": "a", "accounts": [accounts[0]], "media": [picture], "scheduled_time": "2020-01-01T00:00:00Z" });
    schedule(past, None).await.refused(422, "invalid");
    assert_eq!((world.media_files(), held().await), (Vec::new(), 0));
    // A post that was there already needs no second copy.
    let good = json!({ "content": "a", "accounts": [accounts[0]], "media": [picture], "scheduled_time": "2026-12-22T10:00:00Z" });
    let first = schedule(good.clone(), Some("once")).await.expect(201);
    assert_eq!(world.media_files().len(), 1);
    let store: &dyn social_core::Store = &world.store;
    store.purge_idempotent(jiff::Timestamp::MAX).await.unwrap();
    assert_eq!(schedule(good, Some("once")).await.expect(201)["id"], first["id"]);
    assert_eq!(world.media_files().len(), 1);
    // The same for a change that is refused.
    let path = format!("/posts/{}", first["id"].as_str().unwrap());
    let change = json!({ "content": "x".repeat(101), "media": [picture] });
    world.call("PATCH", &path, &tenant.key, Some(change)).await.refused(422, "invalid");
    assert_eq!(world.media_files().len(), 1);
    world.call("PATCH", &path, &tenant.key, Some(json!({ "media": [picture] }))).await.expect(200);
    assert_eq!(world.media_files().len(), 2);
}

#[tokio::test]
async fn one_user_cannot_take_all_turns_to_fetch() {
    let waiting = Arc::new(AtomicUsize::new(0));
    let (count, go) = (Arc::clone(&waiting), Arc::new(tokio::sync::Semaphore::new(0)));
    let gate = Arc::clone(&go);
    let slow = async move || {
        count.fetch_add(1, Ordering::SeqCst);
        let _ = gate.acquire().await;
        sample::png(16, 16)
    };
    let files = axum::Router::new()
        .route("/slow", axum::routing::get(slow))
        .route("/a.png", axum::routing::get(async || sample::png(16, 16)));
    let (world, web) = beside(files, |_| {}).await;
    let world = Arc::new(world);
    let ((greedy, theirs), (other, own)) =
        (world.connected("greedy@example.com").await, world.connected("other@example.com").await);
    let mut tasks = tokio::task::JoinSet::new();
    for number in 0..40 {
        let (world, greedy) = (Arc::clone(&world), greedy.clone());
        let body =
            json!({ "content": format!("{number}"), "accounts": [theirs[0]], "media_url": format!("{web}/slow") });
        tasks.spawn(async move { world.post("/post/schedule", &greedy.key, body).await });
    }
    while waiting.load(Ordering::SeqCst) < 2 {
        tokio::task::yield_now().await;
    }
    let body = json!({ "content": "a", "accounts": [own[0]], "media_url": format!("{web}/a.png") });
    let mine = tokio::time::timeout(std::time::Duration::from_secs(30), world.post("/post/schedule", &other.key, body));
    mine.await.expect("others have their own turns").expect(201);
    assert_eq!(waiting.load(Ordering::SeqCst), 2, "two at once for each user");
    go.close();
    for answer in tasks.join_all().await {
        answer.expect(201);
    }
}

#[tokio::test]
async fn a_change_that_took_longer_does_not_undo_one_that_came_meanwhile() {
    let (arrived, go) = (Arc::new(tokio::sync::Notify::new()), Arc::new(tokio::sync::Notify::new()));
    let (here, gate) = (Arc::clone(&arrived), Arc::clone(&go));
    let slow = async move || {
        here.notify_one();
        gate.notified().await;
        sample::png(16, 16)
    };
    let (world, web) = beside(axum::Router::new().route("/slow", axum::routing::get(slow)), |_| {}).await;
    let (tenant, accounts) = world.connected("a@example.com").await;
    let body = json!({ "content": "first", "accounts": [accounts[0]], "scheduled_time": "2026-11-23T10:00:00Z" });
    let made = world.post("/post/schedule", &tenant.key, body).await.expect(201);
    let path = format!("/posts/{}", made["id"].as_str().unwrap());
    let patch = |body: Value| world.call("PATCH", &path, &tenant.key, Some(body));
    // It read the post, and fetches its file while somebody else changes the text.
    let late = patch(json!({ "media": [{ "url": format!("{web}/slow") }] }));
    let quick = async {
        arrived.notified().await;
        patch(json!({ "content": "second" })).await.expect(200);
        go.notify_one();
    };
    let (late, ()) = tokio::join!(late, quick);
    late.refused(409, "conflict");
    assert_eq!(world.get(&path, &tenant.key).await.expect(200)["content"], "second");
    assert_eq!(world.media_files(), Vec::<String>::new(), "and its file is gone");
}
