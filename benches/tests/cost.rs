//! What a post costs, in instructions: the same on a busy machine as on an idle one, so that a loss is seen where it happens.
//!
//! The number is for this profile and says nothing about speed. When a change makes posts cheaper, or dearer for a good reason, put the
//! new number here.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test ends by panicking")]

use std::{env, process::Command};

/// Instructions from the storing of a post to the record that it is out, on SQLite.
const PER_POST: u64 = 2_150_000;
/// A fifth more is a loss.
const MOST: u64 = PER_POST + PER_POST / 5;
/// A third less is a number to be corrected, or a post that was not made.
const LEAST: u64 = PER_POST - PER_POST / 3;

/// Instructions of a run with so many posts.
fn instructions(posts: u64) -> Option<u64> {
    let mut valgrind = Command::new("valgrind");
    valgrind.args(["--tool=callgrind", "--callgrind-out-file=/dev/null"]).arg(env!("CARGO_BIN_EXE_drain"));
    valgrind.args(["--store", "sqlite", "--accounts", "50", "--in-flight", "50", "--posts", &posts.to_string()]);
    let output = match valgrind.output() {
        Ok(output) => output,
        Err(missing) if env::var_os("CI").is_some() => panic!("valgrind cannot be started: {missing}"),
        Err(_) => return None,
    };
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success(), "{said}");
    let line = said.lines().find_map(|line| line.split_once("Collected : ")).expect("callgrind counts").1;
    Some(line.trim().parse().unwrap())
}

#[test]
#[cfg_attr(not(all(target_arch = "x86_64", target_os = "linux")), ignore = "the number is for x86-64")]
fn a_post_costs_no_more_than_it_did() {
    let (few, many) = (100, 500);
    // What a process does once is in both runs.
    let (Some(base), Some(all)) = (instructions(few), instructions(many)) else {
        eprintln!("skipped: valgrind is not installed");
        return;
    };
    let per_post = all.saturating_sub(base) / (many - few);
    eprintln!("{per_post} instructions per post");
    assert!(per_post <= MOST, "a post costs {per_post} instructions, {MOST} are allowed");
    assert!(per_post >= LEAST, "a post costs {per_post} instructions only: put that into {}", file!());
}
