//! Prometheus as a client of its HTTP API asks it.

use std::collections::BTreeMap;
use std::fmt::Write;

use serde_json::Value;

use crate::http::Api;

/// A series of an answer.
#[derive(Debug, Clone, PartialEq)]
pub struct Series {
    /// Its labels, `__name__` among them where there is one.
    pub labels: BTreeMap<String, String>,
    /// Seconds since 1970, and the value then.
    pub points: Vec<(f64, f64)>,
}

impl Series {
    /// The last value that is a number.
    #[must_use]
    pub fn last(&self) -> Option<f64> {
        self.points.iter().rev().map(|(_, value)| *value).find(|value| value.is_finite())
    }
}

/// An alert that Prometheus holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Alert {
    /// The rule's name.
    pub name: String,
    /// `pending` or `firing`.
    pub state: String,
    /// Labels of rule and series.
    pub labels: BTreeMap<String, String>,
    /// As people read them.
    pub annotations: BTreeMap<String, String>,
}

/// The API of a Prometheus on loopback.
#[derive(Debug, Clone)]
pub struct Prom {
    api: Api,
}

impl Prom {
    /// The one that listens on this port.
    #[must_use]
    pub fn at(port: u16) -> Self {
        Self { api: Api { port, token: None } }
    }

    /// What an expression is now, or why it is none.
    ///
    /// # Errors
    /// What Prometheus says of it.
    ///
    /// # Panics
    /// When Prometheus gives no answer.
    pub fn now(&self, expression: &str) -> Result<Vec<Series>, String> {
        self.ask(&format!("/api/v1/query?query={}", encoded(expression)))
    }

    /// What it was at each `step` seconds of a time.
    ///
    /// # Errors
    /// Those of [`now`](Self::now).
    ///
    /// # Panics
    /// Those of [`now`](Self::now).
    pub fn range(&self, expression: &str, from: f64, to: f64, step: f64) -> Result<Vec<Series>, String> {
        let expression = encoded(expression);
        self.ask(&format!("/api/v1/query_range?query={expression}&start={from}&end={to}&step={step}"))
    }

    /// Alerts that are pending or firing.
    ///
    /// # Panics
    /// When Prometheus gives no answer.
    #[must_use]
    pub fn alerts(&self) -> Vec<Alert> {
        let answer = self.api.get("/api/v1/alerts").with_status(200).json();
        let alerts = answer["data"]["alerts"].as_array().cloned().unwrap_or_default();
        let alert = |alert: &Value| {
            let labels = pairs(&alert["labels"]);
            Alert {
                name: labels.get("alertname").cloned().unwrap_or_default(),
                state: alert["state"].as_str().unwrap_or_default().to_owned(),
                annotations: pairs(&alert["annotations"]),
                labels,
            }
        };
        alerts.iter().map(alert).collect()
    }

    /// Whether an alert of this name fires.
    #[must_use]
    pub fn fires(&self, name: &str) -> bool {
        self.alerts().iter().any(|alert| alert.name == name && alert.state == "firing")
    }

    fn ask(&self, path: &str) -> Result<Vec<Series>, String> {
        let answer = self.api.get(path).json();
        if answer["status"] != "success" {
            return Err(answer["error"].as_str().unwrap_or("no reason given").to_owned());
        }
        let result = &answer["data"]["result"];
        if answer["data"]["resultType"] == "scalar" {
            return Ok(vec![Series { labels: BTreeMap::new(), points: point(result).into_iter().collect() }]);
        }
        let series = |series: &Value| Series {
            labels: pairs(&series["metric"]),
            points: match series["values"].as_array() {
                Some(points) => points.iter().filter_map(point).collect(),
                None => point(&series["value"]).into_iter().collect(),
            },
        };
        Ok(result.as_array().into_iter().flatten().map(series).collect())
    }
}

fn point(point: &Value) -> Option<(f64, f64)> {
    Some((point[0].as_f64()?, point[1].as_str()?.parse().ok()?))
}

fn pairs(object: &Value) -> BTreeMap<String, String> {
    let pairs = object.as_object().into_iter().flatten();
    pairs.map(|(name, value)| (name.clone(), value.as_str().unwrap_or_default().to_owned())).collect()
}

/// RFC 3986, section 2.1: everything but the unreserved.
fn encoded(text: &str) -> String {
    let mut encoded = String::new();
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte) {
            encoded.push(char::from(byte));
        } else {
            write!(encoded, "%{byte:02X}").expect("text in memory grows");
        }
    }
    encoded
}
