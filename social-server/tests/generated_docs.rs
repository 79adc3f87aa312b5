//! The table of metrics in docs/operations.md follows from the code. `cargo xtask docs` writes it; without it this test says whether it is stale.

#![allow(clippy::panic, reason = "a test fails by panicking")]

use std::{env, fs, path::Path};

use social_server::metrics;

#[test]
fn the_table_of_metrics_is_current() {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/operations.md");
    let text = fs::read_to_string(&page).unwrap();
    let mut table = "| metric | labels | what |\n| --- | --- | --- |\n".to_owned();
    for metric in metrics::all() {
        let labels: Vec<_> = metric.labels.iter().map(|label| format!("`{label}`")).collect();
        table += &format!("| `{}` | {} | {} |\n", metric.name, labels.join(", "), metric.help);
    }
    let (begin, end) = ("<!-- generated: metrics -->\n", "<!-- end -->");
    let start = text.find(begin).expect("the marker of the table") + begin.len();
    let length = text[start..].find(end).expect("the end of the table");
    if text[start..start + length] == table {
        return;
    }
    if env::var_os("UPDATE_DOCS").is_none() {
        panic!("the metrics in docs/operations.md are stale: run `cargo xtask docs`. It should be:\n{table}");
    }
    fs::write(&page, format!("{}{table}{}", &text[..start], &text[start + length..])).unwrap();
}
