//! The binary as an operator meets it.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "helpers of tests end the test when something cannot be made"
)]

use std::{path::Path, process::Stdio, time::Duration};

use serde_json::{Value, json};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncReadExt as _, BufReader},
    process::{Child, Command},
};

type Variables<'a> = &'a [(&'a str, &'a str)];

const PATIENCE: Duration = Duration::from_secs(60);

fn command(folder: &Path, variables: &[(&str, &str)], arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_social-server"));
    command.args(arguments).current_dir(folder).env_clear().kill_on_drop(true);
    command.envs(variables.iter().copied()).env("PATH", std::env::var("PATH").unwrap_or_default());
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

async fn run(folder: &Path, variables: &[(&str, &str)], arguments: &[&str]) -> (i32, String, String) {
    let output = tokio::time::timeout(PATIENCE, command(folder, variables, arguments).output()).await;
    let output = output.expect("it ends").unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (output.status.code().unwrap_or(-1), text(output.stdout), text(output.stderr))
}

async fn key(folder: &Path, id: &str) -> String {
    let (code, out, _) = run(folder, &[], &["keys", "generate", "--id", id]).await;
    assert_eq!((code, out.lines().count()), (0, 1));
    assert!(out.starts_with(&format!("{id}:")), "{out}");
    out.trim().to_owned()
}

/// Starts a server and waits until it serves; answers with its address.
async fn serve(folder: &Path, variables: &[(&str, &str)]) -> (Child, String) {
    let variables = [variables, &[("SOCIAL_LISTEN", "127.0.0.1:0")]].concat();
    let mut child = command(folder, &variables, &["serve"]).spawn().unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
    let url = async {
        loop {
            let line = lines.next_line().await.unwrap().expect("it serves before it ends");
            if let Ok(log) = serde_json::from_str::<Value>(&line)
                && let Some(url) = log["public_url"].as_str()
            {
                return url.trim_end_matches('/').to_owned();
            }
        }
    };
    let url = tokio::time::timeout(PATIENCE, url).await.expect("it serves");
    // Goes on reading: a full pipe would stop the server.
    tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
    (child, url)
}

#[tokio::test]
async fn a_server_serves_remembers_and_ends_in_order() {
    let folder = tempfile::tempdir().unwrap();
    let keys = key(folder.path(), "k1").await;
    let variables = [("SOCIAL_MASTER_KEYS", keys.as_str()), ("SOCIAL_ADMIN_KEY", "admin-key-of-the-tests-0123456789")];
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    for (round, status) in [201, 409].into_iter().enumerate() {
        let (mut child, url) = serve(folder.path(), &variables).await;
        let ready = client.get(format!("{url}/readyz")).send().await.unwrap();
        assert_eq!(ready.status(), 200);
        let made =
            client.post(format!("{url}/users")).bearer_auth(variables[1].1).json(&json!({ "email": "a@example.com" }));
        assert_eq!(made.send().await.unwrap().status(), status, "round {round}");
        let metrics = client.get(format!("{url}/metrics")).send().await.unwrap().text().await.unwrap();
        assert!(
            metrics.contains("social_http_requests_total") && metrics.contains("social_database_up 1"),
            "{metrics}"
        );
        let id = child.id().unwrap().to_string();
        assert!(std::process::Command::new("kill").args(["-TERM", &id]).status().unwrap().success());
        let ended = tokio::time::timeout(PATIENCE, child.wait()).await.expect("it ends").unwrap();
        assert_eq!(ended.code(), Some(0));
        let mut out = String::new();
        child.stdout.take().unwrap().read_to_string(&mut out).await.unwrap();
        assert_eq!(out, "", "logs go elsewhere");
    }
    let (code, out, _) = run(folder.path(), &variables, &["keys", "status"]).await;
    assert_eq!((code, out.as_str()), (0, "k1\t0 connections\tseals\n"));
    let (code, out, _) = run(folder.path(), &variables, &["migrate"]).await;
    assert!(code == 0 && out.contains("up to date"), "{out}");
    // The same id with another key.
    let impostor = key(folder.path(), "k1").await;
    let (code, _, err) = run(folder.path(), &[("SOCIAL_MASTER_KEYS", &impostor)], &["serve"]).await;
    assert!(code == 1 && err.contains("k1"), "{code} {err}");
    assert!(!err.contains(impostor.split(':').nth(1).unwrap()), "{err}");
}

#[tokio::test]
async fn a_stop_that_comes_during_the_start_is_heard() {
    let folder = tempfile::tempdir().unwrap();
    let keys = key(folder.path(), "k1").await;
    // A database that takes the call and says nothing.
    let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("postgres://nobody@{}/nothing?sslmode=disable", silent.local_addr().unwrap());
    let variables = [("SOCIAL_MASTER_KEYS", keys.as_str()), ("SOCIAL_DATABASE_URL", &url)];
    let mut child = command(folder.path(), &variables, &["worker"]).spawn().unwrap();
    let _call = tokio::time::timeout(PATIENCE, silent.accept()).await.expect("it calls").unwrap();
    let id = child.id().unwrap().to_string();
    assert!(std::process::Command::new("kill").args(["-TERM", &id]).status().unwrap().success());
    let ended = tokio::time::timeout(PATIENCE, child.wait()).await.expect("it ends").unwrap();
    assert_eq!(ended.code(), Some(0));
}

#[tokio::test]
async fn what_is_wrong_is_said_before_anything_runs() {
    let folder = tempfile::tempdir().unwrap();
    let keys = key(folder.path(), "k1").await;
    let cases: [(Variables<'_>, i32, &str); 7] = [
        (&[], 1, "SOCIAL_MASTER_KEYS is not set"),
        (&[("SOCIAL_MASTER_KEYS", "k1:short")], 1, "k1"),
        (&[("SOCIAL_MASTER_KEY", "x")], 2, "SOCIAL_MASTER_KEY"),
        (&[("SOCIAL_MASTER_KEYS", &keys), ("SOCIAL_PUBLIC_URL", "http://social.example")], 2, "public_url"),
        (&[("SOCIAL_MASTER_KEYS", &keys), ("SOCIAL_DATABASE_URL", "mysql://a:marker@b/c")], 1, "sqlite: or postgres:"),
        (&[("SOCIAL_MASTER_KEYS", &keys), ("SOCIAL_X_CLIENT_ID", "id")], 1, "x: "),
        (&[("SOCIAL_MASTER_KEYS", &keys), ("SOCIAL_CONFIG", "missing.toml")], 2, "missing.toml"),
    ];
    for (variables, expected, word) in cases {
        let variables = [variables, &[("SOCIAL_LISTEN", "127.0.0.1:0")]].concat();
        let (code, _, err) = run(folder.path(), &variables, &["serve"]).await;
        assert_eq!(code, expected, "{variables:?}: {err}");
        assert!(err.contains(word) && !err.contains("marker"), "{variables:?}: {err}");
    }
}

#[tokio::test]
async fn the_doctor_finds_what_is_wrong_and_says_what_to_do() {
    let folder = tempfile::tempdir().unwrap();
    let keys = key(folder.path(), "k1").await;
    let (code, out, _) = run(folder.path(), &[], &["doctor", "--json"]).await;
    let found: Value = serde_json::from_str(&out).unwrap();
    let failing: Vec<_> = found["findings"].as_array().unwrap().iter().filter(|one| one["result"] == "fail").collect();
    assert_eq!((code, found["ok"].as_bool()), (1, Some(false)));
    assert!(failing.iter().all(|one| one["fix"].is_string()), "{out}");
    let names: Vec<_> = failing.iter().map(|one| one["check"].as_str().unwrap()).collect();
    assert!(names.contains(&"master keys") && names.contains(&"networks"), "{names:?}");
    let good = [
        ("SOCIAL_MASTER_KEYS", keys.as_str()),
        ("SOCIAL_ADMIN_KEY", "admin-key-of-the-tests-0123456789"),
        ("SOCIAL_PUBLIC_URL", "https://social.example"),
        ("SOCIAL_TRUSTED_PROXIES", "private"),
        ("SOCIAL_X_CLIENT_ID", "id"),
        ("SOCIAL_X_CLIENT_SECRET", "marker-secret"),
    ];
    let (code, out, err) = run(folder.path(), &good, &["doctor"]).await;
    assert_eq!(code, 0, "{out}{err}");
    assert!(out.contains("https://social.example/auth/callback/x"), "{out}");
    assert!(!out.contains("marker-secret") && !err.contains("marker-secret"));
}

#[tokio::test]
async fn every_command_explains_itself() {
    let folder = tempfile::tempdir().unwrap();
    for arguments in [
        &["--help"][..],
        &["serve", "--help"],
        &["worker", "--help"],
        &["migrate", "--help"],
        &["keys", "--help"],
        &["keys", "rotate", "--help"],
        &["doctor", "--help"],
        &["openapi", "--help"],
        &["demo", "--help"],
    ] {
        let (code, out, _) = run(folder.path(), &[], arguments).await;
        assert!(code == 0 && out.len() > 80, "{arguments:?}: {out}");
    }
    let (_, out, _) = run(folder.path(), &[], &["serve", "--help"]).await;
    for name in [
        "SOCIAL_DATABASE_URL",
        "SOCIAL_LISTEN",
        "SOCIAL_PUBLIC_URL",
        "SOCIAL_MASTER_KEYS",
        "SOCIAL_ADMIN_KEY",
        "SOCIAL_ALLOWED_ORIGINS",
        "SOCIAL_RETURN_URLS",
        "SOCIAL_X_CLIENT_ID",
        "SOCIAL_LINKEDIN_CLIENT_ID",
        "SOCIAL_RATE_LIMITS",
        "DATABASE_URL",
        "PORT",
    ] {
        assert!(out.contains(name), "{name} is not explained");
    }
    let (code, out, _) = run(folder.path(), &[], &["openapi"]).await;
    let kept = include_str!("../openapi.json");
    assert!(code == 0 && out.trim_end() == kept.trim_end());
}

#[tokio::test]
async fn a_backup_that_was_put_back_is_made_safe_by_one_command() {
    let folder = tempfile::tempdir().unwrap();
    let keys = key(folder.path(), "k1").await;
    let variables = [("SOCIAL_MASTER_KEYS", keys.as_str())];
    for _ in 0..2 {
        let (code, out, err) =
            run(folder.path(), &variables, &["restored", "--backup-at", "2026-01-01T00:00:00Z"]).await;
        assert_eq!(code, 0, "{err}");
        assert!(
            out.starts_with("0 deliveries may have gone out") && out.contains("from 2026-01-01T00:00:00Z on"),
            "{out}"
        );
    }
    let (code, _, err) = run(folder.path(), &variables, &["restored", "--backup-at", "2999-01-01T00:00:00Z"]).await;
    assert!(code == 1 && err.contains("future"), "{code} {err}");
    let (code, out, _) = run(folder.path(), &[], &["restored", "--help"]).await;
    assert!(code == 0 && out.contains("--all") && out.contains("--even-if-held"), "{out}");
}
