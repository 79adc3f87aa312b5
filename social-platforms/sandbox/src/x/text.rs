//! How X counts, and what it finds in a text: links, mentions, cashtags.

use std::ops::Range;
use unicode_normalization::{IsNormalized, UnicodeNormalization, is_nfc_quick};
use unicode_segmentation::UnicodeSegmentation;

/// What X sees in a text.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Analysis {
    /// Weighted length in characters, each link as 23.
    pub(crate) weighted: usize,
    /// False if there are characters that X never takes.
    pub(crate) allowed: bool,
    /// Byte ranges of links.
    pub(crate) links: Vec<Range<usize>>,
    pub(crate) cashtags: usize,
}

const LINK_WEIGHT: usize = 23;

/// The text as X keeps it: NFC.
pub(crate) fn composed(text: &str) -> String {
    match is_nfc_quick(text.chars()) {
        IsNormalized::Yes => text.to_owned(),
        _ => text.nfc().collect(),
    }
}

/// Expects composed text.
pub(crate) fn analyse(text: &str) -> Analysis {
    let links = if text.contains('.') { links(text) } else { Vec::new() };
    let mut weighted = links.len() * LINK_WEIGHT;
    let mut from = 0;
    for link in &links {
        weighted += weigh(&text[from..link.start]);
        from = link.end;
    }
    weighted += weigh(&text[from..]);
    Analysis {
        weighted,
        allowed: !text.contains(['\u{FFFE}', '\u{FEFF}', '\u{FFFF}']),
        links,
        cashtags: if text.contains('$') { cashtags(text) } else { 0 },
    }
}

fn weigh(text: &str) -> usize {
    if text.is_ascii() {
        return text.len();
    }
    text.graphemes(true).map(|cluster| if is_emoji(cluster) { 2 } else { cluster.chars().map(weight).sum() }).sum()
}

fn weight(character: char) -> usize {
    match u32::from(character) {
        0..=4_351 | 8_192..=8_205 | 8_208..=8_223 | 8_242..=8_247 => 1,
        _ => 2,
    }
}

/// Whether a grapheme cluster is one emoji, however many code points it has.
fn is_emoji(cluster: &str) -> bool {
    let Some(first) = cluster.chars().next().map(u32::from) else { return false };
    if cluster.contains('\u{20E3}') {
        return matches!(first, 0x23 | 0x2A | 0x30..=0x39);
    }
    if cluster.contains('\u{FE0E}') {
        return false;
    }
    match first {
        0xA9 | 0xAE => cluster.contains('\u{FE0F}'),
        0x203C | 0x2049 | 0x2122 | 0x2139 | 0x2194..=0x2199 | 0x21A9 | 0x21AA | 0x24C2 => true,
        0x231A..=0x23FF | 0x25AA..=0x25FE | 0x2600..=0x27BF | 0x2934 | 0x2935 | 0x2B05..=0x2B55 => true,
        0x3030 | 0x303D | 0x3297 | 0x3299 => true,
        0x1F000..=0x1FAFF => true,
        _ => false,
    }
}

fn cashtags(text: &str) -> usize {
    let mut count = 0;
    let mut before = ' ';
    for (at, character) in text.char_indices() {
        if character == '$' && before.is_whitespace() {
            let rest = &text[at + 1..];
            let letters = rest.bytes().take_while(u8::is_ascii_alphabetic).count();
            let ends = rest[letters..].chars().next().is_none_or(|next| !next.is_alphanumeric() && next != '_');
            count += usize::from((1..=6).contains(&letters) && ends);
        }
        before = character;
    }
    count
}

/// Usernames that a text mentions, in lower case.
pub(crate) fn mentions(text: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut before = ' ';
    for (at, character) in text.char_indices() {
        if character == '@' && !(before.is_alphanumeric() || "_@/.".contains(before)) {
            let name: String =
                text[at + 1..].chars().take_while(|next| next.is_ascii_alphanumeric() || *next == '_').collect();
            if (1..=15).contains(&name.len()) {
                found.push(name.to_ascii_lowercase());
            }
        }
        before = character;
    }
    found
}

fn links(text: &str) -> Vec<Range<usize>> {
    let mut found = Vec::new();
    let mut at = 0;
    let mut before = None;
    while at < text.len() {
        let rest = &text[at..];
        if let Some(length) = link_at(rest, before) {
            found.push(at..at + length);
            before = rest[..length].chars().next_back();
            at += length;
            continue;
        }
        let Some(character) = rest.chars().next() else { break };
        before = Some(character);
        at += character.len_utf8();
    }
    found
}

