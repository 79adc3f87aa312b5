//! Rules about the source that no type can hold: who may import what, and what may stand nowhere.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

use std::path::{Path, PathBuf};

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap()
}

/// A Rust file of the workspace.
struct Source {
    /// Below the root, with `/`.
    path: String,
    /// Lines without comments, with their numbers.
    code: Vec<(usize, String)>,
}

impl Source {
    /// Lines of code that contain any of `needles`, to be read in a failure.
    fn hits<'a>(&'a self, needles: &'a [&str]) -> impl Iterator<Item = String> + 'a {
        let found = self.code.iter().filter(|(_, line)| needles.iter().any(|needle| line.contains(needle)));
        found.map(|(number, line)| format!("{}:{number}: {}", self.path, line.trim()))
    }
}

fn sources() -> Vec<Source> {
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
            } else if path.extension().is_some_and(|ext| ext == "rs") {
                found.push(source(&path));
            }
        }
    }
    assert!(found.len() > 100, "only {} files were found", found.len());
    found
}

fn source(path: &Path) -> Source {
    let text = std::fs::read_to_string(path).unwrap();
    let code = text
        .lines()
        .enumerate()
        .filter(|(_, line)| !line.trim_start().starts_with("//"))
        .map(|(index, line)| (index + 1, line.to_owned()))
        .collect();
    Source { path: path.strip_prefix(root()).unwrap().to_string_lossy().replace('\\', "/"), code }
}

/// Fails unless `needles` stand only in files that `allowed` accepts, and in at least one of those.
fn only_in(needles: &[&str], allowed: impl Fn(&str) -> bool) {
    let this_file = file!().replace('\\', "/");
    let (mut good, mut bad) = (0, Vec::new());
    for source in sources().iter().filter(|source| !this_file.ends_with(&source.path)) {
        let hits: Vec<String> = source.hits(needles).collect();
        if allowed(&source.path) {
            good += hits.len();
        } else {
            bad.extend(hits);
        }
    }
    assert!(bad.is_empty(), "{needles:?} must not stand here:\n{}", bad.join("\n"));
    assert!(good > 0, "{needles:?} stands nowhere: does this rule still look for the right thing?");
}

#[test]
fn only_one_file_imports_backoff() {
    only_in(&["backoff::", "extern crate backoff"], |path| path == "social-core/src/retry.rs");
}

#[test]
fn in_core_only_the_http_layer_knows_reqwest() {
    only_in(&["reqwest::"], |path| path.starts_with("social-core/src/http/") || !in_core_or_adapter(path));
}

#[test]
fn in_core_only_the_crypto_files_know_the_provider() {
    only_in(&["aws_lc_rs"], |path| {
        let knows = ["social-core/src/crypto.rs", "social-core/src/media/mod.rs"].contains(&path);
        knows || path.starts_with("social-core/src/vault") || !in_core_or_adapter(path)
    });
}

fn in_core_or_adapter(path: &str) -> bool {
    path.starts_with("social-core/src/") || adapters().iter().any(|adapter| path.starts_with(&format!("{adapter}/")))
}

/// The client of the visible call is made in one place, reuses no connection that was idle for long, and nothing near it tries again.
#[test]
fn the_commit_client_is_made_in_one_place_without_retries() {
    only_in(&["pool_idle_timeout(COMMIT_IDLE)", "fn commit_lane", "commit: reqwest::Client", "Lane::Commit"], |path| {
        path == "social-core/src/http/mod.rs"
    });
    // Who may send through it: the context that `commit` is given.
    only_in(&[".commit_lane()"], |path| ["social-core/src/http/mod.rs", "social-core/src/context.rs"].contains(&path));

    let http = source(&root().join("social-core/src/http/mod.rs"));
    for needed in [".retry(reqwest::retry::never())", ".redirect(reqwest::redirect::Policy::none())", ".http1_only()"] {
        assert_eq!(http.hits(&[needed]).count(), 1, "{needed} belongs to the commit client");
    }
    let layers = ["retry::RetryLayer", "tower::retry", "reqwest_retry", "reqwest_middleware", "ClientWithMiddleware"];
    let this_file = file!().replace('\\', "/");
    for source in sources().iter().filter(|source| !this_file.ends_with(&source.path)) {
        assert_eq!(source.hits(&layers).collect::<Vec<_>>(), Vec::<String>::new(), "only the scheduler tries again");
    }
}

/// The visible call is sent from `commit` and, where asking means sending the identical call, from `reconcile`; both are in these files.
#[test]
fn adapters_send_the_visible_call_from_publish_alone() {
    let adapters = adapters();
    for source in sources() {
        let Some(adapter) = adapters.iter().find(|adapter| source.path.starts_with(&format!("{adapter}/src/"))) else {
            continue;
        };
        let file = source.path.strip_prefix(&format!("{adapter}/src/")).unwrap_or_default();
        let may = file.starts_with("publish") || file.starts_with("reconcile");
        let hits: Vec<String> = source.hits(&[".visible()"]).collect();
        assert!(may || hits.is_empty(), "the visible call belongs to publish.rs or reconcile.rs:\n{}", hits.join("\n"));
    }
}

