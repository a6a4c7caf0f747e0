//! One restore, from the order to its end.
//!
//! Everything is checked again here: the grant against order and offer, the slice by the chain from the root key. Dumps
//! go to the spool first, whole and compared, and only then into the service. What was begun is carried on past what is
//! damaged; it ends early only when share or target fail.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use muster_protocol::age::Identity as AgeIdentity;
use muster_protocol::alert::Code;
use muster_protocol::causes::causes;
use muster_protocol::ids::{FleetId, ServiceName};
use muster_protocol::log::State;
use muster_protocol::message::{
    MAX_NOTES, RestoreExisting, RestoreOrder, RestoreOutcome, RestoreRefusal, RestoreState, RestoreTarget,
    cut_note,
};
use muster_share::grant::{Grant, MAX_GRANT_SEALED};
use muster_share::keys::Keyring;
use muster_share::layout::ObjectPath;
use muster_share::sealed::Unlock;
use muster_share::store::Store;
use muster_share::verify::{Damage, Progress, Trouble, read_object};

use super::plan::{self, DumpPlan, Plan, Putter};
use super::trust::{refusal, slice_of, unreadable};
use crate::recover::{Existing, RecoverError, Roots, RoundError, Selection, ServiceOutcome, Slice};
use crate::source::SourceConfig;

/// Everything that a restore needs.
pub(super) struct Job {
    pub(super) fleet: FleetId,
    pub(super) service: ServiceName,
    pub(super) store: Arc<dyn Store>,
    /// The log, read after the order came.
    pub(super) log: Arc<State>,
    pub(super) order: RestoreOrder,
    /// What the grant is sealed to.
    pub(super) key: AgeIdentity,
    pub(super) sources: Vec<SourceConfig>,
    pub(super) spool: PathBuf,
    pub(super) apart: Vec<PathBuf>,
    pub(super) workers: usize,
    pub(super) progress: Arc<Progress>,
}

/// Why it goes no further.
enum Halt {
    /// Nothing was changed.
    Refused(RestoreRefusal),
    /// Some of it is done.
    Failed(RestoreRefusal),
}

