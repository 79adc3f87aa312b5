//! The promises that every adapter makes, as tests over a [`Harness`](crate::world::Harness). [`platform_suite!`](crate::platform_suite) names them all.

mod connect;
mod crash;
mod facts;
mod hostile;
mod publish;

pub use self::{connect::*, crash::*, facts::*, hostile::*, publish::*};

/// Expands to one test for every promise that an adapter makes, over a harness type.
///
/// ```ignore
/// social_testkit::platform_suite!(ChirpHarness);
/// ```
#[macro_export]
macro_rules! platform_suite {
    ($harness:ty) => {
        $crate::platform_suite!(@tests $harness:
            the_descriptor_is_well_formed,
            text_limits_hold_on_both_sides,
            media_counts_hold_on_both_sides,
            an_authorization_address_is_complete,
            connecting_twice_keeps_the_accounts,
            a_refresh_brings_working_tokens,
            an_expired_token_is_refreshed_and_the_post_goes_out,
            an_ended_grant_waits_for_reconnecting_and_then_goes_out,
            a_revoked_grant_is_gone_and_revoking_again_is_fine,
            every_shape_is_published_once,
            preparing_and_asking_make_nothing_visible,
            a_published_post_can_be_deleted_twice,
            a_crash_at_any_write_publishes_once,
            a_lost_reply_publishes_once,
            a_crash_after_a_lost_reply_publishes_once,
            a_refusal_for_too_many_calls_waits_and_uses_no_attempt,
            a_server_error_before_the_effect_publishes_once,
            hostile_bodies_never_publish_twice_or_panic,
            no_secret_is_printed_or_stored,
        );
    };
    (@tests $harness:ty: $($name:ident),+ $(,)?) => {
        $(
            #[tokio::test]
            async fn $name() {
                $crate::platform::$name::<$harness>().await;
            }
        )+
    };
}
