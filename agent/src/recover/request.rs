//! What a recovery is asked for and what it tells.

use std::path::PathBuf;
use std::sync::{Arc, OnceLock};

use muster_protocol::document::Absentee;
use muster_protocol::ids::{FleetName, RoundId, ServiceName};
use muster_protocol::log::{self, Head};
use muster_protocol::time::UnixMillis;
use muster_share::verify::{Damage, Progress};

use super::existing::Existing;
use super::round::Origin;

/// What to recover, from where, to where.
#[derive(Debug, Clone)]
pub struct Request {
    /// Which round, and where it is to be had.
    pub from: Origin,
    /// Which services; all of the round's when empty.
    pub services: Vec<ServiceName>,
    /// Only what lies at or below this path: `<source>/<path>`, or a path within the sources.
    pub path: Option<Vec<u8>>,
    /// The folder to write to.
    pub into: PathBuf,
    /// What becomes of what lies there already.
    pub existing: Existing,
    /// Go on with an interrupted recovery of the same round into the same folder: what it finished is not fetched
    /// again. Begins anew where there is none.
    pub resume: bool,
    /// Restore owners by number, also where this machine knows their names.
    pub numeric_owner: bool,
    /// Folders that nothing may be written into: the share's and the kit's.
    pub apart_from: Vec<PathBuf>,
    /// Threads that open packs; memory is up to two packs for each, within a bound.
    pub workers: usize,
}

/// What a recovery is about to do, known before its first file.
#[derive(Debug, Clone)]
pub struct Begun {
    /// The fleet's name.
    pub fleet: Option<FleetName>,
    /// The log's head.
    pub head: Head,
    /// The round's id.
    pub round: RoundId,
    /// The round's number.
    pub number: u64,
    /// Complete or partial.
    pub outcome: log::Outcome,
    /// When it was committed.
    pub committed: UnixMillis,
    /// Services that are recovered.
    pub services: usize,
    /// Bytes that their files have.
    pub bytes: u64,
}

/// What whoever shows a recovery looks at now and then.
#[derive(Debug, Default)]
pub struct Watch {
    /// Bytes of files.
    pub progress: Arc<Progress>,
    /// Set before the first file is written.
    pub begun: OnceLock<Begun>,
}

/// What became of one service.
#[derive(Debug, Clone, Default)]
pub struct ServiceOutcome {
    /// Files and hard links that were written and compared.
    pub files: u64,
    /// Folders, links, pipes and devices.
    pub others: u64,
    /// Bytes of the files.
    pub bytes: u64,
    /// What was there already and stays: kept, or finished by the recovery that is resumed.
    pub kept: u64,
    /// What could not be recovered because something else has its place and is not removed.
    pub blocked: u64,
    /// Things whose owner is not the one that was captured: only root may give things away.
    pub owners_left: u64,
    /// Entries that the slice itself does not hold whole.
    pub gaps: u64,
    /// The first few of them: path and what is missing.
    pub first_gaps: Vec<(Vec<u8>, String)>,
    /// Files that are left out because what they need is damaged.
    pub lost: u64,
    /// The paths of the first few.
    pub first_lost: Vec<Vec<u8>>,
    /// What could not be restored of files that are there: path and what.
    pub warnings: Vec<(Vec<u8>, String)>,
    /// Further warnings that were not kept.
    pub more_warnings: u64,
    /// Something of it is damaged.
    pub damaged: bool,
}

/// What a recovery did.
#[derive(Debug, Clone)]
pub struct Outcome {
    /// What it began with.
    pub begun: Begun,
    /// Services, as the manifest has them; one that could not even be begun has no files.
    pub services: Vec<(ServiceName, ServiceOutcome)>,
    /// Services that were asked for and that the round does not hold.
    pub absent: Vec<Absentee>,
    /// What is damaged.
    pub damaged: Vec<Damage>,
    /// If something is: the newest older round that has everything, by presence and length.
    pub newest_intact: Option<u64>,
}
