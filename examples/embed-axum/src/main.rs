//! The shop as a program, with the networks simulated on this machine: `cargo run -p example-embed-axum`.

use std::error::Error;

use example_embed_axum::{Shop, app, migrate};
use social_core::{Social, vault::KeyRing};
use social_platforms::{LinkedIn, X};
use social_sandbox::Sandbox;
use social_store::SqliteStore;
use sqlx::SqlitePool;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let sandbox = Sandbox::new().start().await?;
    let store = SqliteStore::open("sqlite://shop.db").await?;
    // The shop's own pool over the same file: its transactions may hold the shop's rows and the library's.
    let pool = SqlitePool::connect("sqlite://shop.db").await?;
    migrate(&pool).await?;

    // A real shop keeps its key: `KeyRing::from_env("SOCIAL_MASTER_KEYS")`. With a fresh one, accounts of an earlier run cannot be opened.
    let (keys, _line_for_the_environment) = KeyRing::generate("shop")?;
    let x = X::builder("sandbox-x-client", "sandbox-x-secret").base_url(sandbox.base_url("x").parse()?);
    let linkedin = LinkedIn::builder("sandbox-linkedin-client", "sandbox-linkedin-secret");
    let social = Social::builder()
        .store(store.clone())
        .keys(keys)
        .platform(x.build()?)
        .platform(linkedin.base_url(sandbox.base_url("linkedin").parse()?).build()?)
        .build()?;

    let listener = tokio::net::TcpListener::bind("127.0.0.1:8085").await?;
    let address = format!("http://{}", listener.local_addr()?);
    println!("the shop     {address}");
    println!("the networks {}", sandbox.url());
    let shop = Shop { pool, social: social.clone(), store, address: address.into() };

    // The worker beside the web server; both end with Ctrl-C.
    let worker = social.worker().run_until(async { tokio::signal::ctrl_c().await.unwrap_or_default() });
    let web = axum::serve(listener, app(shop))
        .with_graceful_shutdown(async { tokio::signal::ctrl_c().await.unwrap_or_default() });
    let (worker, web) = tokio::join!(worker, web.into_future());
    worker?;
    web?;
    Ok(())
}
