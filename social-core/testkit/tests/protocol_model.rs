//! The publishing protocol, checked exhaustively within bounds. See `social_testkit::model` for what is real and what is modelled.

#![allow(clippy::expect_used, reason = "helpers of tests end the test when something cannot be made")]

use social_testkit::model::{Bounds, Network, Promise, Protections, Report, explore, explore_for};

fn told(report: &Report) -> String {
    let broken = report.broken.as_ref().expect("a broken promise");
    let steps = broken.trace.iter().enumerate().map(|(n, step)| format!("{:>3}. {step}\n", n + 1));
    format!("{:?}\n{}", broken.promise, steps.collect::<String>())
}

#[test]
fn no_trace_breaks_a_promise() {
    let mut states = 0;
    for bounds in Bounds::QUICK {
        let report = explore(bounds, Protections::ALL);
        println!(
            "{bounds:?}: {} states, {} steps, {} traces of {} steps",
            report.states, report.steps, report.traces, report.trace_steps
        );
        assert!(report.held, "{bounds:?}: {}", told(&report));
        assert!(report.traces >= 1_000_000, "{bounds:?}: {} traces", report.traces);
        states += report.states;
    }
    println!("{states} states");
}

#[test]
fn a_network_that_cannot_be_asked_leaves_doubt_and_no_duplicate() {
    let report = explore(Bounds { network: Network::Blind, parts: 1, faults: 1, outside: 1 }, Protections::ALL);
    assert!(report.held, "{}", told(&report));
}

#[test]
fn each_protection_is_needed() {
    for (name, protections) in Protections::each_missing() {
        let found = Bounds::QUICK.iter().map(|bounds| explore(*bounds, protections)).find(|report| !report.held);
        let report = found.unwrap_or_else(|| panic!("nothing breaks without {name}"));
        println!("without {name}: {}", told(&report));
    }
}

#[test]
fn what_keeps_a_post_from_going_out_twice_is_needed_for_that() {
    const TWICE: &[Promise] = &[Promise::NeverTwice, Promise::OnePermit];
    let two_deaths = Bounds { network: Network::ReadsBack, parts: 1, faults: 2, outside: 0 };
    let helps_otherwise = ["outside_loses_to_permit", "hand_back_moves_epoch", "write_once"];
    for (name, protections) in Protections::each_missing() {
        if !helps_otherwise.contains(&name) {
            let report = explore_for(two_deaths, protections, TWICE);
            assert!(!report.held, "nothing goes out twice without {name}");
            println!("without {name}: {}", told(&report));
        }
    }
}

#[test]
#[ignore = "minutes in a debug build"]
fn nothing_breaks_within_wide_bounds_either() {
    for bounds in Bounds::THOROUGH {
        let report = explore(bounds, Protections::ALL);
        println!(
            "{bounds:?}: {} states, {} steps, {} traces of {} steps",
            report.states, report.steps, report.traces, report.trace_steps
        );
        assert!(report.held, "{bounds:?}: {}", told(&report));
    }
}
