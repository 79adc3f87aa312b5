//! Connecting accounts: OAuth 2.0 with PKCE, refresh tokens that can be used once.

use std::collections::BTreeMap;

use async_trait::async_trait;
use social_core::{
    AccountKind, AccountProfile, AuthCode, Authorization, AuthorizeRequest, CallContext, Connect, Error, ErrorKind,
    PendingAuthorization, TokenSet, http::Reply, oauth::OAuthFault,
};

use crate::{X, ask, operation, validate::SUBSCRIPTION, wire};

#[async_trait]
impl Connect for X {
    async fn authorize(&self, _cx: &CallContext, request: &AuthorizeRequest) -> Result<Authorization, Error> {
        self.oauth.authorize(&X::ID, request, &[])
    }

    /// X's codes live for 30 seconds: exchange in the callback, not later.
    async fn exchange(
        &self,
        cx: &CallContext,
        code: AuthCode,
        pending: &PendingAuthorization,
    ) -> Result<TokenSet, Error> {
        self.oauth.exchange(cx, code, pending).await
    }

    /// X ends the whole grant when a refresh token is used twice.
    async fn refresh(&self, cx: &CallContext, current: &TokenSet) -> Result<TokenSet, Error> {
        self.oauth.refresh(cx, current).await
    }

    async fn revoke(&self, cx: &CallContext, current: &TokenSet) -> Result<(), Error> {
        // Whether ending one token ends the other is not documented, so each is ended. The longer-lived goes first.
        let tokens = current.refresh.iter().map(|token| token.expose()).chain([current.access.expose()]);
        for token in tokens {
            self.oauth.revoke(cx, token).await?;
        }
        Ok(())
    }

    async fn accounts(&self, cx: &CallContext, current: &TokenSet) -> Result<Vec<AccountProfile>, Error> {
        Ok(vec![profile(self.me(cx, current, operation::ACCOUNTS).await?)])
    }
}

impl X {
    /// Who the grant belongs to.
    pub(crate) async fn me(
        &self,
        cx: &CallContext,
        tokens: &TokenSet,
        operation: &'static str,
    ) -> Result<wire::Me, Error> {
        let request =
            cx.http().get(operation, self.endpoint(&["2", "users", "me"])).query([("user.fields", wire::USER_FIELDS)]);
        let reply = ask(request.bearer(&tokens.access)).await?;
        let answer: wire::One<wire::Me> = reply.json().map_err(Error::effect_none)?;
        answer.data.ok_or_else(|| {
            Error::new(ErrorKind::Unexpected, operation)
                .message("the answer names no account")
                .provider(reply.provider(None))
                .effect_none()
        })
    }
}

fn profile(me: wire::Me) -> AccountProfile {
    let attributes = [
        (SUBSCRIPTION, me.subscription_type),
        ("verified_type", me.verified_type),
        ("protected", me.protected.then(|| "true".to_owned())),
    ];
    AccountProfile {
        remote_id: me.id,
        kind: AccountKind::Profile,
        handle: Some(me.username),
        display_name: me.name,
        // The small picture is 48 pixels wide; the same address without `_normal` exists in other sizes.
        avatar_url: me.profile_image_url.map(|url| url.replace("_normal.", "_400x400.")),
        attributes: attributes
            .into_iter()
            .filter_map(|(name, value)| Some((name.to_owned(), value?)))
            .collect::<BTreeMap<_, _>>(),
    }
}

/// X's own words at the token endpoint. It says `invalid_request` where others say `invalid_grant`.
pub(crate) fn oauth_fault(reply: &Reply, fault: &OAuthFault) -> Option<Error> {
    let error = fault.error.as_deref()?;
    let said = fault.error_description.as_deref().unwrap_or_default().to_ascii_lowercase();
    let new = |kind, code: &str| {
        Error::new(kind, reply.operation().clone()).provider(reply.provider(Some(code.to_owned()))).effect_none()
    };
    match (reply.status(), error) {
        (400, "invalid_request" | "invalid_grant") if said.contains("authorization code") => {
            Some(new(ErrorKind::Rejected, error).advice("Connecting took too long or was tried twice. Please connect the account again."))
        }
        (400, "invalid_request") if said.contains("value passed for the token") => {
            Some(new(ErrorKind::Reconnect, error).advice("X no longer accepts this connection. Please connect the account again."))
        }
        (401, "unauthorized_client" | "invalid_client") => Some(
            new(ErrorKind::Config, error)
                .advice("X does not accept the credentials of this installation. Please tell whoever runs it to check client id and secret."),
        ),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use http::{HeaderMap, StatusCode};
    use jiff::Timestamp;

    use super::*;

    #[test]
    fn the_token_endpoint_has_words_of_its_own() {
        let kind = |status: u16, error: &str, description: &str| {
            let status = StatusCode::from_u16(status).unwrap();
            let reply = Reply::new("oauth.refresh", status, HeaderMap::new(), Bytes::new(), Timestamp::UNIX_EPOCH);
            let fault = OAuthFault { error: Some(error.to_owned()), error_description: Some(description.to_owned()) };
            oauth_fault(&reply, &fault).map(|error| error.kind())
        };
        let code = "Value passed for the authorization code was invalid.";
        let token = "Value passed for the token was invalid.";
        assert_eq!(kind(400, "invalid_request", code), Some(ErrorKind::Rejected));
        assert_eq!(kind(400, "invalid_request", token), Some(ErrorKind::Reconnect));
        assert_eq!(kind(401, "unauthorized_client", "Missing valid authorization header"), Some(ErrorKind::Config));
        assert_eq!(kind(400, "invalid_request", "Missing required parameter [code_verifier]."), None);
        assert_eq!(kind(503, "invalid_request", token), None, "an outage proves nothing");
    }

    #[test]
    fn what_x_leaves_out_is_left_out() {
        let me: wire::Me = serde_json::from_str(r#"{"id":"7","name":"Shop","username":"shop"}"#).unwrap();
        let profile = profile(me);
        assert!(profile.attributes.is_empty() && profile.avatar_url.is_none());
    }
}
