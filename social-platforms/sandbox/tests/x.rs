//! X, seen by an ordinary third-party client.

#![expect(clippy::unwrap_used, reason = "the helpers belong to tests")]

mod support;

use oauth2::{AuthorizationCode, CsrfToken, PkceCodeChallenge, PkceCodeVerifier, RefreshToken, Scope, TokenResponse};
use reqwest::multipart::{Form, Part};
use serde_json::{Value, json};
use social_sandbox::{Limits, XCredits, XDialect, XLimitBody};
use std::time::Duration;
use support::{World, answer, mp4, png, transport};

const ALL: &[&str] = &["tweet.read", "tweet.write", "users.read", "media.write", "offline.access"];

struct Login {
    code: String,
    verifier: String,
}

async fn login(world: &World, persona: &str, scopes: &[&str]) -> Login {
    let (challenge, verifier) = PkceCodeChallenge::new_random_sha256();
    let (url, state) = world
        .x_client()
        .authorize_url(CsrfToken::new_random)
        .add_scopes(scopes.iter().map(|scope| Scope::new((*scope).to_owned())))
        .set_pkce_challenge(challenge)
        .url();
    let query = world.consent(url.as_str(), &format!("auto=approve&persona={persona}")).await;
    assert_eq!(&query["state"], state.secret());
    Login { code: query["code"].clone(), verifier: verifier.into_secret() }
}

type Tokens = oauth2::basic::BasicTokenResponse;

async fn exchange(world: &World, login: &Login) -> Result<Tokens, String> {
    world
        .x_client()
        .exchange_code(AuthorizationCode::new(login.code.clone()))
        .set_pkce_verifier(PkceCodeVerifier::new(login.verifier.clone()))
        .request_async(&transport)
        .await
        .map_err(|error| format!("{error:?}"))
}

async fn refresh(world: &World, token: &RefreshToken) -> Result<Tokens, String> {
    let client = world.x_client();
    client.exchange_refresh_token(token).request_async(&transport).await.map_err(|error| format!("{error:?}"))
}

#[tokio::test]
async fn a_person_logs_in_posts_reads_back_and_deletes() {
    let world = World::new().await;
    let tokens = exchange(&world, &login(&world, "ada", ALL).await).await.unwrap();
    assert_eq!(tokens.expires_in(), Some(Duration::from_secs(7_200)));
    let token = tokens.access_token().secret();

    let (status, me) = world.get_x(token, "/2/users/me?user.fields=profile_image_url,subscription_type").await;
    assert_eq!((status, &me["data"]["username"]), (200, &json!("ada")));
    assert_eq!(me["data"]["subscription_type"], "None");
    let picture = me["data"]["profile_image_url"].as_str().unwrap();
    assert!(picture.starts_with(&world.sandbox.url()) && picture.contains("_normal"), "{picture}");
    assert_eq!(world.http.get(picture.replace("_normal", "_400x400")).send().await.unwrap().status(), 200);

    let (status, created) = world.post_x(token, &json!({ "text": "Look at https://example.com/a?b=1 now" })).await;
    assert_eq!(status, 201);
    let id = created["data"]["id"].as_str().unwrap();
    let wrapped = created["data"]["text"].as_str().unwrap();
    assert!(wrapped.starts_with("Look at https://t.co/") && wrapped.ends_with(" now"), "{wrapped}");
    assert_eq!(created["data"]["edit_history_tweet_ids"], json!([id]));

    let ledger = world.control().ledger();
    assert_eq!(ledger.len(), 1);
    assert_eq!(&*ledger[0].id, id);
    assert_eq!(&*ledger[0].text, "Look at https://example.com/a?b=1 now");
    assert_eq!(json!(&*ledger[0].account), me["data"]["id"]);

    let (_, read) =
        world.get_x(token, &format!("/2/tweets/{id}?tweet.fields=entities,created_at,public_metrics")).await;
    let link = &read["data"]["entities"]["urls"][0];
    assert_eq!(link["expanded_url"], "https://example.com/a?b=1");
    let (start, end) = (link["start"].as_u64().unwrap() as usize, link["end"].as_u64().unwrap() as usize);
    assert_eq!(&wrapped[start..end], link["url"].as_str().unwrap());
    assert!(read["data"]["public_metrics"]["retweet_count"].is_u64());
    assert_eq!(read["data"]["created_at"], "2026-11-20T12:00:00.000Z");

    let page = world.http.get(world.x(&format!("/i/web/status/{id}"))).send().await.unwrap();
    assert!(page.text().await.unwrap().contains("example.com/a?b=1"));

    let (status, gone) = answer(world.http.delete(world.x(&format!("/2/tweets/{id}"))).bearer_auth(token)).await;
    assert_eq!((status, gone), (200, json!({ "data": { "deleted": true } })));
    let ledger = world.control().ledger();
    assert!(ledger.len() == 1 && ledger[0].deleted_at.is_some());
    let (status, read) = world.get_x(token, &format!("/2/tweets/{id}")).await;
    assert_eq!(status, 200);
    assert!(read["errors"][0]["type"].as_str().unwrap().ends_with("resource-not-found"));
    let (status, _) = answer(world.http.delete(world.x(&format!("/2/tweets/{id}"))).bearer_auth(token)).await;
    assert_eq!(status, 404);
}

