//! Files with secrets on this machine: read only when nobody else may read them, written so that nobody else can.
//!
//! Must never write over a file, and no error repeats what a file holds.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use muster_protocol::age::{Identity, KeyError};
use muster_protocol::config::{CREDENTIALS_DIRECTORY, is_loose};
use muster_protocol::envelope::Signer;
use muster_protocol::ids::{KeyId, unhex};
use muster_protocol::pem::{self, PemError};
use zeroize::Zeroizing;

/// Longest file in bytes; no key needs as much.
const MAX_LEN: u64 = 64 * 1024;

/// Why a key file was not read or written. Each names the file.
#[derive(Debug, thiserror::Error)]
pub enum SecretFileError {
    /// There is no such file.
    #[error("{} is missing", path.display())]
    Missing {
        /// The file.
        path: PathBuf,
    },
    /// Others may read it.
    #[error("{} may be read by others (mode {mode:04o}): chmod 600 {}", path.display(), path.display())]
    Loose {
        /// The file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// Not a plain file.
    #[error("{} is no plain file", path.display())]
    NotAFile {
        /// What is there instead.
        path: PathBuf,
    },
    /// Too long for a key, or not UTF-8.
    #[error("{} holds no key: it is {what}", path.display())]
    NoText {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        what: &'static str,
    },
    /// Something is there already; it was not touched.
    #[error("{} exists already and is not written over", path.display())]
    Exists {
        /// The file.
        path: PathBuf,
    },
    /// The system refuses.
    #[error("{} cannot be {doing}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// `read` or `written`.
        doing: &'static str,
        /// The system's error.
        source: io::Error,
    },
    /// The file holds no Ed25519 key.
    #[error("{} holds no signing key", path.display())]
    Pem {
        /// The file.
        path: PathBuf,
        /// Why.
        source: PemError,
    },
    /// The file holds no age identity.
    #[error("{} holds no age identity", path.display())]
    Identity {
        /// The file.
        path: PathBuf,
        /// Why.
        source: KeyError,
    },
    /// The file holds no chunk key.
    #[error("{} does not hold 64 lowercase hexadecimal characters", path.display())]
    Hex {
        /// The file.
        path: PathBuf,
    },
}

impl SecretFileError {
    /// The file.
    #[must_use]
    pub fn path(&self) -> &Path {
        match self {
            Self::Missing { path }
            | Self::Loose { path, .. }
            | Self::NotAFile { path }
            | Self::NoText { path, .. }
            | Self::Exists { path }
            | Self::Io { path, .. }
            | Self::Pem { path, .. }
            | Self::Identity { path, .. }
            | Self::Hex { path } => path,
        }
    }
}

/// The folder in which the service manager put this process's credentials.
#[must_use]
pub fn credentials() -> Option<PathBuf> {
    std::env::var_os(CREDENTIALS_DIRECTORY).map(PathBuf::from).filter(|folder| folder.is_absolute())
}

/// The text of a secret file that only its owner may read; a credential of the service manager may have the mode that
/// it gives them. A symbolic link is followed.
///
/// # Errors
/// When it is missing, no plain file, readable by others, longer than 64 KiB, or not UTF-8.
pub fn read(path: &Path) -> Result<Zeroizing<String>, SecretFileError> {
    read_file(path, true)
}

/// What a secret file holds that need be no text.
///
/// # Errors
/// Those of [`read`], but for what is no text.
pub fn read_bytes(path: &Path) -> Result<Zeroizing<Vec<u8>>, SecretFileError> {
    read_plain(path, true)
}

/// The Ed25519 signing key in a PKCS#8 PEM file.
///
/// # Errors
/// Those of [`read`], and when it holds something else.
pub fn read_signing_key(path: &Path) -> Result<Signer, SecretFileError> {
    let text = read(path)?;
    pem::signing_key_from_pem(&text).map_err(|source| SecretFileError::Pem { path: path.to_owned(), source })
}

