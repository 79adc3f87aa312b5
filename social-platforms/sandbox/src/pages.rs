//! Pages for people: consent, the timeline of what was published, single posts.

use crate::answer::{self, Answer, Pairs};
use crate::consent::Ask;
use crate::ledger::{LedgerEntry, LedgerMedia};
use crate::oauth::Platform;
use crate::rng::hash;
use crate::world::{Persona, World};
use bytes::Bytes;
use serde_json::Value;
use std::collections::{HashMap, HashSet};
use std::fmt::Write as _;

const STYLE: &str = "
:root{color-scheme:light dark;--bg:#f4f5f7;--card:#fff;--ink:#16181d;--soft:#667085;--line:#e3e6ea;--accent:#1d6fe0;--warn:#b42318}
@media(prefers-color-scheme:dark){:root{--bg:#111318;--card:#1a1d24;--ink:#eceef2;--soft:#98a2b3;--line:#2c313b;--accent:#6ea8fe;--warn:#f97066}}
*{box-sizing:border-box}body{margin:0;background:var(--bg);color:var(--ink);font:15px/1.5 system-ui,sans-serif}
a{color:var(--accent);text-decoration:none}a:hover{text-decoration:underline}
header{padding:20px 24px 8px;display:flex;gap:16px;align-items:baseline;flex-wrap:wrap}h1{font-size:20px;margin:0}h2{font-size:16px;margin:0 0 12px}
.soft{color:var(--soft)}.small{font-size:13px}
main{display:grid;grid-template-columns:repeat(auto-fit,minmax(340px,1fr));gap:24px;padding:16px 24px 48px;max-width:1280px}
main.one{grid-template-columns:minmax(0,640px);justify-content:center;margin:0 auto}
.card{background:var(--card);border:1px solid var(--line);border-radius:14px;padding:16px;margin-bottom:14px}
.who{display:flex;gap:10px;align-items:center;margin-bottom:8px}.who img{width:40px;height:40px;border-radius:50%}.who b{display:block;line-height:1.2}
.text{white-space:pre-wrap;overflow-wrap:anywhere;margin:0 0 10px}
.media{display:grid;grid-template-columns:repeat(auto-fit,minmax(140px,1fr));gap:6px;margin:0 0 10px}
.media figure{margin:0}.media img,.media video{width:100%;border-radius:10px;border:1px solid var(--line);display:block;max-height:420px;object-fit:cover}
figcaption{font-size:12px;color:var(--soft);padding-top:3px}
.box{border:1px solid var(--line);border-radius:10px;padding:10px 12px;margin:0 0 10px}
.option{border:1px solid var(--line);border-radius:8px;padding:6px 10px;margin-top:6px}
.badge{border:1px solid var(--line);border-radius:99px;padding:0 8px;font-size:12px;color:var(--soft);margin-left:6px}
.answers{border-left:2px solid var(--line);margin:12px 0 0 18px;padding-left:14px}.answers .who img{width:28px;height:28px}
.gone>.text,.gone>.media,.gone>.box{opacity:.45;text-decoration:line-through}.warn{color:var(--warn)}
form .persona{display:flex;gap:10px;align-items:center;padding:8px;border:1px solid var(--line);border-radius:10px;margin-bottom:6px}
.persona img{width:32px;height:32px;border-radius:50%}
button{font:inherit;padding:9px 18px;border-radius:99px;border:1px solid var(--line);background:var(--card);color:var(--ink);cursor:pointer}
button.main{background:var(--accent);border-color:var(--accent);color:#fff}.buttons{display:flex;gap:10px;margin-top:16px}
ul{padding-left:20px}code{font-size:13px}
";

/// The script of the timeline: looks for changes every three seconds and leaves a playing video alone.
const LIVE: &str = "
const seen = document.body.dataset.revision;
setInterval(async () => {
  if (document.hidden || [...document.querySelectorAll('video')].some((video) => !video.paused)) return;
  try {
    const answer = await fetch('/_sandbox/revision');
    if (String((await answer.json()).revision) !== seen) location.reload();
  } catch { /* the sandbox is restarting */ }
}, 3000);
";

/// Text for HTML, in content and in quoted attributes.
pub(crate) fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            other => out.push(other),
        }
    }
    out
}

fn page(title: &str, body: &str) -> String {
    format!(
        "<!doctype html><html lang=\"en\"><head><meta charset=\"utf-8\"><meta name=\"viewport\" content=\"width=device-width\">\
         <link rel=\"icon\" href=\"data:,\"><title>{}</title><style>{STYLE}</style></head>{body}</html>",
        escape(title)
    )
}

fn guarded(answer: Answer) -> Answer {
    let policy = "default-src 'none'; img-src 'self' data:; media-src 'self'; style-src 'unsafe-inline'; script-src 'self'; \
                  connect-src 'self'; frame-ancestors 'none'; base-uri 'none'";
    answer::with_header(answer, "content-security-policy", policy)
}

/// A page with one sentence.
pub(crate) fn message(title: &str, text: &str) -> String {
    let body = format!(
        "<body><main class=\"one\"><div class=\"card\"><h2>{}</h2><p>{}</p></div></main></body>",
        escape(title),
        escape(text)
    );
    page(title, &body)
}

/// A round picture with the first letter of a name; `file` is such as `ada_normal.svg`.
pub(crate) fn avatar(file: &str) -> Answer {
    let name = file.split(['_', '.']).next().unwrap_or_default();
    let hue = hash(&["avatar", name]) % 360;
    let letter = name.chars().next().map(|first| first.to_uppercase().to_string()).unwrap_or_default();
    let picture = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 100 100\"><rect width=\"100\" height=\"100\" \
         fill=\"hsl({hue} 45% 45%)\"/><text x=\"50\" y=\"68\" font-family=\"sans-serif\" font-size=\"52\" text-anchor=\"middle\" \
         fill=\"#fff\">{}</text></svg>",
        escape(&letter)
    );
    let answer = answer::bytes(200, "image/svg+xml", Bytes::from(picture));
    answer::with_header(answer, "x-content-type-options", "nosniff")
}

