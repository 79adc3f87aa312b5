//! The documents about the server are true: the commands of docs/http-api.md work, and the variables of docs/operations.md are those of the program.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
};

use clap::CommandFactory as _;
use reqwest::{Client, Method, Response};
use serde_json::Value;
use social_sandbox::Sandbox;
use social_server::{accept::Acceptor, cli::Cli, config::Config, keys::Missing, serve::Running, start};

fn page(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(name);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{name}: {error}"))
}

/// A command of the page and what it expects.
struct Step {
    command: String,
    status: u16,
    /// Variable and where its value stands in the answer.
    takes: Vec<(String, String)>,
}

/// The commands of all `sh` blocks, each with the comment behind it.
fn steps(page: &str) -> Vec<Step> {
    let mut steps = Vec::new();
    for block in page.split("```sh\n").skip(1) {
        let block = block.split("```").next().unwrap_or_default();
        let mut lines = block.lines();
        while let (Some(command), Some(comment)) = (lines.next(), lines.next()) {
            let comment = comment.strip_prefix("# ").unwrap_or_else(|| panic!("no expectation behind {command}"));
            let mut words = comment.split(' ');
            let status =
                words.next().and_then(|word| word.parse().ok()).unwrap_or_else(|| panic!("no status: {comment}"));
            let takes =
                words.filter_map(|word| word.split_once('=')).map(|(a, b)| (a.to_owned(), b.to_owned())).collect();
            steps.push(Step { command: command.to_owned(), status, takes });
        }
    }
    assert!(steps.len() > 10, "the page has lost its commands");
    steps
}

/// Splits a command as a shell does: single quotes, double quotes, variables.
fn words(command: &str, variables: &BTreeMap<String, String>) -> Vec<String> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut quote = None;
    let mut chars = command.chars().peekable();
    while let Some(c) = chars.next() {
        match (c, quote) {
            ('\'' | '"', None) => {
                quote = Some(c);
                word.get_or_insert_default();
            }
            (c, Some(open)) if c == open => quote = None,
            ('$', None | Some('"')) => {
                let mut name = String::new();
                while let Some(next) = chars.next_if(|next| next.is_ascii_uppercase()) {
                    name.push(next);
                }
                let value = variables.get(&name).unwrap_or_else(|| panic!("${name} is not known yet in {command}"));
                word.get_or_insert_default().push_str(value);
            }
            (' ', None) => words.extend(word.take()),
            (c, _) => word.get_or_insert_default().push(c),
        }
    }
    words.extend(word);
    words
}

/// Does what `curl` would do.
async fn curl(client: &Client, cookies: &mut String, words: &[String]) -> Response {
    let mut words = words.iter();
    assert_eq!(words.next().map(String::as_str), Some("curl"));
    let (mut method, mut url, mut headers, mut body) = (None, None, Vec::new(), None);
    let (mut keep, mut send) = (false, false);
    while let Some(word) = words.next() {
        let mut next = || words.next().cloned().unwrap_or_default();
        match word.as_str() {
            "-s" => {}
            "-X" => method = next().parse::<Method>().ok(),
            "-H" => headers.push(next()),
            "-d" => body = Some(next().into_bytes()),
            "--data-binary" => {
                assert!(next().starts_with('@'));
                body = Some(social_core::media::sample::png(64, 48));
            }
            "--cookie-jar" => keep = !next().is_empty(),
            "--cookie" => send = !next().is_empty(),
            address => url = Some(address.to_owned()),
        }
    }
    let method = method.unwrap_or(if body.is_some() { Method::POST } else { Method::GET });
    let mut request = client.request(method, url.expect("an address"));
    for header in headers {
        let (name, value) = header.split_once(": ").expect("a header");
        request = request.header(name, value);
    }
    if send {
        request = request.header("cookie", cookies.as_str());
    }
    if let Some(body) = body {
        request = request.body(body);
    }
    let answer = request.send().await.expect("an answer");
    if keep {
        let set = answer.headers().get_all("set-cookie").iter().filter_map(|value| value.to_str().ok());
        *cookies = set.filter_map(|cookie| cookie.split(';').next()).collect::<Vec<_>>().join("; ");
    }
    answer
}

