//! The store in memory keeps every promise of a store.

use std::{future::ready, sync::Arc};

use social_core::{memory::MemoryStore, store::Store};
use social_testkit::{store::StoreUnderTest, store_suite};

async fn make() -> Option<StoreUnderTest> {
    let store = MemoryStore::new();
    let (dumped, kept) = (store.clone(), store.clone());
    let sut = StoreUnderTest::new(Arc::new(store.clone()), move || ready(dumped.dump().into_bytes()))
        .second(Arc::new(store))
        .reopen(move || ready(Arc::new(kept.clone()) as Arc<dyn Store>))
        .wakes_across_handles();
    Some(sut)
}

store_suite!(make);
