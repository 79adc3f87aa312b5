use serde_json::{Value, json};

use super::*;
use crate::{options::XOptions, progress::Uploaded};

fn progress(previous: Option<&str>, media: usize) -> Progress {
    let uploaded = |n| Uploaded {
        file: social_core::MediaId::new(),
        id: format!("{n}"),
        expires_at: Timestamp::UNIX_EPOCH,
        described: true,
    };
    Progress { previous: previous.map(str::to_owned), media: (0..media).map(uploaded).collect(), ..Progress::default() }
}

fn likeness(text: &str, progress: &Progress, options: &XOptions, post: Value) -> Likeness {
    let part = Part { text: text.into(), options: options.clone() };
    let post: Post = serde_json::from_value(post).unwrap();
    Wanted::new(&part, progress, Some("shop")).compare(&post)
}

fn url(short: &str, long: &str) -> Value {
    json!({"start": 0, "end": 23, "url": short, "expanded_url": long})
}

#[test]
fn a_post_is_known_by_what_it_says() {
    use Likeness::{Other, Same, Similar};
    let (plain, photo) = (progress(None, 0), progress(None, 1));
    let own = |text: &str| json!({"id": "9", "text": text, "conversation_id": "9"});
    let with = |mut post: Value, more: Value| {
        post.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        post
    };
    let link = with(
        own("See https://t.co/aaaaaaaaaa"),
        json!({"entities": {"urls": [url("https://t.co/aaaaaaaaaa", "http://Shop.example.com/a/")]}}),
    );
    let elsewhere = with(
        own("See https://t.co/aaaaaaaaaa"),
        json!({"entities": {"urls": [url("https://t.co/aaaaaaaaaa", "https://other.example.com/")]}}),
    );
    let unexpanded = own("See https://t.co/aaaaaaaaaa");
    let photo_link = json!({"entities": {"urls": [url("https://t.co/mmmmmmmmmm", "https://x.com/shop/status/9/photo/1")]}, "attachments": {"media_keys": ["3_1"]}});
    let photo_post = with(own("A lighthouse https://t.co/mmmmmmmmmm"), photo_link.clone());
    let keyed = json!({"entities": {"urls": [{"url": "https://t.co/mmmmmmmmmm", "expanded_url": "https://elsewhere.example.com/", "media_key": "3_1"}]}, "attachments": {"media_keys": ["3_1"]}});
    let keyed_post = with(own("A lighthouse https://t.co/mmmmmmmmmm"), keyed);
    let long = with(own("The beginning…"), json!({"note_tweet": {"text": "The beginning and the end"}}));
    let cases = [
        ("Hello", &plain, own("Hello"), Same),
        ("Hello", &plain, own("Hello!"), Other),
        ("Hello", &plain, own("hello"), Similar),
        (" Hello \n\n world ", &plain, own("Hello world"), Same),
        ("Fish & chips <3", &plain, own("Fish &amp; chips &lt;3"), Same),
        ("Fish &amp; chips", &plain, own("Fish &amp;amp; chips"), Same),
        ("Cafe\u{301} 👨‍👩‍👧‍👦", &plain, own("Café 👨‍👩‍👧‍👦"), Same),
        ("👍", &plain, own("👎"), Other),
        ("See shop.example.com/a", &plain, link.clone(), Same),
        ("See https://SHOP.example.com/a", &plain, link.clone(), Same),
        ("See https://shop.example.com/a", &plain, elsewhere, Similar),
        ("See https://shop.example.com/a", &plain, unexpanded, Similar),
        ("A lighthouse", &photo, photo_post.clone(), Same),
        ("A lighthouse", &photo, keyed_post, Same),
        ("A lighthouse", &plain, photo_post, Similar),
        ("", &photo, with(own("https://t.co/mmmmmmmmmm"), photo_link), Same),
        ("The beginning and the end", &plain, long, Same),
        ("Hello", &plain, with(own("Hello"), json!({"referenced_tweets": [{"type": "retweeted", "id": "1"}]})), Other),
        ("Hello", &plain, with(own("Hello"), json!({"attachments": {"poll_ids": ["5"]}})), Similar),
    ];
    for (text, progress, post, expected) in cases {
        assert_eq!(likeness(text, progress, &XOptions::default(), post.clone()), expected, "{text:?} against {post}");
    }
}

#[test]
fn an_answer_is_known_by_what_it_answers() {
    use Likeness::{Other, Same, Similar};
    let (root, part) = (progress(None, 0), progress(Some("8"), 0));
    let post = |conversation: Option<&str>, key: &str, parent: Option<&str>| {
        let mut post = json!({"id": "9", "text": "Hello"});
        if let Some(conversation) = conversation {
            post["conversation_id"] = conversation.into();
        }
        if let Some(parent) = parent {
            post[key] = json!([{"type": "replied_to", "id": parent}]);
        }
        post
    };
    for key in ["referenced_tweets", "referenced_posts"] {
        let cases = [
            (&root, post(Some("9"), key, None), Same),
            (&root, post(None, key, None), Same),
            (&root, post(Some("3"), key, None), Other),
            (&root, post(Some("3"), key, Some("8")), Other),
            (&part, post(Some("3"), key, Some("8")), Same),
            (&part, post(None, key, Some("8")), Same),
            (&part, post(Some("3"), key, Some("7")), Other),
            (&part, post(Some("9"), key, None), Other),
            (&part, post(Some("3"), key, None), Similar),
            (&part, post(None, key, None), Similar),
        ];
        for (progress, post, expected) in cases {
            assert_eq!(likeness("Hello", progress, &XOptions::default(), post.clone()), expected, "{post}");
        }
    }
    let named = json!({"id": "9", "text": "@Shop Hello", "referenced_tweets": [{"type": "replied_to", "id": "8"}]});
    assert_eq!(likeness("Hello", &part, &XOptions::default(), named), Same, "X may name whom the answer is for");
}

#[test]
fn a_quoting_post_carries_the_address_of_what_it_quotes() {
    let options = XOptions { quote_tweet_id: Some("5".into()), ..XOptions::default() };
    let mut post = json!({
        "id": "9",
        "text": "Look https://t.co/qqqqqqqqqq",
        "entities": {"urls": [url("https://t.co/qqqqqqqqqq", "https://x.com/other/status/5")]},
        "referenced_tweets": [{"type": "quoted", "id": "5"}],
    });
    assert_eq!(likeness("Look", &progress(None, 0), &options, post.clone()), Likeness::Same);
    post["referenced_tweets"] = json!([]);
    assert_eq!(likeness("Look", &progress(None, 0), &options, post), Likeness::Similar);
}

#[test]
fn absence_needs_two_complete_looks_five_minutes_apart() {
    let at = |seconds: i64| Timestamp::from_second(1_000_000 + seconds).unwrap();
    let secs = Duration::from_secs;
    let mut doubt = Doubt { since: at(0), attempt: at(0), absent_at: None };
    assert_eq!(absence(&mut doubt, at(5)), Absence::AskIn(secs(25)));
    assert_eq!(doubt.absent_at, None, "too early to count");
    assert_eq!(absence(&mut doubt, at(30)), Absence::AskIn(secs(300)));
    assert_eq!(absence(&mut doubt, at(329)), Absence::AskIn(secs(1)));
    assert_eq!(absence(&mut doubt, at(330)), Absence::Proven);
    let mut again = Doubt { attempt: at(400), absent_at: None, ..doubt };
    assert_eq!(absence(&mut again, at(430)), Absence::AskIn(secs(300)));
    assert_eq!(absence(&mut again, at(730)), Absence::SentAgain);
}