#[tokio::test]
async fn the_consent_page_offers_personas_and_both_answers() {
    let world = World::new().await;
    let (challenge, _) = PkceCodeChallenge::new_random_sha256();
    let (url, _) = world
        .x_client()
        .authorize_url(|| CsrfToken::new("a b&c".to_owned()))
        .add_scope(Scope::new("tweet.read".to_owned()))
        .set_pkce_challenge(challenge)
        .url();
    let page = world.http.get(url.as_str()).send().await.unwrap().text().await.unwrap();
    for part in ["Authorize", "Deny", "Grace Hopper", "tweet.read", "Sandbox app"] {
        assert!(page.contains(part), "{part}");
    }
    let form = [("decision", "approve"), ("persona", "grace")];
    let reply = world.http.post(url.as_str()).form(&form).send().await.unwrap();
    assert_eq!(reply.status(), 303);
    let location = reply.headers()["location"].to_str().unwrap();
    assert!(location.contains("state=a+b%26c") && location.contains("code="), "{location}");
    let denied = world.consent(url.as_str(), "auto=deny").await;
    assert_eq!((denied["error"].as_str(), denied["state"].as_str()), ("access_denied", "a b&c"));
    assert!(!denied.contains_key("code"));
}

#[tokio::test]
async fn a_bad_authorization_request_never_redirects() {
    let world = World::new().await;
    let challenge = "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM";
    let good = [
        ("response_type", "code"),
        ("client_id", "sandbox-x-client"),
        ("redirect_uri", support::CALLBACK),
        ("scope", "tweet.read"),
        ("state", "s"),
        ("code_challenge", challenge),
        ("code_challenge_method", "S256"),
    ];
    let changes = [
        ("client_id", "nobody"),
        ("redirect_uri", "https://evil.example/callback"),
        ("response_type", "token"),
        ("scope", "tweet.read everything"),
        ("code_challenge", "short"),
        ("code_challenge", ""),
        ("code_challenge_method", "none"),
        ("code_challenge_method", ""),
    ];
    for (name, value) in changes {
        let query = good.map(|(known, given)| (known, if known == name { value } else { given }));
        let query: Vec<_> = query.into_iter().filter(|(_, value)| !value.is_empty()).collect();
        let url = url::Url::parse_with_params(&world.x("/i/oauth2/authorize"), &query).unwrap();
        let reply = world.http.get(format!("{url}&auto=approve")).send().await.unwrap();
        assert_eq!(reply.status(), 400, "{name}={value}");
    }
}

#[tokio::test]
async fn a_code_works_once_for_its_client_verifier_and_redirect_within_30_seconds() {
    let world = World::new().await;
    let refused = "Value passed for the authorization code was invalid.";

    let once = login(&world, "ada", ALL).await;
    exchange(&world, &once).await.unwrap();
    assert!(exchange(&world, &once).await.unwrap_err().contains(refused));

    let mut wrong = login(&world, "ada", ALL).await;
    let right = std::mem::replace(&mut wrong.verifier, "x".repeat(43));
    assert!(exchange(&world, &wrong).await.unwrap_err().contains(refused));
    wrong.verifier = right;
    assert!(exchange(&world, &wrong).await.is_err(), "a code is used up by a wrong verifier");

    let late = login(&world, "ada", ALL).await;
    world.advance(Duration::from_secs(30));
    assert!(exchange(&world, &late).await.unwrap_err().contains(refused));

    let moved = login(&world, "ada", ALL).await;
    let form = [
        ("grant_type", "authorization_code"),
        ("code", &moved.code),
        ("redirect_uri", "http://127.0.0.1:9/other"),
        ("code_verifier", &moved.verifier),
    ];
    let request = world.http.post(world.x("/2/oauth2/token")).basic_auth("sandbox-x-client", Some("sandbox-x-secret"));
    let (status, body) = answer(request.form(&form)).await;
    assert_eq!((status, &body["error_description"]), (400, &json!(refused)));

    let bare = login(&world, "ada", ALL).await;
    let form = [
        ("grant_type", "authorization_code"),
        ("code", &bare.code),
        ("redirect_uri", support::CALLBACK),
        ("code_verifier", &bare.verifier),
        ("client_id", "sandbox-x-client"),
    ];
    let (status, body) = answer(world.http.post(world.x("/2/oauth2/token")).form(&form)).await;
    assert_eq!(status, 401);
    let expected = json!({ "error": "unauthorized_client", "error_description": "Missing valid authorization header" });
    assert_eq!(body, expected);
}

