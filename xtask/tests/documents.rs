//! What the documents say of the code is there.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
};

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap()
}

/// Files below the root with that ending.
fn files(ending: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut open = vec![root().to_path_buf()];
    while let Some(folder) = open.pop() {
        for entry in std::fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            if path.is_dir() {
                if !name.starts_with('.') && !["target", "node_modules"].contains(&name.as_str()) {
                    open.push(path);
                }
            } else if name.ends_with(ending) {
                found.push(path);
            }
        }
    }
    found.sort();
    assert!(!found.is_empty(), "no files end in {ending}");
    found
}

fn read(path: impl AsRef<Path>) -> String {
    let path = path.as_ref();
    std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// All Rust code of the workspace in one text.
fn all_code() -> String {
    files(".rs").iter().map(read).collect::<Vec<_>>().join("\n")
}

/// A document without its fenced blocks.
fn prose(text: &str) -> String {
    let mut fenced = false;
    let lines = text.lines().filter(|line| {
        let fence = line.trim_start().starts_with("```");
        fenced ^= fence;
        !fenced && !fence
    });
    lines.collect::<Vec<_>>().join("\n")
}

/// What stands between backticks.
fn quoted(text: &str) -> BTreeSet<String> {
    text.split('`').skip(1).step_by(2).map(str::to_owned).collect()
}

#[test]
fn links_lead_somewhere() {
    let mut broken = Vec::new();
    for page in files(".md") {
        let text = prose(&read(&page));
        for (at, _) in text.match_indices("](") {
            let target = text[at + 2..].split([')', ' ']).next().unwrap_or_default();
            let file = target.split('#').next().unwrap_or_default();
            if file.is_empty() || target.contains("://") || target.starts_with("mailto:") {
                continue;
            }
            // In crate documentation, links may also be paths of items.
            let item = file.contains("::") || (!file.contains(['/', '.']));
            if !item && !page.parent().unwrap().join(file).exists() {
                broken.push(format!("{}: {target}", page.strip_prefix(root()).unwrap().display()));
            }
        }
    }
    assert!(broken.is_empty(), "links that lead nowhere:\n{}", broken.join("\n"));
}

/// The table of invariants names functions and tests: each is there.
#[test]
fn the_invariants_name_code_that_exists() {
    let text = read(root().join("ARCHITECTURE.md"));
    let rows: Vec<&str> = text.lines().filter(|line| line.starts_with("| I")).collect();
    assert_eq!(rows.len(), 8, "I1 to I8");
    let code = all_code();
    for row in rows {
        let cells: Vec<&str> = row.trim_matches('|').split(" | ").collect();
        assert_eq!(cells.len(), 4, "{row}");
        let tests = quoted(cells[3]);
        assert!(!tests.is_empty(), "{row}");
        for name in quoted(cells[2]).into_iter().chain(tests) {
            let last = name.rsplit("::").next().unwrap_or_default();
            let there = [format!("fn {last}("), format!("fn {last}<"), format!("struct {last}")];
            assert!(there.iter().any(|needle| code.contains(needle)), "{name} of {row}");
        }
    }
}

#[test]
fn codes_of_violations_are_those_of_the_code() {
    let text = read(root().join("docs/errors.md"));
    let (_, codes) = text.split_once("## Violations\n").unwrap();
    let codes = codes.split("\n## ").next().unwrap_or_default();
    let documented: BTreeSet<String> = codes
        .lines()
        .filter(|line| line.starts_with("| `"))
        .flat_map(|line| quoted(line.trim_matches('|').split(" | ").next().unwrap_or_default()))
        .collect();
    let mut made = BTreeSet::new();
    for file in ["social-core/src/validate.rs", "social-core/src/social/schedule.rs"] {
        let code = read(root().join(file));
        let code = code.split("#[cfg(test)]").next().unwrap_or_default();
        // Codes are the strings that begin with what they are about.
        let strings = code.split('"').skip(1).step_by(2);
        let about =
            ["text_", "thread_", "first_comment_", "link_", "media_", "alt_text_", "accounts_", "time_", "grant_"];
        made.extend(strings.filter(|s| about.iter().any(|a| s.starts_with(a)) && is_code(s)).map(str::to_owned));
    }
    assert!(made.len() > 20, "{made:?}");
    assert_eq!(documented, made, "docs/errors.md on the left, the code on the right");
}

fn is_code(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_')
}

/// Decisions are numbered without gaps, and the index lists them all.
#[test]
fn the_index_of_decisions_is_complete() {
    let index = read(root().join("docs/adr/README.md"));
    let mut pages: Vec<String> = files(".md")
        .into_iter()
        .filter(|path| path.parent().is_some_and(|folder| folder.ends_with("docs/adr")))
        .map(|path| path.file_name().unwrap().to_string_lossy().into_owned())
        .filter(|name| name != "README.md")
        .collect();
    pages.sort();
    for (at, page) in pages.iter().enumerate() {
        assert!(page.starts_with(&format!("{:04}-", at + 1)), "{page} is number {}", at + 1);
        assert!(index.contains(&format!("({page})")), "{page} is not in the index");
    }
}

/// Every example is in the index, and says how it is run.
#[test]
fn the_index_of_examples_is_complete() {
    let index = read(root().join("examples/README.md"));
    for entry in std::fs::read_dir(root().join("examples")).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            assert!(index.contains(&format!("]({name}/")), "{name} is not in examples/README.md");
        }
    }
}
