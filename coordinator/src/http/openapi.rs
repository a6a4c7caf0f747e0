//! The OpenAPI 3.1 document, made of the table of routes and of the very types that are answered with. `docs/openapi.json` is what it
//! says; a test compares.

use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};

use axum::response::Response;
use schemars::generate::SchemaSettings;
use schemars::{Schema, SchemaGenerator};
use serde_json::{Map, Value, json};

use super::Api;
use super::asked::{Param, Shape};
use super::door::MAX_BODY_LEN;
use super::problem::{Kind, MEDIA_TYPE, Problem, ProblemView};
use super::read;
use super::route::{self, Access, Route};

/// What any request may be refused with, and any with a token, with a value, with a body.
const EVERYWHERE: &[Kind] = &[Kind::Host, Kind::Internal];
const WITH_TOKEN: &[Kind] =
    &[Kind::Token, Kind::Crowded, Kind::Waiting, Kind::Leader, Kind::Share, Kind::Invalid];
const WITH_BODY: &[Kind] = &[Kind::Length, Kind::MediaType, Kind::Slow, Kind::Unknown];

/// Answers with the document.
pub(super) fn answer(_api: Arc<Api>) -> Result<Response, Problem> {
    static DOCUMENT: OnceLock<Value> = OnceLock::new();
    read::json(axum::http::StatusCode::OK, DOCUMENT.get_or_init(document))
}

/// The document.
pub(super) fn document() -> Value {
    let settings = || {
        SchemaSettings::draft2020_12().with(|settings| {
            settings.definitions_path = "/components/schemas".into();
            settings.meta_schema = None;
        })
    };
    let mut told = settings().for_serialize().into_generator();
    let mut taken = settings().for_deserialize().into_generator();
    let problem = told.subschema_for::<ProblemView<'_>>();
    let mut paths: BTreeMap<&str, Map<String, Value>> = BTreeMap::new();
    for route in route::all() {
        let operation = operation(&route, &problem, &mut told, &mut taken);
        paths.entry(route.path).or_default().insert(route.method.as_str().to_lowercase(), operation);
    }
    let mut schemas = taken.take_definitions(true);
    schemas.extend(told.take_definitions(true));
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "Muster",
            "version": env!("CARGO_PKG_VERSION"),
            "summary": "Coordinated, encrypted, write-only backups of a fleet",
            "description": "Every coordinator of a fleet answers. Shapes are those of the commands of the same name with `--json`: \
                fields may be added, none changes or goes without another number in `schema`. Refusals are problems as of RFC 9457. \
                Times are RFC 3339 in UTC.",
            "license": {"name": "MIT OR Apache-2.0"},
        },
        "servers": [{"url": "/"}],
        "security": [{"token": []}],
        "paths": paths,
        "components": {
            "securitySchemes": {
                "token": {
                    "type": "http",
                    "scheme": "bearer",
                    "description": "The secret of a token, which `muster token new NAME --role viewer --into FILE` makes",
                },
            },
            "schemas": schemas,
        },
    })
}

fn operation(
    route: &Route,
    problem: &Schema,
    told: &mut SchemaGenerator,
    taken: &mut SchemaGenerator,
) -> Value {
    let mut parameters: Vec<Value> = route.path_params.iter().map(|param| parameter(param, "path")).collect();
    parameters.extend(route.query.iter().map(|param| parameter(param, "query")));
    if route.idempotent {
        parameters.push(json!({
            "name": "Idempotency-Key",
            "in": "header",
            "required": false,
            "description": "an id of the request of your choice: the same id is the same round, however often it is sent",
            "schema": {"type": "string", "minLength": 1, "maxLength": 128, "pattern": "^[!-~]{1,128}$"},
            "example": "nightly-2026-12-01",
        }));
    }
    let mut answers = Map::new();
    for (status, what) in route.answers {
        let schema = route.schema.map_or_else(|| json!({}), |schema| json!(schema(told)));
        answers.insert(
            status.as_str().to_owned(),
            json!({"description": what, "content": {route.media_type: {"schema": schema}}}),
        );
    }
    for (status, kinds) in refusals(route) {
        let words: Vec<_> = kinds.iter().map(|kind| format!("`{}`: {}", kind.word(), kind.title())).collect();
        answers.insert(
            status,
            json!({"description": words.join("; "), "content": {MEDIA_TYPE: {"schema": problem}}}),
        );
    }
    let mut operation = json!({
        "operationId": route.id,
        "summary": route.summary,
        "parameters": parameters,
        "responses": answers,
    });
    match route.access {
        Access::Public => operation["security"] = json!([]),
        Access::Viewer => operation["description"] = json!("Takes a token of any role."),
        Access::Operator => operation["description"] = json!("Takes a token of the role operator."),
    }
    if let Some(body) = &route.body {
        operation["requestBody"] = json!({
            "required": false,
            "description": format!("{}; at most {MAX_BODY_LEN} bytes", body.what),
            "content": {"application/json": {"schema": (body.schema)(taken)}},
        });
    }
    operation
}

