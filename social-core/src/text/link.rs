//! Finds links the way twitter-text does: with a scheme, or without one before a known top level domain.
//!
//! The network's own finder is a regular expression that backtracks. This is the same language as a scanner that looks at
//! each character a bounded number of times, so that no text can make it slow.

use std::collections::HashMap;
use std::sync::LazyLock;

use idna::punycode;

use super::chars::{Scan, is_cyrillic, is_directional, is_domain_char, is_invalid, is_latin_accent};

/// Longer links are not links to the network.
const MAX_URL_UTF16: usize = 4096;
const MAX_LABEL: usize = 63;
/// Host names longer than this do not exist in DNS; whether the network counts them as links is not documented.
const MAX_HOST: usize = 253;
const MAX_TCO_SLUG: usize = 40;
const PUNYCODE_PREFIX: &str = "xn--";

/// A link in characters of the scanned text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Link {
    pub(super) start: usize,
    pub(super) end: usize,
    /// False when it depends on the age of the network's list of top level domains whether this is a link.
    pub(super) certain: bool,
}

/// All links of the text, in order and without overlaps.
pub(super) fn find(scan: &Scan) -> Vec<Link> {
    if !scan.chars.contains(&'.') {
        return Vec::new();
    }
    let hosts = Hosts::new(scan);
    let mut found = Vec::new();
    let mut at = 0;
    while at < scan.len() {
        // A link needs a character before it, which must not be taken by the previous link, or the start of the text.
        let candidate = Some(scan.chars[at])
            .filter(|c| may_precede(*c))
            .and_then(|before| Candidate::at(scan, &hosts, at + 1, Some(before)))
            .or_else(|| if at == 0 { Candidate::at(scan, &hosts, 0, None) } else { None });
        match candidate {
            Some(candidate) => {
                at = candidate.end;
                candidate.accept(scan, &mut found);
            }
            None => at += 1,
        }
    }
    found
}

fn may_precede(c: char) -> bool {
    is_directional(c) || !(c.is_ascii_alphanumeric() || matches!(c, '@' | '＠' | '$' | '#' | '＃') || is_invalid(c))
}

/// Something of the shape of a link, before its host name is looked at closely.
struct Candidate {
    before: Option<char>,
    start: usize,
    /// Where the host begins: after the scheme, or `start` when there is none.
    host: usize,
    host_end: usize,
    /// Where what follows the port begins.
    path: usize,
    path_end: usize,
    end: usize,
    certain: bool,
}

impl Candidate {
    fn at(scan: &Scan, hosts: &Hosts, start: usize, before: Option<char>) -> Option<Self> {
        let scheme =
            ["http://", "https://"].into_iter().find(|scheme| scan.starts_with(start, scheme)).map_or(0, str::len);
        let (host, tld) = match hosts.longest_at(scan, start + scheme) {
            Some(tld) => (start + scheme, tld),
            None if scheme > 0 => (start, hosts.longest_at(scan, start)?),
            None => return None,
        };
        let path = port_end(scan, tld.end);
        let path_end = path_end(scan, path);
        let end = query_end(scan, path_end);
        Some(Self { before, start, host, host_end: tld.end, path, path_end, end, certain: tld.certain })
    }

    fn accept(&self, scan: &Scan, found: &mut Vec<Link>) {
        if scan.utf16(self.end) - scan.utf16(self.start) > MAX_URL_UTF16 {
            return;
        }
        let Some(host_length) = encoded_length(&scan.chars[self.host..self.host_end]) else { return };
        let certain = self.certain && host_length <= MAX_HOST;
        let plain_hosts = plain_hosts(scan, self.host, self.host_end);
        if scan.chars[self.host..].starts_with(&['x', 'n', '-', '-']) && plain_hosts.is_empty() {
            return; // claims to be encoded and is not
        }
        if self.host > self.start {
            self.accept_with_scheme(scan, certain, found);
        } else if !matches!(self.before, Some('-' | '_' | '.' | '/')) {
            // Without a scheme only the plain parts are links; a path belongs to the last of them.
            let last = plain_hosts.len().saturating_sub(1);
            for (i, mut link) in plain_hosts.into_iter().enumerate() {
                if i == last && self.path_end > self.path {
                    link.end = self.end;
                }
                link.certain &= host_length <= MAX_HOST;
                found.push(link);
            }
        }
    }

