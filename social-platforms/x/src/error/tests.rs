//! Every row has a fixture of its name: an answer in X's shape with invented data, and what it must become.

use std::{collections::BTreeSet, path::Path};

use bytes::Bytes;
use http::{HeaderMap, HeaderName, StatusCode};
use serde::Deserialize;

use super::*;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Fixture {
    /// The row that must be hit; the name of the file if absent.
    row: Option<String>,
    status: u16,
    #[serde(default)]
    headers: std::collections::BTreeMap<String, String>,
    /// JSON, or a string that is sent as it is.
    body: Value,
    kind: ErrorKind,
    retry: Retry,
    effect: Effect,
    actor: Actor,
    /// Part of the advice.
    advice: Option<String>,
}

/// 2026-11-22T10:00:00Z.
const NOW: i64 = 1_795_341_600;

fn reply(operation: &'static str, status: u16, headers: &[(&str, &str)], body: impl Into<Bytes>) -> Reply {
    let headers: HeaderMap = headers
        .iter()
        .map(|(name, value)| (HeaderName::from_bytes(name.as_bytes()).unwrap(), value.parse().unwrap()))
        .collect();
    let now = Timestamp::from_second(NOW).unwrap();
    Reply::new(operation, StatusCode::from_u16(status).unwrap(), headers, body.into(), now)
}

fn fixtures() -> Vec<(String, Fixture)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures");
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_stem().unwrap().to_string_lossy().into_owned();
        let fixture = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap_or_else(|e| panic!("{name}: {e}"));
        found.push((name, fixture));
    }
    found
}

#[test]
fn every_row_becomes_what_its_fixture_says() {
    let mut hit = BTreeSet::new();
    for (name, fixture) in fixtures() {
        let body = match &fixture.body {
            Value::String(raw) => raw.clone(),
            json => json.to_string(),
        };
        let headers: Vec<(&str, &str)> =
            fixture.headers.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        let reply = reply(operation::COMMIT, fixture.status, &headers, body);
        let expected_row = fixture.row.unwrap_or_else(|| name.clone());
        let row = row(&Seen { reply: &reply, fault: Fault::of(reply.body()) });
        assert_eq!(row.name, expected_row, "{name}");
        let error = classify(&reply);
        let found = (error.kind(), error.retry_hint(), error.effect(), error.who());
        assert_eq!(found, (fixture.kind, fixture.retry, fixture.effect, fixture.actor), "{name}");
        if let Some(part) = fixture.advice {
            assert!(error.advice_text().contains(&part), "{name}: {}", error.advice_text());
        }
        hit.insert(expected_row);
    }
    let rows: BTreeSet<String> = TABLE.iter().chain([&UNKNOWN]).map(|row| row.name.to_owned()).collect();
    assert_eq!(hit, rows, "every row needs a fixture");
}

#[test]
fn only_the_visible_call_can_have_an_unknown_effect() {
    for status in [500, 413, 418] {
        assert_eq!(classify(&reply(operation::COMMIT, status, &[], "<html>")).effect(), Effect::Unknown, "{status}");
        assert_eq!(classify(&reply(operation::STATUS, status, &[], "<html>")).effect(), Effect::None, "{status}");
    }
}

#[test]
fn what_no_row_knows_is_ambiguous_whatever_the_status() {
    let bodies = [
        "",
        "<html>Forbidden</html>",
        "null",
        "[]",
        "\"duplicate content\"",
        "{\"title\":7}",
        "{\"errors\":{\"code\":187}}",
        "{\"ok\":true}",
    ];
    for status in [400, 403, 405, 409, 410, 418, 422, 500, 501, 520, 599] {
        for body in bodies {
            let error = classify(&reply(operation::COMMIT, status, &[], body));
            assert_eq!(error.effect(), Effect::Unknown, "{status} {body}");
        }
    }
}

#[test]
fn the_latest_reset_among_the_used_up_buckets_counts() {
    let at = |seconds: i64| (NOW + seconds).to_string();
    let (soon, late, later) = (at(100), at(900), at(5000));
    let refused = |headers: &[(&str, &str)]| classify(&reply(operation::COMMIT, 429, headers, ""));
    let wait = |headers: &[(&str, &str)]| refused(headers).retry_hint();
    let bucket = [("x-rate-limit-remaining", "0"), ("x-rate-limit-reset", soon.as_str())];
    assert_eq!(wait(&bucket), Retry::After(Duration::from_secs(100)));
    let both =
        [bucket[0], bucket[1], ("x-app-limit-24hour-remaining", "0"), ("x-app-limit-24hour-reset", later.as_str())];
    assert_eq!(wait(&both), Retry::After(Duration::from_secs(5000)));
    assert_eq!((refused(&bucket).scope(), refused(&both).scope()), (Some(RateScope::Account), Some(RateScope::App)));
    assert_eq!(refused(&[]).scope(), None);
    let other_has_room =
        [bucket[0], bucket[1], ("x-user-limit-24hour-remaining", "7"), ("x-user-limit-24hour-reset", late.as_str())];
    assert_eq!(wait(&other_has_room), Retry::After(Duration::from_secs(100)));
    // A reset that is past, absurd or unreadable leaves the minute.
    for reset in [at(-5), at(40 * 86_400), "soon".to_owned()] {
        assert_eq!(
            wait(&[("x-rate-limit-remaining", "0"), ("x-rate-limit-reset", &reset)]),
            Retry::After(MINUTE),
            "{reset}"
        );
    }
    assert_eq!(wait(&[("retry-after", "7")]), Retry::After(Duration::from_secs(7)));
    // Room in every bucket: a cap that no header shows.
    assert_eq!(wait(&[("x-rate-limit-remaining", "40000")]), Retry::After(15 * MINUTE));
}

#[test]
fn a_daily_cap_ends_at_midnight_utc() {
    let body = r#"{"type":"https://api.x.com/2/problems/usage-capped","title":"UsageCapExceeded","period":"Daily"}"#;
    assert_eq!(
        classify(&reply(operation::COMMIT, 429, &[], body)).retry_hint(),
        Retry::After(Duration::from_secs(14 * 3600))
    );
}

#[test]
fn an_advice_holds_no_secret_and_not_too_much_of_what_others_wrote() {
    let token = "bEFrZU1hcmtlclRva2VuRm9yVGVzdHMxMjM0NTY3ODkwYWJjZGVm";
    let body = serde_json::json!({"title": "Forbidden", "detail": format!("access_token={token} {}", "x".repeat(500)), "status": 403});
    let error = classify(&reply(operation::COMMIT, 403, &[], body.to_string()));
    let shown = format!("{} {error} {error:?}", error.advice_text());
    assert!(!shown.contains(token), "{shown}");
    assert!(error.advice_text().chars().count() < 250);
}
