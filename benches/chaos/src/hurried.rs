//! Adapters under a fast clock. The deadlines of calls are real seconds; where time runs faster, the visible call has to be shorter by as
//! much, or it would outlive the lease that protects it.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use jiff::civil::Date;
use social_core::{
    Account, AccountProfile, Analytics, CallContext, Checkpoint, Committed, Connect, Deleted, Draft, Error, ErrorKind,
    Platform, PlatformDescriptor, Prepared, Publish, PublishContext, Reconciled, RemotePostId, Settled, TokenSet,
    Violation, platform::TextUse,
};

use crate::clock::Pace;

/// A network as it is, in a hurry.
#[derive(Debug)]
pub struct Hurried {
    inner: Arc<dyn Platform>,
    deadline: Duration,
}

impl Hurried {
    /// The same network under a pace.
    #[must_use]
    pub fn new(inner: Arc<dyn Platform>, pace: Pace) -> Self {
        let deadline = pace.real(inner.descriptor().flow.commit_deadline());
        Self { inner, deadline }
    }

    async fn in_time<T>(
        &self,
        operation: &'static str,
        call: impl Future<Output = Result<T, Error>> + Send,
    ) -> Result<T, Error> {
        let late = |_| Err(Error::new(ErrorKind::Timeout, operation).message("no answer within the deadline"));
        tokio::time::timeout(self.deadline, call).await.unwrap_or_else(late)
    }
}

impl Platform for Hurried {
    fn descriptor(&self) -> &PlatformDescriptor {
        self.inner.descriptor()
    }

    fn connect(&self) -> &dyn Connect {
        self.inner.connect()
    }

    fn publish(&self) -> &dyn Publish {
        self
    }

    fn analytics(&self) -> Option<&dyn Analytics> {
        self.inner.analytics()
    }

    fn sunset(&self) -> Option<Date> {
        self.inner.sunset()
    }
}

#[async_trait]
impl Publish for Hurried {
    fn descriptor(&self) -> &PlatformDescriptor {
        self.inner.descriptor()
    }

    fn validate(&self, draft: &Draft, account: &AccountProfile) -> Vec<Violation> {
        self.inner.publish().validate(draft, account)
    }

    fn text_use(&self, draft: &Draft, account: &AccountProfile) -> TextUse {
        self.inner.publish().text_use(draft, account)
    }

    async fn prepare(&self, cx: &PublishContext<'_>, from: Option<Checkpoint>) -> Result<Prepared, Error> {
        self.in_time("publish.prepare", self.inner.publish().prepare(cx, from)).await
    }

    async fn commit(&self, cx: &PublishContext<'_>, ready: Checkpoint) -> Result<Committed, Error> {
        self.in_time("publish.commit", self.inner.publish().commit(cx, ready)).await
    }

    async fn settle(&self, cx: &PublishContext<'_>, from: Checkpoint) -> Result<Settled, Error> {
        self.in_time("publish.settle", self.inner.publish().settle(cx, from)).await
    }

    async fn reconcile(&self, cx: &PublishContext<'_>, ready: Checkpoint) -> Result<Reconciled, Error> {
        self.in_time("publish.reconcile", self.inner.publish().reconcile(cx, ready)).await
    }

    async fn delete(
        &self,
        cx: &CallContext,
        tokens: &TokenSet,
        account: &Account,
        id: &RemotePostId,
    ) -> Result<Deleted, Error> {
        self.inner.publish().delete(cx, tokens, account, id).await
    }
}
