//! Numbers: of pages and their posts, and of members' posts where the app has the product for it.

use std::collections::{BTreeMap, HashMap};

use async_trait::async_trait;
use social_core::{
    Account, Actor, Analytics, CallContext, Error, ErrorKind, RemotePostId, TokenSet,
    http::Reply,
    platform::{AccountMetrics, PostMetrics},
};
use url::Url;

use crate::{
    LinkedIn,
    api::encode,
    error::classify,
    publish::author,
    wire::{MetricCount, NetworkSize, Page, ShareStatistics},
};

/// Posts asked for in one call.
const BATCH: usize = 50;
/// LinkedIn's metrics of a member's post by our names; each is a call of its own.
const MEMBER_METRICS: [(&str, &str); 5] = [
    ("impressions", "IMPRESSION"),
    ("reach", "MEMBERS_REACHED"),
    ("shares", "RESHARE"),
    ("likes", "REACTION"),
    ("comments", "COMMENT"),
];
const MEMBER_SCOPE: &str = "r_member_postAnalytics";

#[async_trait]
impl Analytics for LinkedIn {
    /// Of pages the last twelve months, 50 posts to a call, where a post without any activity counts 0; of members five calls for each
    /// post. Ids that are neither shares nor posts are left out.
    async fn posts(
        &self,
        cx: &CallContext,
        tokens: &TokenSet,
        account: &Account,
        ids: &[RemotePostId],
    ) -> Result<Vec<PostMetrics>, Error> {
        let owner = author(&account.profile);
        let posts: Vec<(&RemotePostId, Kind)> =
            ids.iter().filter_map(|id| Some((id, Kind::of(id.as_str())?))).collect();
        let mut found = Vec::with_capacity(posts.len());
        if is_organization(&owner) {
            for batch in posts.chunks(BATCH) {
                self.page_posts(cx, tokens, &owner, batch, &mut found).await?;
            }
            return Ok(found);
        }
        if !posts.is_empty() && !tokens.scopes.iter().any(|scope| scope == MEMBER_SCOPE) {
            return Err(no_member_numbers("analytics.posts"));
        }
        for (id, kind) in posts {
            found.push(self.member_post(cx, tokens, id, kind).await?);
        }
        Ok(found)
    }

    /// The followers of a page. LinkedIn gives no such number of a member.
    async fn account(&self, cx: &CallContext, tokens: &TokenSet, account: &Account) -> Result<AccountMetrics, Error> {
        let owner = author(&account.profile);
        if !is_organization(&owner) {
            return Err(Error::new(ErrorKind::Unsupported, "analytics.account")
                .message("LinkedIn has no account numbers of members")
                .advice("LinkedIn shows follower numbers for pages only.")
                .effect_none());
        }
        let path = format!("networkSizes/{}", encode(&owner));
        let url = self.api.rest(&path, Some("edgeType=COMPANY_FOLLOWED_BY_MEMBER"));
        let size: NetworkSize = self.read(cx, tokens, "analytics.account", url, None).await?.json()?;
        Ok(AccountMetrics { values: BTreeMap::from([("followers".to_owned(), size.first_degree_size)]), at: cx.now() })
    }
}

impl LinkedIn {
    async fn page_posts(
        &self,
        cx: &CallContext,
        tokens: &TokenSet,
        owner: &str,
        batch: &[(&RemotePostId, Kind)],
        found: &mut Vec<PostMetrics>,
    ) -> Result<(), Error> {
        let mut query = format!("q=organizationalEntity&organizationalEntity={}", encode(owner));
        for kind in [Kind::Share, Kind::Post] {
            let list: Vec<String> =
                batch.iter().filter(|(_, of)| *of == kind).map(|(id, _)| encode(id.as_str())).collect();
            if !list.is_empty() {
                query.push_str(&format!("&{}=List({})", kind.list(), list.join(",")));
            }
        }
        let url = self.api.rest("organizationalEntityShareStatistics", Some(&query));
        let page: Page<ShareStatistics> =
            self.read(cx, tokens, "analytics.posts", url, Some("FINDER")).await?.json()?;
        let mut counts: HashMap<String, _> = page
            .elements
            .into_iter()
            .filter_map(|element| Some((element.share.or(element.ugc_post)?, element.total_share_statistics)))
            .collect();
        for (id, _) in batch {
            // LinkedIn leaves out what nobody has looked at yet.
            let counts = counts.remove(id.as_str()).unwrap_or_default();
            let values = counts.named().into_iter().map(|(name, count)| (name.to_owned(), count)).collect();
            found.push(PostMetrics { id: (*id).clone(), values, at: cx.now() });
        }
        Ok(())
    }

    async fn member_post(
        &self,
        cx: &CallContext,
        tokens: &TokenSet,
        id: &RemotePostId,
        kind: Kind,
    ) -> Result<PostMetrics, Error> {
        let mut values = BTreeMap::new();
        for (name, metric) in MEMBER_METRICS {
            let entity = format!("({}:{})", kind.entity(), encode(id.as_str()));
            let query = format!("q=entity&entity={entity}&queryType={metric}&aggregation=TOTAL");
            let url = self.api.rest("memberCreatorPostAnalytics", Some(&query));
            let page: Page<MetricCount> =
                self.read(cx, tokens, "analytics.posts", url, Some("FINDER")).await?.json()?;
            values.insert(name.to_owned(), page.elements.iter().map(MetricCount::number).sum());
        }
        Ok(PostMetrics { id: id.clone(), values, at: cx.now() })
    }

    async fn read(
        &self,
        cx: &CallContext,
        tokens: &TokenSet,
        operation: &'static str,
        url: Url,
        method: Option<&str>,
    ) -> Result<Reply, Error> {
        let mut request = self.api.versioned(cx.http().get(operation, url), &tokens.access);
        if let Some(method) = method {
            request = request.header("x-restli-method", method);
        }
        let reply = request.send().await?;
        if reply.is_success() { Ok(reply) } else { Err(classify(cx, &reply)) }
    }
}

/// The two kinds of posts of which there are numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Share,
    Post,
}

impl Kind {
    fn of(urn: &str) -> Option<Self> {
        if urn.starts_with("urn:li:share:") {
            Some(Self::Share)
        } else if urn.starts_with("urn:li:ugcPost:") {
            Some(Self::Post)
        } else {
            None
        }
    }

    /// Its name as a list of page statistics.
    fn list(self) -> &'static str {
        match self {
            Self::Share => "shares",
            Self::Post => "ugcPosts",
        }
    }

    /// Its name as the subject of member statistics.
    fn entity(self) -> &'static str {
        match self {
            Self::Share => "share",
            Self::Post => "ugc",
        }
    }
}

fn is_organization(owner: &str) -> bool {
    owner.starts_with("urn:li:organization:")
}

fn no_member_numbers(operation: &'static str) -> Error {
    Error::new(ErrorKind::Permission, operation)
        .message("the grant does not hold r_member_postAnalytics")
        .actor(Actor::Operator)
        .advice(
            "LinkedIn gives the numbers of members' posts only to apps with the Community Management product. Whoever runs this installation \
             has to apply for it; numbers of pages are not concerned.",
        )
        .effect_none()
}
