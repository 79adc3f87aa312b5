//! Settings with a shape of their own: origins, return addresses, networks.

use std::{fmt, net::IpAddr, str::FromStr};

use serde::{Deserialize, Deserializer, de};
use url::{Origin, Url};

use super::is_loopback;

/// Web origins whose pages may call the API: exact ones, and patterns with `*` for one run of letters and digits inside a host
/// label, such as `https://shop-*-team.vercel.app`. The same pattern may be written as `^https://shop-[a-z0-9]+-team\.vercel\.app$`.
#[derive(Debug, Clone, Default)]
pub struct AllowedOrigins(Vec<OriginRule>);

#[derive(Debug, Clone)]
enum OriginRule {
    Exact(String),
    Pattern { before: String, after: String },
}

impl AllowedOrigins {
    /// Whether the value of an `Origin` header is allowed, to the letter.
    #[must_use]
    pub fn allows(&self, origin: &str) -> bool {
        self.0.iter().any(|rule| match rule {
            OriginRule::Exact(allowed) => allowed == origin,
            OriginRule::Pattern { before, after } => {
                origin.strip_prefix(before.as_str()).and_then(|rest| rest.strip_suffix(after.as_str())).is_some_and(
                    |run| !run.is_empty() && run.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit()),
                )
            }
        })
    }

    /// Whether no origin is allowed.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl FromStr for OriginRule {
    type Err = String;

    fn from_str(raw: &str) -> Result<Self, String> {
        let plain = match raw.strip_prefix('^') {
            Some(pattern) => {
                let pattern = pattern.strip_suffix('$').ok_or("a pattern must begin with ^ and end with $")?;
                let plain = pattern.replace("[a-z0-9]+", "*").replace("\\.", ".");
                if plain.contains(['[', ']', '(', ')', '+', '?', '\\', '|', '{', '}', '^', '$']) {
                    return Err(format!("the pattern {raw} uses more than [a-z0-9]+ and \\."));
                }
                plain
            }
            None => raw.to_owned(),
        };
        let origin = |text: &str| {
            let url = Url::parse(text).map_err(|_| format!("{raw} is not an origin"))?;
            let http = url.scheme() == "https" || (url.scheme() == "http" && is_loopback(&url));
            let origin = url.origin();
            let bare = matches!(origin, Origin::Tuple(..)) && url.path() == "/" && url.query().is_none();
            let bare = bare && url.fragment().is_none() && url.username().is_empty();
            if http && bare {
                Ok(origin.ascii_serialization())
            } else {
                Err(format!("{raw} is not an https:// origin without a path"))
            }
        };
        let Some((before, after)) = plain.split_once('*') else { return origin(&plain).map(Self::Exact) };
        origin(&format!("{before}x{after}"))?;
        let label_before = before.rsplit(['.', '/']).next().unwrap_or_default();
        let label_after = after.split('.').next().unwrap_or_default();
        // `*.vercel.app` would let in everybody's pages.
        if label_before.is_empty() && label_after.is_empty() || after.contains('*') || !after.contains('.') {
            return Err(format!("{raw} would allow strangers: put your project's name beside the *"));
        }
        Ok(Self::Pattern { before: before.to_owned(), after: after.to_owned() })
    }
}

impl FromStr for AllowedOrigins {
    type Err = String;
    fn from_str(raw: &str) -> Result<Self, String> {
        raw.split(',').map(str::trim).filter(|one| !one.is_empty()).map(str::parse).collect::<Result<_, _>>().map(Self)
    }
}

/// Where a browser may be sent back to: whole origins, or an address with a path and everything below it.
#[derive(Debug, Clone, Default)]
pub struct ReturnUrls(Vec<Url>);

impl ReturnUrls {
    /// The address to send a browser to, if it is a path on `own` or lies in the list. Anything that two programs could read
    /// differently is refused.
    #[must_use]
    pub fn resolve(&self, own: &Url, wanted: &str) -> Option<Url> {
        let odd = |c: char| c.is_control() || c.is_whitespace() || c == '\\';
        if wanted.is_empty() || wanted.len() > 2048 || wanted.contains(odd) {
            return None;
        }
        if wanted.starts_with('/') {
            if wanted.starts_with("//") {
                return None;
            }
            return own.join(wanted).ok().filter(|url| url.origin() == own.origin());
        }
        let url = Url::parse(wanted).ok()?;
        let web = url.scheme() == "https" || (url.scheme() == "http" && is_loopback(&url));
        if !web || !url.username().is_empty() || url.password().is_some() {
            return None;
        }
        // What was written must be what is meant: `https:evil.example` and the like are read by the parser, but not by us.
        let authority = wanted.get(url.scheme().len()..).and_then(|rest| rest.strip_prefix("://"))?;
        if authority.starts_with('/') || authority.split(['/', '?', '#']).next().is_some_and(|a| a.contains('@')) {
            return None;
        }
        let below = |allowed: &Url| {
            let base = allowed.path().trim_end_matches('/');
            url.path().strip_prefix(base).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        };
        let listed = url.origin() == own.origin()
            || self.0.iter().any(|allowed| allowed.origin() == url.origin() && below(allowed));
        listed.then_some(url)
    }
}

