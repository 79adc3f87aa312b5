//! Small pages for a person in a browser, and the choice between a page and a problem.

use axum::response::{IntoResponse, Response};
use http::{HeaderMap, HeaderValue, StatusCode, header};

use crate::problem::Problem;

const POLICY: &str = "default-src 'none'; style-src 'self'; img-src 'self' data:; frame-ancestors 'none'; base-uri 'none'; form-action 'none'";

/// Whether the caller is a browser that wants a page.
pub(crate) fn wanted(headers: &HeaderMap) -> bool {
    let accepted = headers.get(header::ACCEPT).and_then(|value| value.to_str().ok()).unwrap_or_default();
    accepted.split(',').any(|kind| kind.split(';').next().unwrap_or_default().trim() == "text/html")
}

/// A page that says one thing. Everything in it is escaped here.
pub(crate) fn page(status: StatusCode, title: &str, sentence: &str, items: &[String]) -> Response {
    let list = if items.is_empty() {
        String::new()
    } else {
        format!("<ul>{}</ul>", items.iter().map(|item| format!("<li>{}</li>", escape(item))).collect::<String>())
    };
    let mark = if status.is_success() { "good" } else { "bad" };
    let html = format!(
        "<!doctype html><html lang=\"en\"><head><meta charset=\"utf-8\"><meta name=\"viewport\" content=\"width=device-width\">\
         <title>{title}</title><link rel=\"stylesheet\" href=\"/docs/style.css\"></head>\
         <body class=\"notice\"><main class=\"card {mark}\"><h1>{title}</h1><p>{sentence}</p>{list}</main></body></html>",
        title = escape(title),
        sentence = escape(sentence),
    );
    let mut response = (status, html).into_response();
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("text/html; charset=utf-8"));
    response.headers_mut().insert(header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(POLICY));
    response
}

/// A refusal as a page for a browser, or as a problem for a program.
pub(crate) fn refusal(headers: &HeaderMap, title: &str, problem: Problem) -> Response {
    if wanted(headers) {
        let sentence = problem.body().advice.clone().unwrap_or_else(|| problem.body().detail.clone());
        page(problem.status(), title, &sentence, &[])
    } else {
        problem.into_response()
    }
}

/// Text as HTML shows it.
pub(crate) fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_from_networks_cannot_become_markup() {
        assert_eq!(escape("<b a=\"x\" b='y'>&"), "&lt;b a=&quot;x&quot; b=&#39;y&#39;&gt;&amp;");
    }

    #[test]
    fn only_those_who_ask_for_a_page_get_one() {
        for (accept, page) in [
            ("text/html,application/xhtml+xml,*/*;q=0.8", true),
            ("application/json", false),
            ("*/*", false),
            ("", false),
        ] {
            let headers = HeaderMap::from_iter([(header::ACCEPT, HeaderValue::from_static(accept))]);
            assert_eq!(wanted(&headers), page, "{accept}");
        }
        assert!(!wanted(&HeaderMap::new()));
    }
}
