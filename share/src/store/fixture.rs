//! What tests against real servers share.

use std::io::Write;

use muster_protocol::config::ShareConfig;
use tempfile::NamedTempFile;

/// The configuration of a share with these credentials, and the file that it names.
pub(crate) fn at(url: String, credentials: &str) -> (ShareConfig, NamedTempFile) {
    let mut file = NamedTempFile::new().expect("a file");
    file.write_all(credentials.as_bytes()).expect("written");
    (ShareConfig { credentials: file.path().to_owned(), ..ShareConfig::at(url) }, file)
}
