//! Master keys: the proof at the start, and rotation while everything goes on.

use std::sync::Arc;

use social_core::vault::{KeyRing, Vault};
use social_server::keys::{Missing, Rotated, check, rotate};

use crate::world::World;

fn ring(lines: &[&str]) -> (KeyRing, Vault) {
    let ring = KeyRing::parse(&lines.join(",")).unwrap();
    let vault = Vault::new(Arc::new(ring.clone()));
    (ring, vault)
}

#[tokio::test]
async fn keys_are_proven_and_rotated() {
    let world = World::new();
    world.connected("a@example.com").await;
    let (tenant, _) = world.connected("b@example.com").await;
    let (_, second) = KeyRing::generate("k2").unwrap();
    let (_, impostor) = KeyRing::generate("k1").unwrap();
    let (store, first) = (&world.store, world.keys.as_str());
    let prove = async |lines: &[&str], missing| {
        let (ring, vault) = ring(lines);
        check(store, &ring, &vault, missing).await.map_err(|error| error.to_string())
    };
    prove(&[first], Missing::Refuse).await.unwrap();
    let refused = prove(&[&second], Missing::Refuse).await.unwrap_err();
    assert!(refused.contains("k1") && refused.contains("2 connections"), "{refused}");
    prove(&[&second], Missing::Allow).await.unwrap();
    for missing in [Missing::Refuse, Missing::Allow] {
        let refused = prove(&[&impostor], missing).await.unwrap_err();
        assert!(refused.contains("k1 is not the key that this id stood for"), "{refused}");
    }
    prove(&[&second, first], Missing::Refuse).await.unwrap();
    let (_, vault) = ring(&[&second, first]);
    assert_eq!(rotate(store, &vault).await.unwrap(), Rotated { rewrapped: 2, changed: 0, failed: 0 });
    assert_eq!(rotate(store, &vault).await.unwrap(), Rotated::default(), "repeatable");
    prove(&[&second], Missing::Refuse).await.expect("the first key may be removed now");
    let refused = prove(&[first], Missing::Refuse).await.unwrap_err();
    assert!(refused.contains("k2"), "{refused}");
    // Without the key that sealed them, nothing can be wrapped again, and nothing is broken by trying.
    let (_, third) = KeyRing::generate("k3").unwrap();
    let (_, stranger) = ring(&[&third]);
    assert_eq!(rotate(store, &stranger).await.unwrap(), Rotated { rewrapped: 0, changed: 0, failed: 2 });
    let connections = world.get("/connections", &tenant.key).await.expect(200);
    assert_eq!(connections["items"][0]["status"], "active");
}
