//! Every request that the adapter can send, against X's own specification.

use std::{collections::BTreeSet, path::Path};

use serde_json::{Map, Value, json};
use social_core::{Analytics, Connect, Draft, Publish, RemotePost, RemotePostId, media::MediaKind, time::Clock};
use social_x::{Vocabulary, X};
use wiremock::Request;

use crate::support::{World, answer, header, multipart};

#[tokio::test]
async fn every_request_is_in_the_specification() {
    let Some(folder) = std::env::var_os("CONTRACTS_DIR") else {
        assert!(std::env::var_os("CI").is_none(), "CONTRACTS_DIR has to be set in CI");
        println!("skipped: CONTRACTS_DIR is not set");
        return;
    };
    let spec = std::fs::read(Path::new(&folder).join("x-openapi.json")).unwrap();
    let spec = Spec(serde_json::from_slice(&spec).unwrap());
    let mut operations = BTreeSet::new();
    for vocabulary in [Vocabulary::Tweets, Vocabulary::Posts] {
        for request in everything(vocabulary).await {
            operations.insert(spec.check(&request));
        }
    }
    let expected = [
        "delete /2/tweets/{id}",
        "get /2/media/upload",
        "get /2/tweets",
        "get /2/users/me",
        "get /2/users/{id}/tweets",
        "post /2/media/metadata",
        "post /2/media/upload",
        "post /2/media/upload/initialize",
        "post /2/media/upload/{id}/append",
        "post /2/media/upload/{id}/finalize",
        "post /2/tweets",
    ];
    assert_eq!(operations, expected.map(str::to_owned).into());
}

/// Uses everything that the adapter has.
async fn everything(vocabulary: Vocabulary) -> Vec<Request> {
    let mut world = World::built(|builder| builder.vocabulary(vocabulary).allow_quotes()).await;
    world.all_goes_well().await;
    let pages = answer(200, json!({"data": [], "meta": {"next_token": "more"}}));
    world.mount("GET", "/2/users/42/tweets", pages).await;
    world
        .mount("GET", "/2/users/me", answer(200, json!({"data": {"id": "42", "name": "Shop", "username": "shop"}})))
        .await;
    world.mount("GET", "/2/tweets", answer(200, json!({}))).await;
    world.mount("DELETE", "/2/tweets/17", answer(200, json!({"data": {"deleted": true}}))).await;

    let mut drafts = Vec::new();
    for (kind, mime) in [
        (MediaKind::Image, "image/jpeg"),
        (MediaKind::Image, "image/png"),
        (MediaKind::Image, "image/webp"),
        (MediaKind::Gif, "image/gif"),
        (MediaKind::Video, "video/mp4"),
        (MediaKind::Video, "video/quicktime"),
        (MediaKind::Video, "video/webm"),
        (MediaKind::Video, "video/mp2t"),
    ] {
        drafts.push(Draft::text("a").attach(world.file(kind, mime, vec![1; 10], Some("described")).await));
        drafts.push(Draft::text("").attach(world.file(kind, mime, vec![1; 10], None).await));
    }
    let four = [1, 2, 3, 4];
    let mut pictures = Draft::text("four");
    for n in four {
        pictures = pictures.attach(world.file(MediaKind::Image, "image/png", vec![n], None).await);
    }
    drafts.push(pictures);
    // A picture that is too large for one request goes in segments.
    drafts.push(
        Draft::text("large")
            .attach(world.file(MediaKind::Image, "image/png", vec![1; 6 * crate::support::MIB], None).await),
    );
    for settings in ["following", "mentionedUsers", "subscribers", "verified"] {
        let poll = json!({"options": ["Tea", "🌊".repeat(25)], "duration_minutes": 10_080});
        drafts.push(Draft::text("a").option(X::ID, json!({"reply_settings": settings, "poll": poll})));
    }
    let options = json!({"quote_tweet_id": "5", "community_id": "6", "made_with_ai": true, "paid_partnership": true});
    drafts.push(Draft::text("a").then("b").first_comment("c").option(X::ID, options));
    for draft in drafts {
        world.parts.clear();
        let mut from = None;
        loop {
            let ready = world.prepare_from(&draft, from.take()).await.unwrap().pop().unwrap();
            let _ = world.x.reconcile(&world.cx(&draft), ready.clone()).await.unwrap();
            match world.x.commit(&world.cx(&draft), ready).await.unwrap() {
                social_core::Committed::Next { at, part } => {
                    world.parts.push(part);
                    from = Some(at);
                }
                _ => break,
            }
        }
    }
    world.parts = vec![RemotePost::new("7", "a")];
    let young = (((world.clock.now().as_millisecond() - 1_288_834_974_657) as u64) << 22).to_string();
    let ids = [RemotePostId::new(young), RemotePostId::new("20")];
    world.x.posts(&world.call, &world.tokens, &world.account, &ids).await.unwrap();
    world.x.account(&world.call, &world.tokens, &world.account).await.unwrap();
    world.x.accounts(&world.call, &world.tokens).await.unwrap();
    world.x.delete(&world.call, &world.tokens, &world.account, &RemotePostId::new("17")).await.unwrap();
    world.requests().await
}