/// Length in bytes of the link that starts here.
fn link_at(rest: &str, before: Option<char>) -> Option<usize> {
    let joins =
        |character: char| character.is_ascii_alphanumeric() || is_latin(character) || "@＠$#＃".contains(character);
    if before.is_some_and(joins) {
        return None;
    }
    let scheme = ["https://", "http://"]
        .into_iter()
        .find(|scheme| rest.get(..scheme.len()).is_some_and(|start| start.eq_ignore_ascii_case(scheme)))
        .map_or(0, str::len);
    if scheme == 0 && before.is_some_and(|character| "-_./".contains(character)) {
        return None;
    }
    let host = host_length(&rest[scheme..], scheme > 0)?;
    let mut end = scheme + host;
    let after = &rest[end..];
    if scheme == 0 && after.starts_with(['@', '+']) {
        return None;
    }
    if let Some(slug) = after.strip_prefix('/').filter(|_| rest[scheme..end].eq_ignore_ascii_case("t.co")) {
        // X's own short links end with their slug.
        let length = slug.bytes().take_while(u8::is_ascii_alphanumeric).count();
        return (length <= 40).then_some(end + if length > 0 { 1 + length } else { 0 });
    }
    if let Some(port) = after.strip_prefix(':') {
        let digits = port.bytes().take_while(u8::is_ascii_digit).count();
        end += if digits > 0 { digits + 1 } else { 0 };
    }
    if rest[end..].starts_with('/') {
        end += tail_length(&rest[end..], false);
    }
    if rest[end..].starts_with('?') {
        end += tail_length(&rest[end..], true);
    }
    (end <= 4_096).then_some(end)
}

fn host_length(text: &str, with_scheme: bool) -> Option<usize> {
    let allowed = |character: char| {
        character.is_ascii_alphanumeric()
            || "-_.".contains(character)
            || is_latin(character)
            || (with_scheme && character.is_alphanumeric())
    };
    let run = text.find(|character| !allowed(character)).unwrap_or(text.len());
    let mut best = None;
    let mut from = 0;
    // The label before the current one; an underscore is allowed further to the left only.
    let mut domain = "";
    for (count, label) in text[..run].split('.').enumerate() {
        if label.is_empty() || ascii_length(label) > 63 || label.starts_with(['-', '_']) {
            break;
        }
        // Letters of another script may follow a domain without a space.
        let ascii = label.bytes().take_while(u8::is_ascii_alphanumeric).count();
        if count > 0 && !domain.contains('_') {
            if is_tld(label) {
                best = Some(from + label.len());
            } else if ascii < label.len()
                && label[ascii..].starts_with(|next: char| !next.is_ascii())
                && is_tld(&label[..ascii])
            {
                best = Some(from + ascii);
            }
        }
        if label.ends_with(['-', '_']) {
            break;
        }
        domain = label;
        from += label.len() + 1;
    }
    best
}

/// Length of a domain label in its ASCII form.
fn ascii_length(label: &str) -> usize {
    if label.is_ascii() {
        return label.len();
    }
    let host = url::Url::parse(&format!("http://{label}.com/")).ok();
    host.as_ref().and_then(url::Url::host_str).map_or(usize::MAX, |host| host.len().saturating_sub(".com".len()))
}

/// Length of a path or query, without punctuation that belongs to the sentence.
fn tail_length(text: &str, query: bool) -> usize {
    let allowed = |character: char| {
        character.is_ascii_alphanumeric()
            || "!*';:=+,.$/%#[]-_~@|&".contains(character)
            || (query && "?()".contains(character))
            || (!query && (is_latin(character) || matches!(u32::from(character), 0x400..=0x4FF | 0x2013)))
    };
    let mut open = 0_usize;
    let mut end = 0;
    let mut last_good = 0;
    for (at, character) in text.char_indices() {
        let first = at == 0;
        let balanced = match character {
            '(' if !query => {
                open += 1;
                true
            }
            ')' if !query && open > 0 => {
                open -= 1;
                true
            }
            _ => false,
        };
        if !first && !balanced && !allowed(character) {
            break;
        }
        end = at + character.len_utf8();
        let closes = character == ')' && balanced && open == 0;
        if character.is_alphanumeric() || "=_#/-+&".contains(character) || closes {
            last_good = end;
        }
    }
    debug_assert!(last_good <= end, "a link cannot end behind its text");
    last_good
}

/// Latin letters with marks.
fn is_latin(character: char) -> bool {
    matches!(u32::from(character), 0xC0..=0x24F) && character.is_alphabetic()
}

fn is_tld(label: &str) -> bool {
    if label.is_ascii() {
        let lower = label.to_ascii_lowercase();
        return lower.starts_with("xn--") || COUNTRIES.split(' ').chain(GENERIC.split(' ')).any(|tld| tld == lower);
    }
    OTHER_SCRIPTS.split(' ').any(|tld| tld == label)
}

