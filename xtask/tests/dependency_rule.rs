//! Who may depend on whom: core on nobody, adapters and stores on core, everything else on them. The shape that ARCHITECTURE.md draws.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
    process::Command,
};

use serde_json::Value;

/// What a package of the workspace depends on, by name.
#[derive(Debug, Default)]
struct Package {
    /// Its folder below the root, such as `social-platforms/x`.
    folder: String,
    /// For running.
    normal: BTreeSet<String>,
    /// For its tests besides.
    dev: BTreeSet<String>,
}

/// The packages of the workspace.
struct Tree {
    ours: BTreeMap<String, Package>,
    /// How many packages the lock file knows.
    locked: usize,
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap()
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

fn cargo(args: &[&str]) -> Vec<u8> {
    let output =
        Command::new(env!("CARGO")).current_dir(root()).args(args).args(["--locked", "--offline"]).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    output.stdout
}

fn tree() -> Tree {
    let metadata: Value = serde_json::from_slice(&cargo(&["metadata", "--format-version", "1"])).unwrap();
    let members: BTreeSet<String> = metadata["workspace_members"].as_array().unwrap().iter().map(text).collect();
    let packages = metadata["packages"].as_array().unwrap();
    let mut ours = BTreeMap::new();
    for package in packages.iter().filter(|package| members.contains(&text(&package["id"]))) {
        let manifest = text(&package["manifest_path"]);
        let folder = Path::new(&manifest).parent().unwrap().strip_prefix(root()).unwrap();
        let mut found = Package { folder: folder.to_string_lossy().replace('\\', "/"), ..Package::default() };
        for dependency in package["dependencies"].as_array().unwrap() {
            let kind = if dependency["kind"] == "dev" { &mut found.dev } else { &mut found.normal };
            kind.insert(text(&dependency["name"]));
        }
        ours.insert(text(&package["name"]), found);
    }
    Tree { ours, locked: packages.len() }
}

/// Everything that is compiled for the chosen packages on any target with all features, but for tests.
fn compiled(packages: &[&str]) -> BTreeSet<String> {
    let fixed =
        ["tree", "--edges", "normal,build", "--target", "all", "--all-features", "--prefix", "none", "--format", "{p}"];
    let listed = String::from_utf8(cargo(&[&fixed[..], packages].concat())).unwrap();
    listed.lines().filter_map(|line| line.split(' ').next().map(str::to_owned)).collect()
}

impl Tree {
    /// Adapters: the crates of networks below `social-platforms/`.
    fn adapters(&self) -> impl Iterator<Item = (&String, &Package)> {
        self.ours.iter().filter(|(name, package)| {
            let sandbox_or_shared = ["social-sandbox", "social-meta-graph"].contains(&name.as_str());
            package.folder.starts_with("social-platforms/") && !sandbox_or_shared
        })
    }

    fn ours_among<'a>(&'a self, names: &'a BTreeSet<String>) -> BTreeSet<&'a str> {
        names.iter().map(String::as_str).filter(|name| self.ours.contains_key(*name)).collect()
    }
}

/// Fails unless `found` holds nothing but what is allowed.
fn only(who: &str, found: &BTreeSet<&str>, allowed: &[&str]) {
    let others: Vec<_> = found.iter().filter(|name| !allowed.contains(name)).collect();
    assert!(others.is_empty(), "{who} must not depend on {others:?}");
}

/// Fails if any of `forbidden` was found.
fn none<'a>(who: &str, found: impl IntoIterator<Item = &'a str>, forbidden: &[&str]) {
    let bad: Vec<_> = found.into_iter().filter(|name| forbidden.contains(name)).collect();
    assert!(bad.is_empty(), "{who} must not depend on {bad:?}");
}

#[test]
fn core_knows_no_network_no_store_and_no_web_framework() {
    let tree = tree();
    let core = &tree.ours["social-core"];
    only("social-core", &tree.ours_among(&core.normal), &[]);
    only("social-core in its tests", &tree.ours_among(&core.dev), &[]);
    let compiled = compiled(&["--package", "social-core"]);
    assert!(compiled.contains("tokio"), "the tree was read");
    none(
        "social-core",
        compiled.iter().map(String::as_str),
        &["sqlx", "sqlx-core", "rusqlite", "axum", "actix-web", "warp"],
    );
}

