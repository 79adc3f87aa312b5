//! The kinds of errors with what goes with each unless an adapter knows better.

use social_core::{Actor, Effect, Error, ErrorKind, Retry};

use crate::table;

pub(crate) fn kinds() -> String {
    table(
        ["kind", "retry", "who acts", "what the person reads unless the network's table knows better"],
        ErrorKind::ALL.map(|kind| {
            let error = Error::new(kind, "docs");
            assert_eq!(error.effect(), Effect::Unknown, "an error starts without a proof");
            let retry = match error.retry_hint() {
                Retry::Never => "never".to_owned(),
                Retry::Backoff => "with growing pauses".to_owned(),
                Retry::After(wait) => format!("after {} s, or when the network says", wait.as_secs()),
                Retry::AfterReconnect => "after connecting again".to_owned(),
                other => panic!("{other:?} needs a word"),
            };
            let who = match error.who() {
                Actor::User => "user",
                Actor::Operator => "operator",
                Actor::Network => "network",
                Actor::Nobody => "nobody",
            };
            [format!("`{}`", kind.as_str()), retry, who.to_owned(), error.advice_text().to_owned()]
        }),
    )
}
