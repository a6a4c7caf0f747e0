//! A capture as telemetry has it: its figures while it runs, and its span with one for each stage when it is over.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use muster_protocol::causes::causes;
use muster_protocol::ids::ServiceName;
use muster_telemetry::metrics::{
    CAPTURE_DURATION, CAPTURES, CHUNK_INDEX_ENTRIES, CHUNK_INDEX_SIZE, OUTCOME, SELF_CHECK_FAILURES, SERVICE,
    Value,
};
use muster_telemetry::span::{Finished, Place};

use super::error::EngineError;
use super::progress::Progress;
use super::slice::Captured;
use crate::state::State;

/// How often figures are told while a capture runs.
const EVERY: Duration = Duration::from_secs(1);

/// One capture that is told of.
pub(super) struct Telling {
    service: ServiceName,
    progress: Arc<Progress>,
    began: SystemTime,
    clock: Instant,
    /// The span around the capture, if its trace is told.
    within: Option<Place>,
}

impl Telling {
    /// The capture begins.
    pub(super) fn begin(service: &ServiceName, progress: &Arc<Progress>) -> Self {
        Self {
            service: service.clone(),
            progress: Arc::clone(progress),
            began: SystemTime::now(),
            clock: Instant::now(),
            within: muster_telemetry::place(&tracing::Span::current()).filter(Place::is_sampled),
        }
    }

    /// Tells figures while `work` goes on.
    pub(super) async fn beside<T>(&self, work: impl Future<Output = T>) -> T {
        let figures = async {
            let mut ticks = tokio::time::interval(EVERY);
            loop {
                ticks.tick().await;
                self.progress.activities.tell(&self.service);
            }
        };
        tokio::select! {
            done = work => done,
            () = figures => unreachable!("figures are told for ever"),
        }
    }

    /// The capture is over.
    pub(super) fn end(&self, done: &Result<Captured, EngineError>) {
        let service = || (SERVICE, self.service.to_string());
        self.progress.activities.tell(&self.service);
        CAPTURE_DURATION.record(self.clock.elapsed().as_secs_f64(), vec![service()]);
        let outcome = match done {
            Ok(_) => "captured",
            Err(EngineError::Cancelled) => "cancelled",
            Err(_) => "failed",
        };
        CAPTURES.one(vec![service(), (OUTCOME, outcome.to_owned())]);
        if let Err(EngineError::SelfCheck { .. }) = done {
            SELF_CHECK_FAILURES.one(vec![service()]);
        }
        let Some(within) = self.within else { return };
        let place = within.below(&format!("capture {}", self.progress.activities.origin()));
        let mut span = Finished::new("capture", place, Some(within), self.began)
            .with("muster.service", self.service.as_str())
            .with("muster.capture.entries", self.progress.entries())
            .with("muster.capture.unchanged", self.progress.unchanged());
        span.error = done.as_ref().err().map(|error| causes(error));
        span.tell();
        self.progress.activities.spans(place);
    }
}

/// What may be counted of this service is told from the beginning: the first time would be no increase.
pub(super) fn begin_metrics(service: &ServiceName) {
    for outcome in ["captured", "failed", "cancelled"] {
        CAPTURES.add(0.0, vec![(SERVICE, service.to_string()), (OUTCOME, outcome.to_owned())]);
    }
    SELF_CHECK_FAILURES.add(0.0, vec![(SERVICE, service.to_string())]);
}

/// How large the agent's memory of chunks is. Blocks on the local disk.
#[expect(clippy::cast_precision_loss, reason = "counts and bytes of a disk are exact")]
pub(super) fn tell_memory(service: &ServiceName, state: &State) {
    let of = || vec![(SERVICE, service.to_string())];
    if let Ok(chunks) = state.chunk_count() {
        CHUNK_INDEX_ENTRIES.set(Value::Is(chunks as f64), of());
    }
    if let Ok(bytes) = state.size() {
        CHUNK_INDEX_SIZE.set(Value::Is(bytes as f64), of());
    }
}
