//! Object Lock of S3: what is written carries a date before which no version of it can be deleted.
//!
//! ```text
//! write    PUT, If-None-Match: *, x-amz-object-lock-mode, x-amz-object-lock-retain-until-date, x-amz-checksum-sha256
//! look     HEAD: x-amz-version-id, x-amz-object-lock-retain-until-date
//! renew    PUT ?retention
//! delete   DELETE ?versionId: without a version the service writes a marker, and frees nothing
//! ```
//!
//! Amazon S3 API reference: *PutObject*, *HeadObject*, *PutObjectRetention*, *DeleteObject*; user guide: *Locking objects
//! with Object Lock*.

use std::time::{Duration, SystemTime};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::Method;
use jiff::Timestamp;
use muster_protocol::config::{Lock, LockMode};
use object_store::Error;
use sha2::{Digest, Sha256};

use super::request::{Answer, Ask, Requests};
use crate::layout::ObjectPath;

/// The lock of a probe: long enough to see that deleting is refused, short enough to wait for.
const PROBE: Duration = Duration::from_secs(15);
/// Versions of one object that are deleted at once: each one more is somebody's overwriting.
pub(super) const VERSIONS: usize = 100;

/// A version of an object.
pub(super) struct Version {
    /// Its id, where the bucket keeps versions.
    pub(super) id: Option<String>,
    /// Before this nobody deletes it.
    pub(super) until: Option<SystemTime>,
}

/// How long an object of this kind is locked. Marks of copies and grants are of no use to a recovery.
pub(super) fn term(lock: &Lock, path: &ObjectPath) -> Option<Duration> {
    match path {
        ObjectPath::Format
        | ObjectPath::LogRecord(_)
        | ObjectPath::LogSegment(_)
        | ObjectPath::List(_)
        | ObjectPath::Manifest(_)
        | ObjectPath::Pack { .. }
        | ObjectPath::Slice { .. } => Some(lock.retain),
        ObjectPath::Probe(_) => Some(PROBE),
        ObjectPath::Grant(_) | ObjectPath::Copy(_) => None,
    }
}

/// Creates an object that is locked until then.
pub(super) async fn put(
    requests: &Requests,
    key: &str,
    bytes: Bytes,
    mode: LockMode,
    until: SystemTime,
) -> Result<(), Error> {
    let headers = [
        ("if-none-match", "*".to_owned()),
        ("x-amz-object-lock-mode", word(mode).to_owned()),
        ("x-amz-object-lock-retain-until-date", date(until)?),
        // A service wants a checksum of what it is to keep unchanged.
        ("x-amz-checksum-sha256", checksum(&bytes)),
    ];
    let ask = Ask { method: Method::PUT, key, query: &[], headers: &headers, body: bytes };
    requests.send(ask).await.map(drop)
}

/// The newest version.
pub(super) async fn look(requests: &Requests, key: &str) -> Result<Version, Error> {
    let ask = Ask { method: Method::HEAD, key, query: &[], headers: &[], body: Bytes::new() };
    let answer: Answer = requests.send(ask).await?;
    let until = answer.header("x-amz-object-lock-retain-until-date");
    let until = until.map(|text| text.parse::<Timestamp>().map(SystemTime::from)).transpose();
    let until = until.map_err(|error| unusable(Box::new(error)))?;
    Ok(Version { id: answer.header("x-amz-version-id").map(str::to_owned), until })
}

/// Locks the newest version until then. Never shortens: the service refuses it.
pub(super) async fn renew(
    requests: &Requests,
    key: &str,
    mode: LockMode,
    until: SystemTime,
) -> Result<(), Error> {
    let body = format!(
        "<Retention xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\"><Mode>{}</Mode><RetainUntilDate>{}</RetainUntilDate></Retention>",
        word(mode),
        date(until)?
    );
    let body = Bytes::from(body);
    let headers =
        [("x-amz-checksum-sha256", checksum(&body)), ("content-type", "application/xml".to_owned())];
    let ask = Ask { method: Method::PUT, key, query: &[("retention", "")], headers: &headers, body };
    requests.send(ask).await.map(drop)
}

fn word(mode: LockMode) -> &'static str {
    match mode {
        LockMode::Compliance => "COMPLIANCE",
        LockMode::Governance => "GOVERNANCE",
    }
}

/// ISO 8601 in UTC, whole seconds, rounded up.
fn date(at: SystemTime) -> Result<String, Error> {
    let seconds = Timestamp::try_from(at).map_err(|error| unusable(Box::new(error)))?.as_second();
    let up = Timestamp::from_second(seconds.saturating_add(1)).map_err(|error| unusable(Box::new(error)))?;
    Ok(up.to_string())
}

fn checksum(bytes: &[u8]) -> String {
    STANDARD.encode(Sha256::digest(bytes))
}

fn unusable(source: Box<dyn std::error::Error + Send + Sync>) -> Error {
    Error::Generic { store: "share", source }
}

#[cfg(test)]
mod tests {
    use super::date;
    use std::time::{Duration, SystemTime};

    #[test]
    fn dates_are_whole_seconds_and_never_too_early() {
        let at = SystemTime::UNIX_EPOCH + Duration::from_millis(1_767_225_600_500);
        assert_eq!(date(at).expect("a date"), "2026-01-01T00:00:01Z");
    }
}
