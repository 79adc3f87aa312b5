//! The promises of every store, kept by SQLite.

#![cfg(feature = "sqlite")]
#![allow(clippy::unwrap_used, reason = "a test that cannot be set up has failed")]

use std::{path::PathBuf, sync::Arc};

use social_core::store::Store;
use social_store::SqliteStore;
use social_testkit::store::StoreUnderTest;

async fn open(file: PathBuf) -> SqliteStore {
    SqliteStore::open(&format!("sqlite://{}", file.display())).await.unwrap()
}

/// Two handles to one file, as two processes would have it.
async fn make() -> Option<StoreUnderTest> {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("social.db");
    let (store, second) = (open(file.clone()).await, open(file.clone()).await);
    let (dumped, reopened) = (dir.path().to_owned(), file);
    let dump = move || {
        let dir = dumped.clone();
        async move {
            let files = std::fs::read_dir(dir).unwrap().map(|entry| std::fs::read(entry.unwrap().path()).unwrap());
            files.collect::<Vec<_>>().concat()
        }
    };
    let reopen = move || {
        let file = reopened.clone();
        async move { Arc::new(open(file).await) as Arc<dyn Store> }
    };
    Some(StoreUnderTest::new(Arc::new(store), dump).second(Arc::new(second)).reopen(reopen).keep(dir))
}

social_testkit::store_suite!(sqlite, make);
