//! Random histories, played to the store and to [`MemoryStore`], which is the reference: both have to answer the same and to hold the same.
//!
//! Ids that a store makes and the numbers of its epochs are its own, so they are compared by what they stand for.

use std::{collections::BTreeMap, sync::Arc};

use jiff::Timestamp;
use social_core::{
    account::Account,
    draft::Draft,
    id::{AccountId, DeliveryId, LogId, PostId, UserId},
    memory::MemoryStore,
    phase::PhaseName,
    store::{
        Delivery, Edit, Epoch, ErrorPatch, Lease, LeaseAfter, LogFilter, LogRow, PageRequest, PhaseWrite, PostFilter,
        Store,
    },
    time::{Chance, SeededChance},
};

use super::{StoreUnderTest, claim};
use crate::{
    clock::{secs, t0},
    fixtures::{LINKEDIN, X, connect, entry, new_post, write},
    model::replay,
};

const ACCOUNTS: usize = 6;

/// 14 histories of 70 steps each; a difference is reported with the seed and the steps that led to it.
pub async fn random_histories_agree_with_the_store_in_memory(sut: StoreUnderTest) {
    for seed in 0..14 {
        let user = UserId::new();
        let reference: Arc<dyn Store> = Arc::new(MemoryStore::new());
        let mut twins = [Twin::new(reference, user).await, Twin::new(Arc::clone(&sut.store), user).await];
        let mut plan = Plan { chance: SeededChance::new(seed), rows: Vec::new(), posts: Vec::new(), now: 0 };
        let mut steps = Vec::new();
        for _ in 0..70 {
            let step = plan.next();
            steps.push(format!("{step:?}"));
            let (expected, found) = (twins[0].play(&step).await, twins[1].play(&step).await);
            assert_eq!(found, expected, "seed {seed}, after {steps:#?}");
        }
        let (expected, found) = (twins[0].state().await, twins[1].state().await);
        assert_eq!(found, expected, "seed {seed}, at the end of {steps:#?}");
        twins[1].finish(&plan).await;
    }
}

/// Traces of the model check of the protocol, with dying workers, late writes and people: what the model says about the row is what the store
/// holds. So what the check proves about the model holds for the store.
pub async fn traces_of_the_protocol_lead_to_the_same_rows(sut: StoreUnderTest) {
    for seed in 0..30 {
        replay(&*sut.handle(seed as usize), seed).await;
    }
}

/// Which epoch a writer acts under.
#[derive(Debug, Clone, Copy)]
enum Under {
    /// The one that is stored now.
    Current,
    /// One that a claim gave: the last for 0, the one before for 1.
    Claimed(usize),
}

#[derive(Debug, Clone)]
enum Step {
    Post { post: PostId, to: Vec<(DeliveryId, usize)>, at: Timestamp },
    Claim { worker: usize, until: Timestamp },
    Record(Vec<Write>),
    Renew(Vec<(DeliveryId, Under)>, Timestamp),
    Rest(Vec<(DeliveryId, Under)>, Timestamp),
    Reclaim(Timestamp),
    Edit { post: PostId, of: Vec<DeliveryId>, under: Under, at: Timestamp, now: Timestamp },
    Reconnected { account: usize, now: Timestamp },
    Look { account: usize },
}

#[derive(Debug, Clone)]
struct Write {
    delivery: DeliveryId,
    under: Under,
    phase: PhaseName,
    lease: LeaseAfter,
    wake_at: Option<Timestamp>,
    due_at: Option<Timestamp>,
    attempt: u32,
    part: bool,
    error: ErrorPatch,
    now: Timestamp,
    log: LogId,
}

/// Makes up steps; the same for the same seed, but for ids.
struct Plan {
    chance: SeededChance,
    rows: Vec<DeliveryId>,
    posts: Vec<(PostId, Vec<DeliveryId>)>,
    now: i64,
}

impl Plan {
    fn below(&self, bound: usize) -> usize {
        ((self.chance.unit() * bound as f64) as usize).min(bound.saturating_sub(1))
    }

    fn soon(&self) -> Timestamp {
        secs(self.now + self.below(60) as i64 - 20)
    }

    fn row(&self) -> DeliveryId {
        self.rows[self.below(self.rows.len())]
    }

    fn under(&self) -> Under {
        match self.below(10) {
            0..4 => Under::Current,
            4..9 => Under::Claimed(0),
            _ => Under::Claimed(1),
        }
    }

    fn leases(&self) -> Vec<(DeliveryId, Under)> {
        (0..=self.below(3)).map(|_| (self.row(), self.under())).collect()
    }

