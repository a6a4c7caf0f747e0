//! Names of metrics, as expressions have them.

use std::collections::BTreeSet;

use muster_telemetry::metrics::{Kind, TABLE, prometheus_name};

/// What expressions may name: every series that `/metrics` can have, and every label.
#[must_use]
pub fn known_names() -> BTreeSet<String> {
    let mut names = BTreeSet::from(["muster_fleet".to_owned()]);
    for metric in TABLE {
        let name = prometheus_name(metric);
        match metric.kind {
            Kind::Counter | Kind::Gauge => {
                names.insert(name);
            }
            Kind::Histogram(_) => {
                names.extend(["bucket", "sum", "count"].map(|end| format!("{name}_{end}")));
            }
        }
        names.extend(metric.attributes.iter().map(|key| key.replace('.', "_")));
    }
    names
}

/// Words of an expression that are ours: beginning with `muster_` or `process_`, outside of quotes.
#[must_use]
pub fn named_in(expression: &str) -> BTreeSet<String> {
    let outside = expression.split('"').step_by(2).collect::<Vec<_>>().join(" ");
    let words = outside.split(|c: char| !c.is_ascii_alphanumeric() && c != '_' && c != ':');
    let ours = words.filter(|word| word.starts_with("muster_") || word.starts_with("process_"));
    ours.map(str::to_owned).collect()
}
