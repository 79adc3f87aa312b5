//! After a whole run of the demo, no token that a network issued stands in the database, its files, the log or any answer.

use std::{
    io::Write,
    path::Path,
    sync::{Arc, Mutex},
};

use social_server::demo::{Options, Stage};
use social_testkit::secrets;
use tracing_subscriber::fmt::MakeWriter;

#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Log {
    type Writer = Self;
    fn make_writer(&'a self) -> Self {
        self.clone()
    }
}

fn files(folder: &Path, found: &mut Vec<(String, Vec<u8>)>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files(&path, found);
        } else {
            found.push((path.display().to_string(), std::fs::read(&path).unwrap()));
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_token_of_a_network_is_left_anywhere() {
    let log = Log::default();
    // Everything that our own crates ever say; the client library below prints headers, which it marks as sensitive, at trace.
    let filter = "trace,hyper=info,h2=info,sqlx=info,rustls=info,reqwest=info,hyper_util=info";
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(log.clone()).init();

    let options = Options { once: true, port: Some(0), database: None, ahead: 1, processing_ms: 50 };
    let stage = Stage::set(&options).await.unwrap();
    let (summary, key) = stage.play(&options).await.unwrap();
    assert!(summary.ok());

    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    let mut places = Vec::new();
    for path in
        ["/accounts", "/connections", "/posts", "/logs?limit=200", "/platforms", "/metrics", "/openapi.json", "/readyz"]
    {
        let answer = client.get(format!("{}{path}", stage.url())).bearer_auth(&key).send().await.unwrap();
        let headers = format!("{:?}", answer.headers());
        places.push((
            format!("answer of {path}"),
            [headers.into_bytes(), answer.bytes().await.unwrap().to_vec()].concat(),
        ));
    }
    files(stage.folder(), &mut places);
    places.push(("log".to_owned(), log.0.lock().unwrap().clone()));
    let issued = stage.sandbox().issued_secrets();
    stage.clear().await;

    assert!(issued.len() >= 6, "three people connected: {}", issued.len());
    for part in ["demo.db", "answer of /accounts", "log"] {
        let (_, bytes) = places.iter().find(|(name, _)| name.contains(part)).unwrap();
        assert!(bytes.len() > 100, "there is something to look at in {part}");
    }
    for (name, bytes) in &places {
        for secret in &issued {
            assert!(
                !secrets::holds(bytes, secret.value.as_bytes()),
                "a {} of {} stands in {name}",
                secret.kind,
                secret.platform
            );
        }
    }
}
