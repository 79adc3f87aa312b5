//! The lane of a network: how many deliveries are at work there, and how many are held ready for the places that become free.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};

/// The most that one claim takes from one network.
pub(super) const CLAIM_BATCH: usize = 200;
/// One account takes so many places of its network's lane at the most, or a quarter of a small one. What it has beyond that waits beside
/// the lane, so that a long queue of one account does not keep the others out.
const ACCOUNT_PLACES: usize = 16;
/// So many deliveries of a network may wait beside its lane; beyond that they take places like all others.
const MOST_ASIDE: usize = 4096;

/// One network's lane in one worker.
#[derive(Debug)]
pub(super) struct Lane {
    /// How many may be at work at the network.
    most: usize,
    /// How many more may be on the way from there to the store.
    most_out: usize,
    places: Arc<Semaphore>,
    state: Mutex<State>,
    /// Told when there is room for what was left behind.
    wake: Arc<Notify>,
}

#[derive(Debug, Default)]
struct State {
    /// Held besides, behind others of the same account.
    aside: usize,
    /// At work at the network or held for the next free place; also on the way from there to the store where that is counted here.
    busy: usize,
    /// On the way from the network to the store.
    out: usize,
    /// There may be more that is due, to be fetched when no more is held than can be at work: the last claim took all that it might, or was not
    /// made because too much is held.
    more: bool,
}

impl Lane {
    /// With `out_beside`, what is on the way to the store keeps nobody from the network, up to as many as may be there. A store with one
    /// writer would pay for that with more and smaller claims, which keep the outcomes from it.
    pub(super) fn new(most: usize, out_beside: bool, wake: Arc<Notify>) -> Arc<Self> {
        let most_out = if out_beside { most } else { 0 };
        Arc::new(Self { most, most_out, places: Arc::new(Semaphore::new(most)), state: Mutex::default(), wake })
    }

    /// How much to claim: nothing while more is held than can be at work, then as much as may be held, so that claims are batches and there is
    /// work for every place that becomes free.
    pub(super) fn room(&self) -> usize {
        let mut state = self.state();
        if state.busy > self.most {
            // Who asks wants to know what became due meanwhile, and is told when there is room.
            state.more = true;
            return 0;
        }
        (self.most + self.ahead() - state.busy).min(CLAIM_BATCH)
    }

    /// Notes what a claim brought: whether as much as it asked for.
    pub(super) fn claimed(&self, full: bool) {
        self.state().more = full;
    }

    /// Takes a delivery in that has so many of its account ahead of it.
    pub(super) fn enter(self: &Arc<Self>, ahead: usize) -> Seat {
        let mut state = self.state();
        let places = ACCOUNT_PLACES.min(self.most.div_ceil(4));
        let at = if ahead >= places && state.aside < MOST_ASIDE { At::Aside } else { At::Busy };
        *state.count(at) += 1;
        Seat { lane: Arc::clone(self), at, place: None }
    }

    /// How many more than can be at work are held, ready for the places that become free.
    fn ahead(&self) -> usize {
        (self.most / 2).clamp(1, CLAIM_BATCH)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn count(&mut self, at: At) -> &mut usize {
        match at {
            At::Aside => &mut self.aside,
            At::Busy => &mut self.busy,
            At::Out => &mut self.out,
        }
    }
}

/// Where a delivery is counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum At {
    Aside,
    Busy,
    Out,
}

/// What a delivery takes of its lane. Dropped, it is free for the next one.
#[derive(Debug)]
pub(crate) struct Seat {
    lane: Arc<Lane>,
    at: At,
    place: Option<OwnedSemaphorePermit>,
}

impl Seat {
    /// It is its account's turn: what waited beside the lane is in it now.
    pub(super) fn come_forward(&mut self) {
        if self.at == At::Aside {
            let mut state = self.lane.state();
            state.aside -= 1;
            state.busy += 1;
            self.at = At::Busy;
        }
    }

