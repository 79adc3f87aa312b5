//! A shop that posts about its products. It has its own users, its own database and its own web framework; connecting accounts and publishing
//! are a library inside it.
//!
//! What to look at:
//!
//! * `connect` and `callback`: the two routes of connecting, with the cookie that binds the answer to the browser that asked.
//! * `announce`: a product and its post are stored in one transaction of the shop. Neither is there without the other.
//! * `main.rs`: the worker runs beside the web server, in the same process.

use std::sync::Arc;

use axum::{
    Json, Router,
    extract::{Path, Query, RawQuery, State},
    response::{IntoResponse, Redirect, Response},
    routing::{get, post},
};
use http::{HeaderMap, StatusCode, header};
use serde::{Deserialize, Serialize};
use serde_json::json;
use social_core::{
    Draft, Error, ErrorKind, PostId, Social, UserId,
    social::CallbackQuery,
    store::{Insert, PostStatus},
};
use social_store::SqliteStore;
use sqlx::SqlitePool;

/// What the shop's handlers share.
#[derive(Debug, Clone)]
pub struct Shop {
    /// The shop's own pool, over the same file as the store.
    pub pool: SqlitePool,
    /// Connecting and publishing.
    pub social: Social,
    /// To wake workers after the shop's own commits.
    pub store: SqliteStore,
    /// How browsers reach the shop.
    pub address: Arc<str>,
}

/// The shop's own tables, beside those of the store in one file.
///
/// # Errors
/// If the database does not take them.
pub async fn migrate(pool: &SqlitePool) -> Result<(), sqlx::Error> {
    sqlx::query("CREATE TABLE IF NOT EXISTS shop_users (id TEXT PRIMARY KEY, name TEXT NOT NULL UNIQUE)")
        .execute(pool)
        .await?;
    sqlx::query(
        "CREATE TABLE IF NOT EXISTS shop_products (id INTEGER PRIMARY KEY, user_id TEXT NOT NULL, name TEXT NOT NULL, post_id TEXT)",
    )
    .execute(pool)
    .await?;
    Ok(())
}

/// The shop's routes.
pub fn app(shop: Shop) -> Router {
    Router::new()
        .route("/login", post(login))
        .route("/connect/{platform}", get(connect))
        .route("/callback/{platform}", get(callback))
        .route("/products", post(announce))
        .route("/products/{id}", get(product))
        .with_state(shop)
}

/// A user of the shop. A real shop has sessions; here the cookie is the user's id.
struct Customer(UserId);

const SESSION: &str = "shop_session";
/// The cookie that binds a connection attempt to its browser. On https it is called `__Host-connect` and is `Secure`.
const BINDING: &str = "connect";

#[derive(Deserialize)]
struct Login {
    name: String,
}

async fn login(State(shop): State<Shop>, Json(login): Json<Login>) -> Result<Response, Refusal> {
    let id = UserId::new().to_string();
    sqlx::query("INSERT INTO shop_users (id, name) VALUES ($1, $2) ON CONFLICT (name) DO NOTHING")
        .bind(&id)
        .bind(&login.name)
        .execute(&shop.pool)
        .await?;
    let id: String =
        sqlx::query_scalar("SELECT id FROM shop_users WHERE name = $1").bind(&login.name).fetch_one(&shop.pool).await?;
    let session = format!("{SESSION}={id}; Path=/; HttpOnly; SameSite=Lax");
    Ok(([(header::SET_COOKIE, session)], StatusCode::NO_CONTENT).into_response())
}

/// Sends the browser to a network and gives it the cookie that it must bring back.
async fn connect(
    State(shop): State<Shop>,
    Path(platform): Path<String>,
    headers: HeaderMap,
) -> Result<Response, Refusal> {
    let customer = customer(&headers)?;
    let callback = format!("{}/callback/{platform}", shop.address);
    let started = shop.social.connect(&customer.0, &platform).callback(&callback).begin().await?;
    let life = started.life.as_secs();
    let cookie = format!("{BINDING}={}; Path=/; Max-Age={life}; HttpOnly; SameSite=Lax", started.cookie);
    Ok(([(header::SET_COOKIE, cookie)], Redirect::to(started.url.as_str())).into_response())
}

#[derive(Serialize)]
struct ConnectedView {
    accounts: Vec<String>,
}

