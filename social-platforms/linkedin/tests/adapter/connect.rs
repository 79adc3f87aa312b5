//! OAuth and the accounts behind a grant.

use std::{fs, path::Path};

use serde::Deserialize;
use serde_json::{Value, json};
use social_core::{
    AccountKind, AuthCode, AuthorizeRequest, Connect as _, Error, ErrorKind, PendingAuthorization, Platform as _,
    RefreshToken, secret::OAuthState,
};
use social_linkedin::LinkedIn;
use url::form_urlencoded;
use wiremock::{Request, ResponseTemplate};

use crate::support::{MEMBER, Net, PAGE, assert_versioned, fault, header, tokens};

const CALLBACK: &str = "https://app.example/auth/callback/linkedin";

fn form(request: &Request) -> Vec<(String, String)> {
    form_urlencoded::parse(&request.body).into_owned().collect()
}

fn value<'f>(form: &'f [(String, String)], name: &str) -> Option<&'f str> {
    form.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
}

async fn pending(net: &Net, preset: Option<&str>) -> (url::Url, PendingAuthorization) {
    let request = AuthorizeRequest::new(CALLBACK.parse().unwrap(), OAuthState::new("state-1").unwrap())
        .preset(preset.map(Into::into));
    let authorization = net.linkedin.authorize(&net.call, &request).await.unwrap();
    (authorization.url, authorization.pending)
}

async fn exchange(net: &Net) -> Result<social_core::TokenSet, Error> {
    let (_, pending) = pending(net, None).await;
    net.linkedin.exchange(&net.call, AuthCode::new("marker-code").unwrap(), &pending).await
}

fn granted(more: Value) -> ResponseTemplate {
    let mut body = json!({ "access_token": "AQX", "expires_in": 5_184_000 });
    body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    ResponseTemplate::new(200).set_body_json(body)
}

#[tokio::test]
async fn a_person_is_sent_without_a_challenge_and_with_all_scopes_of_the_preset() {
    let net = Net::start().await;
    for (preset, scopes) in [
        (None, "openid profile w_member_social"),
        (
            Some("page"),
            "openid profile w_member_social w_organization_social r_organization_social rw_organization_admin",
        ),
    ] {
        let (url, pending) = pending(&net, preset).await;
        assert!(url.as_str().starts_with(&net.url("oauth/v2/authorization?")), "{url}");
        let query: Vec<(String, String)> = url.query_pairs().into_owned().collect();
        assert_eq!(value(&query, "response_type"), Some("code"));
        assert_eq!(value(&query, "client_id"), Some("client-1"));
        assert_eq!(value(&query, "redirect_uri"), Some(CALLBACK));
        assert_eq!(value(&query, "state"), Some("state-1"));
        assert_eq!(value(&query, "scope"), Some(scopes));
        assert_eq!((value(&query, "code_challenge"), value(&query, "prompt")), (None, None));
        assert!(pending.verifier.is_none());
    }
}

#[tokio::test]
async fn a_code_is_exchanged_with_the_secret_in_the_body() {
    let net = Net::start().await;
    net.on("POST", "oauth/v2/accessToken", granted(json!({ "scope": "email,openid,w_member_social" }))).await;
    let tokens = exchange(&net).await.unwrap();
    assert_eq!(tokens.scopes, ["email", "openid", "w_member_social"]);
    assert!(tokens.refresh.is_none());
    assert_eq!(tokens.expires_at.unwrap().duration_since(net.call.now()).as_secs(), 60 * 86_400);
    let request = &net.requests().await[0];
    assert_eq!(header(request, "authorization"), None);
    let form = form(request);
    for (name, wanted) in [
        ("grant_type", "authorization_code"),
        ("code", "marker-code"),
        ("client_id", "client-1"),
        ("client_secret", "marker-client-secret"),
        ("redirect_uri", CALLBACK),
    ] {
        assert_eq!(value(&form, name), Some(wanted));
    }
    assert_eq!(value(&form, "code_verifier"), None);

    net.server.reset().await;
    net.on("POST", "oauth/v2/accessToken", granted(json!({}))).await;
    assert_eq!(exchange(&net).await.unwrap().scopes, ["openid", "profile", "w_member_social"], "all or none");
}

