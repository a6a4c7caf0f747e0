//! The folder that everything is recovered to: whether it may be used, and the note that an unfinished recovery leaves
//! in it.

use std::fs::{self, DirBuilder, File};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use muster_protocol::ids::{RoundId, ServiceName};
use serde::{Deserialize, Serialize};

use super::existing::{Existing, Meeting};
use super::write::{WriteError, open_or_make};
use super::{Begun, RecoverError, Request};

/// The note's name in the target. It is there while a recovery is unfinished.
const NOTE: &str = ".muster-recovery";

/// What an unfinished recovery says of itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Note {
    schema: String,
    round: RoundId,
    number: u64,
    /// What names the machine's run since its last start (proc(5), `boot_id`).
    boot: String,
}

/// The target, open.
#[derive(Debug)]
pub(super) struct Target {
    path: PathBuf,
    handle: OwnedFd,
    pub(super) meeting: Meeting,
    noted: bool,
}

/// Whether the target may be used, as far as that can be told before the share is read; and what an earlier recovery
/// left there, if this one resumes it. Changes nothing.
pub(super) fn check(request: &Request) -> Result<Option<Note>, RecoverError> {
    let into = &request.into;
    apart(request, &real(into), into)?;
    let failed = |source| RecoverError::MakeTarget { path: into.clone(), source };
    let unfit = |why: String| RecoverError::Resume { path: into.clone(), why };
    let taken = || RecoverError::Target { path: into.clone() };
    match fs::symlink_metadata(into) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(failed(error)),
        Ok(_) if !into.is_dir() => return Err(taken()),
        Ok(_) => {}
    }
    let empty = fs::read_dir(into).map_err(failed)?.next().is_none();
    match (request.existing, request.resume) {
        (Existing::Keep | Existing::Replace, _) => Ok(None),
        (Existing::Refuse, _) if empty => Ok(None),
        (Existing::Refuse, false) => Err(taken()),
        (Existing::Refuse, true) => match fs::read(into.join(NOTE)) {
            Ok(bytes) => match serde_json::from_slice(&bytes) {
                Ok(note) => Ok(Some(note)),
                Err(_) => Err(unfit(format!("{NOTE} in it cannot be read"))),
            },
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                Err(unfit("it is not empty, and no unfinished recovery is in it".to_owned()))
            }
            Err(error) => Err(failed(error)),
        },
    }
}

/// Makes or opens the target, and notes that it is unfinished.
pub(super) fn open(
    request: &Request,
    unfinished: Option<Note>,
    begun: &Begun,
    services: &[ServiceName],
) -> Result<Target, RecoverError> {
    let into = &request.into;
    let failed = |source| RecoverError::MakeTarget { path: into.clone(), source };
    let unfit = |why: String| RecoverError::Resume { path: into.clone(), why };
    if let Some(note) = unfinished.as_ref().filter(|note| note.round != begun.round) {
        let why = format!("it is an unfinished recovery of round {}, not {}", note.number, begun.number);
        return Err(unfit(why));
    }
    // Only its owner may look into it: what is recovered may be secret.
    DirBuilder::new().recursive(true).mode(0o700).create(into).map_err(failed)?;
    let real = fs::canonicalize(into).map_err(failed)?;
    apart(request, &real, into)?;
    for service in services {
        let folder = real.join(service.as_str());
        if let Some(apart) = request.apart_from.iter().find(|apart| self::real(apart).starts_with(&folder)) {
            return Err(RecoverError::Inside { path: folder, apart: apart.clone() });
        }
    }
    let handle = OwnedFd::from(File::open(into).map_err(failed)?);
    let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    let meeting = match (request.existing, &unfinished) {
        (Existing::Keep, _) => Meeting::Keep,
        (Existing::Replace, _) => Meeting::Replace,
        (Existing::Refuse, None) => Meeting::Fresh,
        (Existing::Refuse, Some(note)) => Meeting::Resume { believed: !boot.is_empty() && note.boot == boot },
    };
    let noted = request.existing == Existing::Refuse;
    if noted {
        let (schema, round, number) = ("muster.recovery/1".to_owned(), begun.round, begun.number);
        let note = serde_json::to_vec(&Note { schema, round, number, boot }).expect("a note is JSON");
        let part = into.join(format!("{NOTE}.part"));
        fs::write(&part, note).and_then(|()| fs::rename(&part, into.join(NOTE))).map_err(failed)?;
    }
    Ok(Target { path: into.clone(), handle, meeting, noted })
}

impl Target {
    /// The folder of a service, and its path.
    pub(super) fn service(&self, service: &str) -> Result<(OwnedFd, PathBuf), WriteError> {
        let (handle, _) = open_or_make(&self.handle, &self.path, service)?;
        Ok((handle, self.path.join(service)))
    }

    /// Nothing is left to resume.
    pub(super) fn finish(&self) -> Result<(), RecoverError> {
        if !self.noted {
            return Ok(());
        }
        fs::remove_file(self.path.join(NOTE))
            .map_err(|source| RecoverError::MakeTarget { path: self.path.clone(), source })
    }
}

/// Refuses what lies in the share or the kit.
fn apart(request: &Request, real_into: &Path, into: &Path) -> Result<(), RecoverError> {
    match request.apart_from.iter().find(|apart| real_into.starts_with(real(apart))) {
        Some(apart) => Err(RecoverError::Inside { path: into.to_owned(), apart: apart.clone() }),
        None => Ok(()),
    }
}

/// The path with its links resolved, as far as it is there.
fn real(path: &Path) -> PathBuf {
    let path = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    let there = path.ancestors().find_map(|there| Some((there, fs::canonicalize(there).ok()?)));
    match there {
        Some((there, real)) => path.strip_prefix(there).map_or(real.clone(), |rest| real.join(rest)),
        None => path,
    }
}
