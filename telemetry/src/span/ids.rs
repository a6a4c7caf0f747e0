//! Ids of spans: random, unless the span that is made has its own already.

use std::cell::Cell;

use opentelemetry::trace::{SpanId, TraceId};
use opentelemetry_sdk::trace::{IdGenerator, RandomIdGenerator};

thread_local! {
    static WANTED: Cell<Option<(TraceId, SpanId)>> = const { Cell::new(None) };
}

/// The generator of every provider of ours.
#[derive(Debug, Default)]
pub(crate) struct Ids(RandomIdGenerator);

impl Ids {
    /// Makes a span on this thread that has these ids.
    pub(super) fn with<T>(ids: (TraceId, SpanId), make: impl FnOnce() -> T) -> T {
        WANTED.set(Some(ids));
        let made = make();
        WANTED.set(None);
        made
    }
}

impl IdGenerator for Ids {
    fn new_trace_id(&self) -> TraceId {
        WANTED.get().map_or_else(|| self.0.new_trace_id(), |(trace, _)| trace)
    }

    fn new_span_id(&self) -> SpanId {
        WANTED.get().map_or_else(|| self.0.new_span_id(), |(_, span)| span)
    }
}