    fn accept_with_scheme(&self, scan: &Scan, certain: bool, found: &mut Vec<Link>) {
        let mut end = self.end;
        let host = &scan.chars[self.host..self.host_end];
        if host.len() == 4
            && scan.starts_with(self.host, "t.co")
            && self.path == self.host_end
            && self.path_end > self.path
        {
            // The network's own short links end where their slug ends, whatever is written behind.
            let slug = self.path + 1;
            let slug_end = scan.run(slug, self.path_end, |c| c.is_ascii_alphanumeric());
            if slug_end - slug > MAX_TCO_SLUG {
                return;
            }
            if slug_end > slug {
                end = query_end(scan, slug_end);
            }
        }
        found.push(Link { start: self.start, end, certain });
    }
}

/// Where a top level domain ends.
#[derive(Debug, Clone, Copy)]
struct Tld {
    end: usize,
    certain: bool,
}

/// A stretch between dots (or other ends) in which a host name label may lie.
struct Run {
    end: usize,
    /// Whether it is a label as a whole: begins and ends with a character that a label may begin and end with.
    label: bool,
    underscore: Option<usize>,
    /// The top level domain at its beginning.
    tld: Option<Tld>,
    dot: bool,
    /// The farthest top level domain that a host beginning in this run can reach over at least one whole label.
    far: Option<Tld>,
}

/// For every position the longest host name that begins there, computed once for the whole text.
struct Hosts {
    runs: Vec<Run>,
    /// The run of each character.
    of: Vec<Option<usize>>,
}

impl Hosts {
    fn new(scan: &Scan) -> Self {
        let mut hosts = Self { runs: Vec::new(), of: vec![None; scan.len()] };
        let in_run = |c: char| is_domain_char(c) || matches!(c, '-' | '_');
        let mut at = 0;
        let mut after_dot = false;
        while at < scan.len() {
            let start = at;
            at = scan.run(start, scan.len(), in_run);
            if at == start && !after_dot && scan.chars[at] != '.' {
                at += 1;
                continue;
            }
            let dot = scan.at(at) == Some('.');
            let underscore = (start..at).rev().find(|&i| scan.chars[i] == '_');
            let label = at > start && is_domain_char(scan.chars[start]) && is_domain_char(scan.chars[at - 1]);
            hosts.of[start..at].fill(Some(hosts.runs.len()));
            hosts.runs.push(Run { end: at, label, underscore, tld: tld_at(scan, start, scan.len()), dot, far: None });
            after_dot = dot;
            at += 1;
        }
        for i in (0..hosts.runs.len().saturating_sub(1)).rev() {
            let (run, next) = (&hosts.runs[i], &hosts.runs[i + 1]);
            if run.dot && next.label {
                let near = if next.dot && next.underscore.is_none() {
                    hosts.runs.get(i + 2).and_then(|r| r.tld)
                } else {
                    None
                };
                hosts.runs[i].far = next.far.or(near);
            }
        }
        hosts
    }

    /// The top level domain of the longest host that begins at `start`.
    fn longest_at(&self, scan: &Scan, start: usize) -> Option<Tld> {
        let index = (*self.of.get(start)?)?;
        let run = &self.runs[index];
        if !is_domain_char(scan.chars[start]) || !is_domain_char(scan.chars[run.end - 1]) || !run.dot {
            return None;
        }
        // Only labels left of the last one may hold an underscore.
        let plain = run.underscore.is_none_or(|u| u < start);
        run.far.or_else(|| if plain { self.runs.get(index + 1)?.tld } else { None })
    }
}

/// Known names; the value says whether old and new lists agree about it.
static TLDS: LazyLock<HashMap<&'static str, bool>> = LazyLock::new(|| {
    include_str!("tlds.txt")
        .lines()
        .filter(|line| !line.starts_with('#'))
        .map(|line| line.strip_suffix('?').map_or((line, true), |name| (name, false)))
        .collect()
});
const LONGEST_TLD: usize = 24;

