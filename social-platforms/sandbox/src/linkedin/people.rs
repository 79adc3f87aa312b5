//! Members, organizations, and who may act for them.

use super::{Caller, State, errors};
use crate::answer::{self, Answer, Input};
use crate::lock;
use crate::rng::{Rng, hash};
use crate::world::{Persona, World};
use serde_json::{Value, json};
use std::sync::Arc;

#[derive(Debug, Clone)]
pub(crate) struct Member {
    pub(crate) name: Arc<str>,
    pub(crate) display_name: String,
    pub(crate) note: &'static str,
}

#[derive(Debug, Clone)]
pub(super) struct Organization {
    pub(super) id: u64,
    pub(super) name: &'static str,
    pub(super) vanity: &'static str,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Role {
    Administrator,
    ContentAdministrator,
    SponsoredContentPoster,
    Analyst,
}

impl Role {
    fn as_str(self) -> &'static str {
        match self {
            Self::Administrator => "ADMINISTRATOR",
            Self::ContentAdministrator => "CONTENT_ADMINISTRATOR",
            Self::SponsoredContentPoster => "DIRECT_SPONSORED_CONTENT_POSTER",
            Self::Analyst => "ANALYST",
        }
    }

    fn may_post(self) -> bool {
        self != Self::Analyst
    }
}

/// Member, organization (both as index) and what the one may do for the other.
pub(super) type Assignment = (usize, usize, Role);

pub(super) fn initial() -> (Vec<Member>, Vec<Organization>, Vec<Assignment>) {
    let member =
        |name: &str, display: &str, note| Member { name: Arc::from(name), display_name: display.to_owned(), note };
    let members = vec![
        member("ada", "Ada Lovelace", "administers the page Analytical Engines"),
        member("grace", "Grace Hopper", "administers Compiler Works, content administrator of Analytical Engines"),
        member("linus", "Linus T.", "administers no page"),
        member("margaret", "Margaret Hamilton", "analyst of Analytical Engines: may read, not post"),
        member("radia", "Radia Perlman", "sponsored content poster of Compiler Works"),
    ];
    let organizations = vec![
        Organization { id: 2_414_183, name: "Analytical Engines", vanity: "analytical-engines" },
        Organization { id: 2_414_184, name: "Compiler Works", vanity: "compiler-works" },
    ];
    let roles = vec![
        (0, 0, Role::Administrator),
        (1, 1, Role::Administrator),
        (1, 0, Role::ContentAdministrator),
        (3, 0, Role::Analyst),
        (4, 1, Role::SponsoredContentPoster),
    ];
    (members, organizations, roles)
}

impl State {
    pub(crate) fn personas(&self) -> Vec<Persona> {
        (0..self.members.len()).map(|index| self.persona_view(index)).collect()
    }

    fn persona_view(&self, index: usize) -> Persona {
        let member = &self.members[index];
        Persona {
            platform: "linkedin".to_owned(),
            name: member.name.to_string(),
            display_name: member.display_name.clone(),
            account: self.urn_of(0, index),
            note: member.note.to_owned(),
        }
    }

    pub(crate) fn persona(&self, name: &str) -> Option<usize> {
        self.members.iter().position(|member| &*member.name == name)
    }

    pub(crate) fn name_of(&self, member: usize) -> String {
        self.members.get(member).map(|member| member.name.to_string()).unwrap_or_default()
    }

    pub(crate) fn add_persona(&mut self, name: &str, display_name: &str) -> Persona {
        self.members.push(Member { name: Arc::from(name), display_name: display_name.to_owned(), note: "" });
        self.persona_view(self.members.len() - 1)
    }

    /// The member's id for this app; another app sees another one.
    pub(crate) fn subject(&self, app: usize, member: usize) -> String {
        let name = self.name_of(member);
        let subject = |app: usize| Rng::new(hash(&["linkedin-subject", &app.to_string(), &name])).letters(10);
        subject(app)
    }