/// An adapter does not wait and does not loop over failures: waiting is a due time in the store.
#[test]
fn adapters_do_not_sleep_and_do_not_ask_for_the_time() {
    let adapters = adapters();
    let needles =
        ["tokio::time::", "thread::sleep", "Timestamp::now()", "SystemTime::now", "Instant::now", "tokio::spawn"];
    for source in sources() {
        if adapters.iter().any(|adapter| source.path.starts_with(&format!("{adapter}/src/"))) {
            assert_eq!(
                source.hits(&needles).collect::<Vec<_>>(),
                Vec::<String>::new(),
                "time and chance are handed in"
            );
        }
    }
}

/// Nothing is left open, and nothing of an adapter knows the sandbox.
#[test]
fn nothing_is_left_open() {
    let needles = ["todo!(", "unimplemented!(", "dbg!("];
    let this_file = file!().replace('\\', "/");
    for source in sources().iter().filter(|source| !this_file.ends_with(&source.path)) {
        assert_eq!(source.hits(&needles).collect::<Vec<_>>(), Vec::<String>::new());
    }
    for source in sources() {
        if adapters().iter().any(|adapter| source.path.starts_with(&format!("{adapter}/src/"))) {
            let hits: Vec<String> = source.hits(&["_sandbox", "sandbox-", "social_sandbox"]).collect();
            let in_tests = source.path.ends_with("/harness.rs") || source.path.contains("/tests");
            assert!(
                in_tests || hits.is_empty(),
                "an adapter is pointed at the sandbox by its addresses alone: {hits:?}"
            );
        }
    }
}

/// Folders of adapters: below `social-platforms/`, but for the sandbox and what networks share.
fn adapters() -> Vec<String> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(root().join("social-platforms")).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        if path.join("Cargo.toml").is_file() && !["sandbox", "meta-graph"].contains(&name.as_str()) {
            found.push(format!("social-platforms/{name}"));
        }
    }
    found.sort();
    assert!(found.len() >= 2, "{found:?}");
    found
}

/// Knowing one adapter means knowing all: the same file names everywhere, the example for new ones included.
#[test]
fn every_adapter_has_the_same_files() {
    let mut folders = adapters();
    folders.push("examples/custom-platform".to_owned());
    let needed: [&str; 10] = [
        "README.md",
        "src/lib.rs",
        "src/descriptor.rs",
        "src/connect.rs",
        "src/publish.rs",
        "src/analytics.rs",
        "src/error.rs",
        "src/wire.rs",
        "tests/conformance.rs",
        "tests/fixtures",
    ];
    let missing: Vec<PathBuf> = folders
        .iter()
        .flat_map(|folder| needed.iter().map(move |file| Path::new(folder).join(file)))
        .filter(|path| !root().join(path).exists())
        .collect();
    assert!(missing.is_empty(), "missing: {missing:?}");
    for folder in folders {
        let suite = std::fs::read_to_string(root().join(&folder).join("tests/conformance.rs")).unwrap();
        assert!(suite.contains("platform_suite!("), "{folder} does not run the suite that every adapter passes");
    }
}

/// A network is its folder and a few lines: two in the facade's manifest, one in its list. Nothing else branches on its name.
#[test]
fn a_network_costs_few_lines_elsewhere() {
    let ours = ["social-core/src/", "social-store/src/", "social-server/src/", "social-platforms/src/"];
    let manifests = ["Cargo.toml", "social-platforms/Cargo.toml", "social-server/Cargo.toml", "social-core/Cargo.toml"];
    let mut lines: Vec<(String, String)> = Vec::new();
    for source in sources() {
        // The demo shows chosen networks; a new one works without being in it.
        let shown = source.path.starts_with("social-server/src/demo") || source.path.contains("test");
        if ours.iter().any(|folder| source.path.starts_with(folder)) && !shown {
            let before_tests = source.code.iter().take_while(|(_, line)| !line.contains("#[cfg(test)]"));
            lines.extend(before_tests.map(|(_, line)| (source.path.clone(), line.clone())));
        }
    }
    for manifest in manifests {
        let text = std::fs::read_to_string(root().join(manifest)).unwrap();
        lines.extend(text.lines().map(|line| (manifest.to_owned(), line.to_owned())));
    }
    for adapter in adapters() {
        let name = adapter.rsplit('/').next().unwrap_or_default();
        let ends = |rest: &str| !rest.starts_with(|next: char| next.is_alphanumeric());
        let crates = [format!("social-{name}"), format!("social_{name}")];
        let names = |line: &str| {
            let quoted = line.contains(&format!("\"{name}\"")) && !line.contains(&format!("b\"{name}\""));
            // Examples in the documentation of the interface.
            (quoted && !line.contains("example ="))
                || line.starts_with(&format!("{name} = "))
                || crates
                    .iter()
                    .any(|one| line.match_indices(one.as_str()).any(|(at, _)| ends(&line[at + one.len()..])))
        };
        let found: Vec<String> = lines
            .iter()
            .filter(|(_, line)| names(line))
            .map(|(path, line)| format!("{path}: {}", line.trim()))
            .collect();
        assert!(found.len() <= 5, "{name} is named {} times elsewhere:\n{}", found.len(), found.join("\n"));
        let facade = |line: &&String| line.starts_with("social-platforms/") || line.starts_with("Cargo.toml");
        assert!(found.iter().all(|line| facade(&line)), "only the facade may know {name}:\n{}", found.join("\n"));
    }
}
