//! One trace across processes: between spans of `tracing` and the [`Place`]s that travel in the headers of messages.
//!
//! Must never fail: a span that nobody listens to has no place, and takes none.

use opentelemetry::Context;
use opentelemetry::trace::TraceContextExt;
use tracing_opentelemetry::{OpenTelemetrySpanExt, SetParentError};

use crate::span::Place;

/// Where a span of `tracing` is; none: nobody listens to it.
#[must_use]
pub fn place(span: &tracing::Span) -> Option<Place> {
    Place::of_context(span.context().span().span_context())
}

/// Makes `span` belong to `parent`, and be told or not as that is. Call it before the span is entered or has children: a span that has
/// started keeps the trace it started in.
pub fn set_parent(span: &tracing::Span, parent: Place) {
    match span.set_parent(Context::new().with_remote_span_context(parent.context())) {
        // Both mean that nobody listens to this span.
        Ok(()) | Err(SetParentError::LayerNotFound | SetParentError::SpanDisabled) => {}
        Err(SetParentError::AlreadyStarted) => {
            tracing::debug!("a span had started before its parent was set, the trace is split here");
        }
    }
}

#[cfg(test)]
mod tests {
    use opentelemetry_sdk::trace::SdkTracerProvider;
    use tracing_subscriber::layer::SubscriberExt;

    use super::*;
    use crate::export;

    const TRACE_ID: &str = "0af7651916cd43dd8448eb211c80319c";

    /// Runs `work` with spans that are sampled as in a daemon, but go nowhere.
    fn recorded<T>(sample: f64, work: impl FnOnce() -> T) -> T {
        let provider = SdkTracerProvider::builder().with_sampler(export::sampler(sample)).build();
        let subscriber = tracing_subscriber::registry().with(export::span_layer(&provider));
        tracing::subscriber::with_default(subscriber, work)
    }

    fn received(flags: &str) -> Place {
        let value = format!("00-{TRACE_ID}-b7ad6b7169203331-{flags}");
        Place::of_headers(&[("Traceparent".to_owned(), value)]).expect("a place")
    }

    #[test]
    fn a_trace_survives_a_message() {
        let (sent, answered) = recorded(1.0, || {
            let sent = place(&tracing::info_span!("publish")).expect("told");
            let heard = Place::of_headers(&[sent.header()]).expect("a place");
            let consume = tracing::info_span!(parent: None, "consume");
            set_parent(&consume, heard);
            (sent, place(&consume).expect("told"))
        });
        assert_eq!(sent.trace_id(), answered.trace_id(), "one trace");
        assert_ne!(sent, answered, "two spans");
        assert!(sent.is_sampled() && answered.is_sampled());
    }

    #[test]
    fn the_parent_decides_about_sampling_and_the_ratio_about_new_traces() {
        let below = |sample, flags| {
            recorded(sample, || {
                let span = tracing::info_span!("consume");
                set_parent(&span, received(flags));
                place(&span).expect("a place")
            })
        };
        let child = below(0.0, "01");
        assert!(child.trace_id() == TRACE_ID && child.is_sampled(), "{child:?}");
        assert!(!below(1.0, "00").is_sampled(), "whoever is below what is not told tells nothing");
        let fresh = recorded(0.0, || place(&tracing::info_span!(parent: None, "start")).expect("a place"));
        assert!(!fresh.is_sampled());
    }

    #[test]
    fn without_telemetry_a_span_has_no_place() {
        tracing::subscriber::with_default(tracing::subscriber::NoSubscriber::default(), || {
            let span = tracing::info_span!("consume");
            set_parent(&span, received("01"));
            assert_eq!(place(&span), None);
        });
    }
}