impl FromStr for ReturnUrls {
    type Err = String;
    fn from_str(raw: &str) -> Result<Self, String> {
        let one = |raw: &str| {
            let url = Url::parse(raw).map_err(|_| format!("{raw} is not an address"))?;
            let web = url.scheme() == "https" || (url.scheme() == "http" && is_loopback(&url));
            let plain = url.username().is_empty() && url.query().is_none() && url.fragment().is_none();
            if web && plain { Ok(url) } else { Err(format!("{raw} is not a plain https:// address")) }
        };
        raw.split(',').map(str::trim).filter(|one| !one.is_empty()).map(one).collect::<Result<_, _>>().map(Self)
    }
}

/// A range of addresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Network {
    /// An address and the length of the prefix that counts.
    Range(IpAddr, u8),
    /// All private addresses and loopback.
    Private,
}

impl Network {
    /// Whether an address lies in it.
    #[must_use]
    pub fn contains(&self, ip: IpAddr) -> bool {
        let ip = ip.to_canonical();
        match *self {
            Self::Private => match ip {
                IpAddr::V4(v4) => {
                    let [a, b, ..] = v4.octets();
                    v4.is_private() || v4.is_loopback() || (a == 100 && (64..128).contains(&b))
                }
                IpAddr::V6(v6) => v6.is_loopback() || v6.is_unique_local(),
            },
            Self::Range(base, prefix) => match (base, ip) {
                (IpAddr::V4(base), IpAddr::V4(ip)) => {
                    let mask = u32::MAX.checked_shl(32 - u32::from(prefix)).unwrap_or(0);
                    u32::from(base) & mask == u32::from(ip) & mask
                }
                (IpAddr::V6(base), IpAddr::V6(ip)) => {
                    let mask = u128::MAX.checked_shl(128 - u32::from(prefix)).unwrap_or(0);
                    u128::from(base) & mask == u128::from(ip) & mask
                }
                _ => false,
            },
        }
    }

    /// The ranges as pairs of address and prefix.
    #[must_use]
    pub fn ranges(self) -> Vec<(IpAddr, u8)> {
        match self {
            Self::Range(ip, prefix) => vec![(ip, prefix)],
            Self::Private => {
                let v4 = |a, b, c, d| IpAddr::from([a, b, c, d]);
                vec![
                    (v4(10, 0, 0, 0), 8),
                    (v4(172, 16, 0, 0), 12),
                    (v4(192, 168, 0, 0), 16),
                    (v4(127, 0, 0, 0), 8),
                    (v4(100, 64, 0, 0), 10),
                    (IpAddr::from(std::net::Ipv6Addr::LOCALHOST), 128),
                    (IpAddr::from([0xfc00, 0, 0, 0, 0, 0, 0, 0]), 7),
                ]
            }
        }
    }
}

impl FromStr for Network {
    type Err = String;
    fn from_str(raw: &str) -> Result<Self, String> {
        let wrong = || format!("{raw} is no address, network (10.0.0.0/8) or `private`");
        if raw == "private" {
            return Ok(Self::Private);
        }
        let (ip, prefix) = raw.split_once('/').map_or((raw, None), |(ip, prefix)| (ip, Some(prefix)));
        let ip: IpAddr = ip.trim().parse().map_err(|_| wrong())?;
        let most = if ip.is_ipv4() { 32 } else { 128 };
        let prefix = prefix.map_or(Ok(most), |prefix| prefix.trim().parse().map_err(|_| wrong()))?;
        if prefix > most { Err(wrong()) } else { Ok(Self::Range(ip, prefix)) }
    }
}

/// Reads a text, or a list of texts as if they stood between commas.
fn texts<'de, D: Deserializer<'de>, T: FromStr<Err = String>>(deserializer: D) -> Result<T, D::Error> {
    struct Texts;
    impl<'de> de::Visitor<'de> for Texts {
        type Value = String;
        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a list of texts")
        }
        fn visit_str<E: de::Error>(self, raw: &str) -> Result<String, E> {
            Ok(raw.to_owned())
        }
        fn visit_seq<A: de::SeqAccess<'de>>(self, mut list: A) -> Result<String, A::Error> {
            let mut all = Vec::new();
            while let Some(one) = list.next_element::<String>()? {
                all.push(one);
            }
            Ok(all.join(","))
        }
    }
    deserializer.deserialize_any(Texts)?.parse().map_err(de::Error::custom)
}

impl<'de> Deserialize<'de> for AllowedOrigins {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        texts(deserializer)
    }
}

impl<'de> Deserialize<'de> for ReturnUrls {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        texts(deserializer)
    }
}