/// Top-level domains of countries.
const COUNTRIES: &str = "ac ad ae af ag ai al am an ao aq ar as at au aw ax az ba bb bd be bf bg bh bi bj bl bm bn bo bq br bs \
bt bv bw by bz ca cc cd cf cg ch ci ck cl cm cn co cr cu cv cw cx cy cz de dj dk dm do dz ec ee eg eh er es et eu fi fj fk fm fo \
fr ga gb gd ge gf gg gh gi gl gm gn gp gq gr gs gt gu gw gy hk hm hn hr ht hu id ie il im in io iq ir is it je jm jo jp ke kg kh ki \
km kn kp kr kw ky kz la lb lc li lk lr ls lt lu lv ly ma mc md me mf mg mh mk ml mm mn mo mp mq mr ms mt mu mv mw mx my mz na nc ne \
nf ng ni nl no np nr nu nz om pa pe pf pg ph pk pl pm pn pr ps pt pw py qa re ro rs ru rw sa sb sc sd se sg sh si sj sk sl sm sn so \
sr ss st su sv sx sy sz tc td tf tg th tj tk tl tm tn to tp tr tt tv tw tz ua ug uk um us uy uz va vc ve vg vi vn vu wf ws ye yt za \
zm zw";

/// The generic top-level domains that people write without a scheme.
const GENERIC: &str = "com org net edu gov mil int info biz name pro aero coop museum mobi jobs travel tel cat asia post xxx arpa \
academy agency app art audio band bank bar best bet bike blog blue boutique build builders business buzz cafe camera camp capital \
care careers cash center chat church city clinic cloud club coach codes coffee community company computer construction consulting \
cool credit dance date deals delivery design dev diamonds digital direct directory doctor dog domains download earth education \
email energy engineer engineering enterprises equipment estate events exchange expert express family fans farm fashion film finance \
financial fish fit fitness flights florist fm football foundation fun fund fyi gallery game games garden gift gifts global gold golf \
google graphics green group guide guru haus health help holdings holiday host hosting house how immo inc ink institute insure \
international investments jewelry kitchen land law lawyer legal life lighting limited link live loan lol love ltd management market \
marketing media meme menu money movie music network news ninja one online page paris partners parts party pet pharmacy photo \
photography photos pics pictures pink pizza place plumbing plus poker press productions properties property pub quest radio recipes \
red rent repair report rest restaurant review reviews rocks run sale salon school science services shoes shop shopping show singles \
site ski social software solar solutions space store stream studio style supply support surf systems tax taxi team tech technology \
tennis theater tips tires today tools top tours town toys trade training tube university vacations ventures vet video villas vin \
vip vision vodka vote voyage watch webcam website wedding wiki win wine work works world wtf xyz yoga zone";

const OTHER_SCRIPTS: &str = "ελ ευ бг бел ею мкд мон рф срб укр қаз հայ الاردن البحرين الجزائر السعودية المغرب امارات ایران بارت \
بھارت تونس سودان سورية عراق عمان فلسطين قطر مصر مليسيا موريتانيا پاکستان ڀارت भारत भारतम् भारोत \
বাংলা ভারত ভাৰত ਭਾਰਤ ભારત ଭାରତ இந்தியா இலங்கை சிங்கப்பூர் భారత్ ಭಾರತ ഭാരതം ලංකා ไทย ລາວ გე 中国 中國 台湾 \
台灣 新加坡 澳門 香港 한국 дети ком онлайн орг сайт कॉम संगठन みんな コム 中文网 公司 公益 在线 网址 网络 닷넷 닷컴";

#[cfg(test)]
mod tests {
    use super::*;

    fn weighted(text: &str) -> usize {
        analyse(&composed(text)).weighted
    }

    #[test]
    fn texts_are_weighed_as_x_does() {
        let family = "👨‍👩‍👧‍👦";
        let cases = [
            ("Hi http://test.co", 26),
            ("http://test.co", 23),
            ("故", 2),
            (family, 2),
            ("🏳️‍🌈", 2),
            ("👍🏽", 2),
            ("1️⃣", 2),
            ("🇩🇪", 2),
            ("©", 1),
            ("é", 1),
            ("e\u{301}", 1),
            ("see example.com/a_(b) ok", 30),
            ("see example.com.", 28),
            ("no-link file.unknowntld", 23),
            ("mail me@example.com", 19),
            ("漢字example.com漢字", 31),
            ("https://example.com/?q=1, and more", 33),
            ("https://EXAMPLE.com:8080/p?a=b#c", 23),
            ("\u{202A}a\u{202C}", 5),
            ("http://t.co/abc's", 25),
            ("http://under_score.com", 22),
            ("ELPAÍS.com", 23),
            ("http://foobar.پاکستان/", 23),
            (&format!("http://{}.com", "あ".repeat(70)), 151),
        ];
        for (text, expected) in cases {
            assert_eq!(weighted(text), expected, "{text}");
        }
        assert_eq!(weighted(&family.repeat(140)), 280);
    }

    #[test]
    fn cashtags_and_mentions_are_found_at_word_starts_only() {
        assert_eq!(analyse("$ABC and $DEF, US$ABC $12").cashtags, 2);
        assert_eq!(mentions("@Ada hi a@grace (@linus) @"), ["ada", "linus"]);
    }
}
