//! Every scenario in its short form, on both stores, as a person would start it.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test ends by panicking")]

use std::process::Command;

use serde_json::Value;

/// Whether PostgreSQL can be started here; where it must be, its absence is a failure.
fn postgres() -> bool {
    static FOUND: std::sync::OnceLock<bool> = std::sync::OnceLock::new();
    *FOUND.get_or_init(|| social_testkit::pg::Server::start().is_some())
}

fn holds(scenario: &str, store: &str) {
    if store == "postgres" && !postgres() {
        return;
    }
    let mut command = Command::new(env!("CARGO_BIN_EXE_social-chaos"));
    let output = command.args([scenario, "--store", store, "--short"]).output().unwrap();
    let (out, err) = (String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap());
    let summary: Value = serde_json::from_str(out.lines().last().unwrap_or_default()).unwrap_or_default();
    assert!(output.status.success() && summary["held"] == true, "{summary:#}\n{err}");
    assert_eq!(summary["scenarios"][0]["scenario"], scenario);
    eprintln!("{err}");
}

macro_rules! scenarios {
    ($($name:ident),* $(,)?) => {
        $(
            mod $name {
                #[test]
                fn sqlite() {
                    super::holds(stringify!($name), "sqlite");
                }

                #[test]
                fn postgres() {
                    super::holds(stringify!($name), "postgres");
                }
            }
        )*
    };
}

scenarios! { kill, liars, workers, stop, database, refresh, restore, keys, limits, model }

#[test]
fn help_names_every_scenario_and_a_wrong_name_is_refused() {
    let run = |arguments: &[&str]| {
        let output = Command::new(env!("CARGO_BIN_EXE_social-chaos")).args(arguments).output().unwrap();
        let text = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
        (output.status.code(), text)
    };
    let (code, help) = run(&["--help"]);
    assert_eq!(code, Some(0));
    for scenario in social_chaos::scenario::ALL {
        assert!(help.contains(scenario.name()) && help.contains(scenario.about()), "{help}");
    }
    let (code, why) = run(&["no-such-scenario"]);
    assert!(code == Some(2) && why.contains("kill"), "{why}");
    assert_eq!(run(&[]).0, Some(2));
}
