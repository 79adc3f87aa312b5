use futures_util::FutureExt as _;
use proptest::prelude::*;

use super::*;

/// Nothing waits behind a key ring, so its futures are ready at once.
fn now<T>(future: impl Future<Output = T>) -> T {
    future.now_or_never().expect("a key ring never waits")
}

fn vault_of(lines: &[&str]) -> Vault {
    Vault::new(Arc::new(KeyRing::parse(&lines.join(",")).unwrap()))
}

fn line(id: &str) -> String {
    KeyRing::generate(id).unwrap().1.to_string()
}

fn binding() -> Binding<'static> {
    Binding {
        table: "connections",
        column: "tokens",
        user: Uuid::from_u128(1),
        connection: Uuid::from_u128(2),
        platform: "x",
        version: 7,
    }
}

#[test]
fn what_was_sealed_opens_again() {
    let vault = vault_of(&[&line("k1")]);
    for plain in [&b""[..], b"t", b"a token", &[0; 5000]] {
        let sealed = now(vault.seal(&binding(), plain)).unwrap();
        assert_eq!(sealed.key_id(), "k1");
        let stored = Sealed::from_bytes(sealed.as_bytes()).unwrap();
        assert_eq!(now(vault.open(&binding(), &stored)).unwrap().as_slice(), plain);
        assert_ne!(now(vault.seal(&binding(), plain)).unwrap(), sealed, "sealing twice must not give equal bytes");
    }
}

#[test]
fn any_flipped_bit_is_an_error() {
    let vault = vault_of(&[&line("k1"), &line("k0")]);
    let sealed = now(vault.seal(&binding(), b"marker token")).unwrap();
    for bit in 0..sealed.as_bytes().len() * 8 {
        let mut bytes = sealed.as_bytes().to_vec();
        bytes[bit / 8] ^= 1 << (bit % 8);
        let Ok(changed) = Sealed::from_bytes(bytes) else { continue };
        let error = now(vault.open(&binding(), &changed)).unwrap_err();
        assert!(matches!(error, VaultError::Corrupted { .. } | VaultError::UnknownKey { .. }), "bit {bit}: {error:?}");
    }
    for length in 0..sealed.as_bytes().len() {
        if let Ok(cut) = Sealed::from_bytes(&sealed.as_bytes()[..length]) {
            assert!(now(vault.open(&binding(), &cut)).is_err(), "cut to {length} bytes");
        }
    }
    let mut longer = sealed.into_bytes();
    longer.push(0);
    assert!(now(vault.open(&binding(), &Sealed::from_bytes(longer).unwrap())).is_err());
}

#[test]
fn a_value_opens_only_in_its_place() {
    let vault = vault_of(&[&line("k1")]);
    let home = binding();
    let sealed = now(vault.seal(&home, b"secret")).unwrap();
    for (what, other) in [
        ("table", Binding { table: "accounts", ..home }),
        ("column", Binding { column: "refresh", ..home }),
        ("user", Binding { user: Uuid::from_u128(9), ..home }),
        ("connection", Binding { connection: Uuid::from_u128(9), ..home }),
        ("swapped ids", Binding { user: home.connection, connection: home.user, ..home }),
        ("platform", Binding { platform: "linkedin", ..home }),
        ("older version", Binding { version: 6, ..home }),
        ("newer version", Binding { version: 8, ..home }),
        ("shifted boundary", Binding { table: "connectionst", column: "okens", ..home }),
    ] {
        assert_eq!(
            now(vault.open(&other, &sealed)).unwrap_err(),
            VaultError::Corrupted { key_id: "k1".into() },
            "{what}"
        );
        assert!(now(vault.for_purpose(Purpose::Pending).open(&home, &sealed)).is_err());
    }
    assert_eq!(now(vault.open(&home, &sealed)).unwrap().as_slice(), b"secret");
}

#[test]
fn parts_of_two_values_cannot_be_combined() {
    let vault = vault_of(&[&line("k1")]);
    let (one, two) = (now(vault.seal(&binding(), b"one")).unwrap(), now(vault.seal(&binding(), b"two")).unwrap());
    let (one, two) = (one.parts(), two.parts());
    let mixed = Sealed::assemble(&one.wrapped_key(), two.nonce, two.body).unwrap();
    assert!(now(vault.open(&binding(), &mixed)).is_err());
    let mixed = Sealed::assemble(&one.wrapped_key(), two.nonce, one.body).unwrap();
    assert!(now(vault.open(&binding(), &mixed)).is_err());
}

