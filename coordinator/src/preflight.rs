//! Before each round: the share is used as the round will use it, and what is found becomes alerts, or closes them.
//!
//! Nothing is refused here. A share that is away may be back by the next try, one that is nearly full may have room for this
//! round, and what cannot be written, the round itself will tell.

use std::sync::Arc;
use std::time::Duration;

use muster_protocol::alert::{Code, Finding};
use muster_protocol::log::State;
use muster_share::layout::ObjectPath;
use muster_share::probe::{self, Report, Terms, Verdict};
use muster_share::store::{Store, StoreError};

use crate::alerts::{Alerts, SHARE};
use crate::room::Room;

/// No round waits longer for it. What takes longer is told of by the round's own calls.
const LIMIT: Duration = Duration::from_secs(10);

/// Tests what the share promises; whether it has room is looked at beside the round, because that reads past manifests.
pub(crate) async fn run(store: &Arc<dyn Store>, state: &Arc<State>, room: &Room, alerts: &Alerts) {
    // The folder of a mount that is gone is there, and empty: the record that follows is refused, and nothing may be left there.
    if let Err(StoreError::NotFound { .. }) = store.head(&ObjectPath::Format).await {
        return;
    }
    let terms = Terms { sample: 0, coordinators: state.coordinators(), forecast: None };
    match tokio::time::timeout(LIMIT, probe::probe(store, &terms)).await {
        Ok(report) => tell(&report, &[Code::Share08, Code::Agent06], alerts),
        Err(_) => {
            tracing::warn!("the test of the share took more than {LIMIT:?}; the round goes on without it");
        }
    }
    let (store, state, room, alerts) = (Arc::clone(store), Arc::clone(state), room.clone(), alerts.clone());
    tokio::spawn(async move { room.look(store.as_ref(), &state, &alerts).await });
}

/// Raises what was found, and closes those of `judged` that were looked at and not found.
fn tell(report: &Report, judged: &[Code], alerts: &Alerts) {
    let is_told = |finding: &&probe::Finding| match finding.verdict {
        Verdict::Bad => true,
        // A share that creates without exclusion is good enough for one coordinator.
        Verdict::Warning => finding.code != Some(Code::Share08),
        Verdict::Good => false,
    };
    let told: Vec<_> = report.findings.iter().filter(is_told).collect();
    for finding in &told {
        if let Some(code) = finding.code {
            alerts.raise(Finding::seen(code, SHARE, finding.said.clone()));
        }
    }
    // Where one test fails, others were not made.
    if report.verdict() != Verdict::Bad {
        let is_over = |code: &&Code| told.iter().all(|finding| finding.code != Some(**code));
        judged.iter().filter(is_over).for_each(|code| alerts.mended(*code, &SHARE));
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, Ordering};

    use muster_protocol::alert::Code;
    use muster_protocol::config::ShareConfig;
    use muster_protocol::log::{Change, Member, Role};
    use muster_share::store::Store;
    use muster_share::store::faults::{Fault, Faulty, Op};

    use super::run;
    use crate::alerts::Alerts;
    use crate::fixture::{change, led, signer};
    use crate::room::Room;

    fn open(alerts: &Alerts) -> Vec<Code> {
        alerts.read(|book| book.open().map(|alert| alert.code).collect())
    }

    #[tokio::test]
    async fn nothing_is_left_in_an_empty_mount_point() {
        let (folder, _, log) = led().await;
        let alerts = Alerts::open(folder.path().join("alerts"), log.state().fleet);
        let state = Arc::new(log.state().clone());
        let room = Room::open(folder.path().join("room"), state.fleet);
        let empty = tempfile::tempdir().expect("a folder");
        let share = ShareConfig::at(empty.path().display().to_string());
        let store = muster_share::store::open(&share).await.expect("a folder");
        run(&store, &state, &room, &alerts).await;
        assert_eq!(std::fs::read_dir(empty.path()).expect("a folder").count(), 0);
    }

    #[tokio::test]
    async fn what_the_share_does_wrong_is_told_until_it_is_mended() {
        let (folder, store, mut log) = led().await;
        let alerts = Alerts::open(folder.path().join("alerts"), log.state().fleet);
        let key = signer(9).key_id();
        let member = Member { key, name: "two".parse().expect("a name"), role: Role::Coordinator };
        change(&mut log, vec![Change::Admit(member)]).await;
        let state = Arc::new(log.state().clone());
        let room = Room::open(folder.path().join("room"), state.fleet);
        let lies = Arc::new(AtomicBool::new(true));
        let share: Arc<dyn Store> = Arc::new(Faulty::new(Arc::clone(&store), {
            let lies = Arc::clone(&lies);
            move |call| match call.op == Op::Put && call.nth > 0 && lies.load(Ordering::Relaxed) {
                true => Fault::Forget,
                false => Fault::None,
            }
        }));
        run(&share, &state, &room, &alerts).await;
        assert_eq!(open(&alerts), [Code::Share08]);
        lies.store(false, Ordering::Relaxed);
        run(&share, &state, &room, &alerts).await;
        assert_eq!(open(&alerts), []);
        let full: Arc<dyn Store> =
            Arc::new(Faulty::new(store, |call| if call.op == Op::Put { Fault::Full } else { Fault::None }));
        run(&full, &state, &room, &alerts).await;
        assert_eq!(open(&alerts), [Code::Share05]);
    }
}
