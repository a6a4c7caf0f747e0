//! The dead-man switch: somebody outside is pinged as long as the fleet could be recovered as it promises, and misses the ping when
//! backups stop, the coordinators die, or the network does.

use std::sync::Arc;
use std::time::{Duration, Instant};

use muster_protocol::log::State;
use muster_protocol::notify::Notification;
use tokio::sync::watch;

use super::Office;
use super::channel::Channel;
use super::courier::attempt_once;
use crate::scribe::unix_now;

/// How often the fleet is judged.
const LOOK: Duration = Duration::from_secs(1);

/// Pings until the lead is over: at every newly verified round, and in between every so often.
pub(super) async fn work(office: Arc<Office>, channel: Arc<Channel>, log: watch::Receiver<Arc<State>>) {
    let mut last: Option<(u64, Instant)> = None;
    loop {
        let state = log.borrow().clone();
        match office.alerts.ready(&state) {
            Ok(round) => {
                office.health.with(channel.name(), |health| health.withheld = None);
                let due = last.is_none_or(|(of, at)| of != round || at.elapsed() >= channel.every);
                if due && office.standing.sure().await {
                    let request = format!("round {round}");
                    let (fleet, name) = (office.fleet.clone(), channel.name().clone());
                    let ping = Notification::test(fleet, name, &request, unix_now());
                    match attempt_once(&office, &channel, &ping).await {
                        Ok(()) => last = Some((round, Instant::now())),
                        Err(wait) => tokio::time::sleep(wait.pause).await,
                    }
                }
            }
            Err(why) => {
                let before =
                    office.health.with(channel.name(), |health| health.withheld.replace(why.to_string()));
                if before.is_none() {
                    tracing::warn!(channel = %channel.name(), %why, "no ping: the fleet is not ready for a recovery");
                }
                last = None;
            }
        }
        tokio::time::sleep(LOOK).await;
        if !office.standing.sure().await {
            return;
        }
    }
}
