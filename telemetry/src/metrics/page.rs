//! The page of all metrics, made from the table.

use std::fmt::Write;

use super::{By, Kind, Metric, TABLE};

/// A metric's name as `/metrics` has it: the OpenTelemetry specification's "Prometheus and OpenMetrics Compatibility".
#[must_use]
pub fn prometheus_name(metric: &Metric) -> String {
    let name = metric.name.replace('.', "_");
    let unit = match metric.unit {
        "s" => "_seconds",
        "By" => "_bytes",
        "1" => "_ratio",
        _ => "",
    };
    let total = match metric.kind {
        Kind::Counter => "_total",
        Kind::Gauge | Kind::Histogram(_) => "",
    };
    format!("{name}{unit}{total}")
}

/// The page, in Markdown.
#[must_use]
pub fn page() -> String {
    let mut page = String::from(
        "# Metrics\n\n\
         Made from the table in `telemetry/src/metrics/table.rs`; a test compares them. How to turn them on and what to do with them is in\n\
         [telemetry.md](telemetry.md). *Prometheus* is the name on `/metrics`; attributes become labels with `_` for `.`. Histograms have\n\
         `_bucket`, `_sum` and `_count`.\n\n\
         | metric | Prometheus | kind | unit | attributes | from | what |\n\
         |---|---|---|---|---|---|---|\n",
    );
    for metric in TABLE {
        let kind = match metric.kind {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
            Kind::Histogram(_) => "histogram",
        };
        let by = match metric.by {
            By::Leader => "the leader",
            By::Coordinator => "coordinators",
            By::Agent => "agents",
            By::All => "all daemons",
        };
        let attributes: Vec<String> = metric.attributes.iter().map(|key| format!("`{key}`")).collect();
        let unit = if metric.unit.is_empty() { "1 or 0".to_owned() } else { format!("`{}`", metric.unit) };
        let (name, prometheus, what) = (metric.name, prometheus_name(metric), metric.what);
        let attributes = attributes.join(", ");
        // Writing to a string cannot fail.
        let _ =
            writeln!(page, "| `{name}` | `{prometheus}` | {kind} | {unit} | {attributes} | {by} | {what} |");
    }
    page
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_in_the_docs_is_made_of_the_table() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/metrics.md");
        if std::env::var_os("MUSTER_GOLDEN").is_some_and(|word| word == "write") {
            std::fs::write(path, page()).expect("written");
        }
        let kept = std::fs::read_to_string(path).expect("docs/metrics.md");
        assert!(
            kept == page(),
            "docs/metrics.md is not what the table says: run the test with MUSTER_GOLDEN=write"
        );
    }
}
