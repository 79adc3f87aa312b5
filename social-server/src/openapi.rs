//! The OpenAPI document, made from the code. `social-server openapi` prints it; `openapi.json` beside the sources is its snapshot.

use std::collections::BTreeSet;

use utoipa::{
    Modify, OpenApi,
    openapi::{
        Content, Ref, RefOr, Response,
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
            let PathItem { post, patch, delete, get, .. } = item;
            for (method, operation) in [("post", post), ("patch", patch), ("delete", delete), ("get", get)] {
                let Some(operation) = operation else { continue };
                operation.operation_id = Some(name(method));
                if method != "get" {
                    idempotent(operation);
                }
                refusable(path, method, operation);
            }
        }
    }
}

fn idempotent(operation: &mut Operation) {
    let key = ParameterBuilder::new()
        .name("Idempotency-Key")
        .parameter_in(ParameterIn::Header)
        .description(Some(
            "The same key with the same request is carried out once and answered the same again, for two days.",
        ))
        .schema(Some(
            ObjectBuilder::new()
                .schema_type(Type::String)
                .min_length(Some(1))
                .max_length(Some(255))
                .pattern(Some("^[ -~]*[!-~][ -~]*$")),
        ));
    operation.parameters.get_or_insert_default().push(RefOr::T(key.build()));
}

/// With which statuses an operation may refuse, besides those that it describes itself.
fn refusals(path: &str, method: &str, operation: &Operation) -> BTreeSet<u16> {
    // Limits of the server, faults of ours, and a store or a deadline that is in the way.
    let mut refusals = BTreeSet::from([400, 414, 429, 431, 500, 503]);
    let secured = operation.security.is_some();
    let parameters = operation.parameters.as_deref().unwrap_or_default();
    let queries =
        parameters.iter().any(|one| matches!(one, RefOr::T(one) if matches!(one.parameter_in, ParameterIn::Query)));
    // A key that came in clear is refused everywhere, and is not asked for everywhere.
    refusals.insert(403);
    if secured {
        refusals.insert(401);
    }
    if path.contains('{') {
        refusals.insert(404);
    }
    if queries {
        refusals.insert(422);
    }
    if !matches!(path, "/events" | "/media" | "/m/{token}" | "/healthz") {
        refusals.insert(504);
    }
    if method != "get" {
        // Its body, its Idempotency-Key, and what stands in its way.
        refusals.extend([408, 409, 413, 422]);
    }
    if operation.request_body.is_some() {
        refusals.insert(415);
    }
    let asks_a_network = ["/auth/c", "/accounts/{id}", "/connections/{id}", "/analytics", "/deliveries/{id}/remote"];
    if asks_a_network.iter().any(|begin| path.starts_with(begin)) {
        refusals.extend([409, 422, 502]);
    }
    match path {
        "/post/schedule" | "/post/validate" => refusals.extend([404, 507]),
        "/posts" | "/logs" => refusals.extend([404]),
        "/posts/{id}" if method == "patch" => refusals.extend([507]),
        "/media" => refusals.extend([507]),
        "/keys" => refusals.extend([404]),
        _ => {}
    }
    refusals
}

/// Every refusal has one form, and only those that are described are given.
fn refusable(path: &str, method: &str, operation: &mut Operation) {
    let problem = || Content::new(Some(Ref::from_schema_name("ProblemBody")));
    let page = || Content::new(Some(ObjectBuilder::new().schema_type(Type::String)));
    for status in refusals(path, method, operation) {
        operation.responses.responses.entry(status.to_string()).or_insert_with(|| RefOr::T(Response::default()));
    }
    for (status, response) in &mut operation.responses.responses {
        let RefOr::T(response) = response else { continue };
        let code = status.parse().ok().and_then(|code| http::StatusCode::from_u16(code).ok());
        if response.description.is_empty() {
            response.description = code.and_then(|code| code.canonical_reason()).unwrap_or("Done").to_owned();
        }
        if code.is_some_and(|code| code.is_client_error() || code.is_server_error()) {
            response.content.insert(PROBLEM_JSON.to_owned(), RefOr::T(problem()));
            // A person in a browser gets a page.
            if path.starts_with("/auth/c") {
                response.content.insert("text/html".to_owned(), RefOr::T(page()));
            }
        }
    }
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