/// The value at a path such as `.items[0].id`.
fn at<'a>(json: &'a Value, path: &str) -> Option<&'a str> {
    let pointer = path.replace(['.', '['], "/").replace(']', "");
    json.pointer(&pointer)?.as_str()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_commands_of_the_page_work() {
    let sandbox = Sandbox::new().start().await.unwrap();
    let folder = tempfile::tempdir().unwrap();
    let acceptor = Acceptor::bind("127.0.0.1:0".parse().unwrap()).await.unwrap();
    let listening = acceptor.address().unwrap();
    let (_, keys) = social_core::vault::KeyRing::generate("docs").unwrap();
    let variables = [
        ("SOCIAL_DATABASE_URL", format!("sqlite://{}", folder.path().join("social.db").display())),
        ("SOCIAL_LISTEN", listening.to_string()),
        ("SOCIAL_MASTER_KEYS", keys.to_string()),
        ("SOCIAL_ADMIN_KEY", "the-admin-key-of-this-test-0123456789".to_owned()),
        ("SOCIAL_MEDIA_DIR", folder.path().join("media").display().to_string()),
        ("SOCIAL_X_CLIENT_ID", "sandbox-x-client".to_owned()),
        ("SOCIAL_X_CLIENT_SECRET", "sandbox-x-secret".to_owned()),
        ("SOCIAL_X_BASE_URL", sandbox.base_url("x")),
    ];
    let config = Config::load_from(None, variables.map(|(name, value)| (name.to_owned(), value))).unwrap();
    let state = start::installation(&config, listening, Missing::Refuse, None).await.unwrap();
    let running = Running::begin(state, Some(acceptor), false, None);

    let client = Client::builder().redirect(reqwest::redirect::Policy::none()).no_proxy().build().unwrap();
    let mut known = BTreeMap::from([
        ("API".to_owned(), format!("http://{listening}")),
        ("ADMIN".to_owned(), "the-admin-key-of-this-test-0123456789".to_owned()),
        ("SANDBOX".to_owned(), sandbox.url()),
    ]);
    let mut cookies = String::new();
    for Step { command, status, takes } in steps(&page("docs/http-api.md")) {
        let answer = curl(&client, &mut cookies, &words(&command, &known)).await;
        let (found, location) = (answer.status().as_u16(), answer.headers().get("location").cloned());
        let body = answer.text().await.unwrap();
        assert_eq!(found, status, "{command}\n{body}");
        let json: Value = serde_json::from_str(&body).unwrap_or_default();
        for (name, place) in takes {
            let value = match place.as_str() {
                "location" => location.as_ref().and_then(|value| value.to_str().ok()),
                path => at(&json, path),
            };
            known.insert(
                name,
                value.unwrap_or_else(|| panic!("no {place} in the answer to {command}\n{body}")).to_owned(),
            );
        }
    }
    running.finish().await;
}

/// Names of variables in a text; a network's own are those of all networks.
fn variables(text: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for (at, _) in text.match_indices("SOCIAL_") {
        let name: String =
            text[at..].chars().take_while(|c| c.is_ascii_uppercase() || matches!(c, '_' | '<' | '>')).collect();
        let mut name = name.trim_end_matches('_').replace("<NETWORK>", "NETWORK");
        for network in social_platforms::KNOWN {
            let own = format!("SOCIAL_{}_", network.to_uppercase());
            if let Some(field) = name.strip_prefix(&own) {
                name = format!("SOCIAL_NETWORK_{field}");
            }
        }
        if name != "SOCIAL" && name != "SOCIAL_NETWORK" {
            found.insert(name);
        }
    }
    found
}

#[test]
fn the_variables_of_the_page_are_those_of_the_program() {
    let help = Cli::command().render_long_help().to_string();
    let mut program = variables(&help);
    // The option `--config` has a variable of its own, which clap shows.
    program.insert("SOCIAL_CONFIG".to_owned());
    assert!(program.len() > 20, "{program:?}");
    assert_eq!(
        variables(&page("docs/operations.md")),
        program,
        "docs/operations.md on the left, the program on the right"
    );
}

/// Rust files below a folder, without their tests.
fn code_below(folder: &str) -> Vec<String> {
    let (mut found, mut open) = (Vec::new(), vec![Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(folder)]);
    while let Some(folder) = open.pop() {
        for entry in std::fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display())) {
            let path = entry.unwrap().path();
            if path.is_dir() {
                open.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let code = std::fs::read_to_string(path).unwrap();
                found.push(code.split("#[cfg(test)]").next().unwrap_or_default().to_owned());
            }
        }
    }
    found
}