#[tokio::test]
async fn a_refresh_token_rotates_and_its_second_use_ends_the_family() {
    let world = World::new().await;
    let first = exchange(&world, &login(&world, "ada", ALL).await).await.unwrap();
    let second = refresh(&world, first.refresh_token().unwrap()).await.unwrap();
    assert_ne!(second.refresh_token().unwrap().secret(), first.refresh_token().unwrap().secret());
    let token = second.access_token().secret();
    assert_eq!(world.get_x(token, "/2/users/me").await.0, 200);

    let refused = refresh(&world, first.refresh_token().unwrap()).await.unwrap_err();
    assert!(refused.contains("Value passed for the token was invalid."), "{refused}");
    assert_eq!(world.control().refresh_reuses(), 1);
    let (status, body) = world.get_x(token, "/2/users/me").await;
    assert_eq!((status, &body["title"]), (401, &json!("Unauthorized")));
    assert!(refresh(&world, second.refresh_token().unwrap()).await.is_err(), "the family is dead");

    let other = exchange(&world, &login(&world, "ada", ALL).await).await.unwrap();
    assert_eq!(world.get_x(other.access_token().secret(), "/2/users/me").await.0, 200, "another family lives");
}

#[tokio::test]
async fn tokens_expire_are_revoked_and_have_no_more_than_their_scopes() {
    let world = World::new().await;
    let short = exchange(&world, &login(&world, "ada", &["tweet.read", "users.read"]).await).await.unwrap();
    assert!(short.refresh_token().is_none());
    let (status, body) = world.post_x(short.access_token().secret(), &json!({ "text": "no" })).await;
    assert_eq!((status, &body["title"], &body["type"]), (403, &json!("Forbidden"), &json!("about:blank")));
    world.advance(Duration::from_secs(7_200));
    assert_eq!(world.get_x(short.access_token().secret(), "/2/users/me").await.0, 401);

    let full = exchange(&world, &login(&world, "ada", ALL).await).await.unwrap();
    let request = world.http.post(world.x("/2/oauth2/revoke")).basic_auth("sandbox-x-client", Some("sandbox-x-secret"));
    let (status, body) = answer(request.form(&[("token", full.refresh_token().unwrap().secret())])).await;
    assert_eq!((status, body), (200, json!({ "revoked": true })));
    assert_eq!(world.get_x(full.access_token().secret(), "/2/users/me").await.0, 401);
    assert!(world.control().ledger().is_empty());

    let issued = world.sandbox.issued_secrets();
    for kind in ["code", "access_token", "refresh_token"] {
        assert!(issued.iter().any(|secret| secret.kind == kind && secret.persona == "ada"), "{kind}");
    }
    assert!(!format!("{issued:?}").contains(full.access_token().secret()));
}

#[tokio::test]
async fn a_post_is_checked_in_the_order_of_the_contract() {
    let world = World::new().await;
    let token = world.token("x", "ada");
    let poll = json!({ "options": ["a", "b"], "duration_minutes": 60 });
    let cases = [
        (json!([]), 400, "JSON object"),
        (json!({ "text": "a", "surprise": 1 }), 400, "$.surprise: is not defined in the schema"),
        (
            json!({ "text": "a", "poll": poll, "media": { "media_ids": ["1"] } }),
            400,
            "You can only provide one of poll or quote_tweet_id or direct_message_deep_link or media or card_uri.",
        ),
        (
            json!({ "text": "a".repeat(281), "media": { "media_ids": ["1"] }, "reply": { "in_reply_to_tweet_id": "1" } }),
            400,
            "Your media IDs are invalid.",
        ),
        (
            json!({ "text": "a".repeat(281), "reply": { "in_reply_to_tweet_id": "1" } }),
            400,
            "Your reply tweet ID is invalid.",
        ),
        (json!({ "text": "a", "quote_tweet_id": "1" }), 400, "Your quote tweet ID is invalid."),
        (json!({ "text": format!("$A $B {}", "a".repeat(281)) }), 400, "Your Tweet text is too long."),
        (json!({ "text": "buy $AAA and $BBB" }), 403, "maximum of one cashtag"),
        (json!({ "text": "a", "poll": { "options": ["a"], "duration_minutes": 60 } }), 400, "between 2 and 4"),
        (json!({ "text": "a", "poll": { "options": ["a", "b"], "duration_minutes": 4 } }), 400, "between 5 and 10080"),
        (json!({ "text": "a", "reply_settings": "nobody" }), 400, "enumeration"),
        (json!({ "text": "" }), 400, "text or media"),
        (json!({ "text": "not null", "media": null }), 400, "$.media: null found"),
    ];
    for (body, status, message) in cases {
        let (got, reply) = world.post_x(&token, &body).await;
        assert_eq!(got, status, "{body}: {reply}");
        assert!(reply.to_string().contains(message), "{body}: {reply}");
    }
    assert!(world.control().ledger().is_empty());
    let limit = format!("{}{}", "漢".repeat(128), "a".repeat(24));
    assert_eq!(world.post_x(&token, &json!({ "text": limit })).await.0, 201);
    let premium = world.token("x", "grace");
    assert_eq!(world.post_x(&premium, &json!({ "text": "a".repeat(25_000) })).await.0, 201);
    assert_eq!(world.post_x(&premium, &json!({ "text": "b".repeat(25_001) })).await.0, 400);
    assert_eq!(world.post_x(&token, &json!({ "text": "a poll", "poll": poll })).await.0, 201);
}