#[test]
fn adapters_depend_on_core_alone() {
    let tree = tree();
    assert!(tree.adapters().count() >= 2, "the tree was read");
    for (name, package) in tree.adapters() {
        only(name, &tree.ours_among(&package.normal), &["social-core", "social-meta-graph"]);
        only(&format!("{name} in its tests"), &tree.ours_among(&package.dev), &["social-testkit", "social-sandbox"]);
        let direct = package.normal.iter().map(String::as_str);
        none(name, direct, &["sqlx", "axum", "hyper", "reqwest", "backoff", "aws-lc-rs", "oauth2", "rand", "tower"]);
        none(name, compiled(&["--package", name]).iter().map(String::as_str), &["sqlx", "sqlx-core", "axum"]);
    }
}

#[test]
fn the_store_and_the_testkit_know_no_adapter_and_no_server() {
    let tree = tree();
    let store = &tree.ours["social-store"];
    only("social-store", &tree.ours_among(&store.normal), &["social-core"]);
    only("social-store in its tests", &tree.ours_among(&store.dev), &["social-testkit"]);
    none("social-store", compiled(&["--package", "social-store"]).iter().map(String::as_str), &["axum"]);
    let testkit = &tree.ours["social-testkit"];
    only("social-testkit", &tree.ours_among(&testkit.normal), &["social-core", "social-sandbox"]);
    only("social-testkit in its tests", &tree.ours_among(&testkit.dev), &[]);
}

/// A simulation that shared code with what it judges would share its mistakes.
#[test]
fn the_sandbox_shares_no_code_with_what_it_judges() {
    let tree = tree();
    let sandbox = &tree.ours["social-sandbox"];
    only("social-sandbox", &tree.ours_among(&sandbox.normal), &[]);
    only("social-sandbox in its tests", &tree.ours_among(&sandbox.dev), &[]);
}

#[test]
fn the_facade_depends_on_core_and_adapters_alone() {
    let tree = tree();
    let mut allowed: Vec<&str> = tree.adapters().map(|(name, _)| name.as_str()).collect();
    allowed.push("social-core");
    only("social-platforms", &tree.ours_among(&tree.ours["social-platforms"].normal), &allowed);
}

#[test]
fn nobody_depends_on_the_server_but_programs() {
    let tree = tree();
    for (name, package) in &tree.ours {
        let a_library = !["social-server", "social-benches", "social-chaos"].contains(&name.as_str());
        if a_library {
            none(name, package.normal.iter().map(String::as_str), &["social-server"]);
        }
    }
}

#[test]
fn there_is_one_crypto_provider_and_no_openssl() {
    let compiled = compiled(&["--workspace"]);
    assert!(compiled.contains("aws-lc-rs"), "the tree was read");
    let others = ["openssl", "openssl-sys", "native-tls", "ring", "rsa"];
    none("the workspace", compiled.iter().map(String::as_str), &others);
}

/// What a host takes in with the libraries and the server; the testkit, the benchmarks and the examples have more.
#[test]
fn few_packages_are_depended_on() {
    let tree = tree();
    let direct: BTreeSet<&String> = tree
        .ours
        .iter()
        .filter(|(name, _)| {
            !name.starts_with("example-") && !["social-testkit", "social-benches"].contains(&name.as_str())
        })
        .flat_map(|(_, package)| &package.normal)
        .filter(|name| !tree.ours.contains_key(*name))
        .collect();
    assert!(direct.len() <= 44, "{} direct dependencies: {direct:?}", direct.len());
    assert!(tree.locked <= 400, "{} packages in the lock file", tree.locked);
}

/// `unsafe` is forbidden, and lints are warnings, through one table: a crate that leaves it out has neither.
#[test]
fn every_crate_takes_the_lints_of_the_workspace() {
    for (name, package) in tree().ours {
        let manifest = std::fs::read_to_string(root().join(&package.folder).join("Cargo.toml")).unwrap();
        assert!(manifest.contains("[lints]\nworkspace = true"), "{name} has lints of its own");
    }
}
