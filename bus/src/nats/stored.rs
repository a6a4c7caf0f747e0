//! What the server keeps: the stream of last values and the work queue's stream, made when they are missing.

use super::{Wire, connection::jittered};
use crate::{BusError, Enqueued, Headers, Streams};
use async_nats::{
    Message, StatusCode,
    jetstream::{
        ErrorCode,
        context::CreateStreamErrorKind,
        stream::{Config, DiscardPolicy, RetentionPolicy, StorageType},
    },
};
use bytes::Bytes;
use serde::Deserialize;
use std::{sync::Arc, time::Duration};
use tokio::time::{Instant, sleep, timeout_at};

/// Largest message in either stream; the server refuses more, whoever sends it.
const STORED_MESSAGE_BYTES: i32 = 64 * 1024;
/// Most subjects with a last value: the fleet's document and one for each service that was asked again. When there are
/// more, the oldest value goes, and that is the fleet's document: so far more than a fleet has services.
const VALUES: i64 = 65_536;
/// Most bytes of either stream.
const STREAM_BYTES: i64 = 64 * 1024 * 1024;
/// "Maximum messages exceeded" and its like (nats-server `errors.json`, `JSStreamStoreFailedF`).
const STORE_FAILED: u64 = 10077;

/// The streams of one fleet over one connection.
#[derive(Clone)]
pub(crate) struct Stored {
    pub(super) wire: Wire,
    pub(super) streams: Arc<Streams>,
}

/// What `JetStream` answers to a publication (ADR-1, `io.nats.jetstream.api.v1.pub_ack_response`).
#[derive(Deserialize)]
pub(super) struct PubAck {
    #[serde(default)]
    stream: String,
    #[serde(default, rename = "seq")]
    pub(super) sequence: u64,
    #[serde(default)]
    duplicate: bool,
    pub(super) error: Option<ApiError>,
}

/// An error of the `JetStream` API (ADR-7).
#[derive(Debug, Deserialize, thiserror::Error)]
#[error("{description} (error {err_code})")]
pub(super) struct ApiError {
    #[serde(default)]
    pub(super) err_code: u64,
    #[serde(default)]
    description: String,
}

impl Stored {
    pub(crate) fn new(wire: Wire, streams: Streams) -> Self {
        Self { wire, streams: Arc::new(streams) }
    }

    pub(crate) fn streams(&self) -> &Streams {
        &self.streams
    }