fn avatar_url(name: &str) -> String {
    let plain: String = name.chars().filter(char::is_ascii_alphanumeric).collect();
    format!("/x/profile_images/0/{plain}_normal.svg")
}

pub(crate) fn consent(ask: &Ask, personas: &[Persona], chosen: Option<&str>) -> String {
    let app = &ask.platform.apps()[ask.app];
    let network = ask.platform.title();
    let mut body = format!(
        "<body><main class=\"one\"><form class=\"card\" method=\"post\"><h2>{} wants to access your {network} account</h2>\
         <p class=\"soft small\">This is the sandbox: no real account is involved.</p><p>It will be able to use:</p><ul>",
        escape(app.name)
    );
    for scope in ask.scopes.names(ask.platform) {
        let _ = write!(body, "<li><code>{}</code></li>", escape(scope));
    }
    body.push_str("</ul><p>Log in as</p>");
    for (index, persona) in personas.iter().enumerate() {
        let checked = chosen.map_or(index == 0, |chosen| chosen == persona.name);
        let _ = write!(
            body,
            "<label class=\"persona\"><input type=\"radio\" name=\"persona\" value=\"{name}\"{}><img src=\"{}\" alt=\"\">\
             <span><b>{}</b> <span class=\"soft\">@{name}</span><br><span class=\"soft small\">{}</span></span></label>",
            if checked { " checked" } else { "" },
            avatar_url(&persona.name),
            escape(&persona.display_name),
            escape(&persona.note),
            name = escape(&persona.name),
        );
    }
    body.push_str(
        "<div class=\"buttons\"><button class=\"main\" name=\"decision\" value=\"approve\">Authorize</button>\
         <button name=\"decision\" value=\"deny\">Deny</button></div></form></main></body>",
    );
    page(&format!("Authorize on {network}"), &body)
}

/// How many top-level objects of a network are shown.
const SHOWN: usize = 100;