#[tokio::test]
async fn a_grant_without_refresh_token_has_to_be_made_again() {
    let net = Net::start().await;
    let mut current = tokens(&["openid"]);
    assert_eq!(net.linkedin.refresh(&net.call, &current).await.unwrap_err().kind(), ErrorKind::Reconnect);
    assert!(net.requests().await.is_empty());

    current.refresh = RefreshToken::parse("AQW");
    net.on(
        "POST",
        "oauth/v2/accessToken",
        granted(json!({ "refresh_token": "AQW", "refresh_token_expires_in": 1000 })),
    )
    .await;
    let renewed = net.linkedin.refresh(&net.call, &current).await.unwrap();
    assert!(renewed.access.same("AQX") && renewed.refresh.unwrap().same("AQW"));
    assert_eq!(renewed.refresh_expires_at.unwrap().duration_since(net.call.now()).as_secs(), 1000);
    assert_eq!(renewed.scopes, ["openid"]);
    let form = form(&net.requests().await[0]);
    for (name, wanted) in
        [("grant_type", "refresh_token"), ("refresh_token", "AQW"), ("client_secret", "marker-client-secret")]
    {
        assert_eq!(value(&form, name), Some(wanted));
    }
}

#[derive(Deserialize)]
struct Row {
    operation: String,
    status: u16,
    body: Value,
    expect: Expected,
}

#[derive(Deserialize)]
struct Expected {
    kind: ErrorKind,
}

#[tokio::test]
async fn refusals_of_the_token_endpoint_end_a_grant_only_when_it_is_dead() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/oauth");
    let mut seen = 0;
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let row: Row = serde_json::from_str(&fs::read_to_string(&path).unwrap()).unwrap();
        let net = Net::start().await;
        net.on("POST", "oauth/v2/accessToken", ResponseTemplate::new(row.status).set_body_json(&row.body)).await;
        let outcome = if row.operation == "oauth.refresh" {
            let mut current = tokens(&[]);
            current.refresh = RefreshToken::parse("AQW");
            net.linkedin.refresh(&net.call, &current).await
        } else {
            exchange(&net).await
        };
        assert_eq!(outcome.unwrap_err().kind(), row.expect.kind, "{}", path.display());
        seen += 1;
    }
    assert!(seen >= 8);
}

#[tokio::test]
async fn revoking_tells_linkedin_and_does_not_depend_on_its_answer() {
    let net = Net::start().await;
    net.once("POST", "oauth/v2/revoke", ResponseTemplate::new(200)).await;
    net.linkedin.revoke(&net.call, &tokens(&[])).await.unwrap();
    let form = form(&net.requests().await[0]);
    for (name, wanted) in
        [("token", "marker-access-token"), ("client_id", "client-1"), ("client_secret", "marker-client-secret")]
    {
        assert_eq!(value(&form, name), Some(wanted));
    }
    for status in [400, 404, 500] {
        net.once("POST", "oauth/v2/revoke", ResponseTemplate::new(status)).await;
        net.linkedin.revoke(&net.call, &tokens(&[])).await.unwrap();
    }
}

async fn userinfo(net: &Net, body: Value) {
    net.on("GET", "v2/userinfo", ResponseTemplate::new(200).set_body_json(body)).await;
}

#[tokio::test]
async fn a_member_preset_gives_the_member() {
    let net = Net::start().await;
    let locale = json!({ "country": "US", "language": "en" });
    userinfo(
        &net,
        json!({ "sub": "782bbtaQ", "name": "Ada L", "picture": "https://media.example/p", "locale": locale }),
    )
    .await;
    let accounts = net.linkedin.accounts(&net.call, &tokens(&["openid", "profile", "w_member_social"])).await.unwrap();
    assert_eq!(accounts.len(), 1);
    assert_eq!((accounts[0].remote_id.as_str(), accounts[0].kind), ("782bbtaQ", AccountKind::Member));
    assert_eq!(accounts[0].attributes["author"], MEMBER);
    assert_eq!(
        (accounts[0].display_name.as_str(), accounts[0].avatar_url.as_deref()),
        ("Ada L", Some("https://media.example/p"))
    );
    let request = &net.requests().await[0];
    assert_eq!(header(request, "linkedin-version"), None, "not a versioned call");
    assert_eq!(header(request, "authorization"), Some("Bearer marker-access-token"));

    net.server.reset().await;
    userinfo(&net, json!({ "sub": "1", "given_name": "Ada" })).await;
    assert_eq!(net.linkedin.accounts(&net.call, &tokens(&[])).await.unwrap()[0].display_name, "Ada");
    net.server.reset().await;
    net.on("GET", "v2/userinfo", fault(401, "REVOKED_ACCESS_TOKEN", "revoked")).await;
    assert_eq!(net.linkedin.accounts(&net.call, &tokens(&[])).await.unwrap_err().kind(), ErrorKind::Reconnect);
}