/// X still takes its earlier words, which its specification no longer names. What we send in them, and what it is now.
const RENAMED: [(&str, &str); 2] = [("tweet.fields", "post.fields"), ("note_tweet", "note_post")];
/// A field in the earlier words and an expansion now.
const NOW_EXPANSIONS: [(&str, &str); 1] = [("referenced_tweets", "referenced_posts")];

struct Spec(Value);

impl Spec {
    fn resolve<'s>(&'s self, value: &'s Value) -> &'s Value {
        match value.get("$ref").and_then(Value::as_str) {
            Some(reference) => self
                .resolve(self.0.pointer(reference.trim_start_matches('#')).expect("a reference that leads somewhere")),
            None => value,
        }
    }

    /// Checks a request and gives the operation that it is.
    fn check(&self, request: &Request) -> String {
        let method = request.method.as_str().to_ascii_lowercase();
        let path = request.url.path();
        let (template, item) = self.path(path, &method);
        let operation = &item[&method];
        let name = format!("{method} {template}");
        let parameters: Vec<&Value> = [&operation["parameters"], &item["parameters"]]
            .into_iter()
            .filter_map(Value::as_array)
            .flatten()
            .map(|parameter| self.resolve(parameter))
            .collect();
        let of = |place: &str, name: &str| parameters.iter().find(|p| p["in"] == place && p["name"] == name).copied();

        for (pattern, piece) in template.split('/').zip(path.split('/')) {
            if let Some(parameter) = pattern.strip_prefix('{').and_then(|rest| rest.strip_suffix('}')) {
                let parameter = of("path", parameter).unwrap_or_else(|| panic!("{name}: {pattern} is not described"));
                self.matches(&json!(piece), &parameter["schema"], &format!("{name} {pattern}"));
            }
        }
        let mut given: Map<String, Value> = Map::new();
        for (key, value) in request.url.query_pairs() {
            assert!(given.insert(key.clone().into_owned(), json!(value)).is_none(), "{name}: {key} is given twice");
        }
        in_present_words(&mut given);
        for (key, value) in &given {
            let parameter = of("query", key).unwrap_or_else(|| panic!("{name}: the query parameter {key} is unknown"));
            let schema = self.resolve(&parameter["schema"]);
            let text = value.as_str().unwrap();
            let value = match schema["type"].as_str() {
                Some("array") => text.split(',').map(|item| json!(item)).collect(),
                Some("integer") => json!(text.parse::<i64>().unwrap_or_else(|_| panic!("{name} {key}: {text}"))),
                _ => json!(text),
            };
            self.matches(&value, schema, &format!("{name} {key}"));
        }
        for parameter in &parameters {
            let required = parameter["in"] == "query" && parameter["required"] == true;
            assert!(
                !required || given.contains_key(parameter["name"].as_str().unwrap()),
                "{name}: {} is missing",
                parameter["name"]
            );
        }
        self.body(request, operation, &name);
        name
    }

    fn path(&self, path: &str, method: &str) -> (&str, &Value) {
        let fits = |template: &str| {
            let (pattern, pieces): (Vec<&str>, Vec<&str>) = (template.split('/').collect(), path.split('/').collect());
            pattern.len() == pieces.len()
                && pattern.iter().zip(pieces).all(|(p, piece)| p.starts_with('{') || *p == piece)
        };
        let paths = self.0["paths"].as_object().unwrap();
        // The template with the fewest places for parameters is the one that is meant.
        let best = paths.iter().filter(|(template, item)| fits(template) && item.get(method).is_some());
        let (template, item) = best
            .min_by_key(|(template, _)| template.matches('{').count())
            .unwrap_or_else(|| panic!("{method} {path} is unknown"));
        (template, item)
    }

