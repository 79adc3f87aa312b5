//! The programs, run as they are by hand.

#![expect(clippy::unwrap_used, reason = "what cannot be run or read ends the test")]

use std::{path::Path, process::Command};

use serde_json::Value;

/// Runs a program that has to succeed and answers with the line that it prints last.
fn measured(program: &str, arguments: &[&str]) -> Value {
    let output = Command::new(program).args(arguments).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{program} {arguments:?} ended with {}: {said}", output.status);
    let printed = String::from_utf8(output.stdout).unwrap();
    serde_json::from_str(printed.lines().last().unwrap()).unwrap()
}

#[test]
fn a_small_backlog_is_drained_without_a_duplicate() {
    let result = measured(env!("CARGO_BIN_EXE_drain"), &["--store", "sqlite", "--posts", "200", "--accounts", "10"]);
    assert_eq!(result["delivered"], 200, "{result}");
    assert_eq!(result["duplicates"], 0, "{result}");
    for number in ["posts_per_s", "cpu_s_per_1000", "peak_rss_mb"] {
        assert!(result[number].as_f64().unwrap() > 0.0, "{number} in {result}");
    }
}

#[test]
fn workers_in_processes_of_their_own_share_a_backlog_over_tls() {
    let arguments = ["--store", "sqlite", "--posts", "200", "--accounts", "10", "--processes", "2", "--tls"];
    let result = measured(env!("CARGO_BIN_EXE_drain"), &arguments);
    assert_eq!((&result["delivered"], &result["duplicates"]), (&200.into(), &0.into()), "{result}");
    for number in ["posts_per_s", "cpu_s_per_1000", "peak_rss_mb"] {
        assert!(result[number].as_f64().unwrap() > 0.0, "{number} in {result}");
    }
}

#[test]
fn posts_in_the_future_arrive_once_and_not_early() {
    let arguments = ["--store", "sqlite", "--rate", "50", "--seconds", "1", "--accounts", "10"];
    let result = measured(env!("CARGO_BIN_EXE_lateness"), &arguments);
    assert_eq!(result["delivered"], 50, "{result}");
    assert_eq!(
        (&result["duplicates"], &result["early"], &result["left"]),
        (&0.into(), &0.into(), &0.into()),
        "{result}"
    );
    assert!(result["p99_ms"].as_f64().unwrap() <= result["max_ms"].as_f64().unwrap(), "{result}");
}

#[test]
fn every_byte_of_a_video_arrives_and_little_memory_is_needed() {
    let bytes = 100_000_000_u64;
    let result = measured(env!("CARGO_BIN_EXE_upload"), &["--store", "sqlite", "--bytes", &bytes.to_string()]);
    assert_eq!(result["received"], bytes, "{result}");
    let growth = result["rss_growth_mb"].as_f64().unwrap();
    assert!(growth < 32.0, "a video of 100 MB took {growth} MB of memory: {result}");
}

#[test]
fn what_a_server_accepts_is_stored() {
    let enqueue = env!("CARGO_BIN_EXE_enqueue");
    let server = Path::new(enqueue).with_file_name("social-server");
    let help = Command::new(&server).args(["serve", "--help"]).output();
    if !help.is_ok_and(|help| String::from_utf8_lossy(&help.stdout).contains("--no-worker")) {
        eprintln!("skipped: no social-server beside {enqueue} (build it first)");
        return;
    }
    let arguments = ["--store", "sqlite", "--connections", "4", "--seconds", "1", "--accounts", "5"];
    for more in [&[][..], &["--idempotency-keys"]] {
        let result = measured(enqueue, &[&arguments[..], more].concat());
        assert_eq!(result["errors"], 0, "{result}");
        assert!(result["accepted"].as_u64().unwrap() > 0, "{result}");
        assert_eq!(result["accepted"], result["stored"], "{result}");
    }
}

#[cfg(feature = "postgres")]
#[tokio::test]
async fn a_small_backlog_is_drained_over_postgres() {
    use sqlx::{Connection as _, PgConnection, raw_sql};

    let Some(server) = social_testkit::pg::Server::shared() else { return };
    let name = format!("bench_{}", std::process::id());
    let mut admin = PgConnection::connect(&server.admin_url()).await.unwrap();
    raw_sql(sqlx::AssertSqlSafe(format!("CREATE DATABASE {name}"))).execute(&mut admin).await.unwrap();
    let url = server.url(&name);
    let arguments =
        ["--store", "postgres", "--posts", "200", "--accounts", "10", "--processes", "2", "--database-url", &url];
    let result = measured(env!("CARGO_BIN_EXE_drain"), &arguments);
    raw_sql(sqlx::AssertSqlSafe(format!("DROP DATABASE {name} WITH (FORCE)"))).execute(&mut admin).await.unwrap();
    assert_eq!((&result["delivered"], &result["duplicates"]), (&200.into(), &0.into()), "{result}");
}

#[cfg(feature = "postgres")]
#[test]
fn a_database_can_be_far_away() {
    if social_testkit::pg::Server::start_as_shipped().is_none() {
        return;
    }
    let arguments = ["--store", "postgres", "--posts", "200", "--accounts", "10", "--database-delay-ms", "100"];
    let result = measured(env!("CARGO_BIN_EXE_drain"), &arguments);
    assert_eq!((&result["delivered"], &result["duplicates"]), (&200.into(), &0.into()), "{result}");
    let took = 200.0 / result["posts_per_s"].as_f64().unwrap();
    assert!(took >= 0.4, "a claim and what came of it go to the database and back: {result}");
}