#[test]
fn rotation_wraps_again_and_keeps_the_value() {
    let (old, new) = (line("old"), line("new"));
    let before = vault_of(&[&old]);
    let during = vault_of(&[&new, &old]);
    let after = vault_of(&[&new]);
    let sealed = now(before.seal(&binding(), b"secret")).unwrap();
    assert_eq!(now(before.rewrap(&binding(), &sealed)).unwrap(), None, "already under the primary key");
    assert_eq!(now(after.open(&binding(), &sealed)).unwrap_err(), VaultError::UnknownKey { key_id: "old".into() });

    let rewrapped = now(during.rewrap(&binding(), &sealed)).unwrap().expect("a new wrapping");
    assert_eq!(rewrapped.key_id(), "new");
    assert_eq!(rewrapped.parts().body, sealed.parts().body, "the value itself is not encrypted again");
    assert_eq!(now(after.open(&binding(), &rewrapped)).unwrap().as_slice(), b"secret");
    assert_eq!(now(during.rewrap(&binding(), &rewrapped)).unwrap(), None);
    assert!(now(during.rewrap(&Binding { version: 1, ..binding() }, &sealed)).is_err(), "another place");
    assert_eq!(now(after.rewrap(&binding(), &sealed)).unwrap_err(), VaultError::UnknownKey { key_id: "old".into() });
}

#[test]
fn a_canary_tells_the_right_key_from_one_with_its_name() {
    let (k1, k2) = (line("k1"), line("k2"));
    let vault = vault_of(&[&k1, &k2]);
    for id in ["k1", "k2"] {
        let canary = now(vault.canary(id)).unwrap();
        assert_eq!(canary.key_id(), id);
        assert_eq!(now(vault.check_canary(id, &canary)), Ok(()));
        let impostor = vault_of(&[&line("k1"), &line("k2")]);
        assert_eq!(
            now(impostor.check_canary(id, &canary)),
            Err(VaultError::Corrupted { key_id: id.into() }),
            "another key with the id {id}"
        );
        let without = vault_of(&[&line("k3")]);
        assert_eq!(now(without.check_canary(id, &canary)), Err(VaultError::UnknownKey { key_id: id.into() }));
    }
    let other = now(vault.canary("k2")).unwrap();
    assert_eq!(now(vault.check_canary("k1", &other)), Err(VaultError::Corrupted { key_id: "k1".into() }));
    assert_eq!(now(vault.canary("k9")).unwrap_err(), VaultError::UnknownKey { key_id: "k9".into() });
}

#[test]
fn nothing_secret_is_printed() {
    let (ring, line) = KeyRing::generate("k1").unwrap();
    let vault = Vault::new(Arc::new(ring));
    let sealed = now(vault.seal(&binding(), b"marker-token")).unwrap();
    let error = now(vault.open(&Binding { version: 0, ..binding() }, &sealed)).unwrap_err();
    let printed = format!("{vault:?} {vault:#?} {sealed:?} {error} {error:?}");
    assert!(printed.contains("k1"), "{printed}");
    assert!(!printed.contains("marker"), "{printed}");
    assert!(!printed.contains(line.split_once(':').unwrap().1), "{printed}");
    assert_eq!(format!("{sealed:?}"), format!("Sealed(key `k1`, {} bytes)", sealed.as_bytes().len()));
}

#[test]
fn too_much_is_refused() {
    let vault = vault_of(&[&line("k1")]);
    let bytes = MAX_PLAINTEXT_BYTES + 1;
    assert_eq!(now(vault.seal(&binding(), &vec![0; bytes])).unwrap_err(), VaultError::TooLarge { bytes });
    assert!(now(vault.seal(&binding(), &vec![0; bytes - 1])).is_ok());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn any_bytes_are_read_or_refused_without_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        if let Ok(sealed) = Sealed::from_bytes(bytes.clone()) {
            prop_assert_eq!(sealed.as_bytes(), bytes.as_slice());
            let _ = format!("{sealed:?}");
        }
    }

    #[test]
    fn bytes_that_look_right_never_open(
        wrapped in prop::collection::vec(any::<u8>(), 1..200),
        nonce in any::<[u8; 12]>(),
        body in prop::collection::vec(any::<u8>(), 16..80),
    ) {
        let vault = vault_of(&["k1:AQIDBAUGBwgJCgsMDQ4PEBESExQVFhcYGRobHB0eHyA="]);
        let key = WrappedKey { key_id: "k1".into(), bytes: wrapped };
        let sealed = Sealed::assemble(&key, &nonce, &body).unwrap();
        prop_assert_eq!(now(vault.open(&binding(), &sealed)).unwrap_err(), VaultError::Corrupted { key_id: "k1".into() });
    }

    #[test]
    fn no_two_bindings_share_an_encoding(a in "[a-c]{0,3}", b in "[a-c]{0,3}", c in "[a-c]{0,3}", d in "[a-c]{0,3}") {
        let one = Binding { table: &a, column: &b, ..binding() };
        let two = Binding { table: &c, column: &d, ..binding() };
        prop_assert_eq!(one == two, one.encode(Purpose::Tokens) == two.encode(Purpose::Tokens));
    }
}
