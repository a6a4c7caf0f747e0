//! What an object service says, in the share's terms.

use std::error::Error as _;
use std::io;

use object_store::Error;
use object_store::client::{HttpError, HttpErrorKind};

use crate::store::StoreError;

/// What a refused call wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Access {
    /// To look.
    Read,
    /// To write or delete.
    Write,
    /// To write something that is locked.
    Locked,
}

impl Access {
    fn is_write(self) -> bool {
        match self {
            Self::Read => false,
            Self::Write | Self::Locked => true,
        }
    }
}

/// Characters of an answer that are shown.
const LONGEST: usize = 200;

/// Codes in the service's answer that tell of the share rather than of the object. S3 API reference, *Error responses*;
/// Azure, *Blob service error codes*.
const NO_SHARE: [&str; 5] =
    ["NoSuchBucket", "InvalidBucketName", "KeyTooLongError", "ContainerNotFound", "ContainerBeingDeleted"];
/// Of no room.
const FULL: [&str; 4] =
    ["QuotaExceeded", "XMinioStorageFull", "InsufficientAccountQuota", "507 Insufficient Storage"];
/// Of credentials that are not known at all, in answers of 403 and of 400.
const UNKNOWN_KEY: [&str; 8] = [
    "InvalidAccessKeyId",
    "SignatureDoesNotMatch",
    "AuthenticationFailed",
    "AuthorizationFailure",
    "InvalidToken",
    "ExpiredToken",
    "AuthorizationHeaderMalformed",
    "NoAuthenticationInformation",
];

/// Of a container whose policy keeps everybody from changing it (Azure, *Immutable storage for blobs*), in answers of 409, which
/// otherwise tell that a name is taken.
const IMMUTABLE: [&str; 1] = ["BlobImmutableDueToPolicy"];
/// Of a service that is broken, or does not say why it writes nothing: SeaweedFS beyond the quota of a bucket.
const BROKEN: [&str; 1] = ["<Code>InternalError</Code>"];

/// Of a bucket without Object Lock, in answers to a write that asks for it.
const NO_LOCKS: [&str; 1] = ["<Code>InvalidRequest</Code>"];

/// The error of a call on `path` by what can be done about it.
pub(super) fn classify(path: String, access: Access, error: Error) -> StoreError {
    let whole = error.to_string();
    let says = |words: &[&str]| words.iter().any(|word| whole.contains(word));
    let said = said(&error, &whole);
    let source = io::Error::other(said.clone());
    if says(&NO_SHARE) {
        return StoreError::InvalidPath { path, reason: said };
    }
    if says(&FULL) {
        return StoreError::Full { path, source };
    }
    if says(&UNKNOWN_KEY) {
        return StoreError::Denied { path, source };
    }
    if access.is_write() && says(&IMMUTABLE) {
        return StoreError::WriteRefused { path, source };
    }
    if access.is_write() && says(&BROKEN) {
        let said = format!("{said} (some services say no more than that when a quota is used up)");
        return StoreError::Io { path, source: io::Error::other(said) };
    }
    if access == Access::Locked && says(&NO_LOCKS) {
        let reason = format!("{said}; [share] lock is set, and only a bucket with Object Lock takes locks");
        return StoreError::InvalidPath { path, reason };
    }
    // The crate adds kinds of errors in any version.
    #[expect(clippy::wildcard_enum_match_arm, reason = "the enumeration is not exhaustive")]
    match error {
        Error::NotFound { .. } => StoreError::NotFound { path },
        Error::AlreadyExists { .. } | Error::Precondition { .. } => StoreError::AlreadyExists { path },
        Error::PermissionDenied { .. } if access.is_write() => StoreError::WriteRefused { path, source },
        Error::PermissionDenied { .. } | Error::Unauthenticated { .. } => StoreError::Denied { path, source },
        Error::InvalidPath { .. } => StoreError::Damaged { path, what: said },
        error if http_kind(&error) == Some(HttpErrorKind::Connect) => {
            StoreError::Unreachable { path, source }
        }
        _ => StoreError::Io { path, source },
    }
}

/// What the service said, in one line: code and message of its answer (both services answer in XML with these elements),
/// or the innermost cause. Never the address of the request, which may carry a signature.
fn said(error: &Error, whole: &str) -> String {
    let element = |name: &str| {
        let rest = whole.split_once(&format!("<{name}>"))?.1;
        Some(rest.split_once("</")?.0.trim())
    };
    let text = match (element("Code"), element("Message")) {
        (Some(code), Some(message)) if !message.is_empty() => format!("{code}: {message}"),
        (Some(code), _) => code.to_owned(),
        (None, _) => {
            let mut innermost: &dyn std::error::Error = error;
            while let Some(cause) = innermost.source() {
                innermost = cause;
            }
            innermost.to_string()
        }
    };
    let line = text.lines().next().unwrap_or_default();
    line.chars().filter(|c| !c.is_control()).take(LONGEST).collect()
}

fn http_kind(error: &Error) -> Option<HttpErrorKind> {
    cause::<HttpError>(error).map(HttpError::kind)
}

/// The outermost cause of this kind.
pub(super) fn cause<T: std::error::Error + 'static>(error: &Error) -> Option<&T> {
    let mut cause = error.source();
    while let Some(error) = cause {
        if let Some(found) = error.downcast_ref() {
            return Some(found);
        }
        cause = error.source();
    }
    None
}