#[tokio::test]
async fn the_same_text_is_refused_without_naming_the_original() {
    let world = World::new().await;
    let (ada, grace) = (world.token("x", "ada"), world.token("x", "grace"));
    assert_eq!(world.post_x(&ada, &json!({ "text": "Hello world" })).await.0, 201);
    let (status, body) = world.post_x(&ada, &json!({ "text": " Hello   world" })).await;
    let expected = json!({
        "title": "Forbidden",
        "detail": "You are not allowed to create a Tweet with duplicate content.",
        "type": "about:blank",
        "status": 403
    });
    assert_eq!((status, body), (403, expected));
    assert_eq!(world.post_x(&grace, &json!({ "text": "Hello world" })).await.0, 201);
    world.advance(Duration::from_secs(86_400));
    let ada = world.token("x", "ada");
    assert_eq!(world.post_x(&ada, &json!({ "text": "Hello world" })).await.0, 201);
}

#[tokio::test]
async fn replies_need_an_own_post_or_a_mention_and_quotes_are_closed() {
    let world = World::new().await;
    let (ada, grace) = (world.token("x", "ada"), world.token("x", "grace"));
    let id = |body: &Value| body["data"]["id"].as_str().unwrap().to_owned();
    let first = id(&world.post_x(&ada, &json!({ "text": "one" })).await.1);
    let reply = |text: &str, to: &str| json!({ "text": text, "reply": { "in_reply_to_tweet_id": to } });
    let (status, second) = world.post_x(&ada, &reply("two", &first)).await;
    assert_eq!(status, 201);
    let (status, refused) = world.post_x(&grace, &reply("hi", &first)).await;
    assert_eq!(status, 403);
    assert!(refused["detail"].as_str().unwrap().starts_with("Reply to this conversation is not allowed"));
    let open = id(&world.post_x(&ada, &json!({ "text": "what do you say, @Grace?" })).await.1);
    assert_eq!(world.post_x(&grace, &reply("thanks", &open)).await.0, 201);
    let (status, refused) = world.post_x(&ada, &json!({ "text": "see", "quote_tweet_id": first })).await;
    assert_eq!(status, 403);
    assert!(refused["detail"].as_str().unwrap().starts_with("Quoting this post is not allowed"));

    let path = format!("/2/tweets/{}?tweet.fields=referenced_tweets,conversation_id", id(&second));
    let (_, read) = world.get_x(&ada, &path).await;
    assert_eq!(read["data"]["referenced_tweets"], json!([{ "type": "replied_to", "id": first }]));
    assert_eq!(read["data"]["conversation_id"], json!(first));
    let kinds: Vec<_> = world.control().ledger().iter().map(|entry| entry.kind.to_string()).collect();
    assert_eq!(kinds, ["post", "reply", "post", "reply"]);
}

#[tokio::test]
async fn the_vocabulary_of_the_answer_follows_the_request() {
    let world = World::new().await;
    let token = world.token("x", "ada");
    let id = world.post_x(&token, &json!({ "text": "hi" })).await.1["data"]["id"].as_str().unwrap().to_owned();
    let (_, old) =
        world.get_x(&token, &format!("/2/tweets?ids={id}&tweet.fields=author_id,public_metrics,nonsense")).await;
    let old = &old["data"][0];
    assert!(old["edit_history_tweet_ids"].is_array() && old["author_id"].is_string());
    assert!(old["public_metrics"]["retweet_count"].is_u64() && old.get("nonsense").is_none());
    let (_, new) = world.get_x(&token, &format!("/2/tweets?ids={id}&post.fields=author_id,public_metrics")).await;
    let new = &new["data"][0];
    assert!(new["edit_history_post_ids"].is_array() && new.get("edit_history_tweet_ids").is_none());
    assert!(new["public_metrics"]["repost_count"].is_u64());
    assert!(new.get("author_id").is_none(), "an expansion only");
    let (_, new) =
        world.get_x(&token, &format!("/2/tweets?ids={id}&post.fields=created_at&expansions=author_id")).await;
    assert!(new["data"][0]["author_id"].is_string() && new["includes"]["users"][0]["username"] == "ada");
    world.control().set(|settings| settings.x_dialect = XDialect::Current);
    let (_, created) = world.post_x(&token, &json!({ "text": "again" })).await;
    assert!(created["data"]["edit_history_post_ids"].is_array());
}

