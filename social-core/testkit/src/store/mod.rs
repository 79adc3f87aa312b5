//! The suite that every store passes: one test for each promise of the traits in [`social_core::store`].
//!
//! A store hands over a [`StoreUnderTest`] and calls [`store_suite!`](crate::store_suite). Time is an argument everywhere, so nothing
//! here waits; the only time-outs end a test that would hang.

pub mod accounts;
pub mod admin;
pub mod claims;
pub mod durable;
pub mod fences;
pub mod late;
pub mod leases;
pub mod logs;
pub mod model;
pub mod posts;
pub mod rates;
pub mod tokens;
pub mod writes;

use std::{any::Any, fmt, future::Future, sync::Arc, time::Duration};

use jiff::Timestamp;
use social_core::{
    id::{DeliveryId, PlatformId, UserId},
    store::{
        ClaimRequest, Claimed, Delivery, Held, Lane, Lease, LeaseAfter, LogFilter, LogRow, PageRequest, PhaseWrite,
        Store,
    },
    time::{BoxFuture, later, signed},
};

use crate::{
    clock::t0,
    fixtures::{self, Connected, LINKEDIN, X},
};

type Reopen = Box<dyn Fn() -> BoxFuture<'static, Arc<dyn Store>> + Send + Sync>;
type Dump = Box<dyn Fn() -> BoxFuture<'static, Vec<u8>> + Send + Sync>;

/// An empty store and what the suite needs besides.
pub struct StoreUnderTest {
    /// The store.
    pub store: Arc<dyn Store>,
    /// Another handle to the same data, as another process would have it. Without one, the store itself.
    pub second: Arc<dyn Store>,
    /// Opens the same data again, after all handles were dropped.
    pub reopen: Option<Reopen>,
    /// Every byte at rest, for secret scans.
    pub dump: Dump,
    /// Whether `woken` on one handle hears of posts that were stored through another one.
    pub wakes_across_handles: bool,
    keep: Option<Box<dyn Any + Send + Sync>>,
}

impl StoreUnderTest {
    /// A store, and a closure that gives every byte that it holds at rest.
    pub fn new<F>(store: Arc<dyn Store>, dump: impl Fn() -> F + Send + Sync + 'static) -> Self
    where
        F: Future<Output = Vec<u8>> + Send + 'static,
    {
        let dump: Dump = Box::new(move || Box::pin(dump()));
        Self { second: Arc::clone(&store), store, reopen: None, dump, wakes_across_handles: false, keep: None }
    }

    /// Another handle to the same data, as another process would have it.
    #[must_use]
    pub fn second(mut self, second: Arc<dyn Store>) -> Self {
        self.second = second;
        self
    }

    /// Says that `woken` hears of posts that were stored through another handle.
    #[must_use]
    pub fn wakes_across_handles(mut self) -> Self {
        self.wakes_across_handles = true;
        self
    }

    /// How the same data is opened again.
    #[must_use]
    pub fn reopen<F>(mut self, reopen: impl Fn() -> F + Send + Sync + 'static) -> Self
    where
        F: Future<Output = Arc<dyn Store>> + Send + 'static,
    {
        self.reopen = Some(Box::new(move || Box::pin(reopen())));
        self
    }

    /// Something that must live as long as the test, such as a folder or a server; dropped last.
    #[must_use]
    pub fn keep(mut self, guard: impl Any + Send + Sync) -> Self {
        self.keep = Some(Box::new(guard));
        self
    }

    /// Both handles, in turn.
    #[must_use]
    pub fn handle(&self, number: usize) -> Arc<dyn Store> {
        Arc::clone(if number.is_multiple_of(2) { &self.store } else { &self.second })
    }
}

impl fmt::Debug for StoreUnderTest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StoreUnderTest")
            .field("store", &self.store)
            .field("reopens", &self.reopen.is_some())
            .finish_non_exhaustive()
    }
}

