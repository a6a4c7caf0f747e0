//! The lease in a key-value bucket of one key, kept by the stream behind it: `JetStream` decides who was first.
//!
//! No time to live: over a delete marker the client drops it (async-nats 0.51), and an immortal lease would lock every
//! coordinator out. Who waits judges by standing still instead.

use super::stored::{PubAck, Stored, acknowledged};
use crate::{BusError, Headers, LeaseSwap, LeaseValue};
use async_nats::jetstream::stream::{Config, DiscardPolicy};
use bytes::Bytes;
use std::time::Duration;
use tokio::time::Instant;

/// Of a message that is read directly (ADR-31).
const SEQUENCE: &str = "Nats-Sequence";
/// A message is stored only if this is the last of its subject; 0: if there is none (ADR-8, ADR-22).
const EXPECTED: &str = "Nats-Expected-Last-Subject-Sequence";
/// "Wrong last sequence", with and without the number (nats-server `errors.json`, `JSStreamWrongLastSequenceErrF` and
/// `JSStreamWrongLastSequenceConstantErr`).
const WRONG_SEQUENCE: [u64; 2] = [10071, 10164];

impl Stored {
    /// Reads the lease from any replica.
    pub(super) async fn lease(&self) -> Result<Option<LeaseValue>, BusError> {
        let stream = &self.streams.lease;
        let message = match self.last(stream, &self.streams.lease_subject).await {
            Ok(Some(message)) => message,
            Ok(None) | Err(BusError::NoStream { .. }) => return Ok(None),
            Err(other) => return Err(other),
        };
        let number = message.headers.as_ref().and_then(|headers| headers.get(SEQUENCE));
        let revision =
            number.and_then(|number| number.as_str().parse().ok()).ok_or_else(|| BusError::Stream {
                stream: stream.clone(),
                action: "reading the lease",
                source: format!("the answer has no {SEQUENCE}").into(),
            })?;
        Ok(Some(LeaseValue { revision, payload: message.payload }))
    }

    /// Writes the lease once; makes the bucket when nobody listens. After a silence it is not tried again: the first
    /// try may have been stored.
    pub(super) async fn swap_lease(
        &self,
        expected: Option<u64>,
        payload: Bytes,
    ) -> Result<LeaseSwap, BusError> {
        let (stream, subject) = (&self.streams.lease, &self.streams.lease_subject);
        let deadline = Instant::now() + self.wire.limits.answer;
        let headers: Headers = vec![(EXPECTED.to_owned(), expected.unwrap_or_default().to_string())];
        let mut made = false;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            match self.wire.ask(subject, headers.clone(), payload.clone(), left).await {
                Ok(answer) => {
                    let ack: Option<PubAck> = serde_json::from_slice(&answer.payload).ok();
                    let code = ack.and_then(|ack| ack.error).map(|error| error.err_code);
                    if code.is_some_and(|code| WRONG_SEQUENCE.contains(&code)) {
                        return Ok(LeaseSwap::Lost);
                    }
                    return Ok(LeaseSwap::Stored(acknowledged(stream, &answer.payload)?.sequence));
                }
                Err(BusError::NoResponders { .. }) if !made => {
                    self.ensure(&self.lease_config(), deadline).await?;
                    made = true;
                }
                Err(BusError::NoResponders { .. }) => {
                    return Err(BusError::NoStream { stream: stream.clone() });
                }
                Err(other) => return Err(other),
            }
        }
    }

    /// A bucket as clients make one (ADR-8), so that stock tools can read it.
    fn lease_config(&self) -> Config {
        let every = self.streams.lease_subject.trim_end_matches("lease");
        Config {
            name: self.streams.lease.clone(),
            subjects: vec![format!("{every}>")],
            max_messages: 16,
            max_messages_per_subject: 1,
            discard: DiscardPolicy::New,
            allow_direct: true,
            allow_rollup: true,
            deny_delete: true,
            duplicate_window: Duration::from_secs(120),
            ..self.common_config()
        }
    }
}