/// What a route may refuse with, by status.
fn refusals(route: &Route) -> BTreeMap<String, Vec<Kind>> {
    let token: &[Kind] = if route.access == Access::Public { &[Kind::Waiting] } else { WITH_TOKEN };
    let role: &[Kind] = if route.access == Access::Operator { &[Kind::Role] } else { &[] };
    let body: &[Kind] = if route.body.is_some() { WITH_BODY } else { &[] };
    let mut refusals: BTreeMap<String, Vec<Kind>> = BTreeMap::new();
    for kind in Kind::ALL {
        if [EVERYWHERE, token, role, body, route.problems].iter().any(|kinds| kinds.contains(&kind)) {
            refusals.entry(kind.status().as_str().to_owned()).or_default().push(kind);
        }
    }
    refusals
}

fn parameter(param: &Param, place: &str) -> Value {
    let (schema, example) = match param.shape {
        Shape::Number(least, most) => (
            json!({"type": "integer", "minimum": least, "maximum": most}),
            json!(param.example.parse::<u64>().ok()),
        ),
        Shape::Flag => (json!({"type": "boolean"}), json!(param.example == "true")),
        Shape::Word(words) => (json!({"type": "string", "enum": words}), json!(param.example)),
        Shape::Moment => {
            let duration = json!({"type": "string", "pattern": "^[0-9]{1,6}[smhd]$"});
            let schema = json!({"anyOf": [duration, {"type": "string", "format": "date-time"}]});
            (schema, json!(param.example))
        }
        Shape::Text { most, pattern, .. } => {
            let mut schema = json!({"type": "string", "minLength": 1, "maxLength": most});
            if let Some(pattern) = pattern {
                schema["pattern"] = json!(pattern);
            }
            (schema, json!(param.example))
        }
    };
    json!({
        "name": param.name,
        "in": place,
        "required": place == "path",
        "description": param.what,
        "schema": schema,
        "example": example,
    })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::path::PathBuf;

    use axum::http::Method;

    use super::document;
    use crate::http::route;

    #[test]
    fn the_kept_document_is_what_the_code_says() {
        let path: PathBuf = [env!("CARGO_MANIFEST_DIR"), "..", "docs", "openapi.json"].iter().collect();
        let today = serde_json::to_string_pretty(&document()).expect("JSON") + "\n";
        if std::env::var("MUSTER_GOLDEN").is_ok_and(|mode| mode == "write") {
            std::fs::write(&path, &today).expect("written");
        }
        let kept = std::fs::read_to_string(&path).expect("docs/openapi.json");
        assert!(
            kept == today,
            "docs/openapi.json is not what the code says: MUSTER_GOLDEN=write writes it anew"
        );
    }

    #[test]
    fn every_route_is_in_the_document_and_nothing_else() {
        let document = document();
        let paths = document["paths"].as_object().expect("paths");
        let told: BTreeSet<(String, String)> = paths
            .iter()
            .flat_map(|(path, methods)| {
                let methods = methods.as_object().expect("methods");
                methods.keys().map(|method| (path.clone(), method.to_uppercase()))
            })
            .collect();
        let routes = route::all();
        let served: BTreeSet<_> =
            routes.iter().map(|route| (route.path.to_owned(), route.method.to_string())).collect();
        assert_eq!(told, served);
        assert_eq!(served.len(), routes.len(), "none is there twice");
        let ids: BTreeSet<_> = routes.iter().map(|route| route.id).collect();
        assert_eq!(ids.len(), routes.len(), "operations have names of their own");
        for route in routes {
            let named: BTreeSet<_> =
                route.path.split('/').filter_map(|part| part.strip_prefix('{')).collect();
            let params: BTreeSet<_> =
                route.path_params.iter().map(|param| format!("{}}}", param.name)).collect();
            assert_eq!(named, params.iter().map(String::as_str).collect(), "{}", route.path);
            assert!(matches!(route.method, Method::GET | Method::POST | Method::PATCH), "{}", route.path);
        }
    }
}
