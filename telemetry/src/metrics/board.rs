//! The board: every counter and gauge of this process, by series.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::{Attributes, Metric, Value};

/// Series of one metric. A fleet has fewer services; what comes above it is counted under [`OVERFLOW`].
const MOST_SERIES: usize = 65_536;

/// As the OpenTelemetry specification names what is over a limit (Metrics SDK, "Cardinality limits").
const OVERFLOW: &str = "otel.metric.overflow";

type Feed = Box<dyn Fn() -> Vec<(Attributes, f64)> + Send + Sync>;

pub(super) static BOARD: Board = Board { rows: Mutex::new(BTreeMap::new()) };

#[derive(Default)]
struct Row {
    series: BTreeMap<Attributes, Value>,
    feeds: Vec<Feed>,
}

pub(super) struct Board {
    rows: Mutex<BTreeMap<&'static str, Row>>,
}

impl Board {
    fn rows(&self) -> MutexGuard<'_, BTreeMap<&'static str, Row>> {
        self.rows.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn add(&self, metric: &Metric, amount: f64, attributes: Attributes) {
        let mut rows = self.rows();
        let series = &mut rows.entry(metric.name).or_default().series;
        let value = series.entry(within(series, attributes)).or_insert(Value::Is(0.0));
        *value = Value::Is(value.now() + amount);
    }

    pub(super) fn set(&self, metric: &Metric, value: Value, attributes: Attributes) {
        let mut rows = self.rows();
        let series = &mut rows.entry(metric.name).or_default().series;
        series.insert(within(series, attributes), value);
    }

    pub(super) fn replace(&self, metric: &Metric, all: Vec<(Attributes, Value)>) {
        let series = all.into_iter().take(MOST_SERIES).map(|(attributes, value)| (sorted(attributes), value));
        self.rows().entry(metric.name).or_default().series = series.collect();
    }

    pub(super) fn feed(&self, metric: &Metric, ask: Feed) {
        self.rows().entry(metric.name).or_default().feeds.push(ask);
    }

    /// What is fed comes after what was set, and replaces it where it is the same series.
    pub(super) fn read(&self, metric: &Metric) -> Vec<(Attributes, f64)> {
        let rows = self.rows();
        let Some(row) = rows.get(metric.name) else { return Vec::new() };
        let set = row.series.iter().map(|(attributes, value)| (attributes.clone(), value.now()));
        let fed =
            row.feeds.iter().flat_map(|ask| ask()).map(|(attributes, value)| (sorted(attributes), value));
        let all: BTreeMap<_, _> = set.chain(fed).collect();
        all.into_iter().collect()
    }
}

fn sorted(mut attributes: Attributes) -> Attributes {
    attributes.sort();
    attributes
}

fn within(series: &BTreeMap<Attributes, Value>, attributes: Attributes) -> Attributes {
    let attributes = sorted(attributes);
    if series.len() < MOST_SERIES || series.contains_key(&attributes) {
        return attributes;
    }
    vec![(OVERFLOW, "true".to_owned())]
}

#[cfg(test)]
mod tests {
    use super::super::{By, Kind};
    use super::*;

    static SOME: Metric = Metric {
        name: "test.some",
        kind: Kind::Gauge,
        unit: "1",
        attributes: &["a", "b"],
        by: By::All,
        what: "",
    };

    fn with(a: &str) -> Attributes {
        vec![("b", "x".to_owned()), ("a", a.to_owned())]
    }

    #[test]
    fn series_are_told_apart_by_attributes_in_any_order_and_go_when_replaced() {
        let board = Board { rows: Mutex::default() };
        board.add(&SOME, 2.0, with("1"));
        board.add(&SOME, 3.0, vec![("a", "1".to_owned()), ("b", "x".to_owned())]);
        board.set(&SOME, Value::Is(7.0), with("2"));
        assert_eq!(board.read(&SOME).iter().map(|(_, value)| *value).collect::<Vec<_>>(), [5.0, 7.0]);
        board.replace(&SOME, vec![(with("3"), Value::Is(1.0))]);
        assert_eq!(board.read(&SOME).len(), 1);
        board.feed(&SOME, Box::new(|| vec![(with("4"), 9.0)]));
        assert_eq!(board.read(&SOME).iter().map(|(_, value)| *value).collect::<Vec<_>>(), [1.0, 9.0]);
    }

    #[test]
    fn more_series_than_a_fleet_can_have_are_one() {
        let board = Board { rows: Mutex::default() };
        for number in 0..=MOST_SERIES + 1 {
            board.add(&SOME, 1.0, with(&number.to_string()));
        }
        let all = board.read(&SOME);
        assert_eq!(all.len(), MOST_SERIES + 1);
        assert!(all.contains(&(vec![(OVERFLOW, "true".to_owned())], 2.0)));
    }
}