    /// Stores a last value; makes the stream when nobody acknowledges. Those who watch the subject keep the server
    /// from saying that nobody listens, so a missing stream is mostly noticed by its silence; each try waits for a
    /// part of the limit only. A value stored twice that way is the same value.
    pub(crate) async fn set_value(&self, subject: &str, payload: Bytes) -> Result<u64, BusError> {
        let stream = &self.streams.values;
        let limit = self.wire.limits.answer;
        let deadline = Instant::now() + limit;
        let mut attempt = 0;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let answer = self.wire.ask(subject, Headers::new(), payload.clone(), left.min(limit / 5)).await;
            let missing = match answer {
                Ok(answer) => return Ok(acknowledged(stream, &answer.payload)?.sequence),
                Err(BusError::NoResponders { .. }) => BusError::NoStream { stream: stream.clone() },
                Err(BusError::Timeout { .. }) => BusError::Timeout { subject: subject.to_owned(), limit },
                Err(other) => return Err(other),
            };
            // Silence also means "no leader yet", so the loop goes on whatever comes of this.
            let made = self.ensure_values_by(deadline).await;
            attempt += 1;
            if !self.pause(attempt, deadline).await {
                return Err(made.err().unwrap_or(missing));
            }
        }
    }

    /// Reads a last value from any replica. Needs permission for `$JS.API.DIRECT.GET.<stream>.<subject>` only.
    pub(crate) async fn value(&self, subject: &str) -> Result<Option<Bytes>, BusError> {
        Ok(self.last(&self.streams.values, subject).await?.map(|message| message.payload))
    }

    /// The last message that a stream keeps of a subject, from any replica.
    pub(super) async fn last(&self, stream: &str, subject: &str) -> Result<Option<Message>, BusError> {
        let read = format!("$JS.API.DIRECT.GET.{stream}.{subject}");
        let deadline = Instant::now() + self.wire.limits.answer;
        let mut attempt = 0;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            match self.wire.ask(&read, Headers::new(), Bytes::new(), left).await {
                Ok(answer) => match answer.status {
                    None => return Ok(Some(answer)),
                    Some(StatusCode::NOT_FOUND) => return Ok(None),
                    Some(status) => {
                        let described = answer.description.unwrap_or_default();
                        let source = format!("{status} {described}").into();
                        let action = "reading a last value";
                        return Err(BusError::Stream { stream: stream.to_owned(), action, source });
                    }
                },
                Err(BusError::NoResponders { .. }) => {
                    attempt += 1;
                    // A few tries bridge an election; a stream that was never made must not cost the whole limit.
                    if attempt > 3 || !self.pause(attempt, deadline).await {
                        return Err(BusError::NoStream { stream: stream.to_owned() });
                    }
                }
                Err(other) => return Err(other),
            }
        }
    }

    /// Stores a job.
    pub(crate) async fn enqueue(
        &self,
        subject: &str,
        headers: Headers,
        payload: Bytes,
    ) -> Result<Enqueued, BusError> {
        let stream = &self.streams.queue;
        match self.wire.ask(subject, headers, payload, self.wire.limits.answer).await {
            Ok(answer) => {
                let ack = acknowledged(stream, &answer.payload)?;
                Ok(Enqueued { sequence: ack.sequence, duplicate: ack.duplicate })
            }
            Err(BusError::NoResponders { .. }) => Err(BusError::NoStream { stream: stream.clone() }),
            Err(other) => Err(other),
        }
    }

    pub(crate) async fn ensure_values(&self) -> Result<(), BusError> {
        self.ensure_values_by(Instant::now() + self.wire.limits.answer).await
    }

    pub(crate) async fn ensure_queue(&self) -> Result<(), BusError> {
        self.ensure(&self.queue_config(), Instant::now() + self.wire.limits.answer).await
    }

    /// Waits before attempt `attempt + 1`; false when the deadline comes first.
    pub(crate) async fn pause(&self, attempt: usize, deadline: Instant) -> bool {
        let random = getrandom::u64().unwrap_or_default();
        let delay = jittered(Duration::from_millis(50), Duration::from_millis(500), attempt, random);
        if Instant::now() + delay >= deadline {
            return false;
        }
        sleep(delay).await;
        true
    }

    async fn ensure_values_by(&self, deadline: Instant) -> Result<(), BusError> {
        self.ensure(&self.values_config(), deadline).await
    }

    /// Makes the stream, or brings it to this configuration; tries again while `JetStream` is starting.
    pub(super) async fn ensure(&self, wanted: &Config, deadline: Instant) -> Result<(), BusError> {
        let limit = self.wire.limits.answer;
        let mut attempt = 0;
        loop {
            let tried = timeout_at(deadline, self.ensure_once(wanted)).await;
            let error = match tried {
                Ok(Ok(())) => return Ok(()),
                Ok(Err(error)) => error,
                Err(_) => return Err(BusError::Timeout { subject: wanted.name.clone(), limit }),
            };
            attempt += 1;
            let (error, soon) = error;
            if !soon || !self.pause(attempt, deadline).await {
                return Err(error);
            }
        }
    }

    /// The error comes with whether a moment later it may be gone.
    async fn ensure_once(&self, wanted: &Config) -> Result<(), (BusError, bool)> {
        let failed = |action| {
            let stream = wanted.name.clone();
            move |source: async_nats::jetstream::context::CreateStreamError| {
                let soon = may_pass(&source.kind());
                (BusError::Stream { stream, action, source: Box::new(source) }, soon)
            }
        };
        let jetstream = self.wire.jetstream();
        let found =
            jetstream.get_or_create_stream(wanted.clone()).await.map_err(failed("creating the stream"))?;
        let found = found.cached_info().config.clone();
        let mended = Config {
            subjects: wanted.subjects.clone(),
            max_messages: wanted.max_messages,
            max_messages_per_subject: wanted.max_messages_per_subject,
            max_bytes: wanted.max_bytes,
            max_message_size: wanted.max_message_size,
            max_age: wanted.max_age,
            duplicate_window: wanted.duplicate_window,
            discard: wanted.discard,
            allow_direct: wanted.allow_direct,
            // Everything else, the replicas above all, is left as people have set it.
            ..found.clone()
        };
        if found.retention != wanted.retention {
            let source = format!(
                "it exists with retention {:?}; delete it once, nothing in it is needed",
                found.retention
            );
            let action = "checking the stream";
            return Err((
                BusError::Stream { stream: wanted.name.clone(), action, source: source.into() },
                false,
            ));
        }
        if mended != found {
            tracing::info!(stream = wanted.name, "configuration of the stream brought up to date");
            jetstream.update_stream(mended).await.map_err(failed("updating the stream"))?;
        }
        Ok(())
    }

    fn values_config(&self) -> Config {
        let top = &self.streams.value_subject;
        Config {
            name: self.streams.values.clone(),
            subjects: vec![top.clone(), format!("{top}.>")],
            max_messages_per_subject: 1,
            max_messages: VALUES,
            discard: DiscardPolicy::Old,
            allow_direct: true,
            duplicate_window: Duration::from_secs(120),
            ..self.common_config()
        }
    }

    fn queue_config(&self) -> Config {
        let limits = &self.wire.limits;
        Config {
            name: self.streams.queue.clone(),
            subjects: vec![self.streams.queue_subject.clone()],
            retention: RetentionPolicy::WorkQueue,
            max_messages_per_subject: -1,
            max_messages: i64::from(limits.queued_jobs),
            // A full queue refuses: the sender is told, and no older wish is lost for a newer one.
            discard: DiscardPolicy::New,
            max_age: limits.job_age,
            duplicate_window: limits.duplicate_window,
            ..self.common_config()
        }
    }

    pub(super) fn common_config(&self) -> Config {
        Config {
            storage: StorageType::File,
            num_replicas: self.streams.replicas,
            max_bytes: STREAM_BYTES,
            max_message_size: STORED_MESSAGE_BYTES,
            ..Config::default()
        }
    }
}

