//! Addresses and headers: what every call to LinkedIn has in common.

use social_core::{AccessToken, http::Request};
use url::{Host, Url, form_urlencoded};

/// Where LinkedIn is, and in which version it is spoken to.
#[derive(Debug)]
pub(crate) struct Api {
    www: Url,
    api: Url,
    version: String,
    /// Whether both hosts are folded into one address: a sandbox or a test.
    folded: bool,
}

impl Api {
    pub(crate) fn new(www: Url, api: Url, version: String, folded: bool) -> Self {
        Self { www, api, version, folded }
    }

    /// An address of the versioned interface. `path` and `query` are encoded already.
    pub(crate) fn rest(&self, path: &str, query: Option<&str>) -> Url {
        under(&self.api, &format!("rest/{path}"), query)
    }

    /// An address of the part without versions.
    pub(crate) fn v2(&self, path: &str) -> Url {
        under(&self.api, &format!("v2/{path}"), None)
    }

    /// Where people find a post.
    pub(crate) fn permalink(&self, urn: &str) -> String {
        under(&self.www, &format!("feed/update/{urn}/"), None).into()
    }

    /// The headers of the versioned interface.
    pub(crate) fn versioned<'a>(&self, request: Request<'a>, token: &AccessToken) -> Request<'a> {
        request.bearer(token).header("linkedin-version", &self.version).header("x-restli-protocol-version", "2.0.0")
    }

    /// Whether an address that came in an answer may be given our token and the user's file.
    pub(crate) fn is_upload_host(&self, url: &Url) -> bool {
        if self.folded {
            return url.host() == self.api.host() || is_loopback(url) && is_loopback(&self.api);
        }
        let linkedin = |host: &str| ["linkedin.com", "licdn.com"].iter().any(|own| is_within(host, own));
        url.scheme() == "https" && url.host_str().is_some_and(linkedin)
    }
}

fn is_within(host: &str, domain: &str) -> bool {
    host.strip_suffix(domain).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
}

fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(Host::Ipv4(ip)) => ip.is_loopback(),
        Some(Host::Ipv6(ip)) => ip.is_loopback(),
        Some(Host::Domain(name)) => name == "localhost",
        None => false,
    }
}

fn under(root: &Url, path: &str, query: Option<&str>) -> Url {
    let mut url = root.clone();
    url.set_path(&format!("{}/{path}", root.path().trim_end_matches('/')));
    url.set_query(query);
    url
}

/// A URN (or any value) as it stands in a path or a query: `urn%3Ali%3Ashare%3A1`.
pub(crate) fn encode(urn: &str) -> String {
    form_urlencoded::byte_serialize(urn.as_bytes()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn url(raw: &str) -> Url {
        raw.parse().unwrap()
    }

    #[test]
    fn restli_syntax_stays_and_urns_are_encoded() {
        let api =
            Api::new(url("http://127.0.0.1:9/linkedin/"), url("http://127.0.0.1:9/linkedin"), "202609".into(), true);
        let share = encode("urn:li:share:1");
        assert_eq!(
            api.rest(&format!("posts/{share}"), Some(&format!("ids=List({share},{share})"))).as_str(),
            "http://127.0.0.1:9/linkedin/rest/posts/urn%3Ali%3Ashare%3A1?ids=List(urn%3Ali%3Ashare%3A1,urn%3Ali%3Ashare%3A1)"
        );
        assert_eq!(api.permalink("urn:li:share:1"), "http://127.0.0.1:9/linkedin/feed/update/urn:li:share:1/");
        assert_eq!(
            encode("urn:li:comment:(urn:li:activity:1,2)/../x"),
            "urn%3Ali%3Acomment%3A%28urn%3Ali%3Aactivity%3A1%2C2%29%2F..%2Fx"
        );
    }

    #[test]
    fn files_and_tokens_go_to_linkedin_only() {
        let api = Api::new(url("https://www.linkedin.com"), url("https://api.linkedin.com"), "202609".into(), false);
        for good in ["https://www.linkedin.com/dms-uploads/x", "https://linkedin.com/x", "https://media.licdn.com/x"] {
            assert!(api.is_upload_host(&url(good)), "{good}");
        }
        for bad in [
            "http://www.linkedin.com/x",
            "https://evillinkedin.com/x",
            "https://linkedin.com.evil.example/x",
            "https://127.0.0.1/x",
            "ftp://linkedin.com/x",
        ] {
            assert!(!api.is_upload_host(&url(bad)), "{bad}");
        }
        let folded =
            Api::new(url("http://localhost:1/linkedin"), url("http://localhost:1/linkedin"), "202609".into(), true);
        assert!(folded.is_upload_host(&url("http://127.0.0.1:1/linkedin/dms-uploads/x")));
        assert!(!folded.is_upload_host(&url("http://192.0.2.1/x")));
    }
}