#[tokio::test]
async fn a_timeline_is_newest_first_and_shows_a_post_after_its_delay() {
    let world = World::with(|settings| settings.visibility_delay_ms = 5_000).await;
    let token = world.token("x", "ada");
    let (_, me) = world.get_x(&token, "/2/users/me").await;
    let user = me["data"]["id"].as_str().unwrap().to_owned();
    for index in 0..7 {
        assert_eq!(world.post_x(&token, &json!({ "text": format!("post {index}") })).await.0, 201);
        world.advance(Duration::from_secs(1));
    }
    let (_, young) = world.get_x(&token, &format!("/2/users/{user}/tweets?max_results=100")).await;
    assert_eq!(young["meta"]["result_count"], 3, "5, 6 and 7 seconds old");
    world.advance(Duration::from_secs(5));
    let path = format!("/2/users/{user}/tweets?max_results=5&start_time=2026-11-20T12:00:01Z");
    let (_, page) = world.get_x(&token, &path).await;
    let texts: Vec<_> = page["data"].as_array().unwrap().iter().map(|post| post["text"].as_str().unwrap()).collect();
    assert_eq!(texts, ["post 6", "post 5", "post 4", "post 3", "post 2"]);
    let next = page["meta"]["next_token"].as_str().unwrap();
    let (_, rest) = world.get_x(&token, &format!("{path}&pagination_token={next}")).await;
    assert_eq!(rest["data"].as_array().unwrap().len(), 1, "post 0 is older than start_time");
    assert_eq!(world.get_x(&token, &format!("/2/users/{user}/tweets?max_results=4")).await.0, 400);
    assert_eq!(world.get_x(&token, &format!("/2/users/{user}/tweets?start_time=yesterday")).await.0, 400);

    let linus = world.token("x", "linus");
    let (_, me) = world.get_x(&linus, "/2/users/me").await;
    let path = format!("/2/users/{}/tweets", me["data"]["id"].as_str().unwrap());
    let (status, hidden) = world.get_x(&token, &path).await;
    assert_eq!(status, 200);
    assert!(hidden["errors"][0]["type"].as_str().unwrap().ends_with("not-authorized-for-resource"));
}

#[tokio::test]
async fn an_image_is_uploaded_described_and_posted() {
    let world = World::new().await;
    let token = world.token("x", "ada");
    let image = png(800, 600);
    let form = || {
        Form::new().part("media", Part::bytes(image.clone()).file_name("a.bin")).text("media_category", "tweet_image")
    };
    let (status, uploaded) =
        answer(world.http.post(world.x("/2/media/upload")).bearer_auth(&token).multipart(form())).await;
    assert_eq!(status, 200, "{uploaded}");
    let data = &uploaded["data"];
    assert_eq!((&data["image"]["w"], &data["size"]), (&json!(800), &json!(image.len())));
    assert_eq!(data["expires_after_secs"], 86_400);
    assert!(data.get("processing_info").is_none());
    let id = data["id"].as_str().unwrap();
    assert_eq!(data["media_key"], format!("3_{id}"));

    let describe = |text: &str| json!({ "id": id, "metadata": { "alt_text": { "text": text } } });
    let metadata = |body: Value| answer(world.http.post(world.x("/2/media/metadata")).bearer_auth(&token).json(&body));
    assert_eq!(metadata(describe(&"a".repeat(1_001))).await.0, 400);
    assert_eq!(metadata(describe("a lighthouse")).await.0, 200);

    let (status, created) = world.post_x(&token, &json!({ "text": "dusk", "media": { "media_ids": [id] } })).await;
    assert_eq!(status, 201);
    assert!(created["data"]["text"].as_str().unwrap().starts_with("dusk https://t.co/"));
    let entry = &world.control().ledger()[0];
    assert_eq!(entry.media[0].alt_text.as_deref(), Some("a lighthouse"));
    assert_eq!((entry.media[0].kind.as_str(), entry.media[0].mime.as_str()), ("image", "image/png"));
    let served = world.http.get(format!("{}{}", world.sandbox.url(), entry.media[0].url)).send().await.unwrap();
    assert_eq!(served.bytes().await.unwrap(), image);

    let path = format!(
        "/2/tweets/{}?tweet.fields=entities,attachments&expansions=attachments.media_keys&media.fields=url,alt_text,type",
        created["data"]["id"].as_str().unwrap()
    );
    let (_, read) = world.get_x(&token, &path).await;
    assert_eq!(read["data"]["attachments"]["media_keys"], json!([format!("3_{id}")]));
    assert_eq!(read["includes"]["media"][0]["alt_text"], "a lighthouse");
    assert_eq!(read["data"]["entities"]["urls"][0]["media_key"], format!("3_{id}"));

    let other = world.token("x", "grace");
    let (status, refused) = world.post_x(&other, &json!({ "text": "mine?", "media": { "media_ids": [id] } })).await;
    assert_eq!((status, &refused["errors"][0]["message"]), (400, &json!("Your media IDs are invalid.")));
    let encoded = base64::Engine::encode(&base64::engine::general_purpose::STANDARD, &image);
    let body = json!({ "media": encoded, "media_category": "tweet_image" });
    assert_eq!(answer(world.http.post(world.x("/2/media/upload")).bearer_auth(&token).json(&body)).await.0, 200);
    let page = Form::new().part("media", Part::bytes(b"<html>".to_vec())).text("media_category", "tweet_image");
    assert_eq!(answer(world.http.post(world.x("/2/media/upload")).bearer_auth(&token).multipart(page)).await.0, 400);

    world.advance(Duration::from_secs(86_400));
    let token = world.token("x", "ada");
    let (status, _) = world.post_x(&token, &json!({ "text": "late", "media": { "media_ids": [id] } })).await;
    assert_eq!(status, 400, "the id has expired");
}

