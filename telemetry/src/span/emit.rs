//! From data to the exporter.

use std::sync::OnceLock;

use opentelemetry::trace::{
    Event, Link, Span, SpanBuilder, SpanKind, Status, TraceContextExt, TraceId, Tracer,
};
use opentelemetry::{Context, KeyValue, Value};
use opentelemetry_sdk::trace::{Sampler, SamplingDecision, SdkTracer, ShouldSample};

use super::{Finished, Happened, Ids, Said, Side};

/// Where spans of this process go, and which.
#[derive(Debug)]
pub(crate) struct Telling {
    pub(crate) tracer: SdkTracer,
    pub(crate) sample: f64,
}

static TELLING: OnceLock<Telling> = OnceLock::new();

/// Spans as data go there from now on. The first that is installed in a process stays.
pub(crate) fn install(telling: Telling) {
    TELLING.get_or_init(|| telling);
}

/// Whether spans of this process go anywhere.
#[must_use]
pub fn is_told() -> bool {
    TELLING.get().is_some()
}

pub(super) fn samples(trace: TraceId) -> bool {
    TELLING.get().is_some_and(|telling| {
        let sampler = Sampler::TraceIdRatioBased(telling.sample);
        let asked = sampler.should_sample(None, trace, "", &SpanKind::Internal, &[], &[]);
        asked.decision == SamplingDecision::RecordAndSample
    })
}

pub(super) fn emit(span: Finished) {
    if let Some(telling) = TELLING.get() {
        emit_to(&telling.tracer, span);
    }
}

fn emit_to(tracer: &SdkTracer, span: Finished) {
    let Finished { name, place, parent, side, began, ended, attributes, events, links, error } = span;
    let builder = SpanBuilder {
        span_kind: Some(match side {
            Side::Internal => SpanKind::Internal,
            Side::Producer => SpanKind::Producer,
            Side::Consumer => SpanKind::Consumer,
        }),
        name,
        start_time: Some(began),
        attributes: Some(key_values(attributes)),
        events: Some(events.into_iter().map(event).collect()),
        links: Some(links.into_iter().map(|link| Link::new(link.context(), Vec::new(), 0)).collect()),
    };
    let context = match parent {
        Some(parent) => Context::new().with_remote_span_context(parent.context()),
        None => Context::new(),
    };
    let mut made = Ids::with(place.ids(), || tracer.build_with_context(builder, &context));
    made.set_status(match error {
        Some(error) => Status::error(error),
        None => Status::Unset,
    });
    made.end_with_timestamp(ended.max(began));
}

fn event(Happened { name, at, attributes }: Happened) -> Event {
    Event::new(name, at, key_values(attributes), 0)
}

fn key_values(attributes: Vec<(&'static str, Said)>) -> Vec<KeyValue> {
    let value = |said| match said {
        Said::Text(text) => Value::from(text),
        Said::Number(number) => Value::from(number),
        Said::Measure(measure) => Value::from(measure),
        Said::Flag(flag) => Value::from(flag),
    };
    attributes.into_iter().map(|(key, said)| KeyValue::new(key, value(said))).collect()
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};
    use std::time::{Duration, SystemTime};

    use opentelemetry::trace::TracerProvider;
    use opentelemetry_sdk::error::OTelSdkResult;
    use opentelemetry_sdk::trace::{SdkTracerProvider, SpanData, SpanExporter};

    use super::super::Place;
    use super::*;

    #[derive(Clone, Debug, Default)]
    struct Kept(Arc<Mutex<Vec<SpanData>>>);

    impl SpanExporter for Kept {
        async fn export(&self, mut batch: Vec<SpanData>) -> OTelSdkResult {
            self.0.lock().expect("kept").append(&mut batch);
            Ok(())
        }
    }

    fn place(span: &str) -> Place {
        let header = format!("00-0af7651916cd43dd8448eb211c80319c-{span}-01");
        Place::of_headers(&[("traceparent".to_owned(), header)]).expect("a place")
    }

    #[test]
    fn a_span_is_exported_where_it_said_that_it_is() {
        let exporter = Kept::default();
        let provider = SdkTracerProvider::builder()
            .with_id_generator(Ids::default())
            .with_simple_exporter(exporter.clone())
            .build();
        let tracer = provider.tracer("test");
        let root = place("b7ad6b7169203331");
        let (own, first) = (root.named("slice"), root.named("first"));
        let began = SystemTime::UNIX_EPOCH + Duration::from_secs(9);
        let mut span = Finished::new("slice", own, Some(root), began).with("muster.attempt", 2_u32);
        span.links.push(first);
        span.error = Some("disk".to_owned());
        span.events.push(Happened { name: "retry".into(), at: began, attributes: Vec::new() });
        emit_to(
            &tracer,
            span.message(
                Side::Producer,
                "order",
                "muster.v1.a.hello.dns",
                "muster.v1.{fleet}.hello.{service}",
            ),
        );
        emit_to(&tracer, Finished::new("round", root, None, began));
        let spans = exporter.0.lock().expect("kept");
        let (slice, round) = (&spans[0], &spans[1]);
        assert_eq!(Place::of_context(&slice.span_context), Some(own));
        assert_eq!(Some(slice.parent_span_id), Some(round.span_context.span_id()));
        assert_eq!(slice.links.links[0].span_context, first.context());
        assert_eq!((slice.start_time, slice.events.len()), (began, 1));
        assert_eq!(slice.span_kind, SpanKind::Producer);
        assert_eq!(slice.status, Status::error("disk"));
        assert_eq!(Place::of_context(&round.span_context), Some(root));
        assert_eq!(round.parent_span_id, opentelemetry::trace::SpanId::INVALID);
    }
}
