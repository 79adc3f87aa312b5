//! LinkedIn's little text: what a reader sees of a commentary, and how it comes back when it is read.

/// A commentary after the network has read it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Parsed {
    /// What a reader sees.
    pub(crate) visible: String,
    /// What a read returns: hashtags as templates.
    pub(crate) stored: String,
    /// An unescaped reserved character cut the text off. The network says nothing about it.
    pub(crate) truncated: bool,
    /// Length in characters of the visible text, of the whole text even if it was cut off.
    pub(crate) length: usize,
}

const RESERVED: &str = "|{}@[]()<>#\\*_~";

pub(crate) fn parse(commentary: &str) -> Parsed {
    let mut visible = String::with_capacity(commentary.len());
    let mut stored = String::with_capacity(commentary.len());
    let mut rest = commentary;
    let mut truncated = false;
    while let Some(first) = rest.chars().next() {
        if !RESERVED.contains(first) {
            visible.push(first);
            stored.push(first);
            rest = &rest[first.len_utf8()..];
            continue;
        }
        let starts_word = !visible.chars().next_back().is_some_and(char::is_alphanumeric);
        let element = match first {
            '\\' => escaped(rest),
            '#' if starts_word => hashtag(rest),
            '{' => template(rest),
            '@' => mention(rest),
            _ => None,
        };
        let Some(element) = element else {
            truncated = true;
            break;
        };
        visible.push_str(&element.visible);
        stored.push_str(&element.stored);
        rest = &rest[element.length..];
    }
    let length =
        if truncated { commentary.chars().count() - commentary.matches('\\').count() } else { visible.chars().count() };
    Parsed { visible, stored, truncated, length }
}

struct Element {
    visible: String,
    stored: String,
    /// Bytes of the input that it takes.
    length: usize,
}

fn escaped(text: &str) -> Option<Element> {
    let character = text[1..].chars().next().filter(|next| RESERVED.contains(*next))?;
    Some(Element { visible: character.to_string(), stored: text[..2].to_owned(), length: 2 })
}

/// `#word`; an underscore in the word is escaped.
fn hashtag(text: &str) -> Option<Element> {
    let (word, length) = word(&text[1..]);
    if !word.chars().next().is_some_and(char::is_alphanumeric) {
        return None;
    }
    Some(tag(&word, 1 + length))
}

fn word(text: &str) -> (String, usize) {
    let mut word = String::new();
    let mut at = 0;
    loop {
        let rest = &text[at..];
        if rest.starts_with("\\_") {
            word.push('_');
            at += 2;
        } else if let Some(next) = rest.chars().next().filter(|next| next.is_alphanumeric()) {
            word.push(next);
            at += next.len_utf8();
        } else {
            return (word, at);
        }
    }
}

fn tag(word: &str, length: usize) -> Element {
    let stored = format!("{{hashtag|\\#|{}}}", word.replace('_', "\\_"));
    Element { visible: format!("#{word}"), stored, length }
}

/// `{hashtag|\#|word}`, also with a bare `#` in the middle.
fn template(text: &str) -> Option<Element> {
    let start = ["{hashtag|\\#|", "{hashtag|#|"].into_iter().find(|start| text.starts_with(start))?;
    let (word, length) = word(&text[start.len()..]);
    let end = start.len() + length;
    (!word.is_empty() && text[end..].starts_with('}')).then(|| tag(&word, end + 1))
}

/// `@[Name](urn:li:person:id)`
fn mention(text: &str) -> Option<Element> {
    let inner = text.strip_prefix("@[")?;
    let mut name = String::new();
    let mut at = 0;
    loop {
        let next = inner[at..].chars().next()?;
        match next {
            ']' => break,
            '\\' => {
                let element = escaped(&inner[at..])?;
                name.push_str(&element.visible);
                at += 2;
            }
            other => {
                name.push(other);
                at += other.len_utf8();
            }
        }
    }
    let target = inner[at + 1..].strip_prefix('(')?;
    let close = target.find(')')?;
    let urn = &target[..close];
    let id = urn.strip_prefix("urn:li:person:").or_else(|| urn.strip_prefix("urn:li:organization:"))?;
    if name.is_empty() || id.is_empty() {
        return None;
    }
    let length = "@[".len() + at + "](".len() + close + 1;
    Some(Element { visible: name, stored: text[..length].to_owned(), length })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commentary_is_read_as_the_network_reads_it() {
        let cases = [
            ("plain text\nsecond line", "plain text\nsecond line", false),
            (r"a \(b\) \\ \*c\* \_d\_ \~", r"a (b) \ *c* _d_ ~", false),
            ("nice #rust and #1st", "nice #rust and #1st", false),
            (r"{hashtag|\#|rust} {hashtag|#|two}", "#rust #two", false),
            (r"#snake\_case", "#snake_case", false),
            ("hi @[Ada Lovelace](urn:li:person:abc)!", "hi Ada Lovelace!", false),
            (r"@[A \[B\]](urn:li:organization:1)", "A [B]", false),
            ("cut (here) and away", "cut ", true),
            ("C# is cut", "C", true),
            ("mail ada@example.com", "mail ada", true),
            ("lonely # sign", "lonely ", true),
            ("snake_case", "snake", true),
            (r"back\slash", "back", true),
            ("trailing \\", "trailing ", true),
            ("{other|x}", "", true),
        ];
        for (commentary, visible, truncated) in cases {
            let parsed = parse(commentary);
            assert_eq!((parsed.visible.as_str(), parsed.truncated), (visible, truncated), "{commentary}");
        }
    }

    #[test]
    fn hashtags_come_back_as_templates() {
        assert_eq!(parse(r"a #b\_c \#d").stored, r"a {hashtag|\#|b\_c} \#d");
    }
}
