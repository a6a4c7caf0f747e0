//! Room on the share: the leader looks every hour, keeps what it saw in its state folder, and tells in time (SHARE-06).
//!
//! The file is JSON, replaced whole; without it the forecast begins anew, by what the rounds added:
//!
//! ```text
//! {"version": 1, "fleet": "<hexadecimal>", "looks": [{"at": milliseconds, "free": bytes}, …]}
//! ```

use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use muster_protocol::alert::judge_room;
use muster_protocol::causes::causes;
use muster_protocol::ids::FleetId;
use muster_protocol::log::State;
use muster_protocol::room::{Looks, Outlook};
use muster_protocol::settings::{self, SHARE_DAYS};
use muster_share::probe::forecast;
use muster_share::store::Store;
use serde::{Deserialize, Serialize};
use tokio::sync::watch;

use crate::alerts::{Alerts, write_whole};
use crate::scribe::unix_now;

/// The file in a coordinator's state folder.
pub(crate) const ROOM_FILE: &str = "room.json";
/// The version that is written, and the only one that is read.
const VERSION: u32 = 1;
/// How often it asks whether it is time to look.
const AGAIN: Duration = Duration::from_secs(60);

#[derive(Debug, Clone, Serialize, Deserialize)]
struct Kept {
    version: u32,
    fleet: FleetId,
    looks: Looks,
}

/// What is known of the room.
#[derive(Debug, Clone)]
pub(crate) struct Room {
    file: Arc<PathBuf>,
    known: Arc<Mutex<(Kept, Option<Outlook>)>>,
}

impl Room {
    /// As the file has it; nothing where there is none of this fleet.
    pub(crate) fn open(file: PathBuf, fleet: FleetId) -> Self {
        let read = std::fs::read(&file).ok().and_then(|bytes| serde_json::from_slice::<Kept>(&bytes).ok());
        let kept = read.filter(|kept| kept.version == VERSION && kept.fleet == fleet);
        let kept = kept.unwrap_or_else(|| Kept { version: VERSION, fleet, looks: Looks::default() });
        Self { file: Arc::new(file), known: Arc::new(Mutex::new((kept, None))) }
    }

    fn known(&self) -> MutexGuard<'_, (Kept, Option<Outlook>)> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How it stood at the last look; none before the first, and where the share does not tell.
    pub(crate) fn outlook(&self) -> Option<Outlook> {
        self.known().1
    }

    /// Looks, if an hour has passed since the last look or this process has not looked yet.
    pub(crate) async fn look_in_time(&self, store: &dyn Store, state: &State, alerts: &Alerts) {
        let is_due = {
            let known = self.known();
            known.1.is_none() || known.0.looks.is_due(unix_now())
        };
        if is_due {
            self.look(store, state, alerts).await;
        }
    }

    /// Looks at the free space, and tells what that means.
    pub(crate) async fn look(&self, store: &dyn Store, state: &State, alerts: &Alerts) {
        let free = match store.free_bytes().await {
            Ok(Some(free)) => free,
            // Nobody knows how much a bucket takes.
            Ok(None) => return,
            Err(error) => return alerts.share_failed(error.alert(), causes(&error)),
        };
        let rounds = match forecast(store, state).await {
            Ok(rounds) => rounds,
            Err(error) => return alerts.share_failed(error.alert(), causes(&error)),
        };
        let now = unix_now();
        let (outlook, kept) = {
            let mut known = self.known();
            let is_new = known.0.looks.take(now, free);
            let outlook = Outlook::of(
                free,
                &known.0.looks,
                rounds.map(|rounds| rounds.added_a_day),
                rounds.map(|rounds| rounds.need),
            );
            known.1 = Some(outlook);
            (outlook, is_new.then(|| known.0.clone()))
        };
        alerts.judge(|book, now| judge_room(book, &outlook, least_days(state), now));
        if let Some(kept) = kept {
            self.save(kept).await;
        }
    }

    async fn save(&self, kept: Kept) {
        let file = Arc::clone(&self.file);
        let bytes = serde_json::to_vec(&kept).expect("looks are JSON");
        // A panic in there has printed itself; the next look writes again.
        if let Ok(Err(error)) = tokio::task::spawn_blocking(move || write_whole(&file, &bytes)).await {
            tracing::warn!(file = %self.file.display(), %error, "AGENT-04: the looks at the share were not kept");
        }
    }
}

/// Looks as long as the log has a writer.
pub(crate) async fn watch(
    room: Room,
    store: Arc<dyn Store>,
    mut log: watch::Receiver<Arc<State>>,
    alerts: Alerts,
) {
    loop {
        let state = log.borrow_and_update().clone();
        room.look_in_time(store.as_ref(), &state, &alerts).await;
        tokio::time::sleep(AGAIN).await;
        if log.has_changed().is_err() {
            return;
        }
    }
}

/// How many days before the share is full it is told.
fn least_days(state: &State) -> u64 {
    let set = state.config.as_ref().and_then(|config| config.clear.get(SHARE_DAYS)).map(String::as_str);
    set.or_else(|| settings::default_of(SHARE_DAYS)).and_then(|days| days.parse().ok()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use muster_protocol::alert::Code;
    use muster_protocol::room::Basis;
    use muster_share::store::Store;
    use muster_share::store::faults::{Fault, Faulty, Op};
    use tempfile::TempDir;

    use super::{ROOM_FILE, Room};
    use crate::alerts::{ALERTS_FILE, Alerts};
    use crate::fixture::led;

    #[tokio::test]
    async fn what_was_seen_is_kept_and_read_again() {
        let folder = TempDir::new().expect("a folder");
        let (_share, store, log) = led().await;
        let fleet = log.state().fleet;
        let alerts = Alerts::open(folder.path().join(ALERTS_FILE), fleet);
        let file = folder.path().join(ROOM_FILE);
        let room = Room::open(file.clone(), fleet);
        assert_eq!(room.outlook(), None);
        room.look_in_time(store.as_ref(), log.state(), &alerts).await;
        let outlook = room.outlook().expect("a folder tells");
        assert_eq!((outlook.basis, outlook.days_left), (Basis::Nothing, None));
        let kept = std::fs::read(&file).expect("kept");
        // Within the hour nothing is kept anew, and another process begins with what there is.
        let again = Room::open(file.clone(), fleet);
        again.look_in_time(store.as_ref(), log.state(), &alerts).await;
        assert!(again.outlook().is_some());
        assert_eq!(std::fs::read(&file).expect("kept"), kept);
        std::fs::write(&file, b"{").expect("written");
        assert_eq!(Room::open(file, fleet).outlook(), None);
    }

    #[tokio::test]
    async fn a_share_that_does_not_answer_is_told_as_what_it_is() {
        let folder = TempDir::new().expect("a folder");
        let (_share, store, log) = led().await;
        let alerts = Alerts::open(folder.path().join(ALERTS_FILE), log.state().fleet);
        let room = Room::open(folder.path().join(ROOM_FILE), log.state().fleet);
        let away: Arc<dyn Store> = Arc::new(Faulty::new(store, |call| {
            if call.op == Op::FreeBytes { Fault::Unreachable } else { Fault::None }
        }));
        room.look_in_time(away.as_ref(), log.state(), &alerts).await;
        assert_eq!(room.outlook(), None);
        let open: Vec<Code> = alerts.read(|book| book.open().map(|alert| alert.code).collect());
        assert_eq!(open, [Code::Share01]);
    }
}
