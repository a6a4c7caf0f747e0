//! The table becomes instruments, once in a process that collects.

use std::collections::HashMap;
use std::sync::OnceLock;

use opentelemetry::KeyValue;
use opentelemetry::metrics::{AsyncInstrument, Histogram, Meter, MeterProvider};
use opentelemetry_sdk::metrics::{Instrument, SdkMeterProvider, Stream};

use super::{Attributes, Kind, Metric, TABLE};

/// The limit of the SDK for one metric; ours is a little lower, so that what is above it can be seen.
const SERVICES: usize = 66_000;

static HISTOGRAMS: OnceLock<HashMap<&'static str, Histogram<f64>>> = OnceLock::new();

/// How metrics are kept by the SDK.
pub(crate) struct Views;

impl Views {
    /// Those with a series for each service may have as many as a fleet has services, the SDK's limit of 2,000 holds for others.
    pub(crate) fn stream(instrument: &Instrument) -> Option<Stream> {
        let metric = TABLE.iter().find(|metric| metric.name == instrument.name())?;
        let limit = metric.attributes.contains(&super::SERVICE) && metric.by != super::By::Agent;
        limit.then(|| Stream::builder().with_cardinality_limit(SERVICES).build().ok()).flatten()
    }
}

/// Makes the instruments of this provider. The first that is installed in a process has the histograms.
pub(crate) fn install(provider: &SdkMeterProvider) {
    let meter = provider.meter("muster");
    let mut histograms = HashMap::new();
    for metric in TABLE {
        match metric.kind {
            Kind::Histogram(bounds) => {
                let histogram = meter
                    .f64_histogram(metric.name)
                    .with_unit(metric.unit)
                    .with_description(metric.what)
                    .with_boundaries(bounds.to_vec())
                    .build();
                histograms.insert(metric.name, histogram);
            }
            Kind::Counter | Kind::Gauge => observe(&meter, metric),
        }
    }
    HISTOGRAMS.get_or_init(|| histograms);
}

fn observe(meter: &Meter, metric: &'static Metric) {
    let told = |observer: &dyn AsyncInstrument<f64>| {
        for (attributes, value) in metric.read() {
            observer.observe(value, &key_values(attributes));
        }
    };
    let (name, unit, what) = (metric.name, metric.unit, metric.what);
    if metric.kind == Kind::Counter {
        let counter = meter.f64_observable_counter(name);
        counter.with_unit(unit).with_description(what).with_callback(told).build();
    } else {
        let gauge = meter.f64_observable_gauge(name);
        gauge.with_unit(unit).with_description(what).with_callback(told).build();
    }
}

pub(super) fn record(metric: &Metric, value: f64, attributes: Attributes) {
    if let Some(histogram) = HISTOGRAMS.get().and_then(|all| all.get(metric.name)) {
        histogram.record(value, &key_values(attributes));
    }
}

fn key_values(attributes: Attributes) -> Vec<KeyValue> {
    attributes.into_iter().map(|(key, value)| KeyValue::new(key, value)).collect()
}