    pub(crate) fn urn_of(&self, app: usize, member: usize) -> String {
        format!("urn:li:person:{}", self.subject(app, member))
    }

    /// Index of the organization that this URN names.
    pub(super) fn organization(&self, urn: &str) -> Option<usize> {
        let id: u64 = urn.strip_prefix("urn:li:organization:")?.parse().ok()?;
        self.organizations.iter().position(|organization: &Organization| organization.id == id)
    }

    pub(super) fn role(&self, member: usize, organization: usize) -> Option<Role> {
        self.roles.iter().find(|role| role.0 == member && role.1 == organization).map(|role| role.2)
    }

    /// The name under which an author or owner is shown.
    pub(super) fn handle(&self, caller: &Caller, urn: &str) -> Arc<str> {
        match self.organization(urn) {
            Some(index) => Arc::from(self.organizations[index].vanity),
            None => Arc::clone(&self.members[caller.member].name),
        }
    }

    /// Whether the caller may write as this person or organization; `role` is `author` or `owner`, for the message.
    pub(super) fn act_as(&self, caller: &Caller, urn: &str, role: &str, resource: &str) -> Result<(), Answer> {
        self.act_with(
            caller,
            urn,
            role,
            &format!("{resource}.CREATE"),
            &["w_member_social"],
            &["w_organization_social"],
        )
    }

    pub(super) fn act_with(
        &self,
        caller: &Caller,
        urn: &str,
        role: &str,
        operation: &str,
        member_scopes: &[&str],
        organization_scopes: &[&str],
    ) -> Result<(), Answer> {
        if urn.starts_with("urn:li:organization:") {
            let may = caller.has_any(organization_scopes)
                && self
                    .organization(urn)
                    .and_then(|organization| self.role(caller.member, organization))
                    .is_some_and(Role::may_post);
            return if may { Ok(()) } else { Err(errors::organization(role)) };
        }
        if !urn.starts_with("urn:li:person:") {
            let code = if urn.starts_with("urn:li:") { "INVALID_URN_TYPE" } else { "INVALID_URN_ID" };
            return Err(errors::field(
                code,
                &format!("/{role}"),
                &format!("{role} must be a person or organization URN"),
            ));
        }
        if !caller.has_any(member_scopes) || urn != self.urn_of(caller.app, caller.member) {
            return Err(errors::denied(operation));
        }
        Ok(())
    }

    /// Whether the caller may see numbers of this organization.
    pub(super) fn administers(&self, caller: &Caller, urn: &str) -> bool {
        caller.has_any(&["rw_organization_admin", "r_organization_admin"])
            && self
                .organization(urn)
                .and_then(|organization| self.role(caller.member, organization))
                .is_some_and(|role| role == Role::Administrator)
    }
}

pub(super) fn userinfo(world: &World, input: &Input, caller: &Caller) -> Result<Answer, Answer> {
    if !caller.has("openid") {
        return Err(errors::denied("userInfo.GET.NO_VERSION"));
    }
    let state = lock(&world.linkedin);
    let member = &state.members[caller.member];
    let mut view = json!({ "sub": state.subject(caller.app, caller.member) });
    if caller.has("profile") {
        let (given, family) = member.display_name.split_once(' ').unwrap_or((&member.display_name, ""));
        view["name"] = json!(member.display_name);
        view["given_name"] = json!(given);
        view["family_name"] = json!(family);
        view["picture"] = json!(format!("{}/linkedin/avatars/{}.svg", input.base(), member.name));
        view["locale"] = json!("en-US");
    }
    if caller.has("email") {
        view["email"] = json!(format!("{}@sandbox.example", member.name));
        view["email_verified"] = json!(true);
    }
    Ok(answer::json(200, &view))
}

