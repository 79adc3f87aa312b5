//! Numbers of posts and accounts. A network without any has this file too, and says so in it.

use async_trait::async_trait;
use social_core::{
    Account, Analytics, CallContext, Error, RemotePostId, TokenSet,
    platform::{AccountMetrics, PostMetrics},
};

use crate::{Chirp, succeeded, wire::Numbers};

#[async_trait]
impl Analytics for Chirp {
    /// One call for each post. Posts that are gone are left out.
    async fn posts(
        &self,
        cx: &CallContext,
        tokens: &TokenSet,
        _account: &Account,
        ids: &[RemotePostId],
    ) -> Result<Vec<PostMetrics>, Error> {
        let mut found = Vec::with_capacity(ids.len());
        for id in ids {
            let url = self.endpoint(&["v1", "chirps", id.as_str(), "numbers"]);
            let reply = cx.http().get("analytics.posts", url).bearer(&tokens.access).send().await?;
            if reply.status() == 404 {
                continue;
            }
            let Numbers { values } = succeeded(reply)?.json()?;
            found.push(PostMetrics { id: id.clone(), values, at: cx.now() });
        }
        Ok(found)
    }

    async fn account(&self, cx: &CallContext, tokens: &TokenSet, _account: &Account) -> Result<AccountMetrics, Error> {
        let url = self.endpoint(&["v1", "me", "numbers"]);
        let reply = cx.http().get("analytics.account", url).bearer(&tokens.access).send().await?;
        let Numbers { values } = succeeded(reply)?.json()?;
        Ok(AccountMetrics { values, at: cx.now() })
    }
}
