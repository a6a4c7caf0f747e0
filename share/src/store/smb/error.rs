//! What an SMB server says, in the share's terms. Status codes are those of MS-ERREF section 2.3.1.

use std::io;
use std::time::Duration;

use smb2::types::Command;
use smb2::types::status::NtStatus;
use smb2::{Error, ErrorKind};

use crate::store::StoreError;

/// What a refused call wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Access {
    /// To look.
    Read,
    /// To write or delete.
    Write,
}

/// How long the server may be silent in the middle of a call.
pub(super) const SILENCE: Duration = Duration::from_secs(30);

const NO_SUCH_USER: NtStatus = NtStatus(0xC000_0064);
const WRONG_PASSWORD: NtStatus = NtStatus(0xC000_006A);
/// A domain controller's word for an account of a domain that it does not know.
const NOT_FOUND: NtStatus = NtStatus(0xC000_0225);
const LOGON_NOT_GRANTED: NtStatus = NtStatus(0xC000_0155);
const LOGON_TYPE_NOT_GRANTED: NtStatus = NtStatus(0xC000_015B);
const MEDIA_WRITE_PROTECTED: NtStatus = NtStatus(0xC000_00A2);
const QUOTA_EXCEEDED: NtStatus = NtStatus(0xC000_0044);
const ALLOTTED_SPACE_EXCEEDED: NtStatus = NtStatus(0xC000_0099);
const DISK_QUOTA_EXCEEDED: NtStatus = NtStatus(0xC000_0802);
const OBJECT_PATH_INVALID: NtStatus = NtStatus(0xC000_0039);
const OBJECT_PATH_SYNTAX_BAD: NtStatus = NtStatus(0xC000_003B);
const NAME_TOO_LONG: NtStatus = NtStatus(0xC000_0106);

const TOO_MANY_LINKS: NtStatus = NtStatus(0xC000_0265);

const NO_LINKS: [NtStatus; 4] =
    [NtStatus::ACCESS_DENIED, NtStatus::INVALID_PARAMETER, NtStatus::INVALID_INFO_CLASS, TOO_MANY_LINKS];
const UNKNOWN: [NtStatus; 5] =
    [NO_SUCH_USER, WRONG_PASSWORD, NOT_FOUND, LOGON_NOT_GRANTED, LOGON_TYPE_NOT_GRANTED];
const FULL: [NtStatus; 4] =
    [NtStatus::DISK_FULL, QUOTA_EXCEEDED, ALLOTTED_SPACE_EXCEEDED, DISK_QUOTA_EXCEEDED];
const BAD_NAME: [NtStatus; 4] =
    [NtStatus::OBJECT_NAME_INVALID, OBJECT_PATH_INVALID, OBJECT_PATH_SYNTAX_BAD, NAME_TOO_LONG];
const REFUSED: [NtStatus; 3] = [NtStatus::ACCESS_DENIED, MEDIA_WRITE_PROTECTED, NtStatus::CANNOT_DELETE];

/// The error of a call on `path` by what can be done about it.
pub(super) fn classify(path: String, access: Access, error: Error) -> StoreError {
    let is = |known: &[NtStatus]| error.status().is_some_and(|status| known.contains(&status));
    let kind = error.kind();
    if kind == ErrorKind::NotFound {
        return StoreError::NotFound { path };
    }
    if kind == ErrorKind::AlreadyExists {
        return StoreError::AlreadyExists { path };
    }
    if is(&FULL) {
        return StoreError::Full { path, source: said(error) };
    }
    if is(&REFUSED) {
        return match access {
            Access::Read => StoreError::Denied { path, source: said(error) },
            Access::Write => StoreError::WriteRefused { path, source: said(error) },
        };
    }
    if is(&BAD_NAME) {
        let reason = format!("the server does not take this name: {error}");
        return StoreError::InvalidPath { path, reason };
    }
    if matches!(kind, ErrorKind::IsADirectory | ErrorKind::NotADirectory) {
        return StoreError::Damaged { path, what: "it is no plain file below folders".to_owned() };
    }
    if kind == ErrorKind::DfsReferral {
        return StoreError::InvalidPath { path, reason: DFS.to_owned() };
    }
    if kind == ErrorKind::SignatureInvalid {
        return StoreError::Denied { path, source: said(error) };
    }
    if kind == ErrorKind::TimedOut {
        return StoreError::TimedOut { path, after: SILENCE };
    }
    StoreError::Io { path, source: said(error) }
}

/// The same for what comes before any call: connection, session and share. `path` is the address.
pub(super) fn classify_dial(path: String, error: Error) -> StoreError {
    let kind = error.kind();
    if let Error::Protocol { status, command } = error {
        if command == Command::Negotiate {
            let reason = format!("the server speaks neither SMB 2 nor 3: {status}");
            return StoreError::InvalidPath { path, reason };
        }
        if status == NtStatus::BAD_NETWORK_NAME {
            return StoreError::InvalidPath { path, reason: "the server has no such share".to_owned() };
        }
        if status == NtStatus::ACCESS_DENIED {
            return StoreError::Denied { path, source: io::Error::other(format!("{status}: {ENCRYPTED}")) };
        }
        if kind == ErrorKind::AuthRequired || UNKNOWN.contains(&status) {
            return StoreError::Denied { path, source: said(error) };
        }
    }
    if matches!(kind, ErrorKind::AuthRequired | ErrorKind::GuestSessionRefused | ErrorKind::SignatureInvalid)
    {
        return StoreError::Denied { path, source: said(error) };
    }
    if kind == ErrorKind::Unsupported {
        return StoreError::InvalidPath { path, reason: error.to_string() };
    }
    // Nobody there, no logon server, too many sessions, and what else may pass.
    StoreError::Unreachable { path, source: said(error) }
}