pub(super) fn me(world: &World, caller: &Caller) -> Result<Answer, Answer> {
    if !caller.has("r_basicprofile") {
        return Err(errors::denied("me.GET.NO_VERSION"));
    }
    let state = lock(&world.linkedin);
    let member = &state.members[caller.member];
    let (given, family) = member.display_name.split_once(' ').unwrap_or((&member.display_name, ""));
    Ok(answer::json(
        200,
        &json!({
            "id": state.subject(caller.app, caller.member),
            "localizedFirstName": given,
            "localizedLastName": family,
            "vanityName": format!("{}-in-the-sandbox", member.name)
        }),
    ))
}

fn may_list(caller: &Caller) -> Result<(), Answer> {
    if caller.has_any(&["rw_organization_admin", "r_organization_admin"]) {
        Ok(())
    } else {
        Err(errors::denied("organizationAcls.FINDER-roleAssignee"))
    }
}

pub(super) fn acls(world: &World, input: &Input, caller: &Caller) -> Result<Answer, Answer> {
    may_list(caller)?;
    let query = input.query();
    if query.get("q") != Some("roleAssignee") {
        return Err(errors::parameter("q"));
    }
    let number = |name: &str, default: usize| query.get(name).and_then(|text| text.parse().ok()).unwrap_or(default);
    let (start, count) = (number("start", 0), number("count", 10).min(100));
    // Both spellings are in use; answers have the long one.
    let wanted = query.get("role").map(|role| if role == "CONTENT_ADMIN" { "CONTENT_ADMINISTRATOR" } else { role });
    let approved = query.get("state").is_none_or(|state| state == "APPROVED");
    let state = lock(&world.linkedin);
    let all: Vec<Value> = state
        .roles
        .iter()
        .filter(|(member, _, role)| {
            approved && *member == caller.member && wanted.is_none_or(|wanted| wanted == role.as_str())
        })
        .map(|(_, organization, role)| {
            json!({
                "roleAssignee": state.urn_of(caller.app, caller.member),
                "role": role.as_str(),
                "state": "APPROVED",
                "organization": format!("urn:li:organization:{}", state.organizations[*organization].id)
            })
        })
        .collect();
    let total = all.len();
    let shown: Vec<Value> = all.into_iter().skip(start).take(count).collect();
    Ok(answer::json(
        200,
        &json!({ "elements": shown, "paging": { "start": start, "count": count, "total": total, "links": [] } }),
    ))
}

impl Organization {
    fn view(&self) -> Value {
        let asset = format!("urn:li:digitalmediaAsset:C4D0BAQ{}", self.id);
        json!({
            "id": self.id,
            "localizedName": self.name,
            "vanityName": self.vanity,
            "logoV2": { "original": asset, "cropped": asset }
        })
    }
}

pub(super) fn organization(world: &World, id: &str, caller: &Caller) -> Result<Answer, Answer> {
    if !caller.has_any(&[
        "rw_organization_admin",
        "r_organization_admin",
        "w_organization_social",
        "r_organization_social",
    ]) {
        return Err(errors::denied("organizations.GET"));
    }
    let state = lock(&world.linkedin);
    let found = state.organizations.iter().find(|organization| organization.id.to_string() == id);
    found.map(|organization| answer::json(200, &organization.view())).ok_or_else(errors::not_found)
}

pub(super) fn organizations(world: &World, input: &Input, caller: &Caller) -> Result<Answer, Answer> {
    may_list(caller)?;
    let query = input.query();
    let ids = super::list(query.get("ids").ok_or_else(|| errors::parameter("ids"))?);
    let state = lock(&world.linkedin);
    let (mut results, mut missing) = (serde_json::Map::new(), serde_json::Map::new());
    for id in ids {
        match state.organizations.iter().find(|organization| organization.id.to_string() == id) {
            Some(organization) => results.insert(id, organization.view()),
            None => {
                missing.insert(id, json!({ "status": 404, "code": "NOT_FOUND", "message": "Could not find entity" }))
            }
        };
    }
    Ok(answer::json(200, &json!({ "results": results, "statuses": {}, "errors": missing })))
}