impl<'de> Deserialize<'de> for Network {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        texts(deserializer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn look_alikes_of_an_origin_are_refused() {
        let rules: AllowedOrigins =
            "https://app.example, https://proj-*-team.vercel.app,http://localhost:3000".parse().unwrap();
        let same: AllowedOrigins = r"^https://proj-[a-z0-9]+-team\.vercel\.app$".parse().unwrap();
        for good in ["https://app.example", "https://proj-a1b2-team.vercel.app", "http://localhost:3000"] {
            assert!(rules.allows(good), "{good}");
        }
        assert!(same.allows("https://proj-a1b2-team.vercel.app"));
        for bad in [
            "null",
            "",
            "http://app.example",
            "https://app.example:8443",
            "https://app.example.",
            "https://APP.example",
            "https://app.example.evil.com",
            "https://evil.com/https://app.example",
            "https://proj-a1b2-team.vercel.app.evil.com",
            "https://proj-a.evil.com/-team.vercel.app",
            "https://proj--team.vercel.app",
            "https://proj-a-b-team.vercel.app",
            "http://proj-a1b2-team.vercel.app",
            "https://proj-a1b2-team.vercel.app:444",
            "https://other.vercel.app",
            "https://proj-a1b2-teamXvercel.app",
        ] {
            assert!(!rules.allows(bad) && !same.allows(bad), "{bad}");
        }
    }

    #[test]
    fn origins_that_would_let_strangers_in_are_no_settings() {
        for bad in [
            "https://*.vercel.app",
            "*",
            "https://*",
            "https://a-*",
            "http://app.example",
            "https://app.example/path",
            "null",
            "app.example",
            "^https://proj-.*$",
            r"^https://proj-[a-z0-9]+-team\.vercel\.app",
        ] {
            assert!(bad.parse::<AllowedOrigins>().is_err(), "{bad}");
        }
    }

    #[test]
    fn only_listed_places_and_own_paths_are_returned_to() {
        let own = Url::parse("https://social.example/").unwrap();
        let list: ReturnUrls =
            "https://app.example, https://shared.example/tenant/a, http://localhost:3000".parse().unwrap();
        for (wanted, target) in [
            ("/done?x=1", "https://social.example/done?x=1"),
            ("https://social.example/x", "https://social.example/x"),
            ("https://app.example/settings#here", "https://app.example/settings#here"),
            ("https://app.example", "https://app.example/"),
            ("HTTPS://APP.example/a", "https://app.example/a"),
            ("https://shared.example/tenant/a/b", "https://shared.example/tenant/a/b"),
            ("http://localhost:3000/x", "http://localhost:3000/x"),
            ("/%5C%5Cevil.example", "https://social.example/%5C%5Cevil.example"),
        ] {
            assert_eq!(list.resolve(&own, wanted).map(String::from).as_deref(), Some(target), "{wanted}");
        }
        for bad in [
            "",
            "//evil.example",
            "/\\evil.example",
            "\\\\evil.example",
            "/\t/evil.example",
            "\t//evil.example",
            " //evil.example",
            "/\n/evil.example",
            "https:evil.example",
            "https:/evil.example",
            "https:///app.example",
            "https://app.example@evil.example",
            "https://app.example:x@evil.example/",
            "https://user@app.example/",
            "https://@app.example/",
            "https://app.example.evil.example",
            "https://evil.example/https://app.example",
            "https://app.example:8443/",
            "http://app.example/",
            "https://shared.example/tenant/ab",
            "https://shared.example/tenant/a/../b",
            "https://shared.example/",
            "https://xn--pp-6kc.example/",
            "https://аpp.example/",
            "javascript:alert(1)",
            "javascript://app.example/%0aalert(1)",
            "data:text/html,x",
            "app.example",
            "https://app.example\\@evil.example",
            "ftp://app.example/",
        ] {
            assert_eq!(list.resolve(&own, bad), None, "{bad:?}");
        }
    }

    #[test]
    fn networks_contain_their_addresses() {
        for (network, ip, inside) in [
            ("10.0.0.0/8", "10.9.9.9", true),
            ("10.0.0.0/8", "11.0.0.1", false),
            ("10.0.0.0/8", "::ffff:10.1.1.1", true),
            ("192.0.2.7", "192.0.2.7", true),
            ("192.0.2.7", "192.0.2.8", false),
            ("0.0.0.0/0", "8.8.8.8", true),
            ("fd00::/8", "fd12::1", true),
            ("::1", "::2", false),
            ("private", "100.64.1.1", true),
            ("private", "172.16.3.4", true),
            ("private", "8.8.8.8", false),
        ] {
            let network: Network = network.parse().unwrap();
            assert_eq!(network.contains(ip.parse().unwrap()), inside, "{network:?} {ip}");
        }
        for bad in ["10.0.0.0/33", "::/129", "all", "10.0.0/8", ""] {
            assert!(bad.parse::<Network>().is_err(), "{bad}");
        }
    }
}