impl Job {
    /// Carries it out.
    pub(super) async fn run(self) -> RestoreState {
        let begun = Instant::now();
        let spool = Spool::at(self.spool.join(format!("restore-{}", self.order.restore)));
        let mut outcome = RestoreOutcome::default();
        let done = self.carry(&spool, &mut outcome).await;
        outcome.took_millis = u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX);
        match done {
            Err(Halt::Refused(refusal)) => return RestoreState::Refused(refusal),
            Err(Halt::Failed(failure)) => outcome.failure = Some(failure),
            Ok(()) => {}
        }
        RestoreState::Ended(outcome)
    }

    async fn carry(self, spool: &Spool, outcome: &mut RestoreOutcome) -> Result<(), Halt> {
        let order = &self.order;
        let (round, listed) = slice_of(&*self.store, &self.log, &self.service, order.round, order.receipt)
            .await
            .map_err(Halt::Refused)?;
        let grant = self.grant().await.map_err(Halt::Refused)?;
        let keys = Keyring::Granted(Arc::new(grant.keys));
        let slice = Slice::open(&self.store, keys.clone(), &self.log, round, &listed).await;
        let slice = match slice {
            Ok(Ok(slice)) => Arc::new(slice),
            Ok(Err(damaged)) => {
                let first = damaged.into_iter().next().map(Trouble::Damaged);
                let refused = first.as_ref().map(unreadable);
                return Err(Halt::Refused(
                    refused.unwrap_or_else(|| refusal(None, "the slice is damaged", "")),
                ));
            }
            Err(error) => return Err(Halt::Refused(unreadable(&Trouble::Store(error)))),
        };
        if slice.sealed_context() != &grant.context {
            return Err(Halt::Refused(foreign("keyset")));
        }
        let path = order.path.as_ref().map(|path| path.to_vec());
        let selection = match Selection::take(Arc::clone(&slice), path).await {
            Ok(Some(selection)) => Arc::new(selection),
            Ok(None) => {
                let reason = "the slice has nothing at or below that path";
                return Err(Halt::Refused(refusal(None, reason, "muster ls shows what it has")));
            }
            Err(error) => return Err(Halt::Refused(words(&error))),
        };
        self.progress.expect(selection.bytes());
        note_damage(outcome, selection.damaged());
        match &order.target {
            RestoreTarget::Into { path } => self.elsewhere(&selection, path, outcome).await,
            RestoreTarget::InPlace => self.in_place(&selection, spool, outcome).await,
        }
    }

    /// The grant, opened and compared.
    async fn grant(&self) -> Result<Opened, RestoreRefusal> {
        let order = &self.order;
        if order.grant_size > MAX_GRANT_SEALED {
            let reason = format!("the grant has {} bytes, more than a grant may have", order.grant_size);
            return Err(refusal(None, &reason, "restore part of it by --path"));
        }
        let path = ObjectPath::Grant(order.grant);
        let bytes = read_object(&*self.store, &path, &order.grant, order.grant_size).await;
        let bytes = bytes.map_err(|trouble| unreadable(&trouble))?;
        let keys = std::slice::from_ref(&self.key);
        let (context, grant) = Grant::open(&bytes, None, Unlock::Identities(keys))
            .map_err(|error| refusal(Some(Code::Key03), &causes(&error), "run muster restore again"))?;
        for (same, what) in [
            (grant.fleet == self.fleet && context.fleet == self.fleet, "fleet"),
            (grant.service == self.service && context.service == self.service, "service"),
            (grant.round == order.round, "round"),
            (grant.restore == order.restore, "restore"),
            (grant.receipt == order.receipt, "receipt"),
        ] {
            if !same {
                return Err(foreign(what));
            }
        }
        Ok(Opened { context, keys: grant.keys })
    }

    async fn elsewhere(
        &self,
        selection: &Arc<Selection>,
        path: &[u8],
        outcome: &mut RestoreOutcome,
    ) -> Result<(), Halt> {
        let existing = existing(self.order.existing);
        let folder = plan::elsewhere(path, existing, &self.apart).map_err(Halt::Refused)?;
        let places = Roots::beneath(&folder)
            .and_then(|_| Roots::beneath(&folder.join(self.service.as_str())))
            .map_err(|error| Halt::Refused(refusal(None, &causes(&error), "may the agent write there?")))?;
        let all = selection.sources().map(|(number, _)| number).collect();
        let written = selection.write(all, places, existing, &self.progress, self.workers).await;
        let (report, damaged) = written.map_err(|error| Halt::Failed(words(&error)))?;
        note(outcome, &report, &damaged);
        Ok(())
    }

    async fn in_place(
        &self,
        selection: &Arc<Selection>,
        spool: &Spool,
        outcome: &mut RestoreOutcome,
    ) -> Result<(), Halt> {
        let existing = existing(self.order.existing);
        let pairs = selection.pairs().await.map_err(|error| Halt::Refused(words(&error)))?;
        let Plan { files, roots, dumps, kept } =
            plan::in_place(selection, &pairs, &self.sources, existing).map_err(Halt::Refused)?;
        outcome.kept += kept;
        let dumps = self.spool_dumps(selection, spool, dumps).await?;
        if !files.is_empty() {
            let (progress, places) = (&self.progress, Roots::Own(roots));
            let written = selection.write(files, places, existing, progress, self.workers).await;
            let (report, damaged) = written.map_err(|error| Halt::Failed(words(&error)))?;
            note(outcome, &report, &damaged);
        }
        for (source, dump, putter) in dumps {
            let len = fs::metadata(&dump).map_or(0, |meta| meta.len());
            let put = tokio::task::spawn_blocking(move || put(putter, &dump)).await;
            match put {
                Ok(Ok(())) => {
                    outcome.dumps += 1;
                    outcome.bytes += len;
                    tracing::info!(source, "restored");
                }
                Ok(Err(failure)) => return Err(Halt::Failed(failure)),
                Err(_) => return Err(Halt::Failed(fault())),
            }
        }
        Ok(())
    }

    /// Every dump whole in the spool and, for a database, checked: nothing of the service was touched until here.
    async fn spool_dumps(
        &self,
        selection: &Arc<Selection>,
        spool: &Spool,
        dumps: Vec<DumpPlan>,
    ) -> Result<Vec<(String, PathBuf, Putter)>, Halt> {
        if dumps.is_empty() {
            return Ok(Vec::new());
        }
        let unwritable = |why: &str| {
            Halt::Refused(refusal(Some(Code::Agent04), why, "make room in the agent's state folder"))
        };
        let places = Roots::beneath(&spool.0).map_err(|error| unwritable(&causes(&error)))?;
        let numbers = dumps.iter().map(|dump| dump.number).collect();
        let written = selection.write(numbers, places, Existing::Refuse, &self.progress, self.workers).await;
        let (report, damaged) = written.map_err(|error| match &error {
            RecoverError::Write(_) => unwritable(&causes(&error)),
            RecoverError::Target { .. }
            | RecoverError::MakeTarget { .. }
            | RecoverError::Inside { .. }
            | RecoverError::Resume { .. }
            | RecoverError::CutLinks { .. }
            | RecoverError::Round(_)
            | RecoverError::Path { .. }
            | RecoverError::Stopped => Halt::Refused(words(&error)),
        })?;
        if let Some(damage) = damaged.into_iter().next() {
            return Err(Halt::Refused(unreadable(&Trouble::Damaged(damage))));
        }
        if report.lost > 0 {
            let reason = "a dump needs what is damaged";
            return Err(Halt::Refused(refusal(Some(Code::Verify01), reason, "take another round")));
        }
        let mut ready = Vec::with_capacity(dumps.len());
        for DumpPlan { source, putter, .. } in dumps {
            let dump = only_file(&spool.0.join(&source)).ok_or_else(|| {
                let reason = format!("source {source} is not one dump in this round");
                Halt::Refused(refusal(None, &reason, "restore it into a folder with --into"))
            })?;
            if let Putter::Sqlite(database) = &putter {
                let (database, path) = (database.clone(), dump.clone());
                let checked = tokio::task::spawn_blocking(move || database.check_dump(&path)).await;
                checked.map_err(|_| Halt::Refused(fault()))?.map_err(|error| {
                    Halt::Refused(refusal(Some(Code::Verify01), &causes(&error), "take another round"))
                })?;
            }
            ready.push((source, dump, putter));
        }
        Ok(ready)
    }
}