pub(super) fn acknowledged(stream: &str, answer: &[u8]) -> Result<PubAck, BusError> {
    let refused = |source: Box<dyn std::error::Error + Send + Sync>| BusError::Stream {
        stream: stream.to_owned(),
        action: "storing a message",
        source,
    };
    let ack: PubAck = serde_json::from_slice(answer).map_err(|error| refused(error.into()))?;
    match ack.error {
        Some(error) if error.err_code == STORE_FAILED && error.description.starts_with("maximum") => {
            Err(BusError::Full { stream: stream.to_owned() })
        }
        Some(error) => Err(refused(error.into())),
        None if ack.stream != stream => {
            Err(refused(format!("stream {:?} took it instead", ack.stream).into()))
        }
        None => Ok(ack),
    }
}

/// Whether the server may say otherwise in a moment: while it starts, elects a leader, or another coordinator is
/// creating the same stream.
fn may_pass(kind: &CreateStreamErrorKind) -> bool {
    match kind {
        CreateStreamErrorKind::JetStreamUnavailable
        | CreateStreamErrorKind::TimedOut
        | CreateStreamErrorKind::NotFound
        | CreateStreamErrorKind::Response => true,
        CreateStreamErrorKind::JetStream(error) => {
            error.code() == 503 || error.error_code() == ErrorCode::STREAM_NAME_EXIST
        }
        CreateStreamErrorKind::EmptyStreamName
        | CreateStreamErrorKind::InvalidStreamName
        | CreateStreamErrorKind::DomainAndExternalSet
        | CreateStreamErrorKind::ResponseParse => false,
    }
}
