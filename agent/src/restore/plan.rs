//! What is put where, by the kind of source. Everything that can be refused is refused here, before anything is changed.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use muster_protocol::alert::Code;
use muster_protocol::causes::causes;
use muster_protocol::message::RestoreRefusal;
use muster_share::entry::Entry;

use super::trust::refusal;
use crate::recover::{Existing, OwnRoot, Selection, was_single};
use crate::source::command::CommandSource;
use crate::source::sqlite::SqliteSource;
use crate::source::{Restoring, SourceConfig};

/// What is done with a dump.
#[derive(Debug)]
pub(super) enum Putter {
    Sqlite(SqliteSource),
    Command(CommandSource),
}

/// A source that is one dump.
#[derive(Debug)]
pub(super) struct DumpPlan {
    pub(super) number: usize,
    pub(super) source: String,
    pub(super) putter: Putter,
}

/// A restore in place.
#[derive(Debug, Default)]
pub(super) struct Plan {
    /// The sources that are folders, by their numbers.
    pub(super) files: BTreeSet<usize>,
    /// Where those lie.
    pub(super) roots: BTreeMap<String, OwnRoot>,
    pub(super) dumps: Vec<DumpPlan>,
    /// Databases that are there and are kept.
    pub(super) kept: u64,
}

/// Plans a restore in place.
///
/// # Errors
/// A refusal that names the source and what to do.
pub(super) fn in_place(
    selection: &Selection,
    pairs: &BTreeMap<usize, (Entry, Entry)>,
    sources: &[SourceConfig],
    existing: Existing,
) -> Result<Plan, RestoreRefusal> {
    let mut plan = Plan::default();
    for (number, indexed) in selection.sources() {
        let name = indexed.name.as_str();
        let configured = sources.iter().find(|source| *source.name() == indexed.name);
        let restoring = configured.map(SourceConfig::restoring);
        let Some(restoring) = restoring.filter(|restoring| restoring.kind() == indexed.kind) else {
            let reason = format!("the agent's configuration has no source {name} of kind {}", indexed.kind);
            return Err(refusal(None, &reason, "add it, or restore into a folder with --into"));
        };
        match restoring {
            Restoring::Files(path) => {
                let single = pairs.get(&number).filter(|(root, file)| was_single(root, file, path));
                let root = match (single, path.parent()) {
                    (Some(_), Some(folder)) => OwnRoot::FileIn(folder.to_owned()),
                    (Some(_) | None, _) => OwnRoot::Folder(path.to_owned()),
                };
                if existing == Existing::Refuse {
                    absent(name, path)?;
                }
                plan.files.insert(number);
                plan.roots.insert(name.to_owned(), root);
            }
            Restoring::Sqlite(source) => match (source.there(), existing) {
                (Some(path), Existing::Refuse) => return Err(is_there(name, path)),
                (Some(_), Existing::Keep) => plan.kept += 1,
                (Some(_) | None, _) => {
                    let putter = Putter::Sqlite(source.clone());
                    plan.dumps.push(DumpPlan { number, source: name.to_owned(), putter });
                }
            },
            Restoring::Command(source) => match source.counterpart() {
                Ok(Some(counterpart)) => {
                    let putter = Putter::Command(counterpart);
                    plan.dumps.push(DumpPlan { number, source: name.to_owned(), putter });
                }
                Ok(None) => {
                    let reason = format!("source {name} (command) has no command that puts its dump back");
                    let next =
                        "add restore = [\"PROGRAM\", \"ARG\"] to its [[source]], or restore with --into";
                    return Err(refusal(None, &reason, next));
                }
                Err(error) => {
                    let next = "mend restore = […] of its [[source]] in the agent's configuration";
                    return Err(refusal(Some(Code::Agent03), &causes(&error), next));
                }
            },
        }
    }
    Ok(plan)
}

/// The folder for a restore elsewhere: absolute, and apart from what nothing may be written into.
///
/// # Errors
/// A refusal that says why it is not taken.
pub(super) fn elsewhere(
    path: &[u8],
    existing: Existing,
    apart: &[PathBuf],
) -> Result<PathBuf, RestoreRefusal> {
    let path = Path::new(std::ffi::OsStr::from_bytes(path));
    let next = "name an absolute folder of the agent's machine, absent or empty";
    if !path.is_absolute() || path.components().any(|part| part.as_os_str() == "..") {
        return Err(refusal(None, &format!("{} is no absolute path", path.display()), next));
    }
    let real = real(path);
    if let Some(apart) = apart.iter().find(|apart| real.starts_with(self::real(apart))) {
        let reason = format!("{} lies in {}", path.display(), apart.display());
        return Err(refusal(Some(Code::Sec01), &reason, next));
    }
    if existing == Existing::Refuse {
        absent("the target", path)?;
    }
    Ok(path.to_owned())
}

/// The path with its links resolved, as far as it is there.
fn real(path: &Path) -> PathBuf {
    let there = path.ancestors().find_map(|there| Some((there, fs::canonicalize(there).ok()?)));
    match there {
        Some((there, real)) => path.strip_prefix(there).map_or(real.clone(), |rest| real.join(rest)),
        None => path.to_owned(),
    }
}

fn absent(what: &str, path: &Path) -> Result<(), RestoreRefusal> {
    let failed = |error: io::Error| {
        let reason = format!("{} cannot be looked at: {error}", path.display());
        refusal(None, &reason, "may the agent read it?")
    };
    match fs::metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(failed(error)),
        Ok(there) if !there.is_dir() => Err(is_there(what, path)),
        Ok(_) if fs::read_dir(path).map_err(failed)?.next().is_none() => Ok(()),
        Ok(_) => Err(is_there(what, path)),
    }
}

fn is_there(what: &str, path: &Path) -> RestoreRefusal {
    let reason = format!("{what}: {} is there already, and nothing was changed", path.display());
    refusal(None, &reason, "--existing replace writes over it, --existing keep makes only what is absent")
}