#[tokio::test]
async fn a_page_preset_gives_every_page_that_may_be_posted_to() {
    let net = Net::start().await;
    userinfo(&net, json!({ "sub": "782bbtaQ", "name": "Ada L" })).await;
    let acl = |field: &str, urn: &str, role: &str, state: &str| json!({ field: urn, "role": role, "state": state });
    let mut elements = vec![
        acl("organization", PAGE, "CONTENT_ADMINISTRATOR", "APPROVED"),
        acl("organizationTarget", "urn:li:organization:2", "CONTENT_ADMIN", "APPROVED"),
        acl("organization", "urn:li:organization:3", "ANALYST", "APPROVED"),
        acl("organization", "urn:li:organization:4", "ADMINISTRATOR", "REQUESTED"),
        acl("organization", PAGE, "ADMINISTRATOR", "APPROVED"),
    ];
    elements.extend((5..100).map(|n| acl("organization", &format!("urn:li:organization:{n}0"), "ANALYST", "APPROVED")));
    net.once("GET", "rest/organizationAcls", ResponseTemplate::new(200).set_body_json(json!({ "elements": elements })))
        .await;
    let second =
        json!({ "elements": [acl("organizationalTarget", "urn:li:organization:9", "ADMINISTRATOR", "APPROVED")] });
    net.on("GET", "rest/organizationAcls", ResponseTemplate::new(200).set_body_json(second)).await;
    let shop = json!({ "id": 2_414_183, "localizedName": "Devtestco", "vanityName": "devtestco" });
    net.on("GET", "rest/organizations/2414183", ResponseTemplate::new(200).set_body_json(shop)).await;
    net.on("GET", "rest/organizations/2", fault(403, "ACCESS_DENIED", "no")).await;
    net.on(
        "GET",
        "rest/organizations/9",
        ResponseTemplate::new(200).set_body_json(json!({ "id": 9, "localizedName": "Nine" })),
    )
    .await;

    let accounts =
        net.linkedin.accounts(&net.call, &tokens(&["w_organization_social", "rw_organization_admin"])).await.unwrap();
    let seen: Vec<_> =
        accounts.iter().map(|account| (account.remote_id.as_str(), account.display_name.as_str())).collect();
    assert_eq!(seen, [("782bbtaQ", "Ada L"), ("2414183", "Devtestco"), ("2", "LinkedIn page 2"), ("9", "Nine")]);
    assert_eq!(accounts[1].attributes["author"], PAGE);
    assert_eq!(accounts[1].attributes["role"], "ADMINISTRATOR", "the better of two roles");
    assert_eq!((accounts[1].kind, accounts[1].handle.as_deref()), (AccountKind::Organization, Some("devtestco")));
    let lists = net.sent("GET rest/organizationAcls").await;
    assert_eq!(lists[0].url.query(), Some("q=roleAssignee&state=APPROVED&start=0&count=100"));
    assert_eq!(lists[1].url.query(), Some("q=roleAssignee&state=APPROVED&start=100&count=100"));
    assert_versioned(&lists[0]);

    net.once("GET", "rest/organizations/9", ResponseTemplate::new(503)).await;
    let error = net.linkedin.accounts(&net.call, &tokens(&["r_organization_admin"])).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable, "a page is not left out for a moment's trouble");
}

#[test]
fn the_builder_checks_what_it_is_given() {
    let refused = |builder: social_linkedin::LinkedInBuilder| {
        let error = builder.build().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Config);
        error.to_string()
    };
    refused(LinkedIn::builder("", "secret"));
    refused(LinkedIn::builder("id", " "));
    assert!(!refused(LinkedIn::builder("id", "marker\nsecret")).contains("marker"));
    refused(LinkedIn::builder("id", "secret").preset("pages"));
    refused(LinkedIn::builder("id", "secret").base_url("mailto:a@b".parse().unwrap()));
    for version in ["", "2026", "202613", "latest"] {
        refused(LinkedIn::builder("id", "secret").api_version(version));
    }
    assert!(!format!("{:?}", LinkedIn::builder("id", "marker-1")).contains("marker"));

    let linkedin = LinkedIn::builder("id", "secret")
        .preset("page")
        .descriptor(|facts| facts.limits[0].amount = 7)
        .build()
        .unwrap();
    let facts = linkedin.descriptor();
    assert_eq!(facts.oauth.preset(None).unwrap().name, "page");
    assert_eq!(facts.oauth.preset(Some("member")).unwrap().scopes.len(), 3);
    assert_eq!(facts.limits[0].amount, 7);
    assert_eq!(facts.oauth.token_url, "https://www.linkedin.com/oauth/v2/accessToken");
    assert!(linkedin.analytics().is_some());
}
