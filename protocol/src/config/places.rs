//! Where the files that a configuration names lie: relative paths start at the configuration's folder, and
//! `credential:NAME` is a credential of the service manager (systemd.exec(5), *Credentials*).
//!
//! Pure: the caller brings the folder, and what `$CREDENTIALS_DIRECTORY` says.

use std::path::{Component, Path, PathBuf};

use super::Invalid;

/// How a path names a credential of the service manager.
const CREDENTIAL: &str = "credential:";
/// The variable that names the folder of this process's credentials; the service manager sets it.
pub const CREDENTIALS_DIRECTORY: &str = "CREDENTIALS_DIRECTORY";

/// The folders that paths of a configuration start at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Places {
    /// That of the configuration's file.
    pub folder: PathBuf,
    /// That of the process's credentials, if the service manager gave it any.
    pub credentials: Option<PathBuf>,
}

impl Places {
    /// Makes the path of a key file absolute; an empty one stays, and means none. `section` and `key` are for the error.
    ///
    /// # Errors
    /// When it names a credential, and there are none or the name is no plain file name.
    pub fn key_file(
        &self,
        section: &'static str,
        key: &'static str,
        path: &mut PathBuf,
    ) -> Result<(), Invalid> {
        let Some(name) = path.to_str().and_then(|path| path.strip_prefix(CREDENTIAL)) else {
            if !path.as_os_str().is_empty() {
                *path = self.folder.join(&*path);
            }
            return Ok(());
        };
        let invalid = |why| Invalid { section, key, why };
        let mut parts = Path::new(name).components();
        if !matches!((parts.next(), parts.next()), (Some(Component::Normal(part)), None) if part == name) {
            return Err(invalid(format!(
                "{CREDENTIAL} is followed by the name of one credential, not by {name:?}"
            )));
        }
        let Some(folder) = &self.credentials else {
            return Err(invalid(format!(
                "{CREDENTIAL}{name} is a credential of the service manager, and ${CREDENTIALS_DIRECTORY} is not set: \
                 start this by a unit with LoadCredential={name}:FILE, or name a file"
            )));
        };
        *path = folder.join(name);
        Ok(())
    }
}

/// Whether a secret's file may be read by others than it should. Its owner alone may, with one exception: systemd makes
/// a credential of a unit with `User=` readable by an entry of an access-control list, which the group's bits show
/// (0440, systemd issue 29435). The folder lets nobody else in.
#[must_use]
pub fn is_loose(path: &Path, mode: u32, credentials: Option<&Path>) -> bool {
    let is_credential = credentials.is_some() && path.parent() == credentials;
    mode & if is_credential { 0o037 } else { 0o077 } != 0
}

#[cfg(test)]
mod tests {
    use super::{Places, is_loose};
    use std::path::{Path, PathBuf};

    fn resolved(path: &str, credentials: Option<&str>) -> Result<PathBuf, String> {
        let places = Places { folder: "/etc/muster".into(), credentials: credentials.map(PathBuf::from) };
        let mut path = PathBuf::from(path);
        places.key_file("agent", "key", &mut path).map(|()| path).map_err(|invalid| invalid.to_string())
    }

    #[test]
    fn credentials_lie_in_their_folder_and_nowhere_else() {
        for (path, found) in [
            ("keys/a.key", "/etc/muster/keys/a.key"),
            ("/srv/a.key", "/srv/a.key"),
            ("", ""),
            ("credential:a.key", "/run/credentials/x/a.key"),
        ] {
            assert_eq!(resolved(path, Some("/run/credentials/x")), Ok(found.into()), "{path}");
        }
        for name in ["", "..", ".", "/a", "a/b", "../a", "a/", "a/."] {
            let error = resolved(&format!("credential:{name}"), Some("/run/credentials/x")).expect_err(name);
            assert!(error.contains("[agent] key") && error.contains("name of one credential"), "{error}");
        }
        let error = resolved("credential:a.key", None).expect_err("no credentials");
        assert!(error.contains("$CREDENTIALS_DIRECTORY is not set"), "{error}");
        assert!(error.contains("LoadCredential=a.key:FILE"), "{error}");
    }

    #[test]
    fn a_group_bit_is_fine_for_credentials_alone() {
        let (folder, file) = (Path::new("/run/credentials/x"), Path::new("/run/credentials/x/a"));
        for (mode, path, credentials, loose) in [
            (0o600, "/etc/a", None, false),
            (0o440, "/etc/a", None, true),
            (0o440, "/etc/a", Some(folder), true),
            (0o440, "/run/credentials/x/y/a", Some(folder), true),
            (0o400, "/run/credentials/x/a", Some(folder), false),
            (0o440, "/run/credentials/x/a", Some(folder), false),
            (0o444, "/run/credentials/x/a", Some(folder), true),
            (0o460, "/run/credentials/x/a", Some(folder), true),
        ] {
            assert_eq!(is_loose(Path::new(path), mode, credentials), loose, "{mode:o} {path}");
        }
        assert!(is_loose(file, 0o440, None));
    }
}