/// Makes a module of tests, one for each promise of a store.
///
/// `make` names an `async fn() -> Option<StoreUnderTest>` that gives a fresh, empty store each time; `None` skips the test, and says so.
/// With a name in front the module is called so: `store_suite!(sqlite, make_sqlite)`.
///
/// ```
/// use std::sync::Arc;
/// use social_core::memory::MemoryStore;
/// use social_testkit::store::StoreUnderTest;
///
/// async fn make() -> Option<StoreUnderTest> {
///     let store = MemoryStore::new();
///     let dumped = store.clone();
///     Some(StoreUnderTest::new(Arc::new(store), move || std::future::ready(dumped.dump().into_bytes())))
/// }
///
/// social_testkit::store_suite!(make);
/// ```
#[macro_export]
macro_rules! store_suite {
    ($make:expr) => {
        $crate::store_suite!(store_suite, $make);
    };
    ($name:ident, $make:expr) => {
        mod $name {
            #[allow(unused_imports, reason = "the maker may be given by a full path")]
            use super::*;

            $crate::store_suite! { @tests $make;
                claims: sixteen_workers_claim_each_delivery_exactly_once,
                claims: a_claim_gives_all_that_the_work_needs,
                claims: what_wakes_by_the_horizon_is_claimed_and_nothing_later,
                claims: work_comes_in_the_order_of_waking,
                claims: each_network_has_a_lane_of_its_own,
                claims: a_backlog_of_one_network_does_not_delay_another,
                claims: an_account_in_work_elsewhere_is_left_to_that_worker,
                claims: a_busy_account_does_not_hide_the_others,
                claims: parallel_claims_never_share_an_account,
                claims: what_is_held_is_not_claimed_however_late,
                claims: a_delivery_of_a_disconnected_account_is_still_found,
                claims: a_claim_sees_the_newest_draft_and_token_version,
                claims: next_due_tells_the_earliest_that_nobody_holds,
                claims: depth_counts_what_is_open,
                claims: the_backlog_tells_what_is_due_and_what_is_held,
                claims: a_new_post_wakes_whoever_waits,
                leases: a_lost_lease_is_found_again_under_a_new_epoch,
                leases: parallel_reclaims_count_each_crash_once,
                leases: a_renewed_lease_is_not_found,
                leases: a_claim_that_is_given_back_is_untouched,
                leases: a_reconnect_wakes_what_waited_for_it,
                fences: a_write_under_another_epoch_changes_nothing,
                fences: a_worker_that_lost_its_lease_can_do_nothing,
                fences: a_worker_that_goes_on_must_hold_the_lease,
                fences: of_a_cancel_and_a_write_ahead_exactly_one_counts,
                fences: a_race_of_cancel_and_write_ahead_has_one_winner,
                fences: two_outside_changes_of_one_state_have_one_winner,
                fences: what_may_be_visible_is_not_changed_from_outside,
                fences: of_an_edit_and_a_write_ahead_exactly_one_counts,
                fences: an_edit_is_all_or_nothing,
                fences: an_edit_that_comes_too_late_changes_nothing,
                late: an_outcome_that_comes_late_takes_the_delivery_from_whoever_holds_it,
                late: a_late_outcome_never_touches_what_has_ended_or_a_later_call,
                late: a_late_outcome_can_be_bound_to_an_epoch,
                late: a_write_that_is_repeated_counts_once,
                late: a_restore_puts_in_doubt_what_may_have_gone_out_since,
                writes: every_phase_comes_back_as_it_was_written,
                writes: numbers_and_times_are_stored_as_given,
                writes: parts_are_kept_in_order,
                writes: an_error_is_kept_replaced_or_cleared,
                writes: the_time_of_publishing_comes_from_the_history,
                writes: the_lease_is_kept_released_or_revoked,
                writes: each_write_that_counts_has_its_row_in_the_history,
                writes: answers_come_in_the_order_of_the_writes,
                writes: a_batch_that_fails_leaves_nothing,
                writes: writes_of_one_delivery_follow_each_other,
                writes: five_thousand_writes_fit_into_one_batch,
                writes: ids_on_the_network_are_found_by_account_and_time,
                tokens: a_connection_comes_back_as_it_was_stored,
                tokens: tokens_are_replaced_only_under_the_version_that_was_seen,
                tokens: of_many_replacements_one_wins,
                tokens: new_tokens_end_the_refresh,
                tokens: one_worker_wins_the_right_to_refresh,
                tokens: the_right_to_refresh_ends_at_its_time,
                tokens: a_failed_refresh_is_counted_and_its_doubt_kept,
                tokens: accounts_follow_the_status_of_their_connection,
                tokens: another_wrapping_replaces_only_the_bytes_it_was_made_from,
                tokens: what_another_key_sealed_is_found_page_by_page,
                tokens: what_ends_soonest_comes_first,
                tokens: an_erased_connection_is_gone_with_its_ciphertext,
                accounts: accounts_come_back_in_the_order_given,
                accounts: connecting_again_keeps_ids_and_moves_accounts,
                accounts: a_connection_stays_while_it_reaches_an_account,
                accounts: an_account_is_one_per_user_and_network,
                accounts: an_older_grant_without_accounts_is_erased,
                accounts: disconnecting_counts_the_others,
                accounts: a_connection_that_is_erased_disconnects_its_accounts,
                accounts: accounts_need_a_connection,
                accounts: a_user_sees_only_what_is_theirs,
                accounts: a_pending_record_is_taken_once,
                accounts: a_pending_record_ends,
                posts: a_post_comes_back_as_it_was_stored,
                posts: a_hundred_equal_requests_make_one_post,
                posts: a_key_used_for_something_else_is_a_conflict,
                posts: a_post_is_stored_whole_or_not_at_all,
                posts: posts_come_latest_first_in_pages,
                posts: pages_are_stable_while_posts_arrive,
                posts: filters_choose_posts,
                posts: an_edit_changes_what_is_said_and_when,
                posts: a_foreign_cursor_is_refused,
                logs: a_history_begins_with_scheduled,
                logs: rows_come_latest_first_in_pages,
                logs: pages_are_stable_while_rows_arrive,
                logs: filters_choose_rows,
                logs: a_row_can_be_added_without_a_change,
                logs: a_deletion_is_noted_once,
                logs: live_rows_come_in_the_order_of_writing,
                admin: users_have_an_address_of_their_own,
                admin: keys_are_kept_and_forgotten,
                admin: of_many_equal_requests_one_is_fresh,
                admin: an_idempotent_request_is_answered_again,
                admin: a_request_that_was_never_finished_goes_stale,
                admin: the_first_proof_of_a_key_stays,
                admin: media_belong_to_their_user,
                admin: what_is_old_is_forgotten_in_portions,
                admin: a_quota_holds_among_all_who_store_files,
                admin: a_store_says_what_it_is,
                rates: uses_of_all_workers_add_up,
                rates: buckets_follow_the_reference,
                rates: a_worker_hears_what_the_others_changed,
                rates: of_many_workers_one_finds_out_whether_a_block_is_over,
                durable: only_ciphertext_is_at_rest,
                durable: everything_is_there_after_reopening,
                durable: texts_come_back_to_the_letter,
                durable: far_times_come_back_to_the_microsecond,
                model: random_histories_agree_with_the_store_in_memory,
                model: traces_of_the_protocol_lead_to_the_same_rows,
            }
        }
    };
    (@tests $make:expr; $($group:ident: $test:ident,)+) => {$(
        #[::tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn $test() {
            match ($make)().await {
                Some(store) => ::std::boxed::Box::pin($crate::store::$group::$test(store)).await,
                None => ::std::eprintln!("skipped: {}", stringify!($test)),
            }
        }
    )+};
}

