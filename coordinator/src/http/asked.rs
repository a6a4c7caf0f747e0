//! What a request asks, checked against what its route takes: nothing else is let through, and each refusal names the value, why,
//! and what would be accepted.

use std::collections::BTreeMap;

use axum::http::HeaderMap;
use bytes::Bytes;
use muster_protocol::ids::MemberName;
use muster_telemetry::span::{self, Place};
use serde::de::DeserializeOwned;

use super::access::Bearer;
use super::problem::{Kind, Problem};

/// The highest number there is: what every client can say, and the document as well.
pub(super) const MOST: u64 = i64::MAX as u64;

/// What a value of the path or the query may be.
#[derive(Debug, Clone, Copy)]
pub(super) enum Shape {
    /// A number in these bounds.
    Number(u64, u64),
    /// `true` or `false`.
    Flag,
    /// One of these words.
    Word(&'static [&'static str]),
    /// A moment or a duration; whoever uses it looks closer.
    Moment,
    /// A text of 1 to so many bytes, with its pattern where it has one; whoever uses it looks closer.
    Text { most: usize, pattern: Option<&'static str>, accepted: &'static str },
}

impl Shape {
    /// In words.
    pub(super) fn accepted(self) -> String {
        match self {
            Self::Number(least, MOST) => format!("a number from {least} on"),
            Self::Number(least, most) => format!("a number from {least} to {most}"),
            Self::Flag => "true or false".to_owned(),
            Self::Word(words) => format!("one of {}", words.join(", ")),
            Self::Moment => "a moment such as 2026-12-01T08:00:00Z, or a duration such as 7d".to_owned(),
            Self::Text { accepted, .. } => accepted.to_owned(),
        }
    }

    fn takes(self, value: &str) -> bool {
        match self {
            Self::Number(least, most) => {
                let digits = !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_digit());
                digits && value.parse().is_ok_and(|number: u64| (least..=most).contains(&number))
            }
            Self::Flag => matches!(value, "true" | "false"),
            Self::Word(words) => words.contains(&value),
            Self::Moment => (1..=64).contains(&value.len()),
            Self::Text { most, .. } => (1..=most).contains(&value.len()) && !value.contains(char::is_control),
        }
    }
}

/// A value of the path or the query.
#[derive(Debug, Clone, Copy)]
pub(super) struct Param {
    pub(super) name: &'static str,
    pub(super) shape: Shape,
    pub(super) what: &'static str,
    /// One that fits, for the document.
    pub(super) example: &'static str,
}

/// A request that was let through.
#[derive(Debug)]
pub(super) struct Asked {
    pub(super) path: BTreeMap<&'static str, String>,
    pub(super) query: BTreeMap<&'static str, String>,
    pub(super) headers: HeaderMap,
    pub(super) body: Bytes,
    /// Whoever asks; none on routes that are for everybody.
    pub(super) bearer: Option<Bearer>,
}

impl Asked {
    /// The trace that whoever asks does it within. Nothing is made of it but spans.
    pub(super) fn trace(&self) -> Option<Place> {
        let value = self.headers.get("traceparent")?.to_str().ok()?;
        Place::of_headers(&[("traceparent".to_owned(), value.to_owned())]).filter(|_| span::is_told())
    }

    /// A value of the path.
    pub(super) fn path(&self, name: &str) -> &str {
        self.path.get(name).map(String::as_str).unwrap_or_default()
    }

    /// A text of the query.
    pub(super) fn text(&self, name: &str) -> Option<&str> {
        self.query.get(name).map(String::as_str)
    }

    /// A number of the query, which was looked at before.
    pub(super) fn number(&self, name: &str) -> Option<u64> {
        self.text(name).and_then(|text| text.parse().ok())
    }

    /// Whether a flag of the query is set.
    pub(super) fn flag(&self, name: &str) -> bool {
        self.text(name) == Some("true")
    }