    fn body(&self, request: &Request, operation: &Value, name: &str) {
        let Some(description) = operation.get("requestBody") else {
            assert!(request.body.is_empty(), "{name} takes no body");
            return;
        };
        let media_type = header(request, "content-type").split(';').next().unwrap();
        let schema = &self.resolve(description)["content"][media_type]["schema"];
        assert!(!schema.is_null(), "{name} does not take {media_type:?}");
        let body = if media_type == "multipart/form-data" {
            let properties = &self.resolve(schema)["properties"];
            multipart(request)
                .into_iter()
                .map(|(field, bytes)| {
                    let text = String::from_utf8_lossy(&bytes).into_owned();
                    let value = match properties[&field]["type"].as_str() {
                        Some("integer") => json!(text.parse::<i64>().unwrap()),
                        _ => json!(text),
                    };
                    (field, value)
                })
                .collect::<Map<_, _>>()
                .into()
        } else {
            request.body_json().unwrap()
        };
        self.matches(&body, schema, name);
    }

    /// The part of JSON Schema that this specification uses.
    fn matches(&self, value: &Value, schema: &Value, at: &str) {
        let schema = self.resolve(schema);
        if let Some(any) = schema.get("anyOf").or_else(|| schema.get("oneOf")).and_then(Value::as_array) {
            assert!(
                any.iter().any(|one| self.is_type(value, self.resolve(one))),
                "{at}: {value} fits none of the alternatives"
            );
            return;
        }
        assert!(self.is_type(value, schema), "{at}: {value} is not of type {}", schema["type"]);
        if let Some(allowed) = schema["enum"].as_array() {
            assert!(allowed.contains(value), "{at}: {value} is not one of {allowed:?}");
        }
        let within = |actual: f64, least: &str, most: &str| {
            assert!(schema[least].as_f64().is_none_or(|least| actual >= least), "{at}: {actual} is under {least}");
            assert!(schema[most].as_f64().is_none_or(|most| actual <= most), "{at}: {actual} is over {most}");
        };
        match value {
            Value::Number(number) => within(number.as_f64().unwrap(), "minimum", "maximum"),
            Value::String(text) => {
                within(text.chars().count() as f64, "minLength", "maxLength");
                match schema["pattern"].as_str() {
                    None => {}
                    Some("^[0-9]{1,19}$") => {
                        assert!(
                            (1..=19).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_digit()),
                            "{at}: {text}"
                        );
                    }
                    Some(pattern) => panic!("{at}: this test does not know the pattern {pattern}"),
                }
                if schema["format"] == "date-time" {
                    assert!(text.ends_with('Z') && text.parse::<jiff::Timestamp>().is_ok(), "{at}: {text}");
                }
            }
            Value::Array(items) => {
                within(items.len() as f64, "minItems", "maxItems");
                items.iter().for_each(|item| self.matches(item, &schema["items"], at));
            }
            Value::Object(members) => {
                for required in schema["required"].as_array().into_iter().flatten() {
                    assert!(members.contains_key(required.as_str().unwrap()), "{at}: {required} is missing");
                }
                for (name, member) in members {
                    match schema["properties"].get(name) {
                        Some(property) => self.matches(member, property, &format!("{at}.{name}")),
                        None => panic!("{at}: {name} is not in the specification"),
                    }
                }
            }
            Value::Null | Value::Bool(_) => {}
        }
    }

    fn is_type(&self, value: &Value, schema: &Value) -> bool {
        match schema["type"].as_str() {
            Some("object") => value.is_object(),
            Some("array") => value.is_array(),
            Some("string") => value.is_string(),
            Some("integer") => value.is_i64() || value.is_u64(),
            Some("number") => value.is_number(),
            Some("boolean") => value.is_boolean(),
            _ => true,
        }
    }
}

/// Translates a query in the earlier words.
fn in_present_words(query: &mut Map<String, Value>) {
    let Some(Value::String(fields)) = query.remove("tweet.fields") else { return };
    let renamed =
        |word: &str| RENAMED.iter().find(|(old, _)| *old == word).map_or(word.to_owned(), |(_, new)| (*new).to_owned());
    let expansion = |word: &&str| NOW_EXPANSIONS.iter().any(|(old, _)| old == word);
    let (expanded, kept): (Vec<&str>, Vec<&str>) = fields.split(',').partition(expansion);
    let kept: Vec<String> = kept.into_iter().map(renamed).collect();
    query.insert(renamed("tweet.fields"), json!(kept.join(",")));
    let mut expansions: Vec<String> =
        query.get("expansions").and_then(Value::as_str).map(str::to_owned).into_iter().collect();
    expansions.extend(
        expanded
            .iter()
            .filter_map(|word| NOW_EXPANSIONS.iter().find(|(old, _)| old == word))
            .map(|(_, new)| (*new).to_owned()),
    );
    if !expansions.is_empty() {
        query.insert("expansions".to_owned(), json!(expansions.join(",")));
    }
}
