//! What arrives behind a collector: a receiver of OTLP over HTTP that keeps every span, metric and line of the log.

use std::collections::{BTreeMap, BTreeSet};

use data_encoding::HEXLOWER;
use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue};
use opentelemetry_proto::tonic::metrics::v1::metric::Data;
use opentelemetry_proto::tonic::trace::v1 as wire;
use prost::Message;

use crate::hook::{Answer, Got, Hook};

/// Names with what they say, as text.
pub type Attributes = BTreeMap<String, String>;

/// Something that happened within a span.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SpanEvent {
    /// What.
    pub name: String,
    /// More of it.
    pub attributes: Attributes,
}

/// A span. Ids are in hexadecimal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Span {
    /// Of its trace.
    pub trace: String,
    /// Its own.
    pub id: String,
    /// Of the span that it is part of; empty for the first one.
    pub parent: String,
    /// Its name.
    pub name: String,
    /// `internal`, `server`, `client`, `producer`, `consumer`.
    pub kind: &'static str,
    /// What it says of itself.
    pub attributes: Attributes,
    /// What the process says of itself.
    pub resource: Attributes,
    /// What happened in it.
    pub events: Vec<SpanEvent>,
    /// Spans that it points to: trace and id.
    pub links: Vec<(String, String)>,
    /// Nanoseconds since 1970.
    pub began: u64,
    /// Likewise.
    pub ended: u64,
}

/// A metric of one process.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Point {
    /// Its name.
    pub name: String,
    /// Its unit, UCUM.
    pub unit: String,
    /// `gauge`, `counter`, `histogram`, or something that Muster has not.
    pub kind: &'static str,
    /// The `service.name` of its process.
    pub from: String,
}

/// A line of a log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    /// What it says.
    pub body: String,
    /// `INFO`, `WARN`, …
    pub severity: String,
    /// In hexadecimal; empty outside of traces.
    pub trace: String,
    /// Likewise.
    pub span: String,
    /// Its fields.
    pub attributes: Attributes,
    /// What the process says of itself.
    pub resource: Attributes,
}

/// The receiver. It ends with the test's process.
#[derive(Debug, Clone)]
pub struct Sink {
    hook: Hook,
}

impl Default for Sink {
    fn default() -> Self {
        Self::start()
    }
}

impl Sink {
    /// Starts one.
    #[must_use]
    pub fn start() -> Self {
        let hook = Hook::start();
        hook.answers([], Answer::Empty);
        Self { hook }
    }

    /// Its base URL.
    #[must_use]
    pub fn url(&self) -> String {
        self.hook.url("")
    }

    /// Bytes of everything that arrived, unpacked: for who looks for what must not be there.
    #[must_use]
    pub fn bytes(&self) -> Vec<Vec<u8>> {
        self.hook.got().iter().map(unpacked).collect()
    }

    /// All spans that arrived.
    ///
    /// # Panics
    /// When something arrived that is none.
    #[must_use]
    pub fn spans(&self) -> Vec<Span> {
        let mut all = Vec::new();
        for request in self.requests::<ExportTraceServiceRequest>("/v1/traces") {
            for group in request.resource_spans {
                let resource = attributes(group.resource.map(|resource| resource.attributes));
                let spans = group.scope_spans.into_iter().flat_map(|scope| scope.spans);
                all.extend(spans.map(|span| of(span, &resource)));
            }
        }
        all
    }

    /// Which metrics arrived, each of each kind of process once.
    ///
    /// # Panics
    /// When something arrived that is none.
    #[must_use]
    pub fn metrics(&self) -> BTreeSet<Point> {
        let mut all = BTreeSet::new();
        for request in self.requests::<ExportMetricsServiceRequest>("/v1/metrics") {
            for group in request.resource_metrics {
                let resource = attributes(group.resource.map(|resource| resource.attributes));
                let from = resource.get("service.name").cloned().unwrap_or_default();
                for metric in group.scope_metrics.into_iter().flat_map(|scope| scope.metrics) {
                    let kind = match &metric.data {
                        Some(Data::Gauge(_)) => "gauge",
                        Some(Data::Sum(sum)) if sum.is_monotonic => "counter",
                        Some(Data::Histogram(_)) => "histogram",
                        Some(Data::Sum(_)) => "sum that falls",
                        Some(Data::ExponentialHistogram(_)) => "exponential histogram",
                        Some(Data::Summary(_)) => "summary",
                        None => "nothing",
                    };
                    all.insert(Point { name: metric.name, unit: metric.unit, kind, from: from.clone() });
                }
            }
        }
        all
    }

