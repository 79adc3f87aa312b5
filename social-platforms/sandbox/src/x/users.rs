//! X accounts.

use super::errors;
use crate::answer::{self, Answer, Input, Pairs};
use crate::clock::rfc3339_millis;
use crate::lock;
use crate::rng::{hash, metric};
use crate::world::{Persona, World};
use serde_json::{Map, Value, json};
use std::sync::Arc;

#[derive(Debug, Clone)]
pub(crate) struct User {
    pub(crate) number: u64,
    pub(crate) id: Arc<str>,
    pub(crate) username: Arc<str>,
    pub(crate) name: String,
    /// `None`, `Basic`, `Premium`, `PremiumPlus`.
    pub(crate) subscription: String,
    pub(crate) protected: bool,
    pub(crate) suspended: bool,
    pub(crate) note: &'static str,
}

pub(super) fn initial(_seed: u64) -> Vec<User> {
    let special = |mut user: User, protected, suspended, note| {
        (user.protected, user.suspended, user.note) = (protected, suspended, note);
        user
    };
    vec![
        special(User::new("ada", "Ada Lovelace", "None"), false, false, "an ordinary account"),
        special(
            User::new("grace", "Grace Hopper", "Premium"),
            false,
            false,
            "Premium: 25,000 characters, long video, edits",
        ),
        special(User::new("linus", "Linus T.", "None"), true, false, "protected: only he sees his posts"),
        special(User::new("katherine", "Katherine Johnson", "PremiumPlus"), false, false, "Premium+"),
        special(User::new("mallory", "Mallory", "None"), false, true, "suspended: may log in but not write"),
    ]
}

impl User {
    /// The id depends on the name alone, so that it is the same in every run.
    pub(crate) fn new(username: &str, name: &str, subscription: &str) -> Self {
        let number = 1_000_000_000_000_000_000 + hash(&["x-user", username]) % 500_000_000_000_000_000;
        Self {
            number,
            id: Arc::from(number.to_string()),
            username: Arc::from(username),
            name: name.to_owned(),
            subscription: subscription.to_owned(),
            protected: false,
            suspended: false,
            note: "",
        }
    }

    pub(crate) fn is_premium(&self) -> bool {
        matches!(self.subscription.as_str(), "Premium" | "PremiumPlus")
    }

    pub(crate) fn persona(&self) -> Persona {
        Persona {
            platform: "x".to_owned(),
            name: self.username.to_string(),
            display_name: self.name.clone(),
            account: self.id.to_string(),
            note: self.note.to_owned(),
        }
    }

    /// The user with the optional fields that were asked for.
    pub(super) fn view(&self, fields: &[&str], base: &str, posts: usize, current: bool) -> Value {
        let mut view = Map::new();
        view.insert("id".to_owned(), json!(&*self.id));
        view.insert("name".to_owned(), json!(self.name));
        view.insert("username".to_owned(), json!(&*self.username));
        for field in fields {
            let value = match *field {
                "profile_image_url" => {
                    json!(format!("{base}/x/profile_images/{}/{}_normal.svg", self.id, self.username))
                }
                "verified" => json!(self.is_premium()),
                "verified_type" => json!(if self.is_premium() { "blue" } else { "none" }),
                "subscription_type" => json!(self.subscription),
                "protected" => json!(self.protected),
                "created_at" => json!(rfc3339_millis(1_400_000_000_000_000 + (self.number % 1_000_000) as i64 * 1_000)),
                "description" => json!(format!("{} in the sandbox", self.name)),
                "public_metrics" => {
                    let mut metrics = json!({
                        "followers_count": metric(&self.id, "followers", 5_000),
                        "following_count": metric(&self.id, "following", 500),
                        "listed_count": metric(&self.id, "listed", 50),
                        "like_count": metric(&self.id, "likes", 900),
                        "media_count": 0
                    });
                    metrics[if current { "post_count" } else { "tweet_count" }] = json!(posts);
                    metrics
                }
                _ => continue,
            };
            view.insert((*field).to_owned(), value);
        }
        Value::Object(view)
    }
}

fn shown(world: &World, input: &Input, query: &Pairs, index: usize) -> Answer {
    let state = lock(&world.x);
    let Some(user) = state.users.get(index) else { return errors::unauthorized() };
    let current = super::read::Dialect::of(world, query).is_current();
    let view = user.view(&query.list("user.fields"), &input.base(), state.timelines[index].len(), current);
    answer::json(200, &json!({ "data": view }))
}

pub(super) fn me(world: &World, input: &Input, user: usize) -> Answer {
    shown(world, input, &input.query(), user)
}

pub(super) fn by_id(world: &World, input: &Input, id: &str, _asking: usize) -> Answer {
    let found = id.parse().ok().and_then(|number: u64| lock(&world.x).by_id.get(&number).copied());
    match found {
        Some(index) => shown(world, input, &input.query(), index),
        None => answer::json(200, &json!({ "errors": [errors::missing("user", "id", id)] })),
    }
}