/// The texts in quotes that stand first, or behind `skip` other arguments, in calls of these functions.
fn codes(folder: &str, calls: &[&str], skip: usize) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for code in code_below(folder) {
        for call in calls {
            for (at, _) in code.match_indices(call) {
                let word = code[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_');
                let arguments = code[at + call.len()..].splitn(skip + 2, ',').nth(skip).unwrap_or_default().trim();
                let literal = arguments.strip_prefix('"').and_then(|rest| rest.split('"').next());
                let plain = |text: &&str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_lowercase() || b == b'_');
                if let Some(text) = literal.filter(plain).filter(|_| !word) {
                    found.insert(text.to_owned());
                }
            }
        }
    }
    found
}

fn undocumented(codes: BTreeSet<String>, page: &str) -> Vec<String> {
    codes.into_iter().filter(|code| !page.contains(&format!("`{code}`"))).collect()
}

/// Nobody meets a code that no page explains.
#[test]
fn codes_of_refusals_and_violations_are_explained() {
    let (errors, api) = (page("docs/errors.md"), page("docs/http-api.md"));
    let calls = ["Problem::field(", "ViolationView::error(", "error(", "wrong(", "refuse("];
    let mut violations = codes("social-server/src", &calls, 0);
    // Chosen among others where they are made.
    let chosen = ["missing", "unknown_field", "wrong_type", "no_account", "platform_unknown"];
    let all = code_below("social-server/src").concat();
    assert!(chosen.iter().all(|code| all.contains(&format!("\"{code}\""))));
    violations.extend(chosen.map(str::to_owned));
    assert!(violations.len() > 30, "{violations:?}");
    assert_eq!(undocumented(violations, &errors), Vec::<String>::new(), "missing in docs/errors.md");
    for network in social_platforms::KNOWN {
        let own = codes(&format!("social-platforms/{network}/src"), &["Violation::error(", "Violation::warning("], 0);
        assert!(own.len() > 3, "{network}: {own:?}");
        assert_eq!(
            undocumented(own, &errors),
            Vec::<String>::new(),
            "codes of {network} are missing in docs/errors.md"
        );
    }
    let refusals = codes("social-server/src", &["Problem::new(", "Self::new("], 1);
    assert!(refusals.len() > 30, "{refusals:?}");
    assert_eq!(undocumented(refusals, &api), Vec::<String>::new(), "missing in docs/http-api.md");
}

/// The table of OAuth duties names tests that are there, and every duty has one.
#[test]
fn the_duties_of_an_oauth_client_name_their_tests() {
    let text = page("docs/security.md");
    let rows: Vec<&str> = text.lines().filter(|line| line.starts_with("| O")).collect();
    assert_eq!(rows.len(), 9, "O1 to O9");
    let tests = page("social-server/tests/api/oauth.rs");
    for (row, number) in rows.into_iter().zip(1..) {
        assert!(row.starts_with(&format!("| O{number} |")), "{row}");
        let own = format!("o{number}_");
        let named: Vec<&str> = row.split('`').skip(1).step_by(2).filter(|name| name.starts_with(&own)).collect();
        assert!(!named.is_empty(), "{row}");
        for name in named {
            assert!(tests.contains(&format!("async fn {name}(")), "{name} is no test");
        }
    }
}

#[test]
fn every_variable_that_a_page_names_can_be_set() {
    for name in
        ["README.md", "docs/operations.md", "docs/http-api.md", "docs/networks/x.md", "docs/networks/linkedin.md"]
    {
        for variable in variables(&page(name)) {
            let networks = social_platforms::KNOWN.iter().map(|network| network.to_uppercase());
            let names: Vec<String> = if variable.contains("_NETWORK_") {
                networks.map(|network| variable.replace("_NETWORK_", &format!("_{network}_"))).collect()
            } else {
                vec![variable]
            };
            for variable in names {
                let loaded = Config::load_from(None, [(variable.clone(), "1".to_owned())]);
                let unknown = loaded.err().is_some_and(|error| error.to_string().contains("no setting named"));
                assert!(!unknown, "{name} names {variable}, which the program does not know");
            }
        }
    }
}