    fn write(&self) -> Write {
        let now = secs(self.now);
        Write {
            delivery: self.row(),
            under: self.under(),
            phase: PhaseName::ALL[self.below(PhaseName::ALL.len())],
            lease: [LeaseAfter::Keep, LeaseAfter::Keep, LeaseAfter::Release, LeaseAfter::Revoke][self.below(4)],
            wake_at: (self.below(3) > 0).then(|| self.soon()),
            due_at: (self.below(4) == 0).then(|| self.soon()),
            attempt: self.below(5) as u32,
            part: self.below(4) == 0,
            error: [ErrorPatch::Keep, ErrorPatch::Clear, ErrorPatch::Set(format!("\"{}\"", self.now))][self.below(3)]
                .clone(),
            now,
            log: LogId::new(),
        }
    }

    fn next(&mut self) -> Step {
        self.now += self.below(15) as i64;
        let now = secs(self.now);
        if self.rows.len() < 4 || self.below(9) == 0 {
            let (post, first) = (PostId::new(), self.below(ACCOUNTS));
            let to: Vec<_> = (0..=self.below(3)).map(|step| (DeliveryId::new(), (first + step) % ACCOUNTS)).collect();
            self.rows.extend(to.iter().map(|(id, _)| *id));
            self.posts.push((post, to.iter().map(|(id, _)| *id).collect()));
            return Step::Post { post, to, at: self.soon() };
        }
        match self.below(20) {
            0..5 => Step::Claim { worker: self.below(3), until: now },
            5..11 => Step::Record((0..=self.below(4)).map(|_| self.write()).collect()),
            11 => Step::Renew(self.leases(), secs(self.now + 30)),
            12..14 => Step::Rest(self.leases(), self.soon()),
            14 => Step::Reclaim(now),
            15 => Step::Reclaim(secs(self.now + 70)),
            16 => {
                let (post, of) = self.posts[self.below(self.posts.len())].clone();
                Step::Edit {
                    post,
                    of,
                    under: if self.below(5) == 0 { Under::Claimed(0) } else { Under::Current },
                    at: self.soon(),
                    now,
                }
            }
            17 => Step::Reconnected { account: self.below(ACCOUNTS), now },
            _ => Step::Look { account: self.below(ACCOUNTS) },
        }
    }
}

/// A store with what its callers know.
struct Twin {
    store: Arc<dyn Store>,
    user: UserId,
    accounts: Vec<Account>,
    names: BTreeMap<AccountId, usize>,
    claimed: BTreeMap<DeliveryId, Vec<Epoch>>,
}

impl Twin {
    async fn new(store: Arc<dyn Store>, user: UserId) -> Self {
        let mut accounts = connect(&*store, user, &X, ACCOUNTS / 2).await.accounts;
        accounts.extend(connect(&*store, user, &LINKEDIN, ACCOUNTS - ACCOUNTS / 2).await.accounts);
        let names = accounts.iter().enumerate().map(|(number, account)| (account.id, number)).collect();
        Self { store, user, accounts, names, claimed: BTreeMap::new() }
    }

    async fn delivery(&self, id: DeliveryId) -> Delivery {
        self.store.delivery(self.user, id).await.unwrap().unwrap()
    }

    async fn epoch(&self, id: DeliveryId, under: Under) -> Epoch {
        let claimed = self.claimed.get(&id).map(Vec::as_slice).unwrap_or_default();
        match under {
            Under::Claimed(back) if back < claimed.len() => claimed[claimed.len() - 1 - back],
            _ => self.delivery(id).await.epoch,
        }
    }

    async fn leases(&self, of: &[(DeliveryId, Under)]) -> Vec<Lease> {
        let mut leases = Vec::new();
        for (delivery, under) in of {
            leases.push(Lease { delivery: *delivery, epoch: self.epoch(*delivery, *under).await });
        }
        leases
    }

