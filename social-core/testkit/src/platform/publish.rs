//! Publishing what can be published, once.

use std::collections::HashSet;

use social_core::{
    Effect, Phase, Retry,
    context::PublishContext,
    platform::{Committed, Deleted, Prepared},
    store::PostStore as _,
};

use crate::world::{Harness, World, assert_published_once};

/// Each shape ends as published with an address, and the network shows it once.
pub async fn every_shape_is_published_once<H: Harness>() {
    let shapes = H::boot(crate::world::START.parse().expect("a literal instant")).await.shapes();
    assert!(!shapes.is_empty());
    for shape in shapes {
        let world = World::<H>::start().await;
        let delivery = world.publish(&shape).await;
        assert_published_once(&world, &shape, &delivery, "undisturbed");
        assert_eq!(delivery.attempt, 1, "{}", shape.name);
        let Phase::Published { remote } = &delivery.phase else { unreachable!("asserted above") };
        let visible = world.net.visible();
        assert_eq!(remote.id.as_ref().map(|id| id.as_str()), Some(visible[0].id.as_str()), "{}", shape.name);
        assert!(remote.permalink.as_ref().is_some_and(|link| link.starts_with("http")), "{}: {remote:?}", shape.name);
        // A card's picture may count as a file.
        if shape.draft.link.is_none() {
            assert_eq!(visible[0].media, shape.draft.media.len(), "{}", shape.name);
        }
        if shape.visible > 1 {
            let parts: Vec<_> = delivery.parts.iter().filter_map(|part| part.id.clone()).collect();
            assert_eq!(parts.len(), shape.visible, "{}: every part is known", shape.name);
        }
        let logs = world
            .memory
            .logs(world.user, &Default::default(), &Default::default())
            .await
            .expect("memory does not fail")
            .items;
        assert!(
            logs.iter().any(|row| row.event == "committing") && logs.iter().any(|row| row.event == "published"),
            "{logs:?}"
        );
    }
}

/// Preparing, however often and from wherever, and asking afterwards, make nothing visible; only the commit does.
pub async fn preparing_and_asking_make_nothing_visible<H: Harness>() {
    let shapes = H::boot(crate::world::START.parse().expect("a literal instant")).await.shapes();
    for shape in shapes {
        let world = World::<H>::start().await;
        let post = world.schedule(&shape).await;
        let account = world.account_for(&shape).clone();
        let platform = world.net.platform();
        let tokens = world.social.keeper().tokens(account.connection, None).await.expect("tokens");
        let draft = post.post.draft.resolve(&account.platform, account.id);
        let taken = HashSet::new();
        let call = world.social.call_context().clone();
        let library = world.social.library().clone();
        let context = |attempted_at| {
            let id = post.deliveries[0].id;
            PublishContext::new(&call, id, &account, &tokens, &draft, &[], attempted_at, &taken, &*library)
        };
        let (mut from, mut seen) = (None, vec![None]);
        let ready = 'prepared: {
            for _ in 0..200 {
                let cx = context(call.now());
                match platform
                    .publish()
                    .prepare(&cx, from.clone())
                    .await
                    .unwrap_or_else(|e| panic!("{}: {e:?}", shape.name))
                {
                    Prepared::Again(at) => from = Some(at),
                    Prepared::Wait { at, poll_after } => {
                        world.pass(poll_after);
                        from = Some(at);
                    }
                    Prepared::Ready(at) => break 'prepared at,
                }
                seen.push(from.clone());
            }
            panic!("{} was never ready", shape.name);
        };
        // Again from every checkpoint that was ever written, the last one included.
        seen.push(Some(ready.clone()));
        for at in seen {
            let cx = context(call.now());
            let again = platform.publish().prepare(&cx, at.clone()).await;
            assert!(again.is_ok(), "{} from {at:?}: {again:?}", shape.name);
        }
        assert!(world.net.visible().is_empty(), "{}: preparing must stay invisible", shape.name);

        let (committed, attempted_at) = 'committed: {
            // A network may still be working on media that it does not let us look at; it says so without effect.
            for _ in 0..10 {
                let attempted_at = call.now();
                let cx = context(attempted_at);
                match platform.publish().commit(&cx, ready.clone()).await {
                    Ok(committed) => break 'committed (committed, attempted_at),
                    Err(error) => match (error.effect(), error.retry_hint()) {
                        (Effect::None, Retry::After(wait)) => world.pass(wait),
                        _ => panic!("{}: {error:?}", shape.name),
                    },
                }
            }
            panic!("{} was never taken", shape.name);
        };

        let visible = world.net.visible().len();
        assert_eq!(visible, 1, "{}: a commit is one visible thing, it answered {committed:?}", shape.name);
        world.pass(platform.descriptor().flow.reconcile_after());
        if !matches!(committed, Committed::Settling { .. }) {
            for _ in 0..2 {
                let cx = context(attempted_at);
                let asked = platform.publish().reconcile(&cx, ready.clone()).await;
                assert!(asked.is_ok(), "{}: {asked:?}", shape.name);
                assert_eq!(world.net.visible().len(), 1, "{}: asking must not post again", shape.name);
            }
        }
    }
}

/// Deleting takes a post away; deleting again is a success too.
pub async fn a_published_post_can_be_deleted_twice<H: Harness>() {
    let world = World::<H>::start().await;
    if !world.net.platform().descriptor().abilities.delete {
        return;
    }
    let shape = world.net.shapes().remove(0);
    let delivery = world.publish(&shape).await;
    assert_eq!(world.social.delete_remote(world.user, delivery.id).await.expect("deleting works"), Deleted::Now);
    assert!(world.net.visible().iter().all(|visible| visible.deleted));
    world.social.delete_remote(world.user, delivery.id).await.expect("deleting again is fine");
}
