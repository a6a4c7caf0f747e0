//! Figures of a process. Every one of them is a row of [`TABLE`]; whoever has a figure calls a method of its row, and nothing
//! else makes instruments.
//!
//! Counters and gauges are kept on a board of our own, from which the SDK reads them when it collects: a gauge of a service that is gone
//! must go as well, which the SDK's own never do. Only histograms are the SDK's. Must never fail, never block for
//! longer than a look at a map, and cost nothing where nobody collects.

mod board;
mod install;
mod page;
mod process;
mod table;

pub(crate) use install::{Views, install};
pub use page::{page, prometheus_name};
pub(crate) use process::feed as feed_process;
pub use table::*;

use std::time::{Duration, Instant};

use board::BOARD;

/// Attributes of one series, sorted by key: at most a handful, of keys that the metric's row names.
pub type Attributes = Vec<(&'static str, String)>;

/// How a metric is read.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Kind {
    /// It only grows while the process lives.
    Counter,
    /// It is what it is now.
    Gauge,
    /// How often values fell between these bounds.
    Histogram(&'static [f64]),
}

/// Who tells a metric.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum By {
    /// The coordinator that leads.
    Leader,
    /// Every coordinator.
    Coordinator,
    /// Every agent.
    Agent,
    /// Every daemon.
    All,
}

/// One row of the table.
#[derive(Debug, PartialEq)]
pub struct Metric {
    /// Its name: dotted, as OpenTelemetry has them, without its unit.
    pub name: &'static str,
    /// How it is read.
    pub kind: Kind,
    /// In UCUM (`s`, `By`, `1`, `{round}`); empty: a yes or no, 1 or 0.
    pub unit: &'static str,
    /// Keys of its attributes. All of them have few values, or as many as the fleet has services.
    pub attributes: &'static [&'static str],
    /// Who tells it.
    pub by: By,
    /// What it says.
    pub what: &'static str,
}

/// A gauge's value.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Value {
    /// This.
    Is(f64),
    /// Seconds since then.
    Since(Instant),
    /// Seconds until then; nothing once it is over.
    Until(Instant),
}

impl Value {
    /// Seconds since something that is `age` old now.
    #[must_use]
    pub fn aged(age: Duration) -> Self {
        // A machine that booted later than that began to count then; it is told as it is now.
        Instant::now().checked_sub(age).map_or(Self::Is(age.as_secs_f64()), Self::Since)
    }

    /// Seconds until something that is `left` away.
    #[must_use]
    pub fn left(left: Duration) -> Self {
        Instant::now().checked_add(left).map_or(Self::Is(left.as_secs_f64()), Self::Until)
    }

    fn now(self) -> f64 {
        match self {
            Self::Is(value) => value,
            Self::Since(then) => then.elapsed().as_secs_f64(),
            Self::Until(then) => then.saturating_duration_since(Instant::now()).as_secs_f64(),
        }
    }
}

impl Metric {
    /// Adds to a counter.
    pub fn add(&'static self, amount: f64, attributes: Attributes) {
        BOARD.add(self, amount, attributes);
    }

    /// One more.
    pub fn one(&'static self, attributes: Attributes) {
        self.add(1.0, attributes);
    }

    /// Tells these values of the metric's one attribute with 0, unless there is more already: what was never counted is no series, and
    /// the first time would be no increase.
    pub fn begin<'a>(&'static self, values: impl IntoIterator<Item = &'a str>) {
        for value in values {
            self.add(0.0, self.attributes.iter().map(|key| (*key, value.to_owned())).collect());
        }
    }

    /// Sets one series of a gauge.
    pub fn set(&'static self, value: Value, attributes: Attributes) {
        BOARD.set(self, value, attributes);
    }

    /// Sets all series of a gauge; those that are not named are gone.
    pub fn replace(&'static self, series: Vec<(Attributes, Value)>) {
        BOARD.replace(self, series);
    }

    /// Has the metric asked for when it is collected, from now on: figures that others count already.
    pub fn feed(&'static self, ask: impl Fn() -> Vec<(Attributes, f64)> + Send + Sync + 'static) {
        BOARD.feed(self, Box::new(ask));
    }

    /// Adds a value to a histogram, in the metric's unit.
    pub fn record(&'static self, value: f64, attributes: Attributes) {
        install::record(self, value, attributes);
    }

    /// What the metric says now.
    #[must_use]
    pub fn read(&'static self) -> Vec<(Attributes, f64)> {
        BOARD.read(self)
    }
}

/// A call to the share is over. Words as the table's page has them; bytes that came and went.
#[expect(clippy::cast_precision_loss, reason = "bytes of a call are exact")]
pub fn share_call(operation: &str, outcome: &str, took: Duration, read: u64, written: u64) {
    SHARE_OPERATIONS.one(vec![(OPERATION, operation.to_owned()), (OUTCOME, outcome.to_owned())]);
    SHARE_OPERATION_DURATION.record(took.as_secs_f64(), vec![(OPERATION, operation.to_owned())]);
    for (direction, bytes) in [("read", read), ("write", written)] {
        SHARE_IO.add(bytes as f64, vec![(DIRECTION, direction.to_owned())]);
    }
}

/// Has the connection to NATS asked for from now on: whether it is up, how often it was made, messages that were dropped; none: it is
/// over.
#[expect(clippy::cast_precision_loss, reason = "counts are exact")]
pub fn feed_nats(ask: impl Fn() -> Option<(bool, u64, u64)> + Send + Sync + Clone + 'static) {
    let again = ask.clone();
    let dropped = ask.clone();
    let one = |value: f64| vec![(Attributes::new(), value)];
    NATS_CONNECTED.feed(move || ask().map(|(is_up, ..)| one(u8::from(is_up).into())).unwrap_or_default());
    NATS_RECONNECTS
        .feed(move || again().map(|(_, made, _)| one(made.saturating_sub(1) as f64)).unwrap_or_default());
    NATS_SLOW_CONSUMERS.feed(move || dropped().map(|(.., lost)| one(lost as f64)).unwrap_or_default());
}

/// Everything that only a leader tells is gone, because this coordinator leads no more.
pub fn forget_lead() {
    for metric in TABLE.iter().filter(|metric| metric.by == By::Leader && metric.kind == Kind::Gauge) {
        metric.replace(Vec::new());
    }
}
