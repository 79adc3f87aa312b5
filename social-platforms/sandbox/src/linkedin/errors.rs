//! LinkedIn's flat error bodies.

use crate::answer::{self, Answer};
use serde_json::{Value, json};

fn body(status: u16, service: Option<u32>, code: &str, message: &str) -> Value {
    let mut body = json!({ "status": status, "message": message });
    if let Some(service) = service {
        body["serviceErrorCode"] = json!(service);
    }
    if !code.is_empty() {
        body["code"] = json!(code);
    }
    body
}

pub(super) fn refusal(status: u16, code: &str, message: &str) -> Answer {
    answer::json(status, &body(status, None, code, message))
}

pub(super) fn numbered(status: u16, service: u32, code: &str, message: &str) -> Answer {
    answer::json(status, &body(status, Some(service), code, message))
}

pub(super) fn denied(operation: &str) -> Answer {
    numbered(403, 100, "ACCESS_DENIED", &format!("Not enough permissions to access: {operation}"))
}

pub(super) fn not_found() -> Answer {
    refusal(404, "NOT_FOUND", "Could not find entity")
}

/// A field of the body that is not as it must be.
pub(super) fn field(code: &str, path: &str, description: &str) -> Answer {
    let message = format!(
        "Field Value validation failed in REQUEST_BODY: Data Processing Exception while processing fields [{path}]"
    );
    let mut body = body(400, None, code, &message);
    body["errorDetailType"] = json!("com.linkedin.common.error.BadRequest");
    body["errorDetails"] = json!({
        "inputErrors": [{
            "description": description,
            "code": code,
            "input": { "inputPath": { "fieldPath": path } }
        }]
    });
    answer::json(400, &body)
}

pub(super) fn parameter(name: &str) -> Answer {
    refusal(400, "PARAM_INVALID", &format!("Invalid query parameters passed to request: {name}"))
}

/// An organization acted for by a token that may not. `role` is `author` or `owner`.
pub(super) fn organization(role: &str) -> Answer {
    refusal(400, "", &format!("Organization permissions must be used when using organization as {role}"))
}
