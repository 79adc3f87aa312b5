//! The OpenAPI document, made from the code. `social-server openapi` prints it; `openapi.json` beside the sources is its snapshot.

use utoipa::{
    Modify, OpenApi,
    openapi::{
        Content, Ref, RefOr, Response, ResponseBuilder,
        path::{Operation, ParameterBuilder, ParameterIn, PathItem},
        schema::{ObjectBuilder, Type},
        security::{HttpAuthScheme, HttpBuilder, SecurityScheme},
    },
};

use crate::{
    problem::{PROBLEM_JSON, ProblemBody},
    routes as r,
};

#[derive(OpenApi)]
#[openapi(
    info(title = "social-server", description = "Connects social accounts and publishes scheduled posts: never twice, never silently lost."),
    paths(
        r::posts::schedule, r::posts::validate, r::posts::list, r::posts::show, r::posts::edit, r::posts::cancel, r::posts::retry,
        r::deliveries::show, r::deliveries::resolve, r::deliveries::delete_remote, r::logs::list, r::events::stream,
        r::auth::create_link, r::auth::connect, r::auth::callback,
        r::accounts::list, r::accounts::show, r::accounts::disconnect, r::accounts::refresh, r::accounts::connections, r::accounts::revoke,
        r::platforms::list, r::media::upload, r::media::show, r::media::file, r::analytics::of_delivery, r::analytics::of_account,
        r::admin::create_user, r::admin::list_users, r::admin::create_key, r::admin::delete_key,
        r::health::alive, r::health::ready, r::health::metrics,
    ),
    components(schemas(ProblemBody)),
    modifiers(&Common),
    tags(
        (name = "posts", description = "Schedule posts and follow what becomes of them."),
        (name = "connect", description = "Connect accounts in a browser."),
        (name = "accounts", description = "Connected accounts, the grants behind them, and the networks."),
        (name = "media", description = "Upload files."),
        (name = "analytics", description = "Numbers, where a network gives any."),
        (name = "admin", description = "Users and their keys."),
        (name = "operation", description = "For those who run it."),
    ),
)]
struct Document;

/// What all operations share.
struct Common;

impl Modify for Common {
    fn modify(&self, document: &mut utoipa::openapi::OpenApi) {
        document.info.license = None;
        let components = document.components.get_or_insert_default();
        let bearer = |text: &str| {
            let scheme = HttpBuilder::new().scheme(HttpAuthScheme::Bearer).description(Some(text)).build();
            SecurityScheme::Http(scheme)
        };
        components.add_security_scheme("key", bearer("A user's API key: sk_live_..."));
        components.add_security_scheme("admin", bearer("The key in SOCIAL_ADMIN_KEY."));
        for (path, item) in &mut document.paths.paths {
            let name = |method: &str| {
                let words = path.split(|c: char| !c.is_ascii_alphanumeric()).filter(|word| !word.is_empty());
                words.fold(method.to_owned(), |name, word| name + "_" + word)
            };
            let methods = [
                ("post", &mut item.post),
                ("patch", &mut item.patch),
                ("delete", &mut item.delete),
                ("get", &mut item.get),
            ];
            for (method, operation) in methods {
                if let Some(operation) = operation {
                    operation.operation_id = Some(name(method));
                }
            }
            let PathItem { post, patch, delete, get, .. } = item;
            for operation in [post, patch, delete].into_iter().flatten() {
                idempotent(operation);
                refusable(operation);
            }
            for operation in get.iter_mut() {
                refusable(operation);
            }
        }
    }
}

fn idempotent(operation: &mut Operation) {
    let key = ParameterBuilder::new()
        .name("Idempotency-Key")
        .parameter_in(ParameterIn::Header)
        .description(Some(
            "The same key with the same request is carried out once and answered the same again, for 24 hours.",
        ))
        .schema(Some(ObjectBuilder::new().schema_type(Type::String).max_length(Some(255))));
    operation.parameters.get_or_insert_default().push(RefOr::T(key.build()));
}

/// Every refusal has one form.
fn refusable(operation: &mut Operation) {
    let problem = || Content::new(Some(Ref::from_schema_name("ProblemBody")));
    for (status, response) in &mut operation.responses.responses {
        if let RefOr::T(response) = response
            && response.description.is_empty()
        {
            let code = status.parse().ok().and_then(|code| http::StatusCode::from_u16(code).ok());
            response.description = code.and_then(|code| code.canonical_reason()).unwrap_or("Done").to_owned();
        }
        if let (Some('4' | '5'), RefOr::T(Response { content, .. })) = (status.chars().next(), response) {
            content.insert(PROBLEM_JSON.to_owned(), RefOr::T(problem()));
        }
    }
    let other = ResponseBuilder::new().description("A refusal.").content(PROBLEM_JSON, problem()).build();
    operation.responses.responses.insert("default".to_owned(), RefOr::T(other));
}

/// The document.
#[must_use]
pub fn document() -> utoipa::openapi::OpenApi {
    Document::openapi()
}

/// The document as it is served and kept as a snapshot.
#[must_use]
pub fn json() -> String {
    let mut text = document().to_pretty_json().unwrap_or_default();
    text.push('\n');
    text
}