/// `/`: what was published, newest first, one column per network.
pub(crate) fn timeline(world: &World, query: Option<&str>) -> Answer {
    let query = Pairs::parse(query.unwrap_or_default().as_bytes());
    let only = query.get("platform").and_then(Platform::parse);
    let mut body = format!(
        "<body data-revision=\"{}\"><header><h1>Sandbox</h1><span class=\"soft\">what became visible</span>\
         <a class=\"small\" href=\"/\">all</a> <a class=\"small\" href=\"/?platform=x\">X</a> \
         <a class=\"small\" href=\"/?platform=linkedin\">LinkedIn</a> <a class=\"small\" href=\"/_sandbox/ledger\">ledger</a> \
         <a class=\"small\" href=\"/_sandbox/requests\">requests</a></header><main>",
        world.ledger.revision()
    );
    for platform in Platform::ALL.into_iter().filter(|platform| only.is_none_or(|only| only == *platform)) {
        let newest = world.ledger.newest(10 * SHOWN, |entry| entry.platform == platform.as_str());
        let answers = answers(&newest);
        let known: HashSet<&str> = newest.iter().map(|entry| &*entry.id).collect();
        let mut shown = 0;
        let _ = write!(body, "<section><h2>{}</h2>", platform.title());
        for entry in &newest {
            let parent_shown = entry.in_reply_to.as_deref().is_some_and(|parent| known.contains(parent));
            if !parent_shown && shown < SHOWN {
                shown += 1;
                card(&mut body, entry, &answers, 0);
            }
        }
        if shown == 0 {
            body.push_str("<p class=\"card soft\">Nothing yet.</p>");
        }
        body.push_str("</section>");
    }
    body.push_str("</main><script src=\"/_sandbox/live.js\"></script></body>");
    guarded(answer::html(200, page("Sandbox", &body)))
}

/// The script as its own file, so that no inline script is needed.
pub(crate) fn live_script() -> Answer {
    answer::bytes(200, "text/javascript; charset=utf-8", Bytes::from_static(LIVE.as_bytes()))
}

/// One object with its answers, or 404.
pub(crate) fn object(world: &World, index: Option<usize>) -> Answer {
    let Some(entry) = index.and_then(|index| world.ledger.get(index)) else {
        return guarded(answer::html(404, message("Not found", "This page doesn't exist.")));
    };
    if entry.deleted_at.is_some() {
        return guarded(answer::html(404, message("Not found", "This post was deleted.")));
    }
    let nearby = world.ledger.newest(10 * SHOWN, |other| other.platform == entry.platform);
    let mut body = String::from("<body><header><h1><a href=\"/\">Sandbox</a></h1></header><main class=\"one\">");
    card(&mut body, &entry, &answers(&nearby), 0);
    body.push_str("</main></body>");
    guarded(answer::html(200, page(&format!("{} in the sandbox", entry.handle), &body)))
}

/// Objects by what they answer, oldest first.
fn answers(newest: &[LedgerEntry]) -> HashMap<&str, Vec<&LedgerEntry>> {
    let mut map: HashMap<&str, Vec<&LedgerEntry>> = HashMap::new();
    for entry in newest.iter().rev() {
        if let Some(parent) = &entry.in_reply_to {
            map.entry(parent).or_default().push(entry);
        }
    }
    map
}

fn permalink(entry: &LedgerEntry) -> Option<String> {
    match (&*entry.platform, &*entry.kind) {
        ("x", _) => Some(format!("/x/{}/status/{}", entry.handle, entry.id)),
        ("linkedin", "comment") => None,
        ("linkedin", _) => Some(format!("/linkedin/feed/update/{}/", entry.id)),
        _ => None,
    }
}

fn card(out: &mut String, entry: &LedgerEntry, answers: &HashMap<&str, Vec<&LedgerEntry>>, depth: usize) {
    let gone = if entry.deleted_at.is_some() { " gone" } else { "" };
    let class = if depth == 0 { "card" } else { "answer" };
    let _ = write!(
        out,
        "<article class=\"{class}{gone}\"><div class=\"who\"><img src=\"{}\" alt=\"\"><div><b>{}<span class=\"badge\">{}</span>{}</b>\
         <span class=\"soft small\">{}</span></div></div>",
        avatar_url(&entry.handle),
        escape(&entry.handle),
        escape(&entry.kind),
        if gone.is_empty() { "" } else { "<span class=\"badge warn\">deleted</span>" },
        escape(&entry.created_at.strftime("%Y-%m-%d %H:%M:%S UTC").to_string()),
    );
    if !entry.text.is_empty() {
        let _ = write!(out, "<p class=\"text\">{}</p>", with_links(&entry.text));
    }
    if !entry.media.is_empty() {
        out.push_str("<div class=\"media\">");
        for media in &entry.media {
            figure(out, media);
        }
        out.push_str("</div>");
    }
    if let Some(details) = &entry.details {
        particulars(out, details);
    }
    match permalink(entry) {
        Some(link) => {
            let _ = write!(out, "<a class=\"small soft\" href=\"{}\">{}</a>", escape(&link), escape(&entry.id));
        }
        None => {
            let _ = write!(out, "<span class=\"small soft\">{}</span>", escape(&entry.id));
        }
    }
    if let Some(list) = answers.get(&*entry.id).filter(|_| depth < 30) {
        out.push_str("<div class=\"answers\">");
        for answer in list {
            card(out, answer, answers, depth + 1);
        }
        out.push_str("</div>");
    }
    out.push_str("</article>");
}