/// The identities in an age identity file; at least one.
///
/// # Errors
/// Those of [`read`], and when it holds something else.
pub fn read_identities(path: &Path) -> Result<Vec<Identity>, SecretFileError> {
    let text = read(path)?;
    Identity::parse_file(&text).map_err(|source| SecretFileError::Identity { path: path.to_owned(), source })
}

/// The 32 bytes that a file of 64 hexadecimal characters holds.
///
/// # Errors
/// Those of [`read`], and when it holds something else.
pub fn read_hex_key(path: &Path) -> Result<Zeroizing<[u8; 32]>, SecretFileError> {
    let text = read(path)?;
    unhex(text.trim_end()).map(Zeroizing::new).ok_or_else(|| SecretFileError::Hex { path: path.to_owned() })
}

/// The Ed25519 public key in a PEM file. It is no secret: everybody may read it.
///
/// # Errors
/// When it is missing, no plain file, or holds something else.
pub fn read_public_key(path: &Path) -> Result<KeyId, SecretFileError> {
    let text = read_file(path, false)?;
    pem::public_key_from_pem(&text).map_err(|source| SecretFileError::Pem { path: path.to_owned(), source })
}

/// Writes a new file that only its owner may read, durably.
///
/// # Errors
/// [`SecretFileError::Exists`] when anything has that name; and when it cannot be written, in which case nothing is
/// left behind.
pub fn create(path: &Path, bytes: &[u8]) -> Result<(), SecretFileError> {
    create_with_mode(path, bytes, 0o600)
}

/// Writes a new file that everybody may read, durably; otherwise as [`create`].
///
/// # Errors
/// As [`create`].
pub fn create_public(path: &Path, bytes: &[u8]) -> Result<(), SecretFileError> {
    create_with_mode(path, bytes, 0o644)
}

fn create_with_mode(path: &Path, bytes: &[u8], mode: u32) -> Result<(), SecretFileError> {
    let failed = |source| SecretFileError::Io { path: path.to_owned(), doing: "written", source };
    let mut file = match OpenOptions::new().write(true).create_new(true).mode(mode).open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            return Err(SecretFileError::Exists { path: path.to_owned() });
        }
        Err(error) => return Err(failed(error)),
    };
    let written = file.write_all(bytes).and_then(|()| file.sync_all()).and_then(|()| {
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        File::open(folder)?.sync_all()
    });
    written.map_err(|error| {
        // Our own file of a moment ago; if even that fails, the first error is the one that helps.
        drop(std::fs::remove_file(path));
        failed(error)
    })
}

fn read_file(path: &Path, secret: bool) -> Result<Zeroizing<String>, SecretFileError> {
    let bytes = read_plain(path, secret)?;
    match std::str::from_utf8(&bytes) {
        Ok(text) => Ok(Zeroizing::new(text.to_owned())),
        Err(_) => Err(SecretFileError::NoText { path: path.to_owned(), what: "not UTF-8 text" }),
    }
}

