//! Connecting as a browser does: a link, a consent page, a way back, and cookies kept by hand.

use reqwest::{Response, header};
use serde_json::json;
use url::Url;

use super::client::{Client, Trouble};
use crate::cli::say;

/// Connects the accounts of one persona of the sandbox.
pub(super) async fn connect(
    client: &Client,
    platform: &str,
    persona: &str,
    preset: Option<&str>,
) -> Result<(), Trouble> {
    let body = json!({ "platform": platform, "preset": preset, "return_to": "/docs" });
    let link = client.post("/auth/links", &body).await?;
    let link = link["url"].as_str().ok_or("the API gave no link")?;
    // The link leads to the network, and leaves a cookie that ties the way back to this browser.
    let sent = client.browse(link, "").await?;
    let cookies = cookies(&sent);
    let mut consent = redirected(&sent, "the link")?;
    // The network shows who asks for what; the person agrees.
    consent.query_pairs_mut().append_pair("auto", "approve").append_pair("persona", persona);
    let agreed = client.browse(consent.as_str(), "").await?;
    let callback = redirected(&agreed, "the consent page")?;
    let back = client.browse(callback.as_str(), &cookies).await?;
    let home = redirected(&back, "the callback")?;
    match home.query_pairs().find(|(name, _)| name == "error") {
        Some((_, code)) => Err(format!("{persona} was not connected to {platform}: {code}").into()),
        None => {
            let preset = preset.map_or(String::new(), |preset| format!(" with the preset {preset}"));
            say(&format!("  {persona} agreed on {platform}{preset}"));
            Ok(())
        }
    }
}

fn redirected(response: &Response, who: &str) -> Result<Url, Trouble> {
    let location = response.headers().get(header::LOCATION).and_then(|to| to.to_str().ok());
    let location = location.and_then(|to| response.url().join(to).ok());
    location.ok_or_else(|| format!("{who} answered {} without a redirect", response.status()).into())
}

fn cookies(response: &Response) -> String {
    let set = response.headers().get_all(header::SET_COOKIE).iter().filter_map(|value| value.to_str().ok());
    set.filter_map(|cookie| cookie.split(';').next()).collect::<Vec<_>>().join("; ")
}
