//! One trace across processes: the W3C Trace Context headers `traceparent` and `tracestate` on a message.
//!
//! Must never fail and never trust: a message without a trace, or with garbage in its place, is handled as one
//! that starts a trace of its own.

use opentelemetry::propagation::{Extractor, Injector, TextMapPropagator};
use opentelemetry::trace::TraceContextExt;
use opentelemetry_sdk::propagation::TraceContextPropagator;
use tracing_opentelemetry::{OpenTelemetrySpanExt, SetParentError};

use crate::span::Place;

/// Adds the context of the current span to the headers of a message; headers of that name are replaced.
/// Without a current span, or with telemetry that exports nothing, the headers stay as they are.
///
/// Names and values: W3C Trace Context, section 3, <https://www.w3.org/TR/trace-context/>.
pub fn inject(headers: &mut Vec<(String, String)>) {
    let context = tracing::Span::current().context();
    TraceContextPropagator::new().inject_context(&context, &mut Outgoing(headers));
}

/// Makes `span` continue the trace that a message came with. Call it before the span is entered or has children:
/// a span that has started keeps the trace it started in.
pub fn set_parent(span: &tracing::Span, headers: &[(String, String)]) {
    let context = TraceContextPropagator::new()
        .extract_with_context(&opentelemetry::Context::new(), &Incoming(headers));
    if !context.span().span_context().is_valid() {
        return;
    }
    match span.set_parent(context) {
        // Both mean that nobody listens to this span.
        Ok(()) | Err(SetParentError::LayerNotFound | SetParentError::SpanDisabled) => {}
        Err(SetParentError::AlreadyStarted) => {
            tracing::debug!("a span had started before its parent was set, the trace is split here");
        }
    }
}

/// Where a span of `tracing` is; none: nobody listens to it.
#[must_use]
pub fn place(span: &tracing::Span) -> Option<Place> {
    Place::of_context(span.context().span().span_context())
}

struct Outgoing<'a>(&'a mut Vec<(String, String)>);

impl Injector for Outgoing<'_> {
    fn set(&mut self, key: &str, value: String) {
        self.0.retain(|(name, _)| !name.eq_ignore_ascii_case(key));
        // An empty `tracestate` says nothing; the header is left out.
        if !value.is_empty() {
            self.0.push((key.to_owned(), value));
        }
    }
}

struct Incoming<'a>(&'a [(String, String)]);

impl Extractor for Incoming<'_> {
    fn get(&self, key: &str) -> Option<&str> {
        self.0.iter().find(|(name, _)| name.eq_ignore_ascii_case(key)).map(|(_, value)| value.as_str())
    }

    fn keys(&self) -> Vec<&str> {
        self.0.iter().map(|(name, _)| name.as_str()).collect()
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

    fn traceparent(headers: &[(String, String)]) -> String {
        let found: Vec<_> = headers.iter().filter(|(name, _)| name == "traceparent").collect();
        assert_eq!(found.len(), 1, "{headers:?}");
        found[0].1.clone()
    }

    fn received(flags: &str) -> Vec<(String, String)> {
        vec![("Traceparent".to_owned(), format!("00-{TRACE_ID}-b7ad6b7169203331-{flags}"))]
    }

    #[test]
    fn a_trace_survives_a_message() {
        let (sent, answered) = recorded(1.0, || {
            let mut sent = vec![("traceparent".to_owned(), "stale".to_owned())];
            tracing::info_span!("publish").in_scope(|| inject(&mut sent));
            let consume = tracing::info_span!(parent: None, "consume");
            set_parent(&consume, &sent);
            let mut answered = Vec::new();
            consume.in_scope(|| inject(&mut answered));
            (traceparent(&sent), traceparent(&answered))
        });
        let (sent, answered): (Vec<_>, Vec<_>) = (sent.split('-').collect(), answered.split('-').collect());
        assert_eq!(sent[1], answered[1], "one trace");
        assert_ne!(sent[2], answered[2], "two spans");
        assert_eq!(sent[3], "01");
    }

    #[test]
    fn the_parent_decides_about_sampling_and_the_ratio_about_new_traces() {
        let (child, fresh) = recorded(0.0, || {
            let span = tracing::info_span!("consume");
            set_parent(&span, &received("01"));
            let (mut child, mut fresh) = (Vec::new(), Vec::new());
            span.in_scope(|| inject(&mut child));
            tracing::info_span!(parent: None, "start").in_scope(|| inject(&mut fresh));
            (traceparent(&child), traceparent(&fresh))
        });
        assert!(child.contains(TRACE_ID) && child.ends_with("-01"), "{child}");
        assert!(fresh.ends_with("-00"), "{fresh}");
    }

    #[test]
    fn garbage_starts_a_trace_of_its_own() {
        for garbage in
            ["", "00", "00-zz-b7ad6b7169203331-01", "ff-0-0-0", "00-0af7651916cd43dd8448eb211c80319c"]
        {
            let sent = recorded(1.0, || {
                let span = tracing::info_span!("consume");
                set_parent(&span, &[("traceparent".to_owned(), garbage.to_owned())]);
                let mut sent = Vec::new();
                span.in_scope(|| inject(&mut sent));
                traceparent(&sent)
            });
            assert!(!sent.contains(TRACE_ID) && sent.len() == 55, "{garbage}: {sent}");
        }
    }

    #[test]
    fn without_telemetry_headers_stay_as_they_are() {
        let mut headers = received("01");
        tracing::subscriber::with_default(tracing::subscriber::NoSubscriber::default(), || {
            let span = tracing::info_span!("consume");
            set_parent(&span, &headers.clone());
            span.in_scope(|| inject(&mut headers));
        });
        assert_eq!(headers, received("01"));
    }
}
