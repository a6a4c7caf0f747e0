//! Spans as data: for what no function's run is, such as a round, which outlives processes and is told when it is over.
//!
//! Where such a span is can be computed before it ends, by everybody who knows its name, so that whoever takes a round over goes on
//! with its trace. Must never fail, and cost nothing where traces go nowhere.

mod emit;
mod ids;
mod place;
mod within;

use std::borrow::Cow;
use std::time::SystemTime;

pub use emit::is_told;
pub(crate) use emit::{Telling, install};
pub(crate) use ids::Ids;
pub use place::Place;
pub use within::{Entered, enter, within};

/// What an attribute says.
#[derive(Clone, Debug, PartialEq)]
pub enum Said {
    /// A text.
    Text(String),
    /// A whole number.
    Number(i64),
    /// A measure.
    Measure(f64),
    /// Yes or no.
    Flag(bool),
}

impl From<&str> for Said {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

impl From<String> for Said {
    fn from(text: String) -> Self {
        Self::Text(text)
    }
}

impl From<u64> for Said {
    fn from(number: u64) -> Self {
        Self::Number(i64::try_from(number).unwrap_or(i64::MAX))
    }
}

impl From<u32> for Said {
    fn from(number: u32) -> Self {
        Self::Number(number.into())
    }
}

impl From<f64> for Said {
    fn from(measure: f64) -> Self {
        Self::Measure(measure)
    }
}

impl From<bool> for Said {
    fn from(flag: bool) -> Self {
        Self::Flag(flag)
    }
}

/// Whose side of a conversation a span is (OpenTelemetry specification, "SpanKind").
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Side {
    /// Of none.
    #[default]
    Internal,
    /// It sent a message.
    Producer,
    /// It took one.
    Consumer,
}

/// Something that happened within a span.
#[derive(Clone, Debug, PartialEq)]
pub struct Happened {
    /// What.
    pub name: Cow<'static, str>,
    /// When.
    pub at: SystemTime,
    /// More of it.
    pub attributes: Vec<(&'static str, Said)>,
}

/// A span that is over.
#[derive(Clone, Debug, PartialEq)]
pub struct Finished {
    /// What it was: one of few names.
    pub name: Cow<'static, str>,
    /// Where it is.
    pub place: Place,
    /// What it belongs to; none: it is the root.
    pub parent: Option<Place>,
    /// Whose side of a conversation.
    pub side: Side,
    /// When it began.
    pub began: SystemTime,
    /// When it ended.
    pub ended: SystemTime,
    /// What it was about.
    pub attributes: Vec<(&'static str, Said)>,
    /// What happened meanwhile.
    pub events: Vec<Happened>,
    /// Spans that it has to do with and does not belong to.
    pub links: Vec<Place>,
    /// Why it failed, if it did.
    pub error: Option<String>,
}

impl Finished {
    /// One from `began` to now that went well.
    #[must_use]
    pub fn new(
        name: impl Into<Cow<'static, str>>,
        place: Place,
        parent: Option<Place>,
        began: SystemTime,
    ) -> Self {
        Self {
            name: name.into(),
            place,
            parent,
            side: Side::Internal,
            began,
            ended: SystemTime::now(),
            attributes: Vec::new(),
            events: Vec::new(),
            links: Vec::new(),
            error: None,
        }
    }

    /// With an attribute more.
    #[must_use]
    pub fn with(mut self, key: &'static str, said: impl Into<Said>) -> Self {
        self.attributes.push((key, said.into()));
        self
    }

    /// As one side of a message on `subject`; `template` is the subject with placeholders for what is of many values.
    ///
    /// Names: OpenTelemetry semantic conventions 1.x, "Messaging".
    #[must_use]
    pub fn message(mut self, side: Side, operation: &'static str, subject: &str, template: &str) -> Self {
        self.side = side;
        let kind = match side {
            Side::Producer => "send",
            Side::Consumer | Side::Internal => "process",
        };
        self.with("messaging.system", "nats")
            .with("messaging.operation.type", kind)
            .with("messaging.operation.name", operation)
            .with("messaging.destination.name", subject)
            .with("messaging.destination.template", template)
    }

    /// Tells it, if its trace is one of those that are told.
    pub fn tell(self) {
        if self.place.is_sampled() {
            emit::emit(self);
        }
    }
}
