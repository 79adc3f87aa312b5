//! A browser's way through the shop.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

use std::future::IntoFuture as _;

use example_embed_axum::{Shop, app, migrate};
use reqwest::{Client, Response};
use serde_json::{Value, json};
use social_core::{Social, vault::KeyRing};
use social_platforms::X;
use social_sandbox::{RunningSandbox, Sandbox};
use social_store::SqliteStore;
use sqlx::SqlitePool;
use tokio_util::sync::CancellationToken;
use url::Url;

struct Running {
    address: String,
    sandbox: RunningSandbox,
    pool: SqlitePool,
    stop: CancellationToken,
    worker: tokio::task::JoinHandle<()>,
    _folder: tempfile::TempDir,
}

async fn start() -> Running {
    let sandbox = Sandbox::new().start().await.unwrap();
    let folder = tempfile::tempdir().unwrap();
    let url = format!("sqlite://{}", folder.path().join("shop.db").display());
    let store = SqliteStore::open(&url).await.unwrap();
    let pool = SqlitePool::connect(&url).await.unwrap();
    migrate(&pool).await.unwrap();
    let (keys, _) = KeyRing::generate("shop").unwrap();
    let x = X::builder("sandbox-x-client", "sandbox-x-secret").base_url(sandbox.base_url("x").parse().unwrap());
    let social = Social::builder().store(store.clone()).keys(keys).platform(x.build().unwrap()).build().unwrap();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    let stop = CancellationToken::new();
    let worker = tokio::spawn({
        let (worker, stop) = (social.worker(), stop.clone());
        async move { worker.run_until(stop.cancelled_owned()).await.unwrap() }
    });
    let shop = Shop { pool: pool.clone(), social, store, address: address.as_str().into() };
    tokio::spawn(axum::serve(listener, app(shop)).into_future());
    Running { address, sandbox, pool, stop, worker, _folder: folder }
}

impl Running {
    async fn stop(self) {
        self.stop.cancel();
        self.worker.await.unwrap();
    }
}

/// A browser that follows redirects by hand and keeps its cookies.
struct Browser {
    client: Client,
    cookies: Vec<String>,
}

impl Browser {
    fn new() -> Self {
        let client = Client::builder().redirect(reqwest::redirect::Policy::none()).no_proxy().build().unwrap();
        Self { client, cookies: Vec::new() }
    }

    async fn get(&mut self, url: &str) -> Response {
        let request = self.client.get(url).header("cookie", self.cookies.join("; "));
        self.keep(request.send().await.unwrap())
    }

    async fn post(&mut self, url: &str, body: Value) -> Response {
        let request = self.client.post(url).header("cookie", self.cookies.join("; ")).json(&body);
        self.keep(request.send().await.unwrap())
    }

    fn keep(&mut self, answer: Response) -> Response {
        for cookie in answer.headers().get_all("set-cookie") {
            self.cookies.push(cookie.to_str().unwrap().split(';').next().unwrap().to_owned());
        }
        answer
    }

    async fn log_in(shop: &Running, name: &str) -> Self {
        let mut browser = Self::new();
        assert_eq!(browser.post(&format!("{}/login", shop.address), json!({ "name": name })).await.status(), 204);
        browser
    }

    /// Goes to the network, agrees there, and answers with the address that leads back.
    async fn agree(&mut self, shop: &Running) -> String {
        let away = self.get(&format!("{}/connect/x", shop.address)).await;
        assert_eq!(away.status(), 303);
        let mut consent: Url = away.headers()["location"].to_str().unwrap().parse().unwrap();
        consent.query_pairs_mut().append_pair("auto", "approve");
        let back = self.client.get(consent).send().await.unwrap();
        back.headers()["location"].to_str().unwrap().to_owned()
    }
}

#[tokio::test]
async fn a_product_is_announced_with_the_shop_s_own_transaction() {
    let shop = start().await;
    let mut ada = Browser::log_in(&shop, "ada").await;
    let back = ada.agree(&shop).await;
    let connected: Value = ada.get(&back).await.json().await.unwrap();
    assert_eq!(connected["accounts"].as_array().map(Vec::len), Some(1), "{connected}");

    // The shop fails after the post was stored in its transaction: neither product nor post stays.
    let products = format!("{}/products", shop.address);
    assert_eq!(ada.post(&products, json!({ "name": "a broken lamp", "fail": true })).await.status(), 503);
    let left: i64 = sqlx::query_scalar("SELECT (SELECT count(*) FROM shop_products) + (SELECT count(*) FROM posts)")
        .fetch_one(&shop.pool)
        .await
        .unwrap();
    assert_eq!(left, 0);

    let answer = ada.post(&products, json!({ "name": "a lamp" })).await;
    assert_eq!(answer.status(), 201);
    let made: Value = answer.json().await.unwrap();
    let product = format!("{products}/{}?until_ended=true", made["product"]);
    let shown: Value = ada.get(&product).await.json().await.unwrap();
    assert_eq!(shown, json!({ "name": "a lamp", "post": "published" }));
    let ledger = shop.sandbox.control().ledger();
    assert_eq!(ledger.len(), 1);
    assert_eq!(&*ledger[0].text, "New in the shop: a lamp");

    // Others see nothing of it.
    let mut eve = Browser::log_in(&shop, "eve").await;
    assert_eq!(eve.get(&product).await.status(), 404);
    shop.stop().await;
}

#[tokio::test]
async fn a_callback_in_another_browser_is_refused() {
    let shop = start().await;
    let mut mallory = Browser::log_in(&shop, "mallory").await;
    let back = mallory.agree(&shop).await;
    // The victim's browser follows the link that Mallory's began: without Mallory's cookie it leads nowhere, and only once.
    let mut victim = Browser::log_in(&shop, "victim").await;
    assert_eq!(victim.get(&back).await.status(), 400);
    assert_eq!(mallory.get(&back).await.status(), 400);
    shop.stop().await;
}
