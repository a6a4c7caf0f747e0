//! Jobs that the client cannot read are taken out of the work queue.
//!
//! A header that is no text, or no header at all, makes the client give up its connection (async-nats 0.51), and the queue would hand
//! the job out again after every reconnect until it is too old. The server is asked for what it keeps by its own interface, whose
//! answers are JSON, and what cannot be read is deleted by its number. That is done once for each connection: only a lost one
//! gives reason to look.

use super::stored::{ApiError, Stored};
use crate::{BusError, Headers};
use bytes::Bytes;
use data_encoding::BASE64;
use serde::Deserialize;
use serde_json::json;

/// What the server keeps under a number (`io.nats.jetstream.api.v1.stream_msg_get_response`).
#[derive(Deserialize)]
struct Kept {
    message: Option<KeptMessage>,
    error: Option<ApiError>,
}

#[derive(Deserialize)]
struct KeptMessage {
    #[serde(rename = "seq")]
    sequence: u64,
    /// The header as it was sent, in base 64; none: without a header.
    #[serde(default, rename = "hdrs")]
    header: String,
}

/// Its answer to a deletion (`io.nats.jetstream.api.v1.stream_msg_delete_response`).
#[derive(Deserialize)]
struct Deleted {
    error: Option<ApiError>,
}

/// "No message found" (nats-server `errors.json`, `JSNoMessageFoundErr`).
const NO_MESSAGE: u64 = 10037;
/// "Stream not found" (`JSStreamNotFoundErr`).
const NO_STREAM: u64 = 10059;

impl Stored {
    /// Deletes the jobs that cannot be read. Returns how many there were.
    ///
    /// # Errors
    /// When the server does not say what it keeps, or does not delete it; the rest stays.
    pub(super) async fn take_out_unreadable(&self) -> Result<u64, BusError> {
        let stream = &self.streams.queue;
        let mut taken = 0;
        let mut from = 1;
        // Twice as many as fit: others may be adding some all the while.
        for _ in 0..self.wire.limits.queued_jobs.saturating_mul(2) {
            let ask = json!({ "seq": from, "next_by_subj": self.streams.queue_subject });
            let kept: Kept = self.call("MSG.GET", &ask).await?;
            let message = match (kept.message, kept.error) {
                (Some(message), _) => message,
                (None, Some(error)) if ![NO_MESSAGE, NO_STREAM].contains(&error.err_code) => {
                    return Err(self.failed("looking through the queue", error.into()));
                }
                (None, _) => break,
            };
            from = message.sequence + 1;
            if BASE64.decode(message.header.as_bytes()).is_ok_and(|header| is_readable(&header)) {
                continue;
            }
            let gone: Deleted = self.call("MSG.DELETE", &json!({ "seq": message.sequence })).await?;
            match gone.error {
                Some(error) if error.err_code != NO_MESSAGE => {
                    return Err(self.failed("deleting a job that cannot be read", error.into()));
                }
                // Another coordinator was quicker.
                Some(_) => continue,
                None => {}
            }
            taken += 1;
        }
        if taken > 0 {
            tracing::warn!(
                stream,
                deleted = taken,
                "messages in the queue of triggers had headers that nobody can read: deleted; only what holds a trigger's or an operator's \
                 key of the bus can put them there"
            );
        }
        Ok(taken)
    }

    async fn call<T: for<'a> Deserialize<'a>>(
        &self,
        what: &'static str,
        ask: &serde_json::Value,
    ) -> Result<T, BusError> {
        let stream = &self.streams.queue;
        let limit = self.wire.limits.answer / 5;
        let subject = format!("$JS.API.STREAM.{what}.{stream}");
        let answer = self.wire.ask(&subject, Headers::new(), Bytes::from(ask.to_string()), limit).await?;
        serde_json::from_slice(&answer.payload)
            .map_err(|error| self.failed("looking through the queue", error.into()))
    }

    fn failed(&self, action: &'static str, source: Box<dyn std::error::Error + Send + Sync>) -> BusError {
        BusError::Stream { stream: self.streams.queue.clone(), action, source }
    }
}

/// Whether the client reads a header as one: nothing, or the version's line and lines of `name: value` in UTF-8 (ADR-4), none of
/// them broken within. Stricter than the client where it reads more than it should: folded lines, and a status, which only a server
/// gives.
fn is_readable(header: &[u8]) -> bool {
    if header.is_empty() {
        return true;
    }
    let Some(lines) = std::str::from_utf8(header).ok().and_then(|text| text.strip_prefix("NATS/1.0\r\n"))
    else {
        return false;
    };
    let readable = |line: &str| {
        let Some((name, value)) = line.split_once(':') else { return false };
        name.chars().all(|c| c.is_ascii_graphic()) && !value.contains(['\r', '\n'])
    };
    lines.split("\r\n").filter(|line| !line.is_empty()).all(readable)
}

#[cfg(test)]
mod tests {
    use super::is_readable;

    #[test]
    fn headers_are_told_from_noise() {
        for header in [
            &b""[..],
            b"NATS/1.0\r\n\r\n",
            b"NATS/1.0\r\nNats-Msg-Id: a\r\ntraceparent:00-0-0-01\r\nEmpty:\r\n\r\n",
            "NATS/1.0\r\nname: \u{fc}ber alles: mehr\r\n\r\n".as_bytes(),
        ] {
            assert!(is_readable(header), "{header:?}");
        }
        for header in [
            &b"NATS/1.0\r\nname: \xff\r\n\r\n"[..],
            b"NATS/1.0\r\nname: a\rb\r\n\r\n",
            b"NATS/1.0\r\nname: a\nb\r\n\r\n",
            b"NATS/1.0\r\nno colon\r\n\r\n",
            b"NATS/1.0\r\nna me: a\r\n\r\n",
            b"NATS/1.0\r\nn\xc3\xa4me: a\r\n\r\n",
            b"NATS/1.0 503\r\n\r\n",
            b"NATS/1.0 what\r\n\r\n",
            b"NATS/2.0\r\n\r\n",
            b"noise",
        ] {
            assert!(!is_readable(header), "{header:?}");
        }
    }
}