struct Opened {
    context: muster_share::pack::PackContext,
    keys: std::collections::BTreeMap<muster_protocol::ids::ObjectId, muster_protocol::age::FileKey>,
}

fn put(putter: Putter, dump: &Path) -> Result<(), RestoreRefusal> {
    let failed = |why: String| refusal(Some(Code::Agent03), &why, "mend it, and restore again");
    match putter {
        Putter::Sqlite(database) => database.put_back(dump).map_err(|error| failed(causes(&error))),
        Putter::Command(command) => {
            let file = File::open(dump).map_err(|error| failed(format!("the dump is gone: {error}")))?;
            command.put_back(file).map_err(|error| failed(causes(&error)))
        }
    }
}

/// The one file in a folder.
fn only_file(folder: &Path) -> Option<PathBuf> {
    let mut files = fs::read_dir(folder).ok()?.flatten();
    let only = files.next()?;
    (files.next().is_none() && only.file_type().ok()?.is_file()).then(|| only.path())
}

fn existing(existing: RestoreExisting) -> Existing {
    match existing {
        RestoreExisting::Refuse => Existing::Refuse,
        RestoreExisting::Keep => Existing::Keep,
        RestoreExisting::Replace => Existing::Replace,
    }
}

fn foreign(what: &str) -> RestoreRefusal {
    let reason = format!("the grant is for another {what}");
    refusal(Some(Code::Key03), &reason, "run muster restore again")
}

fn fault() -> RestoreRefusal {
    refusal(None, "a fault of the program ended it", "the agent's log has the details")
}

fn words(error: &RecoverError) -> RestoreRefusal {
    match error {
        RecoverError::Round(RoundError::Damaged { damaged, .. }) if !damaged.is_empty() => {
            unreadable(&Trouble::Damaged(damaged[0].clone()))
        }
        RecoverError::Round(RoundError::Store(error)) => {
            refusal(error.alert(), &causes(error), "mend the agent's way to the share and try again")
        }
        RecoverError::Round(_)
        | RecoverError::Write(_)
        | RecoverError::Target { .. }
        | RecoverError::MakeTarget { .. }
        | RecoverError::Inside { .. }
        | RecoverError::Resume { .. }
        | RecoverError::CutLinks { .. }
        | RecoverError::Path { .. }
        | RecoverError::Stopped => refusal(None, &causes(error), "mend it, and restore again"),
    }
}

fn note_damage(outcome: &mut RestoreOutcome, damaged: &[Damage]) {
    outcome.damaged += damaged.len() as u64;
    for damage in damaged {
        say(outcome, || format!("damaged: {} {}", damage.object, damage.fault));
    }
}

fn note(outcome: &mut RestoreOutcome, report: &ServiceOutcome, damaged: &[Damage]) {
    outcome.files += report.files;
    outcome.others += report.others;
    outcome.bytes += report.bytes;
    outcome.kept += report.kept;
    outcome.blocked += report.blocked;
    outcome.gaps += report.gaps;
    outcome.lost += report.lost;
    outcome.owners_left += report.owners_left;
    outcome.warnings += report.warnings.len() as u64 + report.more_warnings;
    note_damage(outcome, damaged);
    for path in &report.first_lost {
        say(outcome, || format!("not restored: {}", path.escape_ascii()));
    }
    for (path, what) in report.first_gaps.iter().chain(&report.warnings) {
        say(outcome, || format!("{}: {what}", path.escape_ascii()));
    }
}

fn say(outcome: &mut RestoreOutcome, what: impl FnOnce() -> String) {
    if outcome.notes.len() < MAX_NOTES {
        outcome.notes.push(cut_note(&what()));
    }
}

/// A folder for dumps, gone when this is dropped.
struct Spool(PathBuf);

impl Spool {
    fn at(path: PathBuf) -> Self {
        Self(path)
    }
}

impl Drop for Spool {
    fn drop(&mut self) {
        // Mostly it was never made; what cannot be removed stays beneath the state folder, which is the agent's own.
        drop(fs::remove_dir_all(&self.0));
    }
}