    /// Plays a step and tells what came out.
    async fn play(&mut self, step: &Step) -> String {
        let store = Arc::clone(&self.store);
        match step {
            Step::Post { post, to, at } => {
                let accounts: Vec<_> = to.iter().map(|(_, account)| self.accounts[*account].clone()).collect();
                let mut new = new_post(self.user, &accounts, *at);
                new.post.id = *post;
                new.deliveries.iter_mut().zip(to).for_each(|(delivery, (id, _))| delivery.id = *id);
                format!("{:?}", store.insert_post(&new).await.unwrap())
            }
            Step::Claim { worker, until } => {
                let mut claimed = claim(&*store, &format!("worker-{worker}"), *until, 10_000).await;
                claimed.sort_by_key(|one| one.delivery.id);
                claimed
                    .iter()
                    .for_each(|one| self.claimed.entry(one.delivery.id).or_default().push(one.delivery.epoch));
                format!(
                    "{:#?}",
                    claimed
                        .into_iter()
                        .map(|one| (self.plain(one.delivery), one.draft.text.clone()))
                        .collect::<Vec<_>>()
                )
            }
            Step::Record(writes) => {
                let mut batch = Vec::new();
                for planned in writes {
                    let row = self.delivery(planned.delivery).await;
                    let part = planned.part.then(|| crate::fixtures::remote(planned.delivery));
                    let mut wrote = PhaseWrite {
                        epoch: self.epoch(planned.delivery, planned.under).await,
                        lease: planned.lease,
                        wake_at: planned.wake_at,
                        due_at: planned.due_at,
                        attempt: planned.attempt,
                        part,
                        error: planned.error.clone(),
                        ..write(&row, planned.phase, planned.now)
                    };
                    wrote.log.id = planned.log;
                    batch.push(wrote);
                }
                format!("{:?}", store.record(&batch).await.unwrap())
            }
            Step::Renew(of, until) => format!("{:?}", store.renew(&self.leases(of).await, *until).await.unwrap()),
            Step::Rest(of, wake_at) => format!("{:?}", store.rest(&self.leases(of).await, *wake_at).await.unwrap()),
            Step::Reclaim(now) => store.reclaim(*now).await.unwrap().to_string(),
            Step::Edit { post, of, under, at, now } => {
                let seen = self.leases(&of.iter().map(|id| (*id, *under)).collect::<Vec<_>>()).await;
                let edit = Edit {
                    post: *post,
                    seen: seen.iter().map(|lease| (lease.delivery, lease.epoch)).collect(),
                    draft: Draft::text(format!("edited at {now}")),
                    scheduled_at: *at,
                    wall: None,
                    log: entry("edited", *now),
                    now: *now,
                };
                store.edit_post(self.user, &edit).await.unwrap().to_string()
            }
            Step::Reconnected { account, now } => {
                store.release_reconnected(self.accounts[*account].id, *now).await.unwrap().to_string()
            }
            Step::Look { account } => {
                let (mut due, mut depth) =
                    (store.next_due(&[X, LINKEDIN]).await.unwrap(), store.depth().await.unwrap());
                due.sort();
                depth.sort();
                let id = self.accounts[*account].id;
                let mut remote = store.remote_ids(id, t0() - jiff::SignedDuration::from_hours(24)).await.unwrap();
                remote.sort();
                remote.dedup();
                format!("{due:?} {depth:?} {remote:?}")
            }
        }
    }

    /// A delivery without what is each store's own business.
    fn plain(&self, row: Delivery) -> (usize, Delivery) {
        let number = self.names[&row.account];
        (
            number,
            Delivery { account: AccountId::from_uuid(uuid::Uuid::nil()), epoch: Epoch(0), updated_at: t0(), ..row },
        )
    }

    /// Everything that the user can see.
    async fn state(&self) -> String {
        let page = PageRequest { after: None, limit: 200 };
        let posts = self.store.posts(self.user, &PostFilter::default(), &page).await.unwrap();
        let mut posts: Vec<_> = posts.items.into_iter().collect();
        posts.sort_by_key(|(post, _)| post.id);
        let posts: Vec<_> = posts
            .into_iter()
            .map(|(post, rows)| (post, rows.into_iter().map(|row| self.plain(row)).collect::<Vec<_>>()))
            .collect();
        let mut logs = String::new();
        for (_, rows) in &posts {
            for (_, row) in rows {
                let filter = LogFilter { delivery: Some(row.id), ..LogFilter::default() };
                let rows = self.store.logs(self.user, &filter, &page).await.unwrap().items;
                let line =
                    |row: &LogRow| format!("{} {:?} {} {}\n", row.event, row.success, row.attempt, row.created_at);
                logs.extend(rows.iter().map(line));
            }
        }
        format!("{posts:#?}\n{logs}")
    }

    /// Ends everything, so that the next history finds nothing due.
    async fn finish(&self, plan: &Plan) {
        let mut ends = Vec::new();
        for id in &plan.rows {
            let row = self.delivery(*id).await;
            ends.push(super::release(write(&row, PhaseName::Failed, secs(plan.now))));
        }
        assert!(self.store.record(&ends).await.unwrap().iter().all(|held| *held == social_core::store::Held::Yes));
    }
}
