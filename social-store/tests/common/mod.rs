//! Databases for the tests over PostgreSQL.

#![allow(
    unreachable_pub,
    clippy::unwrap_used,
    reason = "shared by tests inside and outside of the crate; a test that cannot be set up has failed"
)]

use social_testkit::pg::Server;
use sqlx::{Connection as _, PgConnection};

/// A database of its own, dropped with this guard where the server outlives the tests.
#[derive(Debug)]
pub struct Database {
    server: &'static Server,
    name: String,
}

impl Database {
    /// `None` if there is no server; that was said then.
    pub async fn create() -> Option<Self> {
        let server = Server::shared()?;
        let name = format!("social_{}", uuid::Uuid::now_v7().simple());
        let mut admin = PgConnection::connect(&server.admin_url()).await.unwrap();
        sqlx::raw_sql(sqlx::AssertSqlSafe(format!("CREATE DATABASE {name}"))).execute(&mut admin).await.unwrap();
        admin.close().await.unwrap();
        Some(Self { server, name })
    }

    pub fn url(&self) -> String {
        self.server.url(&self.name)
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        if self.server.is_private() {
            return;
        }
        let (url, sql) = (self.server.admin_url(), format!("DROP DATABASE IF EXISTS {} WITH (FORCE)", self.name));
        let drop = async move {
            let mut admin = PgConnection::connect(&url).await?;
            sqlx::raw_sql(sqlx::AssertSqlSafe(sql)).execute(&mut admin).await.map(drop)
        };
        let runtime = || tokio::runtime::Builder::new_current_thread().enable_all().build();
        let dropped = std::thread::spawn(move || runtime().map(|runtime| runtime.block_on(drop))).join();
        if !matches!(dropped, Ok(Ok(Ok(())))) {
            eprintln!("a database of a test was left behind: {}", self.name);
        }
    }
}
