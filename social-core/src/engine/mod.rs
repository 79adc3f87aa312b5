//! The engine: claims what is due, publishes it, keeps what it holds, and lets go cleanly.

mod journal;
mod lane;
mod lease;
mod retention;
pub(crate) mod spill;

use std::{
    collections::{HashMap, VecDeque},
    panic::AssertUnwindSafe,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use futures_util::FutureExt as _;
use jiff::Timestamp;
use tokio::{sync::Notify, task::JoinSet};
use tokio_util::sync::CancellationToken;

pub(crate) use self::retention::{keep_named, tidy};
pub(crate) use self::{journal::Journal, lane::Seat, lease::LeaseGuard};
use self::{
    lane::{CLAIM_BATCH, Lane},
    lease::Leases,
};
pub use self::{
    retention::{Retention, Tidied},
    spill::Recovered,
};
pub use crate::driver::Stopped;
use crate::{
    driver::Driver,
    error::{Error, ErrorKind},
    id::{AccountId, PlatformId},
    meter,
    platform::Platform,
    rate::BucketDelta,
    social::Inner,
    store::{self, ClaimRequest, Claimed, Lease},
    time::{later, signed},
};

/// How far ahead of their time deliveries are claimed. They wait in memory and start to the microsecond.
const CLAIM_AHEAD: Duration = Duration::from_millis(750);
/// So long before their time the next ones are fetched at the latest. What wakes up in between comes along: a steady trickle is claimed a
/// few times per second and not one by one.
const CLAIM_LATEST: Duration = Duration::from_millis(250);
/// Something may have become due without anybody telling: look at least this often.
const SLOW_POLL: Duration = Duration::from_secs(15);
/// After a claim that found nothing although something was due (it belongs to another worker for now), and after a failure of the store.
const SHORT_PAUSE: Duration = Duration::from_millis(250);
/// How often dead workers' deliveries are freed.
const RECLAIM_EVERY: Duration = Duration::from_secs(10);
/// How often workers tell each other what they used of the networks' limits.
const EXCHANGE_EVERY: Duration = Duration::from_secs(1);
/// How often tokens are looked after: what a process that died in a refresh left is settled within a minute after its lease.
const SWEEP_EVERY: Duration = Duration::from_secs(45);
/// How often what is not needed any more is thrown away.
const TIDY_EVERY: Duration = Duration::from_secs(24 * 3600);
/// How often the clock is compared with the database's.
const CALIBRATE_EVERY: Duration = Duration::from_secs(30);
/// How long calls that are under way may take when the worker is stopped.
const STOP_WITHIN: Duration = Duration::from_secs(20);
/// How long the answer to the last claim may take, as part of that.
const CLAIM_WITHIN: Duration = Duration::from_secs(10);
/// How long the last changes may take afterwards. Together with what comes before and behind it stays below what hosts allow for the end.
const WRITE_WITHIN: Duration = Duration::from_secs(2);
/// How long it may take to keep them on disk instead.
const KEEP_WITHIN: Duration = Duration::from_secs(1);
/// A store that has not answered by now is treated as one that failed: a connection may be dead without anybody telling.
const STORE_DEADLINE: Duration = Duration::from_secs(35);

/// Publishes what is due. Any number may run over one store, in one process or in many.
#[derive(Debug, Clone)]
pub struct Worker {
    inner: Arc<Inner>,
    name: String,
    in_flight: Option<usize>,
}

/// What all tasks of one running worker share.
struct Run {
    inner: Arc<Inner>,
    name: String,
    journal: Journal,
    leases: Leases,
    stop: CancellationToken,
    wake: Arc<Notify>,
    accounts: Mutex<HashMap<AccountId, VecDeque<Waiting>>>,
    lanes: HashMap<PlatformId, Arc<Lane>>,
}

/// A claimed delivery that waits for its account.
struct Waiting {
    claimed: Claimed,
    guard: LeaseGuard,
    seat: Seat,
}

impl Worker {
    pub(crate) fn new(inner: Arc<Inner>) -> Self {
        let name = format!("{}-{}", std::process::id(), crate::crypto::random_token(6));
        Self { inner, name, in_flight: None }
    }

    /// Names the worker, for operators, instead of by its process id. A random word is added: workers tell each other apart by their names.
    #[must_use]
    pub fn named(mut self, name: impl Into<String>) -> Self {
        self.name = format!("{}-{}", name.into(), crate::crypto::random_token(6));
        self
    }

    /// How many deliveries of one network are in flight at the most, instead of what the network's descriptor says. Up to half as many again are
    /// held ready for the places that become free; on a store that writes in parallel, up to as many again may be on their way into it.
    #[must_use]
    pub fn in_flight(mut self, most: usize) -> Self {
        self.in_flight = Some(most.max(1));
        self
    }

    /// Works until `shutdown` completes. Then nothing new is begun, what has not been sent is handed back, and calls that are under way
    /// (refreshes of tokens among them) are finished and recorded, within 25 seconds.
    ///
    /// # Errors
    /// `Storage` if the store cannot be reached at the start; a store that goes away later is waited for.
    pub async fn run_until(self, shutdown: impl Future<Output = ()> + Send) -> Result<(), Error> {
        let Self { inner, name, in_flight } = self;
        let clock = inner.cx.clock().clone();
        calibrate(&inner).await?;
        // Before anything is claimed or freed: what was kept on disk says what became of deliveries that look as if nobody knew.
        inner.spill.recover(&*inner.store, clock.now()).await?;
        in_time("reclaim", inner.store.reclaim(clock.now())).await?;
        let wake = Arc::new(Notify::new());
        let ending = CancellationToken::new();
        let kept = (inner.spill.clone(), ending.clone());
        let (journal, writing) = Journal::grouped(inner.store.clone(), clock.clone(), wake.clone(), kept);
        let mut writing = tokio::spawn(writing);
        let stop = CancellationToken::new();
        let most = |platform: &Arc<dyn Platform>| in_flight.unwrap_or(platform.descriptor().flow.max_in_flight).max(1);
        let beside = inner.store.writes_in_parallel();
        let lane = |platform| Lane::new(most(platform), beside, wake.clone());
        let lanes = inner.platforms.iter().map(|(id, platform)| (id.clone(), lane(platform))).collect();
        let run = Arc::new(Run {
            inner,
            name,
            journal,
            leases: Leases::default(),
            stop: stop.clone(),
            wake,
            accounts: Mutex::default(),
            lanes,
        });
        tracing::info!(worker = %run.name, "worker {} has started", run.name);
        let mut background = JoinSet::new();
        background.spawn(run.clone().keep_leases());
        background.spawn(run.clone().every(RECLAIM_EVERY, Chore::Reclaim));
        background.spawn(run.clone().exchange_rates());
        background.spawn(run.clone().every(SWEEP_EVERY, Chore::Sweep));
        background.spawn(run.clone().every(CALIBRATE_EVERY, Chore::Calibrate));
        background.spawn(run.clone().every(TIDY_EVERY, Chore::Tidy));
        let mut tasks = JoinSet::new();
        let ends = {
            tokio::pin!(shutdown);
            let claiming = run.claim_loop(&mut tasks);
            tokio::pin!(claiming);
            let ended = tokio::select! {
                () = &mut shutdown => false,
                () = &mut claiming => true,
            };
            stop.cancel();
            let ends = tokio::time::Instant::now() + STOP_WITHIN;
            // A claim that is under way may have been granted already. Its answer is awaited, so that what it brought is handed back.
            if !ended && tokio::time::timeout(CLAIM_WITHIN, claiming).await.is_err() {
                tracing::warn!(worker = %run.name, "a claim got no answer; what it brought is found again when its lease has ended");
            }
            ends
        };
        tracing::info!(worker = %run.name, tasks = tasks.len(), "worker {} is stopping", run.name);
        let finished = async { while tasks.join_next().await.is_some() {} };
        if tokio::time::timeout_at(ends, finished).await.is_err() {
            tracing::warn!(worker = %run.name, "calls took too long; what they did is found out when their leases have ended");
            tasks.shutdown().await;
        }
        background.shutdown().await;
        let (left, store, keeper) = (run.leases.all(), run.inner.store.clone(), run.inner.keeper.clone());
        // The journal ends when the last sender is gone. What it still holds is written first: handing back moves the epoch on.
        drop(run);
        // A refresh that a driver began last gets as long as the journal.
        let write_ends = tokio::time::Instant::now() + WRITE_WITHIN;
        let (written, renewed) = tokio::join!(
            tokio::time::timeout_at(write_ends, &mut writing),
            tokio::time::timeout_at(ends.max(write_ends), keeper.finish())
        );
        if renewed.is_err() {
            tracing::warn!(
                "new tokens took too long; a network that had given them already may ask their persons to connect again"
            );
        }
        let written = written.is_ok();
        let last = tokio::time::Instant::now().max(write_ends) + KEEP_WITHIN;
        if !written {
            ending.cancel();
            let kept = tokio::time::timeout(KEEP_WITHIN, writing).await.is_ok();
            tracing::warn!(
                kept,
                "the store does not take the last changes; they are kept on disk, or found out when the leases have ended"
            );
        } else if !left.is_empty() {
            let rested = tokio::time::timeout_at(last, in_time("rest", store.rest(&left, clock.now()))).await;
            if !matches!(rested, Ok(Ok(()))) {
                let error = rested.ok().and_then(Result::err);
                tracing::warn!(
                    ?error,
                    "claims could not be handed back; they are found again when their leases have ended"
                );
            }
        }
        Ok(())
    }

    /// Claims what is due now, once, and takes each delivery as far as it gets, one after the other. Answers with their number. For hosts with
    /// a queue or a timer of their own, and for tests.
    ///
    /// # Errors
    /// `Storage`.
    pub async fn tick(&self) -> Result<usize, Error> {
        let inner = &self.inner;
        let clock = inner.cx.clock();
        calibrate(inner).await?;
        let now = clock.now();
        inner.spill.recover(&*inner.store, now).await?;
        in_time("reclaim", inner.store.reclaim(now)).await?;
        let claim = ClaimRequest {
            until: now,
            lease_until: later(now, signed(inner.lease)),
            worker: self.name.clone(),
            lanes: lanes(inner, |_| CLAIM_BATCH),
        };
        let ends = clock.monotonic() + inner.lease;
        let journal = Journal::Direct(inner.store.clone(), inner.spill.clone());
        let claimed = in_time("claim_due", inner.store.claim_due(&claim)).await?;
        let number = claimed.len();
        let mut failed = None;
        for one in claimed {
            let lease = Lease { delivery: one.delivery.id, epoch: one.delivery.epoch };
            let guard = LeaseGuard::new(lease, ends, CancellationToken::new(), clock.clone());
            if let Err(error) = Driver::new(inner, &journal, &guard, one).run().await {
                hand_back_after(&journal, inner, lease, &error).await;
                failed.get_or_insert(error);
            }
        }
        failed.map_or(Ok(number), Err)
    }
}

/// Repeated work beside publishing.
#[derive(Clone, Copy)]
enum Chore {
    Reclaim,
    Sweep,
    Calibrate,
    Tidy,
}

impl Run {
    async fn claim_loop(self: &Arc<Self>, tasks: &mut JoinSet<()>) {
        let clock = self.inner.cx.clock().clone();
        while !self.stop.is_cancelled() {
            while tasks.try_join_next().is_some() {}
            let now = clock.now();
            let lanes = lanes(&self.inner, |platform| self.lanes.get(platform).map_or(0, |lane| lane.room()));
            let platforms: Vec<PlatformId> = lanes.iter().map(|lane| lane.platform.clone()).collect();
            let ends = clock.monotonic() + self.inner.lease;
            let request = ClaimRequest {
                until: later(now, signed(CLAIM_AHEAD)),
                lease_until: later(now, signed(self.inner.lease)),
                worker: self.name.clone(),
                lanes,
            };
            let claimed = if request.lanes.is_empty() {
                Ok(Vec::new())
            } else {
                in_time("claim_due", self.inner.store.claim_due(&request)).await
            };
            let pause_until = match claimed {
                Ok(claimed) => {
                    meter::claimed(now);
                    let mut more = false;
                    for asked in &request.lanes {
                        let got = claimed.iter().filter(|one| one.delivery.platform == asked.platform).count();
                        let full = got >= asked.limit;
                        more |= full;
                        if let Some(lane) = self.lanes.get(&asked.platform) {
                            lane.claimed(full);
                        }
                    }
                    claimed.into_iter().for_each(|one| self.dispatch(one, ends, tasks));
                    if more {
                        // There may be room for more at once; if not, the loop comes here again with nothing to ask for.
                        continue;
                    }
                    // Lanes that were left out tell when they have room.
                    if platforms.is_empty() {
                        later(now, signed(SLOW_POLL))
                    } else {
                        self.next_look(&platforms, now).await
                    }
                }
                Err(error) => self.trouble("claim_due", &error, now),
            };
            tokio::select! {
                () = clock.sleep_until(pause_until) => {}
                () = self.wake.notified() => {}
                () = self.inner.store.woken() => {}
                () = self.stop.cancelled() => {}
            }
        }
    }

    /// When to claim again although nobody tells: before the next delivery wakes, and now and then.
    async fn next_look(&self, platforms: &[PlatformId], now: Timestamp) -> Timestamp {
        let slow = later(now, signed(SLOW_POLL));
        match in_time("next_due", self.inner.store.next_due(platforms)).await {
            Ok(next) => match next.into_iter().map(|(_, at)| at).min() {
                // Something due that was not claimed belongs to another worker for the moment.
                Some(first) if first <= later(now, signed(CLAIM_AHEAD)) => later(now, signed(SHORT_PAUSE)),
                Some(first) => later(first, -signed(CLAIM_LATEST)).min(slow),
                None => slow,
            },
            Err(error) => self.trouble("next_due", &error, now),
        }
    }

    fn trouble(&self, what: &str, error: &Error, now: Timestamp) -> Timestamp {
        tracing::warn!(%error, "the store did not answer to {what}; trying again");
        later(now, signed(Duration::from_secs(1)))
    }

    /// Hands a claimed delivery to its account's task: one visible call at a time per account, in order.
    fn dispatch(self: &Arc<Self>, claimed: Claimed, ends: Duration, tasks: &mut JoinSet<()>) {
        // Only networks with a lane are claimed.
        let Some(lane) = self.lanes.get(&claimed.delivery.platform) else { return };
        let lease = Lease { delivery: claimed.delivery.id, epoch: claimed.delivery.epoch };
        let guard = LeaseGuard::new(lease, ends, self.stop.clone(), self.inner.cx.clock().clone());
        self.leases.insert(guard.clone());
        let account = claimed.delivery.account;
        let mut accounts = self.accounts.lock().unwrap_or_else(PoisonError::into_inner);
        // The one that is being served is not in its queue any more.
        let seat = lane.enter(accounts.get(&account).map_or(0, |queue| queue.len() + 1));
        let waiting = Waiting { claimed, guard, seat };
        if let Some(queue) = accounts.get_mut(&account) {
            queue.push_back(waiting);
        } else {
            accounts.insert(account, VecDeque::from([waiting]));
            // Boxed: a task's future is moved about while it is spawned and when it has ended, and this one is large.
            tasks.spawn(Box::pin(self.clone().serve_account(account)));
        }
    }

    async fn serve_account(self: Arc<Self>, account: AccountId) {
        loop {
            let next = {
                let mut accounts = self.accounts.lock().unwrap_or_else(PoisonError::into_inner);
                let next = accounts.get_mut(&account).and_then(VecDeque::pop_front);
                if next.is_none() {
                    accounts.remove(&account);
                }
                next
            };
            let Some(Waiting { claimed, guard, mut seat }) = next else { return };
            seat.come_forward();
            let lease = guard.lease();
            // A panic in an adapter must not take the account's queue and its leases with it.
            if AssertUnwindSafe(self.serve(claimed, &guard, seat)).catch_unwind().await.is_err() {
                tracing::error!(delivery.id = %lease.delivery, "a run with a delivery panicked; it is found again when its lease has ended");
            }
            self.leases.remove(lease.delivery, lease.epoch);
        }
    }

    async fn serve(&self, claimed: Claimed, guard: &LeaseGuard, mut seat: Seat) {
        let id = claimed.delivery.id;
        let wake_at = claimed.delivery.wake_at.unwrap_or_else(|| self.inner.cx.now());
        let ready = async {
            // Never early.
            self.inner.cx.clock().sleep_until(wake_at).await;
            seat.take_place().await;
        };
        tokio::select! {
            () = ready => {}
            () = guard.lost() => return,
            () = guard.stop_requested() => {
                if let Err(error) = self.journal.rest(guard.lease(), wake_at).await {
                    tracing::warn!(delivery.id = %id, %error, "a claim could not be handed back");
                }
                return;
            }
        };
        match Driver::new(&self.inner, &self.journal, guard, claimed).at(seat).run().await {
            Ok(stopped) => tracing::debug!(delivery.id = %id, ?stopped, "a run with a delivery ended"),
            Err(error) => {
                hand_back_after(&self.journal, &self.inner, guard.lease(), &error).await;
            }
        }
    }

    /// The heartbeat: prolongs everything that is held, three times per lease.
    async fn keep_leases(self: Arc<Self>) {
        let clock = self.inner.cx.clock().clone();
        loop {
            clock.sleep_until(later(clock.now(), signed(self.inner.lease / 3))).await;
            let held = self.leases.all();
            let ends = clock.monotonic() + self.inner.lease;
            let until = later(clock.now(), signed(self.inner.lease));
            for leases in held.chunks(1000) {
                match in_time("renew", self.inner.store.renew(leases, until)).await {
                    Ok(answers) => self.leases.renewed(leases, &answers, ends),
                    Err(error) => tracing::warn!(%error, "leases could not be prolonged"),
                }
            }
        }
    }

    async fn every(self: Arc<Self>, period: Duration, chore: Chore) {
        let clock = self.inner.cx.clock().clone();
        loop {
            let outcome = match chore {
                Chore::Reclaim => self.reclaim().await,
                Chore::Sweep => match self.stop.run_until_cancelled(self.inner.keeper.sweep(100)).await {
                    Some(swept) => swept.map(drop),
                    // Refreshes that are under way are finished without it; none is begun any more.
                    None => return,
                },
                Chore::Calibrate => calibrate(&self.inner).await,
                Chore::Tidy => tidy(&self.inner).await.map(drop),
            };
            if let Err(error) = outcome {
                tracing::warn!(%error, "a chore of the worker failed and is tried again");
            }
            // Spread, so that many workers do not come at once.
            let spread = period.mul_f64(0.8 + 0.4 * self.inner.cx.chance().unit());
            clock.sleep_until(later(clock.now(), signed(spread))).await;
        }
    }

    /// Frees what dead workers held, after what they kept on disk has been used.
    async fn reclaim(&self) -> Result<(), Error> {
        let (inner, now) = (&self.inner, self.inner.cx.now());
        // What cannot be recovered for a reason of its own must not keep everything else from being freed.
        if let Err(error) = inner.spill.recover(&*inner.store, now).await {
            tracing::warn!(%error, "what was kept on disk could not be brought into the store yet");
        }
        let freed = in_time("reclaim", inner.store.reclaim(now)).await?;
        if freed > 0 {
            meter::reclaimed(freed);
            tracing::warn!(freed, "deliveries of a worker that died were freed");
            self.wake.notify_one();
        }
        Ok(())
    }

    async fn exchange_rates(self: Arc<Self>) {
        let clock = self.inner.cx.clock().clone();
        // What others learnt before this worker began: no block lasts longer than a day.
        let mut since = later(clock.now(), -signed(Duration::from_secs(25 * 3600)));
        let mut unsent: Vec<BucketDelta> = Vec::new();
        loop {
            clock.sleep_until(later(clock.now(), signed(EXCHANGE_EVERY))).await;
            let now = clock.now();
            unsent.extend(self.inner.rates.drain_deltas(now));
            match in_time("exchange_rates", self.inner.store.exchange_rates(&unsent, since, now)).await {
                Ok(states) => {
                    self.inner.rates.merge(now, states);
                    unsent.clear();
                    // A little overlap: another worker's clock may be behind.
                    since = later(now, -signed(EXCHANGE_EVERY * 5));
                }
                Err(error) => tracing::warn!(%error, "the use of limits could not be shared"),
            }
        }
    }
}

/// A run broke off because of the store, not because of the delivery: it is handed back, so that no death is counted against it. Where
/// that fails too, it is found again when its lease has ended.
async fn hand_back_after(journal: &Journal, inner: &Inner, lease: Lease, error: &Error) {
    tracing::warn!(delivery.id = %lease.delivery, %error, "a run with a delivery broke off and is tried again");
    let soon = later(inner.cx.now(), signed(Duration::from_secs(1)));
    if let Err(error) = journal.rest(lease, soon).await {
        tracing::warn!(delivery.id = %lease.delivery, %error, "a claim could not be handed back");
    }
}

/// The store's answer, or an error if it does not come.
pub(crate) async fn in_time<T>(what: &'static str, answer: impl Future<Output = Result<T, Error>>) -> Result<T, Error> {
    let asked = std::time::Instant::now();
    let answer = tokio::time::timeout(STORE_DEADLINE, answer).await;
    meter::store_took(what, asked.elapsed());
    answer.unwrap_or_else(|_| Err(Error::new(ErrorKind::Storage, what).message("the store did not answer in time")))
}

/// How much of what to claim; networks without room are left out.
fn lanes(inner: &Inner, room: impl Fn(&PlatformId) -> usize) -> Vec<store::Lane> {
    let lanes =
        inner.platforms.keys().map(|platform| store::Lane { platform: platform.clone(), limit: room(platform) });
    lanes.filter(|lane| lane.limit > 0).collect()
}

pub(crate) async fn calibrate(inner: &Inner) -> Result<(), Error> {
    // One at a time: what two measure at once would be added twice.
    let _alone = inner.calibrating.lock().await;
    let clock = inner.cx.clock();
    let offset = in_time("clock_offset", inner.store.clock_offset(clock.now())).await?;
    if !offset.is_zero() {
        clock.calibrate(offset);
    }
    Ok(())
}