    /// Waits for a place at the network. Dropping the future gives up the turn.
    pub(super) async fn take_place(&mut self) {
        // Nobody closes it.
        self.place = Arc::clone(&self.lane.places).acquire_owned().await.ok();
    }

    /// It is out: recording that needs no place at the network.
    pub(crate) fn leave_network(&mut self) {
        self.place = None;
        let mut state = self.lane.state();
        if self.at == At::Busy && state.out < self.lane.most_out {
            self.leave(&mut state);
            state.out += 1;
            self.at = At::Out;
        }
    }

    /// Is not counted any more where it was, and tells if there is room now for what was left behind.
    fn leave(&self, state: &mut State) {
        *state.count(self.at) -= 1;
        if self.at == At::Busy && state.more && state.busy == self.lane.most {
            self.lane.wake.notify_one();
        }
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.leave(&mut self.lane.state());
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;

    use super::*;

    fn lane(most: usize) -> (Arc<Lane>, Arc<Notify>) {
        let wake = Arc::new(Notify::new());
        (Lane::new(most, false, wake.clone()), wake)
    }

    fn told(wake: &Notify) -> bool {
        wake.notified().now_or_never().is_some()
    }

    #[test]
    fn a_lane_that_had_no_room_tells_when_it_has_some() {
        let (lane, wake) = lane(8);
        let mut seats: Vec<_> = (0..12).map(|_| lane.enter(0)).collect();
        // The last claim brought all that there was; then something becomes due, and there is no room.
        assert_eq!(lane.room(), 0);
        seats.truncate(9);
        assert!(!told(&wake), "9 are held");
        drop(seats.pop());
        assert!(told(&wake), "as many as can be at work");
        assert_eq!(lane.room(), 4, "as many as may be held");
        drop(seats);
        assert!(!told(&wake), "once is enough");
    }

    #[test]
    fn a_lane_with_nothing_more_tells_nobody() {
        let (lane, wake) = lane(8);
        let seats: Vec<_> = (0..12).map(|_| lane.enter(0)).collect();
        lane.claimed(false);
        drop(seats);
        assert!(!told(&wake));
    }

    #[test]
    fn what_is_behind_others_of_its_account_waits_beside_the_lane() {
        let (lane, _) = lane(8);
        let mut seats: Vec<_> = (0..5).map(|ahead| lane.enter(ahead)).collect();
        assert_eq!(lane.state().busy, 2, "a quarter of the lane");
        seats[4].come_forward();
        let state = lane.state();
        assert_eq!((state.busy, state.aside), (3, 2));
    }

    #[tokio::test]
    async fn as_many_as_may_be_are_at_the_network() {
        let (lane, _) = lane(2);
        let mut seats: Vec<_> = (0..3).map(|_| lane.enter(0)).collect();
        seats[0].take_place().await;
        seats[1].take_place().await;
        assert!(seats[2].take_place().now_or_never().is_none());
        seats[0].leave_network();
        seats[2].take_place().await;
    }

    #[test]
    fn what_is_recorded_beside_makes_room_up_to_a_bound() {
        let wake = Arc::new(Notify::new());
        let lane = Lane::new(2, true, wake.clone());
        let counts = || {
            let state = lane.state();
            (state.busy, state.out)
        };
        let mut seats: Vec<_> = (0..6).map(|_| lane.enter(0)).collect();
        assert_eq!(lane.room(), 0);
        seats[0].leave_network();
        seats[0].leave_network();
        assert_eq!(counts(), (5, 1), "once is enough");
        for seat in &mut seats {
            seat.leave_network();
        }
        assert_eq!(counts(), (4, 2), "as many as may be at the network");
        seats.truncate(4);
        assert_eq!(counts(), (2, 2));
        assert!(told(&wake));
        drop(seats);
        assert_eq!(counts(), (0, 0));
    }
}
