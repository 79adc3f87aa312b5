//! OAuth. Chirp is standard, so core does the work; what is Chirp's own is the account behind a grant.

use std::collections::BTreeMap;

use async_trait::async_trait;
use social_core::{
    AccountKind, AccountProfile, AuthCode, Authorization, AuthorizeRequest, CallContext, Connect, Error,
    PendingAuthorization, TokenSet,
};

use crate::{Chirp, succeeded, wire::Me};

#[async_trait]
impl Connect for Chirp {
    async fn authorize(&self, _cx: &CallContext, request: &AuthorizeRequest) -> Result<Authorization, Error> {
        self.oauth.authorize(&self.descriptor.id, request, &[])
    }

    async fn exchange(
        &self,
        cx: &CallContext,
        code: AuthCode,
        pending: &PendingAuthorization,
    ) -> Result<TokenSet, Error> {
        self.oauth.exchange(cx, code, pending).await
    }

    async fn refresh(&self, cx: &CallContext, current: &TokenSet) -> Result<TokenSet, Error> {
        self.oauth.refresh(cx, current).await
    }

    /// Revoking the refresh token ends the whole grant.
    async fn revoke(&self, cx: &CallContext, current: &TokenSet) -> Result<(), Error> {
        let token = current.refresh.as_ref().map_or(current.access.expose(), |refresh| refresh.expose());
        self.oauth.revoke(cx, token).await
    }

    async fn accounts(&self, cx: &CallContext, current: &TokenSet) -> Result<Vec<AccountProfile>, Error> {
        let reply =
            cx.http().get("connect.accounts", self.endpoint(&["v1", "me"])).bearer(&current.access).send().await?;
        let me: Me = succeeded(reply)?.json()?;
        Ok(vec![AccountProfile {
            remote_id: me.id,
            kind: AccountKind::Profile,
            display_name: me.name.unwrap_or_else(|| me.handle.clone()),
            handle: Some(me.handle),
            avatar_url: None,
            attributes: BTreeMap::new(),
        }])
    }
}
