//! The document that clients are made from changes only when somebody means it to.

#[test]
fn the_openapi_document_is_the_snapshot() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/openapi.json");
    let now = social_server::openapi::json();
    if std::env::var_os("UPDATE_OPENAPI").is_some() {
        std::fs::write(path, &now).unwrap();
    }
    let kept = std::fs::read_to_string(path).unwrap_or_default();
    assert!(
        kept == now,
        "the API has changed: look at the difference after\n  UPDATE_OPENAPI=1 cargo test -p social-server --test api snapshot"
    );
}

#[test]
fn every_operation_has_a_name_of_its_own_and_every_route_is_described() {
    let document: serde_json::Value = serde_json::from_str(&social_server::openapi::json()).unwrap();
    let mut names = std::collections::BTreeSet::new();
    for item in document["paths"].as_object().unwrap().values() {
        for operation in item.as_object().unwrap().values() {
            assert!(names.insert(operation["operationId"].as_str().unwrap().to_owned()), "{operation}");
            assert!(operation["summary"].is_string() || operation["description"].is_string(), "{operation}");
        }
    }
    for route in [
        "post_post_schedule",
        "get_auth_connect_platform",
        "get_auth_callback_platform",
        "post_auth_links",
        "get_platforms",
        "get_accounts",
        "delete_accounts_id",
        "post_accounts_id_refresh",
        "post_post_validate",
        "get_posts",
        "get_posts_id",
        "patch_posts_id",
        "delete_posts_id",
        "post_posts_id_retry",
        "post_deliveries_id_resolve",
        "delete_deliveries_id_remote",
        "post_media",
        "get_media_id",
        "get_m_token",
        "get_logs",
        "get_events",
        "post_users",
        "get_users",
        "post_keys",
        "delete_keys_id",
        "get_healthz",
        "get_readyz",
        "get_metrics",
        "get_connections",
        "delete_connections_id",
    ] {
        assert!(names.contains(route), "{route} is not described");
    }
}

#[test]
fn schemas_of_one_name_are_one_type() {
    let document: serde_json::Value = serde_json::from_str(&social_server::openapi::json()).unwrap();
    let schemas = &document["components"]["schemas"];
    // Two types of one name would silently become one: look at a field that only the right one has.
    for (name, field) in [
        ("ConnectBody", "return_to"),
        ("LinkFields", "thumbnail"),
        ("ScheduleBody", "overrides"),
        ("LinkView", "expires_at"),
    ] {
        assert!(schemas[name]["properties"][field].is_object(), "{name}: {}", schemas[name]);
    }
    assert!(schemas["LinkBody"]["oneOf"].is_array(), "{}", schemas["LinkBody"]);
    let text = document.to_string();
    for reference in text.split("#/components/schemas/").skip(1) {
        let name = reference.split('"').next().unwrap();
        assert!(schemas[name].is_object(), "{name} is missing");
    }
}