/// The longest top level domain that begins at `start`; the text counts as ended at `limit`.
fn tld_at(scan: &Scan, start: usize, limit: usize) -> Option<Tld> {
    let mut name = String::new();
    let mut ends = Vec::new();
    for at in start..limit.min(start + LONGEST_TLD) {
        let c = scan.chars[at];
        if !is_domain_char(c) && c != '-' {
            break;
        }
        name.extend(c.to_lowercase());
        let next = scan.at(at + 1).filter(|_| at + 1 < limit);
        if next.is_none_or(|c| !(c.is_ascii_alphanumeric() || matches!(c, '@' | '+' | '-'))) {
            ends.push((at + 1, name.len()));
        }
    }
    let listed = ends.iter().rev().find_map(|&(end, bytes)| Some(Tld { end, certain: *TLDS.get(&name[..bytes])? }));
    listed.or_else(|| encoded_tld_at(scan, start, limit))
}

fn encoded_tld_at(scan: &Scan, start: usize, limit: usize) -> Option<Tld> {
    let code = start + PUNYCODE_PREFIX.len();
    if !scan.starts_with(start, PUNYCODE_PREFIX) || code >= limit {
        return None;
    }
    let end = scan.run(code, limit, |c| c.is_ascii_alphanumeric() || c == '-');
    if end == code {
        return None;
    }
    let known = (end - code <= MAX_LABEL)
        .then(|| scan.chars[code..end].iter().map(char::to_ascii_lowercase).collect::<String>())
        .and_then(|code| punycode::decode_to_string(&code))
        .and_then(|name| TLDS.get(name.as_str()).copied());
    Some(Tld { end, certain: known == Some(true) })
}

/// The links of Latin letters, digits and hyphens within a host that may hold other scripts around them.
fn plain_hosts(scan: &Scan, start: usize, limit: usize) -> Vec<Link> {
    let plain = |c: char| c.is_ascii_alphanumeric() || c == '-' || is_latin_accent(c);
    let mut found = Vec::new();
    let mut at = start;
    while at < limit {
        let mut cut = scan.run(at, limit, plain);
        let mut best = None;
        let mut labels = at;
        while cut > labels && cut < limit && scan.chars[cut] == '.' {
            labels = cut + 1;
            best = tld_at(scan, labels, limit).or(best);
            cut = scan.run(labels, limit, plain);
        }
        match best {
            Some(tld) => {
                found.push(Link { start: at, end: tld.end, certain: tld.certain });
                at = tld.end;
            }
            None => at = cut.max(at + 1),
        }
    }
    found
}

/// The length of a host as DNS would carry it; `None` when a label is empty or too long.
fn encoded_length(host: &[char]) -> Option<usize> {
    let mut total = 0;
    for label in host.split(|c| *c == '.') {
        // The characters that input methods produce for a dot separate labels when encoding, yet not when the network counts.
        let parts = label.split(|c| matches!(c, '\u{3002}' | '\u{FF0E}' | '\u{FF61}'));
        let mut length = 0;
        for (i, part) in parts.enumerate() {
            length += usize::from(i > 0);
            length += match part {
                _ if part.iter().all(char::is_ascii) => part.len(),
                _ if part.len() > MAX_LABEL => return None,
                _ => PUNYCODE_PREFIX.len() + punycode::encode(part)?.len(),
            };
        }
        if !(1..=MAX_LABEL).contains(&length) {
            return None;
        }
        total += length + 1;
    }
    Some(total.saturating_sub(1))
}

fn port_end(scan: &Scan, at: usize) -> usize {
    if scan.at(at) != Some(':') {
        return at;
    }
    let end = scan.run(at + 1, scan.len(), |c| c.is_ascii_digit());
    if end > at + 1 { end } else { at }
}

fn is_path_char(c: char) -> bool {
    c.is_ascii_alphanumeric() || "!*';:=+,.$/%#[]-\u{2013}_~@|&".contains(c) || is_cyrillic(c) || is_latin_accent(c)
}

fn may_end_path(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '+' | '-' | '=' | '_' | '#' | '/') || is_cyrillic(c) || is_latin_accent(c)
}

/// Parentheses belong to a path in pairs, nested once; punctuation at its end belongs to the sentence.
fn path_end(scan: &Scan, start: usize) -> usize {
    if scan.at(start) != Some('/') {
        return start;
    }
    let mut end = start + 1;
    let mut at = start + 1;
    while let Some(c) = scan.at(at) {
        if c == '(' {
            let Some(closed) = balanced_end(scan, at) else { break };
            at = closed;
            end = closed;
        } else if is_path_char(c) {
            at += 1;
            if may_end_path(c) {
                end = at;
            }
        } else {
            break;
        }
    }
    end
}

