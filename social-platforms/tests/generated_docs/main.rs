//! The tables in README.md and docs/ that follow from the code. `cargo xtask docs` writes them; without it these tests say which are stale.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod errors;
mod networks;
mod phases;

use std::{
    env, fs,
    path::{Path, PathBuf},
};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// Compares the part of a page between `<!-- generated: name -->` and `<!-- end -->` with what the code says, or writes it.
fn hold(page: &str, name: &str, current: &str) {
    let path = root().join(page);
    let text = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{page}: {error}"));
    let begin = format!("<!-- generated: {name} -->\n");
    let start = text.find(&begin).unwrap_or_else(|| panic!("{page} has no marker {begin:?}")) + begin.len();
    let length = text[start..].find("<!-- end -->").unwrap_or_else(|| panic!("{page}: the part {name} does not end"));
    let current = format!("{}\n", current.trim_end());
    if text[start..start + length] == current {
        return;
    }
    if env::var_os("UPDATE_DOCS").is_some() {
        let new = format!("{}{current}{}", &text[..start], &text[start + length..]);
        fs::write(&path, new).unwrap_or_else(|error| panic!("{page}: {error}"));
    } else {
        panic!("the part {name} of {page} is stale: run `cargo xtask docs`. It should be:\n{current}");
    }
}

/// A table in Markdown, its columns as wide as they need to be.
fn table<const N: usize>(head: [&str; N], rows: impl IntoIterator<Item = [String; N]>) -> String {
    let line = |cells: &[String; N]| format!("| {} |\n", cells.join(" | "));
    let mut out = line(&head.map(str::to_owned));
    out.push_str(&line(&head.map(|_| "---".to_owned())));
    for row in rows {
        out.push_str(&line(&row));
    }
    out
}

/// `yes` or nothing, so that a table shows what matters.
fn tick(is: bool) -> String {
    if is { "yes".to_owned() } else { String::new() }
}

/// Several pages are written by tests of one binary: one after the other, since each writes a whole page.
#[test]
fn generated_tables_are_current() {
    hold("docs/state-machine.md", "phases", &phases::phases());
    hold("docs/state-machine.md", "transitions", &phases::transitions());
    hold("docs/errors.md", "kinds", &errors::kinds());
    hold("README.md", "networks", &networks::overview());
    for network in networks::networks() {
        let page = format!("docs/networks/{}.md", network.id);
        hold(&page, "facts", &networks::facts(&network));
        hold(&page, "scopes", &networks::scopes(&network));
        hold(&page, "media", &networks::media(&network));
        hold(&page, "limits", &networks::limits(&network));
    }
}
