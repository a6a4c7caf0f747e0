//! The file for whoever helps: one JSON document with all that was found, and what it was found on.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use muster_coordinator::query::AgentView;
use muster_share::secret_file;
use serde::Serialize;

use super::redact;
use crate::command::status;
use crate::failure::Failure;
use crate::finding::Finding;
use crate::spilled::without_keys;
use crate::{folder, nats_server, screen};

/// Bytes of the end of a log that are taken along.
const TAIL: u64 = 32 * 1024;

/// `{"schema":"muster.doctor-bundle/1", …}`
#[derive(Debug, Serialize)]
struct Bundle<'a> {
    schema: &'static str,
    made: String,
    version: &'static str,
    system: System,
    findings: &'a [Finding],
    /// As `muster status --json` says it; null: it could not say anything.
    status: Option<&'a status::View>,
    agents: &'a [AgentView],
    /// The folder's configurations by their path, without what may be secret.
    configurations: BTreeMap<String, String>,
    /// The end of the NATS server's log, where it is kept in the folder.
    nats_log: Option<String>,
}

#[derive(Debug, Serialize)]
struct System {
    system: String,
    release: String,
    machine: String,
    cores: usize,
}

/// Writes it to a new file.
///
/// # Errors
/// Exit 2 when the file is there already, or cannot be written.
pub(super) fn write(
    file: &Path,
    folder: &Path,
    status: Option<&status::View>,
    findings: &[Finding],
    agents: &[AgentView],
) -> Result<(), Failure> {
    let uname = rustix::system::uname();
    let text = |text: &std::ffi::CStr| text.to_string_lossy().into_owned();
    let bundle = Bundle {
        schema: "muster.doctor-bundle/1",
        made: screen::rfc3339(screen::now()),
        version: env!("CARGO_PKG_VERSION"),
        system: System {
            system: text(uname.sysname()),
            release: text(uname.release()),
            machine: text(uname.machine()),
            cores: std::thread::available_parallelism().map_or(0, usize::from),
        },
        findings,
        status,
        agents,
        configurations: configurations(folder),
        nats_log: tail(&nats_server::log(folder)),
    };
    let text = serde_json::to_string_pretty(&bundle).expect("our own answers are JSON");
    // A key may stand where nobody looks for one, such as in a reason.
    let text = without_keys(&text);
    Ok(secret_file::create(file, format!("{text}\n").as_bytes())?)
}

fn configurations(folder: &Path) -> BTreeMap<String, String> {
    let mut shown = BTreeMap::new();
    for below in ["", "agents"] {
        for file in folder::files(&folder.join(below), "").unwrap_or_default() {
            let text = fs::read_to_string(&file).ok().and_then(|text| redact::configuration(&text));
            let name = file.strip_prefix(folder).unwrap_or(&file).display().to_string();
            shown.insert(name, text.unwrap_or_else(|| "it cannot be read".to_owned()));
        }
    }
    shown
}

/// The last lines of a file; none where it cannot be read.
fn tail(file: &Path) -> Option<String> {
    use std::io::{Read, Seek, SeekFrom};
    let mut file = fs::File::open(file).ok()?;
    let length = file.metadata().ok()?.len();
    file.seek(SeekFrom::Start(length.saturating_sub(TAIL))).ok()?;
    let mut bytes = Vec::new();
    file.take(TAIL).read_to_end(&mut bytes).ok()?;
    Some(String::from_utf8_lossy(&bytes).into_owned())
}
