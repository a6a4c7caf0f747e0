//! What closes without a round.

use std::sync::Arc;
use std::time::Duration;

use muster_protocol::alert::{About, Code, Finding, Part};
use muster_protocol::time::UnixMillis;
use muster_share::store::faults::{Fault, Faulty};
use tempfile::TempDir;
use tokio::sync::watch;

use super::follow::probe;
use super::{ALERTS_FILE, Alerts, SHARE, follow};
use crate::fixture::led;

const LIMIT: Duration = Duration::from_secs(30);

fn open(alerts: &Alerts) -> Vec<Code> {
    alerts.read(|book| book.open().map(|alert| alert.code).collect())
}

#[tokio::test]
async fn an_event_that_has_been_quiet_for_long_enough_is_over_without_anybodys_doing() {
    let state = TempDir::new().expect("a folder");
    let (_folder, store, log) = led().await;
    let alerts = Alerts::open(state.path().join(ALERTS_FILE), log.state().fleet);
    let event = Finding::seen(Code::Coord01, About::Part(Part::Coordinator), "key 1 led before");
    alerts.change(|kept, _| {
        kept.book.raise(event, UnixMillis(0));
        true
    });
    alerts.raise(Finding::seen(Code::Share04, SHARE, "this one is no event"));
    let (_writer, changes) = watch::channel(Arc::new(log.state().clone()));
    let following = tokio::spawn(follow(alerts.clone(), store, changes));
    let closed = async {
        while open(&alerts).contains(&Code::Coord01) {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(LIMIT, closed).await.expect("it closes");
    assert!(open(&alerts).contains(&Code::Share04));
    following.abort();
}

#[tokio::test]
async fn what_the_share_does_not_do_is_told_until_it_answers() {
    let state = TempDir::new().expect("a folder");
    let (folder, store, log) = led().await;
    let alerts = Alerts::open(state.path().join(ALERTS_FILE), log.state().fleet);
    for (fault, code) in [
        (Fault::Unreachable, Code::Share01),
        (Fault::Refused, Code::Share03),
        (Fault::LostReply, Code::Share07),
    ] {
        let failing = Faulty::new(Arc::clone(&store), move |_| fault.clone());
        probe(&alerts, &failing).await;
        assert_eq!(open(&alerts), [code]);
        probe(&alerts, store.as_ref()).await;
        assert_eq!(open(&alerts), []);
    }
    // A folder that is not the share's.
    let (here, away) = (folder.path().join("FORMAT"), folder.path().join("elsewhere"));
    std::fs::rename(&here, &away).expect("moved");
    probe(&alerts, store.as_ref()).await;
    assert_eq!(open(&alerts), [Code::Share02]);
    std::fs::rename(&away, &here).expect("moved back");
    probe(&alerts, store.as_ref()).await;
    assert_eq!(open(&alerts), []);
}
