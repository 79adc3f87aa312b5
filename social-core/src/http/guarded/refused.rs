//! Why the guarded fetcher did not fetch.

use std::fmt;
use std::io;

use thiserror::Error;

/// Why nothing was fetched. Messages name the host and never the rest of the URL, which may hold a secret.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum FetchRefused {
    /// The host is, or one of its addresses is, not reachable for everybody.
    #[error("{host} does not lead to a public address")]
    PrivateAddress {
        /// The host of the URL.
        host: String,
    },
    /// Not https (or http, where that is allowed), or a URL without a host.
    #[error("addresses of the kind \"{scheme}\" are not fetched")]
    BadScheme {
        /// The scheme of the URL.
        scheme: String,
    },
    /// A port that is not among the allowed ones.
    #[error("port {port} of {host} is not allowed")]
    BadPort {
        /// The host of the URL.
        host: String,
        /// The port of the URL.
        port: u16,
    },
    /// The URL holds a user name or a password.
    #[error("the address on {host} holds a user name or password")]
    Userinfo {
        /// The host of the URL.
        host: String,
    },
    /// More than [`MAX_REDIRECTS`](super::MAX_REDIRECTS) redirects.
    #[error("{host} redirects too many times")]
    TooManyRedirects {
        /// The host of the last redirect.
        host: String,
    },
    /// More bytes than allowed, announced or sent.
    #[error("{host} sends more than {max_bytes} bytes")]
    TooLarge {
        /// The host of the URL.
        host: String,
        /// What is allowed.
        max_bytes: u64,
    },
    /// Too slow.
    #[error("{host} took too long: {stage}")]
    TimedOut {
        /// The host of the URL.
        host: String,
        /// What was waited for.
        stage: Stage,
    },
    /// An answer other than success or a redirect.
    #[error("{host} answered with status {status}")]
    Status {
        /// The host of the URL.
        host: String,
        /// The status of the answer.
        status: u16,
    },
    /// The name of the host could not be resolved.
    #[error("the host {host} was not found")]
    Dns {
        /// The host of the URL.
        host: String,
    },
    /// The connection failed or broke.
    #[error("the connection to {host} failed")]
    Io {
        /// The host of the URL.
        host: String,
        /// What happened to it.
        source: io::Error,
    },
    /// What arrived could not be stored on this side.
    #[error("the fetched bytes could not be stored: {0}")]
    Sink(#[source] io::Error),
}

impl FetchRefused {
    /// Whether the same request may succeed at another time.
    #[must_use]
    pub fn may_succeed_later(&self) -> bool {
        match self {
            Self::TimedOut { .. } | Self::Dns { .. } | Self::Io { .. } | Self::Sink(_) => true,
            Self::Status { status, .. } => *status >= 500 || matches!(status, 408 | 425 | 429),
            _ => false,
        }
    }
}

/// What a fetch was waiting for when its time ran out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Stage {
    /// A connection.
    Connect,
    /// The first byte of the answer.
    FirstByte,
    /// The next bytes of the body.
    NextBytes,
    /// More bytes in that time.
    Pace,
    /// The end of it all.
    Total,
}

impl fmt::Display for Stage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Connect => "no connection",
            Self::FirstByte => "no answer",
            Self::NextBytes => "the transfer stopped",
            Self::Pace => "the transfer is too slow",
            Self::Total => "the transfer did not end",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_time_can_heal_may_succeed_later() {
        let host = String::new;
        assert!(FetchRefused::Status { host: host(), status: 503 }.may_succeed_later());
        assert!(FetchRefused::Status { host: host(), status: 429 }.may_succeed_later());
        assert!(FetchRefused::TimedOut { host: host(), stage: Stage::Total }.may_succeed_later());
        assert!(!FetchRefused::Status { host: host(), status: 404 }.may_succeed_later());
        assert!(!FetchRefused::PrivateAddress { host: host() }.may_succeed_later());
        assert!(!FetchRefused::TooLarge { host: host(), max_bytes: 1 }.may_succeed_later());
    }
}