/// What a server says to one who does not encrypt, and to one who may not use the share: it is the same.
const ENCRYPTED: &str = "this account may not use the share, or the share demands encryption, which the smb backend \
    does not have: mount the share and name it by its path";

/// Of shares whose files are elsewhere.
pub(super) const DFS: &str = "it is part of a DFS namespace, which the smb backend does not follow: name the server \
    behind it, or mount the share and name it by its path";

/// Whether the session is of no use after this: the next call needs another.
pub(super) fn ends_session(error: &Error) -> bool {
    matches!(
        error.kind(),
        ErrorKind::ConnectionLost
            | ErrorKind::TimedOut
            | ErrorKind::SessionExpired
            | ErrorKind::SignatureInvalid
            | ErrorKind::InvalidData
            | ErrorKind::Io
    )
}

/// Whether the folder that the name would be in is not there.
pub(super) fn lacks_folder(error: &Error) -> bool {
    error.status() == Some(NtStatus::OBJECT_PATH_NOT_FOUND)
}

/// Whether the file system behind the share has no links, rather than this one having failed. Samba says of a FAT that
/// access is denied.
pub(super) fn has_no_links(error: &Error) -> bool {
    error.kind() == ErrorKind::Unsupported || error.status().is_some_and(|status| NO_LINKS.contains(&status))
}

/// The library's errors name statuses, commands and users, no passwords.
fn said(error: Error) -> io::Error {
    if let Error::Io(error) = error {
        return error;
    }
    if let Error::ConnectFailed { host, attempts } = &error {
        let attempts: Vec<String> = attempts.iter().map(ToString::to_string).collect();
        return io::Error::other(format!("{host}: {}", attempts.join(", ")));
    }
    io::Error::other(error.to_string())
}

#[cfg(test)]
mod tests {
    use super::{Access, classify, classify_dial};
    use crate::store::StoreError;
    use muster_protocol::alert::Code;
    use smb2::Error;
    use smb2::types::Command;
    use smb2::types::status::NtStatus;

    fn protocol(status: u32, command: Command) -> Error {
        Error::Protocol { status: NtStatus(status), command }
    }

    #[test]
    fn statuses_have_their_codes() {
        use Access::{Read, Write};
        for (status, access, code) in [
            (0xC000_0022, Read, Some(Code::Share03)),
            (0xC000_0022, Write, Some(Code::Share04)),
            (0xC000_00A2, Write, Some(Code::Share04)),
            (0xC000_007F, Write, Some(Code::Share05)),
            (0xC000_0044, Write, Some(Code::Share05)),
            (0xC000_0802, Write, Some(Code::Share05)),
            (0xC000_0033, Write, Some(Code::Share02)),
            (0xC000_0106, Write, Some(Code::Share02)),
            (0xC000_0043, Read, Some(Code::Share07)),
            (0xC000_0056, Write, Some(Code::Share07)),
            (0xC000_035C, Read, Some(Code::Share07)),
            (0xC000_0203, Write, Some(Code::Share07)),
            (0xC000_0034, Read, None),
            (0xC000_0035, Write, None),
        ] {
            let error = classify("x".to_owned(), access, protocol(status, Command::Create));
            assert_eq!(error.alert(), code, "{status:x}: {error}");
            assert_eq!(error.is_transient(), code == Some(Code::Share07), "{status:x}");
        }
    }

    #[test]
    fn logons_have_theirs() {
        for (status, command, code) in [
            (0xC000_006D, Command::SessionSetup, Code::Share03),
            (0xC000_0064, Command::SessionSetup, Code::Share03),
            (0xC000_0225, Command::SessionSetup, Code::Share03),
            (0xC000_0234, Command::SessionSetup, Code::Share03),
            (0xC000_0072, Command::SessionSetup, Code::Share03),
            (0xC000_0071, Command::SessionSetup, Code::Share03),
            (0xC000_005E, Command::SessionSetup, Code::Share01),
            (0xC000_00D0, Command::SessionSetup, Code::Share01),
            (0xC000_00BB, Command::Negotiate, Code::Share02),
            (0xC000_00CC, Command::TreeConnect, Code::Share02),
            (0xC000_0022, Command::TreeConnect, Code::Share03),
        ] {
            let error = classify_dial("smb://h/s".to_owned(), protocol(status, command));
            assert_eq!(error.alert(), Some(code), "{status:x}: {error}");
        }
        let refused = classify_dial("smb://h/s".to_owned(), protocol(0xC000_0022, Command::TreeConnect));
        let StoreError::Denied { source, .. } = refused else { panic!("{refused:?}") };
        assert!(source.to_string().contains("mount the share"), "{source}");
        let lost = classify_dial("smb://h/s".to_owned(), Error::Timeout);
        assert_eq!(lost.alert(), Some(Code::Share01));
    }
}
