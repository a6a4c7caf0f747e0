//! The alerts of a fleet, kept by whoever leads it: the book behind a lock, on the disk of this coordinator.
//!
//! What rounds tell is read off the log (`follow`, [`from_share`]), so that a coordinator without a disk has it back from
//! the share. What was only seen, and who acknowledged what, is in the file, and lost with it.

mod file;
mod follow;
#[cfg(test)]
mod tests;

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use muster_protocol::alert::{About, AlertRef, Book, Change, Code, Finding, NotOpen, Part};
use muster_protocol::ids::{FleetId, MemberName};
use muster_protocol::log::State;
use muster_protocol::notify::{self, Unready};
use muster_protocol::time::UnixMillis;
use tokio::sync::{Notify, watch};

use crate::scribe::unix_now;
use file::Kept;

pub(crate) use file::{put_aside, write_whole};
pub use follow::from_share;
pub(crate) use follow::{follow, terms};

/// Longest time that a change waits for the disk, and the shortest between two writes.
const SETTLE: Duration = Duration::from_millis(200);

pub(crate) const SHARE: About = About::Part(Part::Share);

/// The file in a coordinator's state folder.
pub const ALERTS_FILE: &str = "alerts.json";

/// The way to the alerts.
#[derive(Debug, Clone)]
pub(crate) struct Alerts {
    kept: Arc<Mutex<Kept>>,
    changed: Arc<Notify>,
    /// Counts the changes, for whoever tells others of them.
    version: watch::Sender<u64>,
    unsaved: Arc<AtomicBool>,
    file: Arc<PathBuf>,
}

impl Alerts {
    /// Those of this fleet, as the file has them. A file that cannot be read is put aside: alerts must never keep a
    /// coordinator from leading.
    pub(crate) fn open(file: PathBuf, fleet: FleetId) -> Self {
        let kept = file::read(&file, fleet);
        Self {
            kept: Arc::new(Mutex::new(kept)),
            changed: Arc::default(),
            version: watch::Sender::new(0),
            unsaved: Arc::default(),
            file: Arc::new(file),
        }
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Something is wrong.
    pub(crate) fn raise(&self, finding: Finding) {
        let (code, subject, cause) = (finding.code, finding.about.to_string(), finding.cause.clone());
        let change = self.kept().book.raise(finding, unix_now());
        if change == Change::Opened {
            tracing::warn!(%code, subject, cause, "alert: {}", code.title());
        }
        self.note(change);
    }

    /// What was seen is mended.
    pub(crate) fn mended(&self, code: Code, about: &About) {
        let change = self.kept().book.mended(code, about, unix_now());
        if change == Change::Closed {
            tracing::info!(%code, subject = %about, "alert closed");
        }
        self.note(change);
    }

    /// An agent was heard of after the round of this number had told that it does not answer.
    pub(crate) fn heard(&self, about: &About, number: u64) {
        let change = self.kept().book.heard(about, number, unix_now());
        if change == Change::Closed {
            tracing::info!(code = %Code::Agent01, subject = %about, "alert closed");
        }
        self.note(change);
    }

    /// The share did not do what it was asked for.
    pub(crate) fn share_failed(&self, code: Option<Code>, cause: String) {
        if let Some(code) = code {
            self.raise(Finding::seen(code, SHARE, cause));
        }
    }

    /// The share gave an answer.
    pub(crate) fn share_answers(&self) {
        for code in [Code::Share01, Code::Share02, Code::Share03, Code::Share07] {
            self.mended(code, &SHARE);
        }
    }

    /// The share took a record of the log.
    pub(crate) fn share_took(&self) {
        self.share_answers();
        self.mended(Code::Share04, &SHARE);
        self.mended(Code::Share05, &SHARE);
    }

    /// Somebody knows of it.
    ///
    /// # Errors
    /// When that opening is not open.
    pub(crate) fn acknowledge(&self, reference: AlertRef, by: MemberName) -> Result<String, NotOpen> {
        let mut kept = self.kept();
        let alert = kept.book.acknowledge(reference, by, unix_now())?;
        let how = if alert.closed.is_some() { "acknowledged and closed" } else { "acknowledged" };
        let said = format!("{} of {}: {how}", alert.code, alert.about);
        drop(kept);
        self.touched();
        Ok(said)
    }

    /// Looks something up in the book.
    pub(crate) fn read<T>(&self, look: impl FnOnce(&Book) -> T) -> T {
        look(&self.kept().book)
    }

    /// Judges something that the book is to say; what `judge` returns says whether it changed anything.
    pub(crate) fn judge(&self, judge: impl FnOnce(&mut Book, UnixMillis) -> bool) {
        self.change(|kept, now| judge(&mut kept.book, now));
    }

    /// Changes book and rounds together; what `change` returns says whether there was anything to change.
    fn change(&self, change: impl FnOnce(&mut Kept, UnixMillis) -> bool) {
        let changed = change(&mut self.kept(), unix_now());
        if changed {
            self.touched();
        }
    }

    fn touched(&self) {
        self.unsaved.store(true, Ordering::Release);
        self.version.send_modify(|version| *version = version.wrapping_add(1));
        self.changed.notify_one();
    }

    /// Changes whenever anything in the book does.
    pub(crate) fn changes(&self) -> watch::Receiver<u64> {
        self.version.subscribe()
    }

    /// The newest verified round, if the fleet could be recovered as it promises.
    pub(crate) fn ready(&self, state: &State) -> Result<u64, Unready> {
        let (roster, promised) = follow::terms(state);
        let kept = self.kept();
        let failed = state.failed_drill().map(|drilled| drilled.number);
        notify::ready(&kept.rounds, &kept.book, &roster, promised, failed, unix_now())
    }

    fn note(&self, change: Change) {
        match change {
            Change::Opened | Change::Changed | Change::Closed => self.touched(),
            Change::Nothing => {}
        }
    }

    /// Keeps the file up to date until it is dropped.
    pub(crate) fn keeper(&self) -> Keeper {
        Keeper { task: tokio::spawn(self.clone().keep()), alerts: self.clone() }
    }

    async fn keep(self) {
        loop {
            self.changed.notified().await;
            tokio::time::sleep(SETTLE).await;
            let alerts = self.clone();
            // A panic in there has printed itself; the next change writes again.
            let _ = tokio::task::spawn_blocking(move || alerts.save()).await;
        }
    }

    /// Writes the file, if it is behind.
    fn save(&self) {
        if !self.unsaved.swap(false, Ordering::AcqRel) {
            return;
        }
        let bytes = file::print(&self.kept());
        if let Err(error) = write_whole(&self.file, &bytes) {
            self.unsaved.store(true, Ordering::Release);
            tracing::warn!(file = %self.file.display(), %error, "AGENT-04: the alerts were not kept on disk");
        }
    }
}

/// The task that keeps the file; the last state is written when it is dropped.
pub(crate) struct Keeper {
    task: tokio::task::JoinHandle<()>,
    alerts: Alerts,
}

impl Drop for Keeper {
    fn drop(&mut self) {
        self.task.abort();
        self.alerts.save();
    }
}