async fn initialize(world: &World, token: &str, bytes: usize, category: &str, kind: &str) -> String {
    let body = json!({ "media_type": kind, "total_bytes": bytes, "media_category": category });
    let request = world.http.post(world.x("/2/media/upload/initialize")).bearer_auth(token).json(&body);
    let (status, reply) = answer(request).await;
    assert_eq!(status, 200, "{reply}");
    reply["data"]["id"].as_str().unwrap().to_owned()
}

async fn append(world: &World, token: &str, id: &str, index: usize, bytes: &[u8]) -> u16 {
    let form =
        Form::new().text("segment_index", index.to_string()).part("media", Part::bytes(bytes.to_vec()).file_name("c"));
    let path = world.x(&format!("/2/media/upload/{id}/append"));
    answer(world.http.post(path).bearer_auth(token).multipart(form)).await.0
}

async fn finalize(world: &World, token: &str, id: &str) -> (u16, Value) {
    let path = world.x(&format!("/2/media/upload/{id}/finalize"));
    answer(world.http.post(path).bearer_auth(token).header("content-length", "0")).await
}

#[tokio::test]
async fn a_video_is_uploaded_in_segments_and_processed() {
    let world = World::with(|settings| settings.processing_ms = 8_000).await;
    let token = world.token("x", "ada");
    let video = mp4(3_000_000, 10);
    let id = initialize(&world, &token, video.len(), "tweet_video", "video/mp4").await;
    assert_eq!(finalize(&world, &token, &id).await.0, 400, "nothing has arrived");
    let chunks: Vec<&[u8]> = video.chunks(1 << 20).collect();
    for index in [1, 0, 2, 1] {
        assert_eq!(append(&world, &token, &id, index, chunks[index]).await, 200);
    }
    let (status, done) = finalize(&world, &token, &id).await;
    assert_eq!((status, &done["data"]["processing_info"]["state"]), (200, &json!("pending")));
    let attach = json!({ "text": "film", "media": { "media_ids": [id] } });
    assert_eq!(world.post_x(&token, &attach).await.0, 400, "still processing");
    let state = || async {
        let (_, body) = world.get_x(&token, &format!("/2/media/upload?command=STATUS&media_id={id}")).await;
        body["data"]["processing_info"]["state"].as_str().unwrap().to_owned()
    };
    world.advance(Duration::from_secs(4));
    assert_eq!(state().await, "in_progress");
    world.advance(Duration::from_secs(4));
    assert_eq!(state().await, "succeeded");
    assert_eq!(world.post_x(&token, &attach).await.0, 201);
    let media = &world.control().ledger()[0].media[0];
    assert_eq!((media.kind.as_str(), media.bytes), ("video", video.len() as u64));
    let hash = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, &video);
    let hex: String = hash.as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(media.sha256.as_deref(), Some(hex.as_str()));
}

