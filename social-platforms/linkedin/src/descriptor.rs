//! What is known about LinkedIn, as data.

use std::time::Duration;

use jiff::civil::Date;
use social_core::{
    PlatformDescriptor, PlatformId,
    descriptor::{
        Abilities, ClientAuth, LinkRules, MediaRule, MediaRules, MediaTransport, OAuthFacts, Pkce, PublishFlow,
        RefreshStyle, ScopePreset, TextRules, TokenFacts,
    },
    media::MediaKind,
    rate::{RateRule, RateScope, WindowKind},
    text::TextUnit,
};
use url::Url;

/// LinkedIn's id.
pub(crate) const ID: PlatformId = PlatformId::from_static("linkedin");
/// The version that is spoken unless the operator says otherwise.
pub(crate) const VERSION: &str = "202609";

pub(crate) const TEXT_MAX: usize = 3_000;
pub(crate) const COMMENT_MAX: usize = 1_250;
pub(crate) const POLL_QUESTION_MAX: usize = 140;
pub(crate) const POLL_OPTION_MAX: usize = 30;
pub(crate) const POLL_OPTIONS: std::ops::RangeInclusive<usize> = 2..=4;

/// When a version of the interface is switched off: as announced, else as the pattern says; `None` for what is no version.
pub(crate) fn sunset(version: &str) -> Option<Date> {
    let (year, month) = version_month(version)?;
    let day = match (year, month) {
        (2025, 12) => return None, // never published
        (2025, 11) | (2026, 3) => 16,
        _ => 15,
    };
    Date::new(year + 1, month, day).ok()
}

/// Year and month of a version of the form `YYYYMM`.
pub(crate) fn version_month(version: &str) -> Option<(i16, i8)> {
    if version.len() != 6 || !version.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let (year, month) = (version[..4].parse().ok()?, version[4..].parse().ok()?);
    ((2022..=2999).contains(&year) && (1..=12).contains(&month)).then_some((year, month))
}

pub(crate) fn descriptor(www: &Url, version: &str) -> PlatformDescriptor {
    let www = www.as_str().trim_end_matches('/');
    PlatformDescriptor {
        id: ID,
        name: "LinkedIn".to_owned(),
        api_version: version.to_owned(),
        checked_on: "2026-11-22".to_owned(),
        docs: "https://learn.microsoft.com/en-us/linkedin/marketing/community-management/shares/posts-api".to_owned(),
        oauth: OAuthFacts {
            authorize_url: format!("{www}/oauth/v2/authorization"),
            token_url: format!("{www}/oauth/v2/accessToken"),
            revoke_url: Some(format!("{www}/oauth/v2/revoke")),
            pkce: Pkce::None,
            client_auth: ClientAuth::Body,
            scope_separator: ' ',
            presets: vec![
                preset("member", "Post as the member.", &["openid", "profile", "w_member_social"]),
                preset(
                    "page",
                    "Post as the member and as the pages that the member administers, and read the pages' numbers.",
                    &[
                        "openid",
                        "profile",
                        "w_member_social",
                        "w_organization_social",
                        "r_organization_social",
                        "rw_organization_admin",
                    ],
                ),
            ],
        },
        tokens: TokenFacts {
            access_life_s: Some(60 * 24 * 3600),
            // Only apps with programmatic refresh get a refresh token; the others' users connect again.
            refresh_life_s: Some(365 * 24 * 3600),
            refresh: RefreshStyle::Static,
        },
        text: TextRules {
            max: TEXT_MAX,
            unit: TextUnit::Scalars,
            required_without_media: true,
            max_thread_parts: 1,
            first_comment_max: Some(COMMENT_MAX),
        },
        media: media(),
        link: LinkRules::Card { title_max: 400, description_max: 4_086 },
        flow: PublishFlow {
            settles: false,
            reconciles: true,
            container_life_s: None,
            native_scheduling: false,
            commit_deadline_s: 30,
            max_in_flight: 32,
            reconcile_after_s: 10,
        },
        limits: vec![
            daily("publish", RateScope::Account, &["publish"], 100),
            daily("app", RateScope::App, &[], 100_000),
        ],
        abilities: Abilities {
            delete: true,
            post_analytics: true,
            account_analytics: true,
            poll: true,
            thread: false,
            first_comment: true,
        },
    }
}

fn media() -> MediaRules {
    const PIXELS: u64 = 36_152_320 - 1;
    MediaRules {
        kinds: vec![
            MediaRule {
                max_pixels: Some(PIXELS),
                ..MediaRule::new(MediaKind::Image, 20, &["image/jpeg", "image/png"])
            },
            MediaRule {
                max_pixels: Some(PIXELS),
                max_frames: Some(250),
                ..MediaRule::new(MediaKind::Gif, 20, &["image/gif"])
            },
            MediaRule {
                min_bytes: Some(75 * 1024),
                max_bytes: Some(500_000_000),
                min_duration_ms: Some(3_000),
                max_duration_ms: Some(30 * 60 * 1000),
                // 1:2.4 and 2.4:1.
                min_aspect_milli: Some(416),
                max_aspect_milli: Some(2_400),
                ..MediaRule::new(MediaKind::Video, 1, &["video/mp4"])
            },
            MediaRule {
                max_bytes: Some(100_000_000),
                ..MediaRule::new(
                    MediaKind::Document,
                    1,
                    &[
                        "application/pdf",
                        "application/msword",
                        "application/vnd.openxmlformats-officedocument.wordprocessingml.document",
                        "application/vnd.ms-powerpoint",
                        "application/vnd.openxmlformats-officedocument.presentationml.presentation",
                    ],
                )
            },
        ],
        mixing: false,
        transport: MediaTransport::Upload,
        alt_text_max: Some(4_086),
    }
}

fn preset(name: &str, purpose: &str, scopes: &[&str]) -> ScopePreset {
    ScopePreset {
        name: name.to_owned(),
        purpose: purpose.to_owned(),
        scopes: scopes.iter().map(|&scope| scope.to_owned()).collect(),
    }
}

fn daily(name: &str, per: RateScope, operations: &[&str], amount: u32) -> RateRule {
    RateRule {
        name: name.to_owned(),
        per,
        operations: operations.iter().map(|&operation| operation.to_owned()).collect(),
        amount,
        window: Duration::from_secs(24 * 3600),
        kind: WindowKind::Day,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sunsets_are_the_announced_ones_else_a_year_later() {
        for (version, date) in [
            ("202510", "2026-10-15"),
            ("202511", "2026-11-16"),
            ("202601", "2027-01-15"),
            ("202603", "2027-03-16"),
            ("202607", "2027-07-15"),
            ("202609", "2027-09-15"),
            ("202612", "2027-12-15"),
        ] {
            assert_eq!(sunset(version).map(|date| date.to_string()).as_deref(), Some(date), "{version}");
        }
        for nonsense in ["202512", "202613", "202600", "2026", "latest", "", "２０２６０９", "2026-9", "+20260"] {
            assert_eq!(sunset(nonsense), None, "{nonsense}");
        }
    }
}