/// How long a claim of the suite is leased, in seconds.
pub(crate) const LEASE: Duration = Duration::from_secs(60);

/// Ends a test that would hang. It never decides whether one passes.
pub(crate) async fn in_time<T>(what: &str, future: impl Future<Output = T>) -> T {
    match tokio::time::timeout(Duration::from_secs(120), future).await {
        Ok(out) => out,
        Err(_) => panic!("{what} did not end within two minutes"),
    }
}

/// A claim of up to `limit` deliveries of each network that wake by `until`, leased for [`LEASE`] from then.
pub(crate) async fn claim(store: &dyn Store, worker: &str, until: Timestamp, limit: usize) -> Vec<Claimed> {
    claim_lanes(store, worker, until, &[(X, limit), (LINKEDIN, limit)]).await
}

pub(crate) async fn claim_lanes(
    store: &dyn Store,
    worker: &str,
    until: Timestamp,
    lanes: &[(PlatformId, usize)],
) -> Vec<Claimed> {
    let lanes = lanes.iter().map(|(platform, limit)| Lane { platform: platform.clone(), limit: *limit }).collect();
    let request = ClaimRequest { until, lease_until: later(until, signed(LEASE)), worker: worker.to_owned(), lanes };
    store.claim_due(&request).await.unwrap()
}