#[tokio::test]
async fn bytes_that_are_no_video_fail_in_processing_and_long_ones_need_premium() {
    let world = World::with(|settings| settings.processing_ms = 1_000).await;
    let token = world.token("x", "ada");
    let page = b"<html><body>not found</body></html>";
    let id = initialize(&world, &token, page.len(), "tweet_video", "video/mp4").await;
    append(&world, &token, &id, 0, page).await;
    assert_eq!(finalize(&world, &token, &id).await.0, 200);
    world.advance(Duration::from_secs(1));
    let (_, body) = world.get_x(&token, &format!("/2/media/upload?command=STATUS&media_id={id}")).await;
    let info = &body["data"]["processing_info"];
    assert_eq!((&info["state"], &info["error"]["name"]), (&json!("failed"), &json!("InvalidMedia")));
    assert_eq!(world.post_x(&token, &json!({ "media": { "media_ids": [id] } })).await.0, 400);

    for (persona, status) in [("ada", 403), ("grace", 201)] {
        let token = world.token("x", persona);
        let video = mp4(2_000, 200);
        let id = initialize(&world, &token, video.len(), "tweet_video", "video/mp4").await;
        append(&world, &token, &id, 0, &video).await;
        finalize(&world, &token, &id).await;
        world.advance(Duration::from_secs(1));
        let (got, body) = world.post_x(&token, &json!({ "media": { "media_ids": [id] } })).await;
        assert_eq!(got, status, "{persona}: {body}");
    }
    let big = json!({ "media_type": "video/mp4", "total_bytes": 513 * 1024 * 1024, "media_category": "tweet_video" });
    let request = world.http.post(world.x("/2/media/upload/initialize")).bearer_auth(&token).json(&big);
    assert_eq!(answer(request).await.0, 400);
}

#[tokio::test]
async fn a_segment_above_five_megabytes_is_413_without_a_body() {
    let world = World::new().await;
    let token = world.token("x", "ada");
    let id = initialize(&world, &token, 20_000_000, "tweet_video", "video/mp4").await;
    assert_eq!(append(&world, &token, &id, 0, &vec![0; 5 * 1024 * 1024]).await, 200);
    for size in [5 * 1024 * 1024 + 1, 9_000_000] {
        let form = Form::new().text("segment_index", "1").part("media", Part::bytes(vec![0; size]));
        let path = world.x(&format!("/2/media/upload/{id}/append"));
        let (status, body) = answer(world.http.post(path).bearer_auth(&token).multipart(form)).await;
        assert_eq!((status, body), (413, Value::Null), "{size}");
    }
}

#[tokio::test]
async fn images_and_videos_do_not_mix_and_four_images_are_the_most() {
    let world = World::with(|settings| settings.processing_ms = 0).await;
    let token = world.token("x", "ada");
    let mut images = Vec::new();
    for _ in 0..4 {
        let form = Form::new().part("media", Part::bytes(png(10, 10))).text("media_category", "tweet_image");
        let (_, body) = answer(world.http.post(world.x("/2/media/upload")).bearer_auth(&token).multipart(form)).await;
        images.push(body["data"]["id"].as_str().unwrap().to_owned());
    }
    let video = mp4(2_000, 5);
    let id = initialize(&world, &token, video.len(), "tweet_video", "video/mp4").await;
    append(&world, &token, &id, 0, &video).await;
    assert!(finalize(&world, &token, &id).await.1["data"].get("processing_info").is_none(), "ready at once");
    let attach = |ids: &[&str]| json!({ "media": { "media_ids": ids } });
    assert_eq!(world.post_x(&token, &attach(&[&images[0], &id])).await.0, 400);
    assert_eq!(world.post_x(&token, &attach(&[&images[0], &images[0]])).await.0, 400);
    let all: Vec<&str> = images.iter().map(String::as_str).collect();
    assert_eq!(world.post_x(&token, &attach(&all)).await.0, 201);
    assert_eq!(world.post_x(&token, &attach(&["1", "2", "3", "4", "5"])).await.0, 400);
}