    /// The token's name.
    pub(super) fn token(&self) -> Result<&MemberName, Problem> {
        let bearer = self.bearer.as_ref().map(|bearer| &bearer.name);
        bearer.ok_or_else(|| Problem::new(Kind::Internal, "a route for everybody asks for a token"))
    }

    /// The body as JSON; an empty one says nothing.
    pub(super) fn json<T: DeserializeOwned + Default>(&self) -> Result<T, Problem> {
        if self.body.is_empty() {
            return Ok(T::default());
        }
        // A type's fields could also be read off an array, in their order: nobody means that.
        let object = serde_json::from_slice::<serde_json::Map<_, serde_json::Value>>(&self.body);
        object.and_then(|_| serde_json::from_slice(&self.body)).map_err(|error| {
            Problem::new(Kind::Invalid, format!("body: {error}"))
                .at("body")
                .accepted("a JSON object as GET /api/v1/openapi.json describes it for this address")
        })
    }
}

/// What the query says, which may name only these, each once.
pub(super) fn query(raw: Option<&str>, params: &[Param]) -> Result<BTreeMap<&'static str, String>, Problem> {
    let mut query = BTreeMap::new();
    for (name, value) in form_urlencoded::parse(raw.unwrap_or_default().as_bytes()) {
        let Some(param) = params.iter().find(|param| param.name == name) else {
            let names: Vec<_> = params.iter().map(|param| param.name).collect();
            let accepted = match names.as_slice() {
                [] => "nothing: this address takes no query".to_owned(),
                names => format!("one of {}", names.join(", ")),
            };
            return Err(Problem::invalid("query", &name, accepted));
        };
        let value = checked(&format!("query {}", param.name), param, &value)?;
        if query.insert(param.name, value).is_some() {
            return Err(Problem::new(Kind::Invalid, format!("query {}: it is there twice", param.name))
                .at(format!("query {}", param.name))
                .accepted(param.shape.accepted()));
        }
    }
    Ok(query)
}

/// A value that its parameter takes.
pub(super) fn checked(at: &str, param: &Param, value: &str) -> Result<String, Problem> {
    if param.shape.takes(value) {
        return Ok(value.to_owned());
    }
    Err(Problem::invalid(at, value, param.shape.accepted()))
}

#[cfg(test)]
mod tests {
    use axum::response::IntoResponse;

    use super::{Param, Shape, query};

    const PARAMS: [Param; 3] = [
        Param { name: "limit", shape: Shape::Number(1, 200), what: "", example: "20" },
        Param { name: "closed", shape: Shape::Flag, what: "", example: "true" },
        Param { name: "kind", shape: Shape::Word(&["open", "end"]), what: "", example: "open" },
    ];

    #[test]
    fn each_refusal_names_the_value_and_what_would_be_accepted() {
        let good = query(Some("limit=7&kind=end&closed=false"), &PARAMS).expect("fine");
        assert_eq!((good["limit"].as_str(), good["kind"].as_str()), ("7", "end"));
        assert!(query(None, &[]).expect("fine").is_empty());
        for (raw, at, part) in [
            ("limit=0", "query limit", "a number from 1 to 200"),
            ("limit=201", "query limit", "a number from 1 to 200"),
            ("limit=-1", "query limit", "a number from 1 to 200"),
            ("limit=%2B7", "query limit", "a number from 1 to 200"),
            ("limit=", "query limit", "a number from 1 to 200"),
            ("limit=99999999999999999999", "query limit", "a number from 1 to 200"),
            ("limit=1&limit=2", "query limit", "there twice"),
            ("closed=yes", "query closed", "true or false"),
            ("kind=close", "query kind", "one of open, end"),
            ("last=7", "query", "one of limit, closed, kind"),
        ] {
            let problem = format!("{:?}", query(Some(raw), &PARAMS).expect_err(raw));
            assert!(problem.contains(at) && problem.contains(part), "{raw}: {problem}");
        }
        assert_eq!(query(Some("a=b"), &[]).expect_err("none").into_response().status(), 400);
    }
}
