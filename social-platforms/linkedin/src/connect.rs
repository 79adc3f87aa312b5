//! OAuth with LinkedIn's quirks, and the accounts behind a grant.

use std::collections::BTreeMap;

use async_trait::async_trait;
use social_core::{
    AccessToken, AccountKind, AccountProfile, AuthCode, Authorization, AuthorizeRequest, CallContext, Connect, Error,
    PendingAuthorization, TokenSet,
};
use tracing::info;

use crate::{
    LinkedIn,
    api::encode,
    error::classify,
    wire::{Organization, OrganizationAcl, Page, UserInfo},
};

/// Roles that may post as a page. LinkedIn's pages spell the second one in two ways.
const POSTING_ROLES: [&str; 3] = ["ADMINISTRATOR", "CONTENT_ADMINISTRATOR", "CONTENT_ADMIN"];
const PAGE: usize = 100;
const PAGES: usize = 20;

/// LinkedIn has no code challenge for web apps: the state and the client secret protect the exchange. A member who connects with another
/// set of scopes ends the tokens of the earlier set.
#[async_trait]
impl Connect for LinkedIn {
    async fn authorize(&self, _cx: &CallContext, request: &AuthorizeRequest) -> Result<Authorization, Error> {
        self.oauth.authorize(&self.descriptor.id, request, &[])
    }

    async fn exchange(
        &self,
        cx: &CallContext,
        code: AuthCode,
        pending: &PendingAuthorization,
    ) -> Result<TokenSet, Error> {
        let mut tokens = self.oauth.exchange(cx, code, pending).await?;
        if tokens.scopes.is_empty() {
            // A member consents to all scopes or to none.
            tokens.scopes.clone_from(&pending.requested_scopes);
        }
        Ok(tokens)
    }

    /// `Reconnect` for most apps: LinkedIn gives a refresh token only to those with programmatic refresh.
    async fn refresh(&self, cx: &CallContext, current: &TokenSet) -> Result<TokenSet, Error> {
        self.oauth.refresh(cx, current).await
    }

    /// Never fails: LinkedIn does not promise this call, and the tokens are forgotten on our side in any case.
    async fn revoke(&self, cx: &CallContext, current: &TokenSet) -> Result<(), Error> {
        if let Err(error) = self.oauth.revoke(cx, current.access.expose()).await {
            info!(error.kind = error.kind().as_str(), "LinkedIn did not confirm the end of a grant");
        }
        Ok(())
    }

    /// The member, and the pages that the member may post for if the grant may list them. LinkedIn allows few of these calls: make them
    /// when an account is connected, and once a day at the most.
    async fn accounts(&self, cx: &CallContext, current: &TokenSet) -> Result<Vec<AccountProfile>, Error> {
        let mut accounts = vec![self.member(cx, &current.access).await?];
        if current.scopes.iter().any(|scope| scope.ends_with("_organization_admin")) {
            for (urn, role) in self.pages(cx, &current.access).await? {
                accounts.push(self.page(cx, &current.access, &urn, &role).await?);
            }
        }
        Ok(accounts)
    }
}

impl LinkedIn {
    async fn member(&self, cx: &CallContext, token: &AccessToken) -> Result<AccountProfile, Error> {
        let reply = cx.http().get("accounts.member", self.api.v2("userinfo")).bearer(token).send().await?;
        if !reply.is_success() {
            return Err(classify(cx, &reply));
        }
        let found: UserInfo = reply.json()?;
        let parts = || [found.given_name, found.family_name].into_iter().flatten().collect::<Vec<_>>().join(" ");
        let name = found.name.unwrap_or_else(parts);
        Ok(AccountProfile {
            attributes: attributes(&format!("urn:li:person:{}", found.sub), None),
            kind: AccountKind::Member,
            handle: None,
            display_name: if name.trim().is_empty() { "LinkedIn member".to_owned() } else { name },
            avatar_url: found.picture,
            remote_id: found.sub,
        })
    }

    /// The pages with the member's best role in each, in LinkedIn's order.
    async fn pages(&self, cx: &CallContext, token: &AccessToken) -> Result<Vec<(String, String)>, Error> {
        let mut pages: Vec<(String, String)> = Vec::new();
        for page in 0..PAGES {
            let query = format!("q=roleAssignee&state=APPROVED&start={}&count={PAGE}", page * PAGE);
            let request = cx.http().get("accounts.pages", self.api.rest("organizationAcls", Some(&query)));
            let reply = self.api.versioned(request, token).header("x-restli-method", "FINDER").send().await?;
            if !reply.is_success() {
                return Err(classify(cx, &reply));
            }
            let found: Page<OrganizationAcl> = reply.json()?;
            let count = found.elements.len();
            for acl in found.elements {
                let approved = acl.state.as_deref().is_none_or(|state| state == "APPROVED");
                if let Some(urn) = acl.target().filter(|_| approved && POSTING_ROLES.contains(&acl.role.as_str())) {
                    match pages.iter_mut().find(|(known, _)| known == urn) {
                        Some((_, role)) if acl.role == "ADMINISTRATOR" => role.clone_from(&acl.role),
                        Some(_) => {}
                        None => pages.push((urn.to_owned(), acl.role.clone())),
                    }
                }
            }
            if count < PAGE {
                break;
            }
        }
        Ok(pages)
    }

    async fn page(
        &self,
        cx: &CallContext,
        token: &AccessToken,
        urn: &str,
        role: &str,
    ) -> Result<AccountProfile, Error> {
        let id = urn.rsplit(':').next().unwrap_or(urn);
        let request = cx.http().get("accounts.page", self.api.rest(&format!("organizations/{}", encode(id)), None));
        let reply = self.api.versioned(request, token).send().await?;
        let found: Organization = match reply.status() {
            200..=299 => reply.json()?,
            // The role is there, so it can be posted to; only its name may not be read.
            403 | 404 => Organization::default(),
            _ => return Err(classify(cx, &reply)),
        };
        Ok(AccountProfile {
            remote_id: id.to_owned(),
            kind: AccountKind::Organization,
            handle: found.vanity_name,
            display_name: found.localized_name.unwrap_or_else(|| format!("LinkedIn page {id}")),
            avatar_url: None,
            attributes: attributes(urn, Some(role)),
        })
    }
}

fn attributes(author: &str, role: Option<&str>) -> BTreeMap<String, String> {
    let role = role.map(|role| ("role".to_owned(), role.to_owned()));
    [("author".to_owned(), author.to_owned())].into_iter().chain(role).collect()
}