#[tokio::test]
async fn limits_are_counted_per_user_and_per_app_and_told_in_headers() {
    let world = World::with(|settings| {
        settings.x_user_posts_per_15min = 2;
        settings.x_app_posts_per_day = 3;
    })
    .await;
    let (ada, grace) = (world.token("x", "ada"), world.token("x", "grace"));
    let send = |token: String, text: &'static str| {
        let request = world.http.post(world.x("/2/tweets")).bearer_auth(token).json(&json!({ "text": text }));
        async move { request.send().await.unwrap() }
    };
    let first = send(ada.clone(), "1").await;
    let header = |reply: &reqwest::Response, name: &str| reply.headers()[name].to_str().unwrap().to_owned();
    assert_eq!(header(&first, "x-rate-limit-limit"), "2");
    assert_eq!(header(&first, "x-rate-limit-remaining"), "1");
    assert_eq!(header(&first, "x-app-limit-24hour-remaining"), "2");
    let reset: i64 = header(&first, "x-rate-limit-reset").parse().unwrap();
    assert_eq!(reset, world.control().now().as_second() + 900);
    assert_eq!(send(ada.clone(), "2").await.status(), 201);
    let full = send(ada.clone(), "3").await;
    assert_eq!((full.status().as_u16(), header(&full, "x-rate-limit-remaining").as_str()), (429, "0"));
    assert_eq!(full.json::<Value>().await.unwrap()["title"], "Too Many Requests");
    assert_eq!(send(grace.clone(), "4").await.status(), 201, "another user");
    let full = send(grace.clone(), "5").await;
    assert_eq!((full.status().as_u16(), header(&full, "x-app-limit-24hour-remaining").as_str()), (429, "0"));
    world.control().set(|settings| settings.x_limit_body = XLimitBody::V1);
    let body: Value = send(grace.clone(), "5").await.json().await.unwrap();
    assert_eq!(body, json!({ "errors": [{ "code": 88, "message": "Rate limit exceeded" }] }));
    assert_eq!(world.control().ledger().len(), 3);

    world.control().set(|settings| settings.limits = Limits::Off);
    let free = send(grace.clone(), "6").await;
    assert!(free.status() == 201 && !free.headers().contains_key("x-rate-limit-limit"));
    world.control().set(|settings| {
        settings.limits = Limits::Real;
        settings.x_credits = XCredits::Depleted;
    });
    world.advance(Duration::from_secs(86_400));
    let ada = world.token("x", "ada");
    let (status, body) = world.post_x(&ada, &json!({ "text": "paid?" })).await;
    assert_eq!((status, &body["title"]), (402, &json!("CreditsDepleted")));
    world.control().set(|settings| settings.x_credits = XCredits::Capped);
    let (status, body) = world.post_x(&ada, &json!({ "text": "capped?" })).await;
    assert_eq!((status, &body["title"]), (429, &json!("UsageCapExceeded")));
}

#[tokio::test]
async fn a_suspended_user_reads_but_does_not_write() {
    let world = World::new().await;
    let token = world.token("x", "mallory");
    assert_eq!(world.get_x(&token, "/2/users/me").await.0, 200);
    let (status, body) = world.post_x(&token, &json!({ "text": "hi" })).await;
    assert_eq!(status, 403);
    assert!(body["type"].as_str().unwrap().ends_with("user-suspended"));
}

#[tokio::test]
async fn an_edit_is_a_new_id_for_premium_authors() {
    let world = World::new().await;
    let (ada, grace) = (world.token("x", "ada"), world.token("x", "grace"));
    let id = |body: &Value| body["data"]["id"].as_str().unwrap().to_owned();
    let own = id(&world.post_x(&ada, &json!({ "text": "typo" })).await.1);
    let edit = |text: &str, id: &str| json!({ "text": text, "edit_options": { "previous_post_id": id } });
    assert_eq!(world.post_x(&ada, &edit("fixed", &own)).await.0, 403);
    let first = id(&world.post_x(&grace, &json!({ "text": "typo" })).await.1);
    let (status, second) = world.post_x(&grace, &edit("fixed", &first)).await;
    assert_eq!(status, 201);
    assert_eq!(second["data"]["edit_history_tweet_ids"], json!([first, id(&second)]));
    let (_, me) = world.get_x(&grace, "/2/users/me").await;
    let (_, timeline) = world.get_x(&grace, &format!("/2/users/{}/tweets", id(&me))).await;
    assert_eq!(timeline["meta"]["result_count"], 1, "only the newest version");
    world.advance(Duration::from_secs(3_601));
    assert_eq!(world.post_x(&grace, &edit("too late", &id(&second))).await.0, 400);
}

#[tokio::test]
async fn analytics_repeat_and_belong_to_the_author() {
    let world = World::new().await;
    let (ada, grace) = (world.token("x", "ada"), world.token("x", "grace"));
    let id = world.post_x(&ada, &json!({ "text": "numbers" })).await.1["data"]["id"].as_str().unwrap().to_owned();
    let path = format!(
        "/2/tweets/analytics?ids={id}&start_time=2026-11-20T00:00:00Z&end_time=2026-11-21T00:00:00Z&granularity=total&analytics.fields=impressions,likes"
    );
    let (status, first) = world.get_x(&ada, &path).await;
    assert_eq!(status, 200);
    let metrics = &first["data"][0]["timestamped_metrics"][0]["metrics"];
    assert_eq!(metrics.as_object().unwrap().len(), 2);
    assert_eq!(first, world.get_x(&ada, &path).await.1);
    assert!(world.get_x(&grace, &path).await.1.get("data").is_none());
    assert_eq!(world.get_x(&ada, &format!("/2/tweets/analytics?ids={id}")).await.0, 400);
}
