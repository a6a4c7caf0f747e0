//! What closes without a round.

use std::sync::Arc;
use std::time::Duration;

use muster_protocol::alert::{About, Code, Finding, Part};
use muster_protocol::time::UnixMillis;
use tempfile::TempDir;
use tokio::sync::watch;

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