fn with_links(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for piece in text.split_inclusive(char::is_whitespace) {
        let word = piece.trim_end();
        if is_web(word) {
            let link = escape(word);
            let _ = write!(out, "<a href=\"{link}\" rel=\"noreferrer\">{link}</a>{}", escape(&piece[word.len()..]));
        } else {
            out.push_str(&escape(piece));
        }
    }
    out
}

fn is_web(link: &str) -> bool {
    link.starts_with("https://") || link.starts_with("http://")
}

fn figure(out: &mut String, media: &LedgerMedia) {
    let alt = media.alt_text.as_deref().unwrap_or_default();
    let url = escape(&media.url);
    let whole = media.bytes <= crate::media::KEEP_WHOLE;
    out.push_str("<figure>");
    let _ = match media.kind.as_str() {
        "image" | "gif" if whole => write!(out, "<img src=\"{url}\" alt=\"{}\" loading=\"lazy\">", escape(alt)),
        "video" if whole => write!(out, "<video src=\"{url}\" controls preload=\"metadata\"></video>"),
        "document" if whole => write!(out, "<a class=\"box\" href=\"{url}\">document</a>"),
        kind => write!(out, "<div class=\"box\">{} too large to be kept</div>", escape(kind)),
    };
    let title = media.title.as_deref().map(|title| format!("{} · ", escape(title))).unwrap_or_default();
    let described = if alt.is_empty() { String::new() } else { format!(" · “{}”", escape(alt)) };
    let _ = write!(
        out,
        "<figcaption>{title}{} · {} bytes{described}</figcaption></figure>",
        escape(&media.mime),
        media.bytes
    );
}

/// Poll, article, reshared object and labels.
fn particulars(out: &mut String, details: &Value) {
    if let Some(poll) = details.get("poll") {
        out.push_str("<div class=\"box\">");
        if let Some(question) = poll["question"].as_str() {
            let _ = write!(out, "<b>{}</b>", escape(question));
        }
        for option in poll["options"].as_array().into_iter().flatten() {
            let label = option.as_str().or_else(|| option["text"].as_str()).unwrap_or_default();
            let _ = write!(out, "<div class=\"option\">{}</div>", escape(label));
        }
        out.push_str("</div>");
    }
    if let Some(article) = details.get("article") {
        let source = article["source"].as_str().unwrap_or_default();
        let title = escape(article["title"].as_str().unwrap_or(source));
        let _ = write!(out, "<div class=\"box\"><b>{title}</b>");
        if let Some(description) = article["description"].as_str() {
            let _ = write!(out, "<br><span class=\"small\">{}</span>", escape(description));
        }
        if is_web(source) {
            let _ = write!(out, "<br><a class=\"small\" href=\"{0}\" rel=\"noreferrer\">{0}</a>", escape(source));
        }
        out.push_str("</div>");
    }
    for (name, label) in
        [("quoted", "quotes"), ("reposted", "reposts"), ("reshared", "reshares"), ("replaces", "replaces")]
    {
        if let Some(id) = details[name].as_str() {
            let _ = write!(out, "<div class=\"box small\">{label} {}</div>", escape(id));
        }
    }
    for (name, label) in [
        ("truncated", "cut off at an unescaped reserved character"),
        ("made_with_ai", "made with AI"),
        ("paid_partnership", "paid partnership"),
        ("earlier_texts", "edited"),
    ] {
        if details.get(name).is_some() {
            let _ = write!(out, "<span class=\"badge\">{label}</span> ");
        }
    }
    if let Some(visibility) = details["visibility"].as_str().filter(|visibility| *visibility != "PUBLIC") {
        let _ = write!(out, "<span class=\"badge\">{}</span> ", escape(visibility));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn markup_in_a_text_stays_text() {
        let shown = with_links("<script>\"'&\nhttps://example.com/\"><b> javascript:alert(1)");
        assert!(!shown.contains('<') || shown.matches('<').count() == 2, "{shown}");
        assert!(shown.contains("&lt;script&gt;&quot;&#39;&amp;"), "{shown}");
        assert!(!shown.contains("href=\"javascript"), "{shown}");
    }
}