fn read_plain(path: &Path, secret: bool) -> Result<Zeroizing<Vec<u8>>, SecretFileError> {
    let owned = || path.to_owned();
    let failed = |source: io::Error| {
        if source.kind() == io::ErrorKind::NotFound {
            SecretFileError::Missing { path: owned() }
        } else {
            SecretFileError::Io { path: owned(), doing: "read", source }
        }
    };
    // A pipe in that place would block the open otherwise.
    let nonblock =
        i32::try_from(rustix::fs::OFlags::NONBLOCK.bits()).expect("the flag of open(2) fits an int");
    let file = OpenOptions::new().read(true).custom_flags(nonblock).open(path).map_err(failed)?;
    let meta = file.metadata().map_err(failed)?;
    if !meta.is_file() {
        return Err(SecretFileError::NotAFile { path: owned() });
    }
    let mode = meta.mode() & 0o7777;
    if secret && is_loose(path, mode, credentials().as_deref()) {
        return Err(SecretFileError::Loose { path: owned(), mode });
    }
    if meta.len() > MAX_LEN {
        return Err(SecretFileError::NoText { path: owned(), what: "longer than 64 KiB" });
    }
    // Room for all of it at once, so that growing leaves no copy behind.
    let mut bytes =
        Zeroizing::new(Vec::with_capacity(usize::try_from(MAX_LEN + 1).expect("64 KiB fit memory")));
    file.take(MAX_LEN).read_to_end(&mut bytes).map_err(failed)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::{
        SecretFileError, create, read, read_hex_key, read_identities, read_public_key, read_signing_key,
    };
    use muster_protocol::age::Identity;
    use muster_protocol::envelope::Signer;
    use muster_protocol::pem;
    use std::fs;
    use std::os::unix::fs::{PermissionsExt, symlink};

    #[test]
    fn what_others_may_read_is_refused_with_the_way_out() {
        let dir = tempfile::tempdir().expect("temporary folder");
        let path = dir.path().join("a.key");
        create(&path, b"x").expect("written");
        assert_eq!(fs::metadata(&path).expect("there").permissions().mode() & 0o7777, 0o600);
        assert_eq!(read(&path).expect("read").as_str(), "x");
        let link = dir.path().join("link");
        symlink(&path, &link).expect("linked");
        assert_eq!(read(&link).expect("read").as_str(), "x");
        for mode in [0o640, 0o604, 0o660, 0o602] {
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).expect("changed");
            let error = read(&path).expect_err("loose");
            assert!(error.to_string().contains(&format!("chmod 600 {}", path.display())), "{error}");
        }
        assert!(matches!(create(&path, b"y"), Err(SecretFileError::Exists { .. })));
        assert_eq!(fs::read(&path).expect("read"), b"x");
    }

    #[test]
    fn what_is_no_key_file_is_named() {
        let dir = tempfile::tempdir().expect("temporary folder");
        let path = dir.path().join("a.key");
        assert!(matches!(read(&path), Err(SecretFileError::Missing { .. })));
        assert!(matches!(read(dir.path()), Err(SecretFileError::NotAFile { .. })));
        create(&path, &[b'a'; 70_000]).expect("written");
        assert!(matches!(read(&path), Err(SecretFileError::NoText { .. })));
        fs::write(&path, [0xff, 0xfe]).expect("written");
        assert!(matches!(read(&path), Err(SecretFileError::NoText { .. })));
        fs::write(&path, "secret").expect("written");
        for error in [
            read_signing_key(&path).expect_err("no key"),
            read_identities(&path).expect_err("no key"),
            read_hex_key(&path).expect_err("no key"),
            read_public_key(&path).expect_err("no key"),
        ] {
            assert!(error.to_string().contains("a.key") && !error.to_string().contains("secret"), "{error}");
        }
    }

    #[test]
    fn keys_come_back() {
        let dir = tempfile::tempdir().expect("temporary folder");
        let signer = Signer::from_seed(&[7; 32]);
        let path = dir.path().join("signer");
        create(&path, pem::signing_key_to_pem(&signer).as_bytes()).expect("written");
        assert_eq!(read_signing_key(&path).expect("read").key_id(), signer.key_id());
        let path = dir.path().join("public");
        super::create_public(&path, pem::public_key_to_pem(&signer.key_id()).as_bytes()).expect("written");
        assert_eq!(read_public_key(&path).expect("read"), signer.key_id());
        let identity = Identity::generate(&mut crate::entropy::OsEntropy);
        let path = dir.path().join("identity");
        create(&path, identity.to_file_text("now").as_bytes()).expect("written");
        assert_eq!(read_identities(&path).expect("read")[0].recipient(), identity.recipient());
        let path = dir.path().join("chunk");
        create(&path, format!("{}\n", "0a".repeat(32)).as_bytes()).expect("written");
        assert_eq!(*read_hex_key(&path).expect("read"), [10; 32]);
    }
}
