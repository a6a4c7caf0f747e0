//! Reads a configuration file of this machine: the shell around `muster_protocol::config`.
//!
//! Must never write one, and never read a key: those are in files of their own ([`crate::secret_file`]).

use std::io::{self, Read};
use std::path::Path;

use muster_protocol::config::{self, Checked, ConfigError, Places};

use crate::secret_file;
use crate::store::address::is_path;

/// Longest configuration in bytes.
const MAX_LEN: u64 = 4 << 20;

/// The configuration in `path` with the process's `MUSTER_*` variables laid over it, and the absolute folders that its
/// paths start at.
///
/// # Errors
/// One that names file, line and key, or the variable.
pub fn load<T: Checked>(path: &Path) -> Result<(T, Places), ConfigError> {
    let unreadable = |source| ConfigError::Read { file: path.to_owned(), source };
    let absolute = std::path::absolute(path).map_err(unreadable)?;
    let text = match read(&absolute) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Err(ConfigError::Missing { file: path.to_owned() });
        }
        Err(error) => return Err(unreadable(error)),
    };
    // A variable that is not UTF-8 is no value of any key.
    let config = config::parse(path, &text, |name| std::env::var(name).ok())?;
    let folder = absolute.parent().unwrap_or(Path::new("/")).to_owned();
    Ok((config, Places { folder, credentials: secret_file::credentials() }))
}

/// The share's address, a relative path resolved against `folder`.
#[must_use]
pub fn share_url(url: &str, folder: &Path) -> String {
    if url.is_empty() || url.contains("://") || !is_path(url) {
        return url.to_owned();
    }
    folder.join(url).to_str().unwrap_or(url).to_owned()
}

fn read(path: &Path) -> io::Result<String> {
    let mut text = String::new();
    std::fs::File::open(path)?.take(MAX_LEN + 1).read_to_string(&mut text)?;
    if text.len() as u64 > MAX_LEN {
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, "it is longer than 4 MiB"));
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::{load, share_url};
    use muster_protocol::config::{Checked, Invalid};
    use serde::{Deserialize, Serialize};
    use std::path::Path;

    #[derive(Debug, Serialize, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Sample {}

    impl Checked for Sample {
        fn check(&self) -> Result<(), Invalid> {
            Ok(())
        }
    }

    #[test]
    fn missing_files_and_other_bytes_are_named() {
        let dir = tempfile::tempdir().expect("temporary folder");
        let file = dir.path().join("a.toml");
        let error = load::<Sample>(&file).expect_err("missing").to_string();
        assert!(error.contains("a.toml is missing"), "{error}");
        std::fs::write(&file, [0xff]).expect("written");
        let error = load::<Sample>(&file).expect_err("no text").to_string();
        assert!(error.contains("a.toml cannot be read"), "{error}");
        std::fs::write(&file, "").expect("written");
        let (_, places) = load::<Sample>(&file).expect("empty is fine here");
        assert_eq!(places.folder, dir.path());
    }

    #[test]
    fn only_relative_paths_are_resolved() {
        let folder = Path::new("/etc/muster");
        for (url, resolved) in [
            ("share", "/etc/muster/share"),
            ("/srv/share", "/srv/share"),
            ("file:///srv", "file:///srv"),
            ("", ""),
        ] {
            assert_eq!(share_url(url, folder), resolved);
        }
    }
}
