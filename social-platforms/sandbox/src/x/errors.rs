//! The four shapes of X errors.

use crate::answer::{self, Answer};
use crate::oauth::AccessToken;
use crate::settings::XLimitBody;
use serde_json::{Value, json};

/// Shape A: a problem object.
pub(super) fn problem(status: u16, title: &str, detail: &str) -> Answer {
    answer::json(status, &json!({ "title": title, "detail": detail, "type": "about:blank", "status": status }))
}

pub(super) fn unauthorized() -> Answer {
    problem(401, "Unauthorized", "Unauthorized")
}

pub(super) fn forbidden(detail: &str) -> Answer {
    problem(403, "Forbidden", detail)
}

pub(super) fn suspended() -> Answer {
    answer::json(
        403,
        &json!({
            "title": "Forbidden",
            "detail": "The user used for authentication is suspended",
            "type": "https://api.twitter.com/2/problems/user-suspended",
            "status": 403
        }),
    )
}

/// Shape B: an invalid request with the parameters that are wrong.
pub(super) fn invalid(parameter: &str, value: &str, message: &str) -> Answer {
    let mut parameters = serde_json::Map::new();
    if !parameter.is_empty() {
        parameters.insert(parameter.to_owned(), json!([value]));
    }
    invalid_list(&json!([{ "parameters": parameters, "message": message }]))
}

fn invalid_list(errors: &Value) -> Answer {
    answer::json(
        400,
        &json!({
            "errors": errors,
            "title": "Invalid Request",
            "detail": "One or more parameters to your request was invalid.",
            "type": "https://api.twitter.com/2/problems/invalid-request"
        }),
    )
}

/// Shape B for several messages about the body.
pub(super) fn invalid_body(messages: &[String]) -> Answer {
    let errors: Vec<Value> = messages.iter().map(|message| json!({ "parameters": {}, "message": message })).collect();
    invalid_list(&Value::Array(errors))
}

/// One member of the `errors` of a partial answer (shape D).
pub(super) fn missing(kind: &str, parameter: &str, id: &str) -> Value {
    json!({
        "value": id,
        "detail": format!("Could not find {kind} with {parameter}: [{id}]."),
        "title": "Not Found Error",
        "resource_type": kind,
        "parameter": parameter,
        "resource_id": id,
        "type": "https://api.twitter.com/2/problems/resource-not-found"
    })
}

pub(super) fn not_authorized(kind: &str, parameter: &str, id: &str) -> Value {
    json!({
        "value": id,
        "detail": format!("Sorry, you are not authorized to see the {kind} with {parameter}: [{id}]."),
        "title": "Authorization Error",
        "resource_type": kind,
        "parameter": parameter,
        "resource_id": id,
        "type": "https://api.twitter.com/2/problems/not-authorized-for-resource"
    })
}

pub(super) fn not_found(kind: &str, id: &str) -> Answer {
    let mut body = missing(kind, "id", id);
    body["status"] = json!(404);
    answer::json(404, &body)
}

pub(super) fn too_many(body: XLimitBody) -> Answer {
    match body {
        XLimitBody::Problem => problem(429, "Too Many Requests", "Too Many Requests"),
        XLimitBody::V1 => answer::json(429, &json!({ "errors": [{ "code": 88, "message": "Rate limit exceeded" }] })),
    }
}

pub(super) fn usage_capped() -> Answer {
    answer::json(
        429,
        &json!({
            "title": "UsageCapExceeded",
            "detail": "Usage cap exceeded: Monthly product cap",
            "type": "https://api.twitter.com/2/problems/usage-capped",
            "period": "Monthly",
            "scope": "Product",
            "account_id": 1_000_001,
            "product_name": "pay-per-use"
        }),
    )
}

pub(super) fn credits_depleted(token: &AccessToken) -> Answer {
    let account = 1_000_001 + token.grant.app;
    answer::json(
        402,
        &json!({
            "title": "CreditsDepleted",
            "detail": format!("Your enrolled account [{account}] does not have any credits to fulfill this request."),
            "type": "https://api.twitter.com/2/problems/credits",
            "account_id": account
        }),
    )
}