/// The end of `(a)`, `(a(b)c)` or `((b))`, if one begins at `start`.
fn balanced_end(scan: &Scan, start: usize) -> Option<usize> {
    let outer = scan.run(start + 1, scan.len(), is_path_char);
    match scan.at(outer)? {
        ')' if outer > start + 1 => Some(outer + 1),
        '(' => {
            let inner = scan.run(outer + 1, scan.len(), is_path_char);
            if inner == outer + 1 || scan.at(inner) != Some(')') {
                return None;
            }
            let rest = scan.run(inner + 1, scan.len(), is_path_char);
            (scan.at(rest) == Some(')')).then_some(rest + 1)
        }
        _ => None,
    }
}

fn query_end(scan: &Scan, start: usize) -> usize {
    if scan.at(start) != Some('?') {
        return start;
    }
    let stop = scan.run(start + 1, scan.len(), |c| c.is_ascii_alphanumeric() || "!?*'@();:&=+$/%#[]-_.,~|".contains(c));
    let ends = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '&' | '=' | '#' | '/');
    (start + 1..stop).rev().find(|&i| ends(scan.chars[i])).map_or(start, |last| last + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn links(text: &str) -> Vec<String> {
        let scan = Scan::new(text);
        find(&scan).iter().map(|l| scan.chars[l.start..l.end].iter().collect()).collect()
    }

    #[test]
    fn the_list_of_names_is_sorted_lower_case_and_fits() {
        let names: Vec<&str> = include_str!("tlds.txt").lines().filter(|l| !l.starts_with('#')).collect();
        let bare: Vec<&str> = names.iter().map(|l| l.trim_end_matches('?')).collect();
        assert!(bare.is_sorted());
        assert!(bare.len() > 1_400, "{}", bare.len());
        for name in bare {
            assert_eq!(name, name.to_lowercase());
            assert!(!name.is_empty() && name.chars().count() <= LONGEST_TLD, "{name}");
        }
    }

    #[test]
    fn a_scheme_is_not_needed_before_a_known_name() {
        assert_eq!(links("see example.com, or x.unknowntld"), ["example.com"]);
        assert_eq!(links("EXAMPLE.COM/Path"), ["EXAMPLE.COM/Path"]);
        assert_eq!(links("HTTPS://EXAMPLE.COM"), ["HTTPS://EXAMPLE.COM"]);
    }

    #[test]
    fn the_sentence_keeps_its_punctuation() {
        assert_eq!(links("(https://example.com/a_(b)_c)."), ["https://example.com/a_(b)_c"]);
        assert_eq!(links("https://example.com/a((b))c"), ["https://example.com/a((b))c"]);
        assert_eq!(links("https://example.com/a?b=c?!"), ["https://example.com/a?b=c"]);
        assert_eq!(links("https://example.com?x=1"), ["https://example.com?x=1"]);
        assert_eq!(links("https://example.com:8080/x"), ["https://example.com:8080/x"]);
        assert_eq!(links("https://example.com: yes"), ["https://example.com"]);
    }

    #[test]
    fn labels_must_be_whole() {
        for text in [
            "http://-a.com",
            "http://a-.com",
            "http://_a.com",
            "http://a_b.com",
            "http://a..com",
            "http://.com",
            "http://a.b-",
        ] {
            assert_eq!(links(text), [""; 0], "{text}");
        }
        assert_eq!(links("http://a_b.c.com"), ["http://a_b.c.com"]);
    }

    #[test]
    fn encoded_names_are_links() {
        assert_eq!(links("http://example.xn--p1ai/"), ["http://example.xn--p1ai/"]);
        assert_eq!(links("http://xn--ls8h.la"), ["http://xn--ls8h.la"]);
        assert_eq!(links("http://xn--故.com"), [""; 0]);
    }

    #[test]
    fn long_texts_take_linear_time() {
        // Each of these is quadratic or worse for a naive matcher and would not end within the patience of a test run.
        for piece in
            ["a.", "a.b-", "あ", "あ.", "a.co/(", "a.co?!", "http://", "xn--", ".", "a_.", "((", "a.com/(a(", "a.a.あ."]
        {
            let text = piece.repeat(400_000 / piece.len());
            let _ = links(&text);
        }
    }
}
