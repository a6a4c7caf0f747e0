//! What an agent says unasked: that it is there, and how far its slice is. Both are lossy and hold nothing up.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use muster_bus::{Bus, Headers};
use muster_protocol::entropy::random;
use muster_protocol::ids::RoundId;
use muster_protocol::message::{Heartbeat, Progress, Stage};
use muster_protocol::subject::Subject;
use muster_protocol::time::UnixMillis;
use muster_share::entropy::OsEntropy;
use tokio::sync::watch;
use tokio::time::{MissedTickBehavior, interval, sleep, timeout};

use super::capturer::Gauged;
use super::identity::{Identity, VERSION};
use super::session::Current;

/// Longest wait for a connection to take a message that nobody waits for.
const SEND_LIMIT: Duration = Duration::from_secs(5);

/// The part of a pause after which a new leader is told.
const SOON: f64 = 0.05;

/// The round and attempt that the agent works for.
pub(crate) type Doing = Option<(RoundId, u32)>;

/// Says every now and then that the agent is there, and soon after there is another `leader`; never ends.
pub(crate) async fn heartbeats(
    identity: Arc<Identity>,
    bus: Arc<dyn Bus>,
    every: Duration,
    doing: watch::Receiver<Doing>,
    mut leader: watch::Receiver<Option<u64>>,
) {
    let subject = identity.subject(Subject::Heartbeat);
    let mut sequence = 0;
    loop {
        sequence += 1;
        leader.mark_unchanged();
        let round = doing.borrow().map(|(round, _)| round);
        let beat = Heartbeat { round, ..beat(&identity, sequence) };
        send(&*bus, &subject, identity.signer.seal(&identity.fleet, &beat)).await;
        let pause = jittered(every);
        tokio::select! {
            () = sleep(pause) => {}
            // Soon, but not all agents of a fleet at once.
            Ok(()) = leader.changed() => sleep(jittered(every).mul_f64(SOON)).await,
        }
    }
}

/// Says that the agent stops, so that nobody counts on it until it has been silent for long.
pub(crate) async fn farewell(identity: &Identity, bus: &dyn Bus) {
    // Nothing of this process comes behind it.
    let beat = Heartbeat { leaving: true, ..beat(identity, u64::MAX) };
    send(bus, &identity.subject(Subject::Heartbeat), identity.signer.seal(&identity.fleet, &beat)).await;
}

fn beat(identity: &Identity, sequence: u64) -> Heartbeat {
    Heartbeat {
        service: identity.service.clone(),
        instance: identity.instance,
        sequence,
        version: VERSION.to_owned(),
        round: None,
        at: Some(unix_now()),
        leaving: false,
    }
}

/// The time on this machine's clock.
fn unix_now() -> UnixMillis {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    UnixMillis(i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
}

/// What is told of a service that is held and not captured yet.
pub(crate) const HOLDING: Gauged =
    Gauged { stage: Stage::Holding, done_bytes: 0, expected_bytes: None, added_bytes: 0 };

/// Tells how far a slice is, as `gauge` says; never ends.
pub(crate) async fn progress(
    identity: Arc<Identity>,
    bus: Arc<dyn Bus>,
    every: Duration,
    gauge: impl Fn() -> Gauged,
    doing: watch::Receiver<Doing>,
    session: Current,
) {
    let subject = identity.subject(Subject::Progress);
    let mut ticks = interval(every);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let Some((round, attempt)) = *doing.borrow() else { continue };
        let gauged = gauge();
        let message = Progress {
            service: identity.service.clone(),
            round,
            attempt,
            stage: gauged.stage,
            done_bytes: gauged.done_bytes,
            expected_bytes: gauged.expected_bytes,
            added_bytes: gauged.added_bytes,
        };
        let sealed = session.tell(round, &message);
        let payload = sealed.unwrap_or_else(|| identity.signer.seal(&identity.fleet, &message));
        send(&*bus, &subject, payload).await;
    }
}

async fn send(bus: &dyn Bus, subject: &str, payload: Vec<u8>) {
    match timeout(SEND_LIMIT, bus.publish(subject, Headers::new(), payload.into())).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::debug!(subject, error = error.to_string(), "message was not sent"),
        Err(_) => tracing::debug!(subject, "the connection took no message in time"),
    }
}

/// `every`, give or take a fifth of it.
fn jittered(every: Duration) -> Duration {
    let draw = f64::from(u32::from_be_bytes(random(&mut OsEntropy))) / f64::from(u32::MAX);
    every.mul_f64(0.8 + 0.4 * draw)
}

#[cfg(test)]
mod tests {
    use super::jittered;
    use std::time::Duration;

    #[test]
    fn jitter_stays_within_a_fifth_and_spreads() {
        let draws: Vec<_> = (0..200).map(|_| jittered(Duration::from_secs(10))).collect();
        assert!(draws.iter().all(|d| (8_000..=12_000).contains(&d.as_millis())));
        let (least, most) = (draws.iter().min().expect("some"), draws.iter().max().expect("some"));
        assert!(*most - *least > Duration::from_secs(2), "{least:?} to {most:?}");
    }
}