    /// All lines of logs that arrived.
    ///
    /// # Panics
    /// When something arrived that is none.
    #[must_use]
    pub fn lines(&self) -> Vec<Line> {
        let mut all = Vec::new();
        for request in self.requests::<ExportLogsServiceRequest>("/v1/logs") {
            for group in request.resource_logs {
                let resource = attributes(group.resource.map(|resource| resource.attributes));
                for record in group.scope_logs.into_iter().flat_map(|scope| scope.log_records) {
                    all.push(Line {
                        body: record.body.map(text).unwrap_or_default(),
                        severity: record.severity_text,
                        trace: HEXLOWER.encode(&record.trace_id),
                        span: HEXLOWER.encode(&record.span_id),
                        attributes: attributes(Some(record.attributes)),
                        resource: resource.clone(),
                    });
                }
            }
        }
        all
    }

    fn requests<T: Message + Default>(&self, path: &str) -> Vec<T> {
        let got = self.hook.got().into_iter().filter(|got| got.path == path);
        got.map(|got| T::decode(unpacked(&got).as_slice()).expect("a request of OTLP")).collect()
    }
}

/// The body; rotel packs it, whether it is told to or not.
fn unpacked(got: &Got) -> Vec<u8> {
    // RFC 1952: a head of ten bytes when no flag is set, which is what hyper's clients send; eight bytes behind the data.
    const HEAD: usize = 10;
    const TAIL: usize = 8;
    if got.headers.get("content-encoding").is_none_or(|encoding| encoding != "gzip") {
        return got.body.clone();
    }
    assert_eq!(got.body.get(..4), Some([0x1f, 0x8b, 8, 0].as_slice()), "gzip without extras");
    let data = got.body.get(HEAD..got.body.len().saturating_sub(TAIL)).expect("head and tail");
    miniz_oxide::inflate::decompress_to_vec_with_limit(data, 64 << 20).expect("deflated data")
}

fn of(span: wire::Span, resource: &Attributes) -> Span {
    let kind = match span.kind() {
        wire::span::SpanKind::Unspecified => "unspecified",
        wire::span::SpanKind::Internal => "internal",
        wire::span::SpanKind::Server => "server",
        wire::span::SpanKind::Client => "client",
        wire::span::SpanKind::Producer => "producer",
        wire::span::SpanKind::Consumer => "consumer",
    };
    let events = span.events.into_iter();
    let links = span.links.iter();
    Span {
        trace: HEXLOWER.encode(&span.trace_id),
        id: HEXLOWER.encode(&span.span_id),
        parent: HEXLOWER.encode(&span.parent_span_id),
        name: span.name,
        kind,
        attributes: attributes(Some(span.attributes)),
        resource: resource.clone(),
        events: events
            .map(|event| SpanEvent { name: event.name, attributes: attributes(Some(event.attributes)) })
            .collect(),
        links: links.map(|link| (HEXLOWER.encode(&link.trace_id), HEXLOWER.encode(&link.span_id))).collect(),
        began: span.start_time_unix_nano,
        ended: span.end_time_unix_nano,
    }
}

fn attributes(pairs: Option<Vec<KeyValue>>) -> Attributes {
    let pairs = pairs.unwrap_or_default().into_iter();
    pairs.map(|pair| (pair.key, pair.value.map(text).unwrap_or_default())).collect()
}

fn text(value: AnyValue) -> String {
    match value.value {
        Some(Value::StringValue(text)) => text,
        Some(Value::BoolValue(flag)) => flag.to_string(),
        Some(Value::IntValue(number)) => number.to_string(),
        Some(Value::DoubleValue(number)) => number.to_string(),
        Some(Value::BytesValue(bytes)) => HEXLOWER.encode(&bytes),
        Some(Value::ArrayValue(list)) => {
            let parts: Vec<String> = list.values.into_iter().map(text).collect();
            parts.join(",")
        }
        Some(Value::KvlistValue(list)) => format!("{:?}", attributes(Some(list.values))),
        Some(Value::StringValueStrindex(index)) => format!("#{index}"),
        None => String::new(),
    }
}