/// Takes the browser back. The session plays no part: who connects is known from the attempt, and that it is the same browser from the cookie.
async fn callback(
    State(shop): State<Shop>,
    Path(platform): Path<String>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Result<Json<ConnectedView>, Refusal> {
    let query = CallbackQuery::parse(&query.unwrap_or_default());
    let binding = cookie(&headers, BINDING).unwrap_or_default();
    let connected = shop.social.finish(&platform, &query, binding).await.map_err(Error::from)?;
    let accounts = connected.accounts.iter().map(|account| account.profile.display_name.clone()).collect();
    Ok(Json(ConnectedView { accounts }))
}

#[derive(Deserialize)]
struct NewProduct {
    name: String,
    /// Fails after the post was stored, to show that nothing stays.
    #[serde(default)]
    fail: bool,
}

/// Adds a product and schedules the post about it, in one transaction of the shop.
async fn announce(
    State(shop): State<Shop>,
    headers: HeaderMap,
    Json(new): Json<NewProduct>,
) -> Result<Response, Refusal> {
    let customer = customer(&headers)?;
    let accounts = shop.social.store().accounts(customer.0).await?;

    // Everything that can be refused is refused here, before the transaction.
    let draft = Draft::text(format!("New in the shop: {}", new.name));
    let prepared = shop.social.schedule(&customer.0, draft).on(&accounts).prepare().await?;

    // A transaction that will write says so at once, or SQLite may refuse it later.
    let mut transaction = shop.pool.begin_with("BEGIN IMMEDIATE").await?;
    let product: i64 =
        sqlx::query_scalar("INSERT INTO shop_products (user_id, name, post_id) VALUES ($1, $2, $3) RETURNING id")
            .bind(customer.0.to_string())
            .bind(&new.name)
            .bind(prepared.post.id.to_string())
            .fetch_one(&mut *transaction)
            .await?;
    match SqliteStore::insert_post_in(&mut transaction, &prepared).await? {
        Insert::Stored => {}
        Insert::Existing(_) | Insert::KeyConflict => return Err(Refusal::plain(StatusCode::CONFLICT, "sent before")),
    }
    if new.fail {
        // Dropping the transaction takes product and post back.
        return Err(Refusal::plain(StatusCode::SERVICE_UNAVAILABLE, "the shop fails on purpose"));
    }
    transaction.commit().await?;
    // A worker that is not told finds the post with its next look, within fifteen seconds.
    shop.store.wake();
    Ok((StatusCode::CREATED, Json(json!({ "product": product, "post": prepared.post.id }))).into_response())
}

#[derive(Deserialize)]
struct Wait {
    /// Answers only when the post has ended. For the example's test; a real shop lets its page ask again.
    #[serde(default)]
    until_ended: bool,
}

/// A product with what became of its post.
async fn product(
    State(shop): State<Shop>,
    Path(id): Path<i64>,
    Query(wait): Query<Wait>,
    headers: HeaderMap,
) -> Result<Response, Refusal> {
    let customer = customer(&headers)?;
    let found: Option<(String, String)> =
        sqlx::query_as("SELECT name, post_id FROM shop_products WHERE id = $1 AND user_id = $2")
            .bind(id)
            .bind(customer.0.to_string())
            .fetch_optional(&shop.pool)
            .await?;
    let Some((name, post)) = found else { return Err(Refusal::plain(StatusCode::NOT_FOUND, "no such product")) };
    let post: PostId = post.parse().map_err(|_| Refusal::plain(StatusCode::INTERNAL_SERVER_ERROR, "a broken id"))?;
    loop {
        let Some((_, deliveries)) = shop.social.store().post(customer.0, post).await? else {
            return Err(Refusal::plain(StatusCode::NOT_FOUND, "no such post"));
        };
        let status = PostStatus::of(deliveries.iter().map(|delivery| delivery.phase.name()));
        if wait.until_ended && matches!(status, PostStatus::Pending | PostStatus::Publishing) {
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
            continue;
        }
        return Ok(Json(json!({ "name": name, "post": status.as_str() })).into_response());
    }
}

fn customer(headers: &HeaderMap) -> Result<Customer, Refusal> {
    let id = cookie(headers, SESSION).and_then(|id| id.parse::<UserId>().ok());
    id.map(Customer).ok_or_else(|| Refusal::plain(StatusCode::UNAUTHORIZED, "log in first"))
}

fn cookie<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    let pairs =
        headers.get_all(header::COOKIE).iter().filter_map(|value| value.to_str().ok()).flat_map(|line| line.split(';'));
    pairs.filter_map(|pair| pair.trim().split_once('=')).find(|(known, _)| *known == name).map(|(_, value)| value)
}

/// What a browser is told when something does not work.
#[derive(Debug)]
struct Refusal {
    status: StatusCode,
    advice: String,
}

impl Refusal {
    fn plain(status: StatusCode, advice: &str) -> Self {
        Self { status, advice: advice.to_owned() }
    }
}

impl From<Error> for Refusal {
    fn from(error: Error) -> Self {
        let status = match error.kind() {
            ErrorKind::Invalid => StatusCode::UNPROCESSABLE_ENTITY,
            ErrorKind::NotFound => StatusCode::NOT_FOUND,
            ErrorKind::Rejected => StatusCode::BAD_REQUEST,
            ErrorKind::Conflict => StatusCode::CONFLICT,
            _ => StatusCode::BAD_GATEWAY,
        };
        // A sentence for people; the technical one stays in the log.
        Self { status, advice: error.advice_text().to_owned() }
    }
}

impl From<sqlx::Error> for Refusal {
    fn from(_: sqlx::Error) -> Self {
        Self::plain(StatusCode::INTERNAL_SERVER_ERROR, "the shop's database has a problem")
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        (self.status, Json(json!({ "advice": self.advice }))).into_response()
    }
}
