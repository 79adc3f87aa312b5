//! Workers that die, answers that get lost: exactly one visible post, whatever happens.

use social_core::{Phase, store::Delivery};

use crate::world::{Calls, Disturbance, Harness, Instead, START, Shape, World, assert_published_once};

fn lost_reply(skip: u64, instead: Instead) -> Disturbance {
    Disturbance { calls: Calls::Visible, effect: true, instead, skip, times: Some(1) }
}

async fn run<H: Harness>(
    shape: &Shape,
    crash: Option<usize>,
    lost: Option<Disturbance>,
) -> (World<H>, Delivery, usize) {
    let world = World::<H>::start().await;
    if let Some(disturbance) = lost {
        world.net.arm(disturbance);
    }
    let post = world.schedule(shape).await;
    match crash {
        Some(stage) => world.probe.die_at(stage),
        None => world.probe.live(),
    }
    let delivery = world.run_to_rest(&post).await.remove(0);
    let seen = world.probe.seen();
    (world, delivery, seen)
}

async fn shapes<H: Harness>() -> Vec<Shape> {
    H::boot(START.parse().expect("a literal instant")).await.shapes()
}

/// The worker dies before and after each durable write of a delivery's life; the next one finishes it, and it is visible once.
pub async fn a_crash_at_any_write_publishes_once<H: Harness>() {
    for shape in shapes::<H>().await {
        let (_, _, stages) = run::<H>(&shape, None, None).await;
        assert!(stages >= 4, "{}: a write-ahead and a completion at least", shape.name);
        for stage in 0..stages {
            let (world, delivery, _) = run::<H>(&shape, Some(stage), None).await;
            assert_published_once(&world, &shape, &delivery, &format!("died at stage {stage} of {stages}"));
        }
    }
}

/// The answer to a visible call is lost in several ways; the network is asked, and nothing is posted twice.
pub async fn a_lost_reply_publishes_once<H: Harness>() {
    for shape in shapes::<H>().await {
        for skip in 0..shape.visible as u64 {
            let page = "<html><body>502 Bad Gateway</body></html>".to_owned();
            for instead in [
                Instead::Cut,
                Instead::Answer { status: 500, body: String::new(), headers: Vec::new() },
                Instead::Answer { status: 502, body: page, headers: Vec::new() },
                Instead::Answer { status: 504, body: "{\"status\":".into(), headers: Vec::new() },
            ] {
                let (world, delivery, _) = run::<H>(&shape, None, Some(lost_reply(skip, instead.clone()))).await;
                assert_published_once(&world, &shape, &delivery, &format!("reply {skip} became {instead:?}"));
            }
            // A success without its particulars may leave the id unknown, and then nothing can follow under it; never a second post.
            let (world, delivery, _) = run::<H>(&shape, None, Some(lost_reply(skip, Instead::Emptied))).await;
            let visible = world.net.visible().len();
            let told = format!("{}: an emptied success, ended as {:?}", shape.name, delivery.phase);
            assert!((1..=shape.visible).contains(&visible), "{told} with {visible} visible");
            assert!(matches!(delivery.phase, Phase::Published { .. }), "{told}");
        }
    }
}

/// Both: the answer is lost, and the worker dies at any write afterwards.
pub async fn a_crash_after_a_lost_reply_publishes_once<H: Harness>() {
    for shape in shapes::<H>().await {
        let (_, _, stages) = run::<H>(&shape, None, Some(lost_reply(0, Instead::Cut))).await;
        for stage in 0..stages {
            let (world, delivery, _) = run::<H>(&shape, Some(stage), Some(lost_reply(0, Instead::Cut))).await;
            assert_published_once(
                &world,
                &shape,
                &delivery,
                &format!("lost its reply and died at stage {stage} of {stages}"),
            );
        }
    }
}