pub(crate) fn ids(claimed: &[Claimed]) -> Vec<DeliveryId> {
    claimed.iter().map(|claim| claim.delivery.id).collect()
}

pub(crate) fn lease(delivery: &Delivery) -> Lease {
    Lease { delivery: delivery.id, epoch: delivery.epoch }
}

pub(crate) async fn read(store: &dyn Store, user: UserId, id: DeliveryId) -> Delivery {
    store.delivery(user, id).await.unwrap().expect("the delivery is there")
}

/// Writes one change and answers whether it counted.
pub(crate) async fn record(store: &dyn Store, write: PhaseWrite) -> Held {
    let answers = store.record(&[write]).await.unwrap();
    assert_eq!(answers.len(), 1, "one answer for one write");
    answers[0]
}

pub(crate) fn release(mut write: PhaseWrite) -> PhaseWrite {
    write.lease = LeaseAfter::Release;
    write
}

pub(crate) fn revoke(mut write: PhaseWrite) -> PhaseWrite {
    write.lease = LeaseAfter::Revoke;
    write
}

/// The history of a delivery, oldest first.
pub(crate) async fn history(store: &dyn Store, user: UserId, id: DeliveryId) -> Vec<LogRow> {
    let filter = LogFilter { delivery: Some(id), ..LogFilter::default() };
    let page = PageRequest { after: None, limit: 200 };
    let mut rows = store.logs(user, &filter, &page).await.unwrap().items;
    rows.reverse();
    rows
}

pub(crate) async fn events(store: &dyn Store, user: UserId, id: DeliveryId) -> Vec<String> {
    history(store, user, id).await.into_iter().map(|row| row.event).collect()
}

/// A user with one connection on X, so many accounts, and one delivery due at `t0` to each, all of one post.
pub(crate) async fn due_now(store: &dyn Store, accounts: usize) -> (Connected, Vec<DeliveryId>) {
    let connected = fixtures::connect(store, UserId::new(), &X, accounts).await;
    let new = fixtures::schedule(store, connected.user, &connected.accounts, t0()).await;
    (connected, new.deliveries.iter().map(|delivery| delivery.id).collect())
}

/// One delivery, due at `t0` and claimed by `worker`.
pub(crate) async fn claimed_one(store: &dyn Store, worker: &str) -> (UserId, Delivery) {
    let (connected, _) = due_now(store, 1).await;
    let mut claimed = claim(store, worker, t0(), 10).await;
    assert_eq!(claimed.len(), 1);
    (connected.user, claimed.remove(0).delivery)
}

/// `future`s at once, each in a task of its own; answers in their order.
pub(crate) async fn at_once<T, F>(futures: impl IntoIterator<Item = F>) -> Vec<T>
where
    T: Send + 'static,
    F: Future<Output = T> + Send + 'static,
{
    let start = Arc::new(tokio::sync::Semaphore::new(0));
    let tasks: Vec<_> = futures
        .into_iter()
        .map(|future| {
            let start = Arc::clone(&start);
            tokio::spawn(async move {
                let _go = start.acquire().await;
                future.await
            })
        })
        .collect();
    start.close();
    let mut answers = Vec::with_capacity(tasks.len());
    for task in tasks {
        answers.push(in_time("a parallel step", task).await.unwrap());
    }
    answers
}
