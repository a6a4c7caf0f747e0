//! The roll: which agents were heard of, when, and how far they say they are. In memory only, and lossy by nature.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use muster_protocol::ids::{Nonce, RoundId, ServiceName};
use muster_protocol::message::{Heartbeat, Progress, cut_version};

use crate::pace::Pace;

/// What is known of one agent.
#[derive(Debug, Clone)]
pub(crate) struct Entry {
    pub(crate) seen: Instant,
    /// It said that it stops, and nothing since.
    pub(crate) left: bool,
    pub(crate) version: Option<String>,
    /// What it last said that it works for; it does not say when it is done.
    pub(crate) round: Option<RoundId>,
    pub(crate) progress: Option<Progress>,
    pub(crate) pace: Pace,
    /// The agent's process, and its last heartbeat's number: an older one is a replay.
    beat: Option<(Nonce, u64)>,
}

impl Entry {
    /// Whether it was heard of within `limit`, and has not said since that it stops.
    pub(crate) fn is_there(&self, limit: Duration) -> bool {
        !self.left && self.seen.elapsed() <= limit
    }
}

/// All agents that were heard of.
#[derive(Debug, Default)]
pub(crate) struct Roll {
    agents: BTreeMap<ServiceName, Entry>,
    /// When an agent last spoke another version of the protocol.
    foreign: BTreeMap<ServiceName, Instant>,
}

impl Roll {
    /// Takes a heartbeat in; false if it is a replay.
    pub(crate) fn heartbeat(&mut self, beat: Heartbeat, now: Instant) -> bool {
        let entry = self.entry(&beat.service, now);
        if entry.beat.is_some_and(|(instance, last)| instance == beat.instance && beat.sequence <= last) {
            return false;
        }
        entry.beat = Some((beat.instance, beat.sequence));
        entry.seen = now;
        entry.left = beat.leaving;
        entry.version = Some(cut_version(&beat.version));
        entry.round = beat.round;
        true
    }

    /// Takes progress in.
    pub(crate) fn progress(&mut self, progress: Progress, now: Instant) {
        let entry = self.entry(&progress.service, now);
        (entry.seen, entry.left) = (now, false);
        entry.pace.observe(progress.round, progress.done_bytes, now);
        entry.round = Some(progress.round);
        entry.progress = Some(progress);
    }

    /// The service's agent answers a round.
    pub(crate) fn works_for(&mut self, service: &ServiceName, round: RoundId) {
        self.entry(service, Instant::now()).round = Some(round);
    }

    /// The service's agent said something else.
    pub(crate) fn seen(&mut self, service: &ServiceName, now: Instant) {
        let entry = self.entry(service, now);
        (entry.seen, entry.left) = (now, false);
    }

    /// The service's agent said something in another version of the protocol: it is there, and not heard.
    pub(crate) fn foreign(&mut self, service: &ServiceName, now: Instant) {
        self.foreign.insert(service.clone(), now);
    }

    /// What is known of a service's agent.
    pub(crate) fn agent(&self, service: &ServiceName) -> Option<&Entry> {
        self.agents.get(service)
    }

    /// Whether the service's agent was heard of since it last spoke another version of the protocol, which it has not for
    /// `limit`.
    pub(crate) fn speaks(&self, service: &ServiceName, limit: Duration) -> bool {
        let Some(entry) = self.agents.get(service) else { return false };
        self.foreign.get(service).is_none_or(|foreign| entry.seen > *foreign && foreign.elapsed() > limit)
    }

    /// How many were heard of within `limit`.
    pub(crate) fn online(&self, limit: Duration) -> usize {
        self.agents.values().filter(|entry| entry.is_there(limit)).count()
    }

    fn entry(&mut self, service: &ServiceName, now: Instant) -> &mut Entry {
        self.agents.entry(service.clone()).or_insert_with(|| Entry {
            seen: now,
            left: false,
            version: None,
            round: None,
            progress: None,
            pace: Pace::default(),
            beat: None,
        })
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use muster_protocol::ids::{Nonce, ServiceName};
    use muster_protocol::message::Heartbeat;

    use super::Roll;

    #[test]
    fn an_agent_that_said_goodbye_is_not_there_until_it_is_heard_again() {
        let (mut roll, now, limit) = (Roll::default(), Instant::now(), Duration::from_secs(60));
        let service: ServiceName = "dns".parse().expect("a name");
        let beat = |sequence, leaving| Heartbeat {
            service: service.clone(),
            instance: Nonce::from_bytes([1; 16]),
            sequence,
            version: "1".to_owned(),
            round: None,
            at: None,
            leaving,
        };
        assert!(roll.heartbeat(beat(1, false), now));
        assert_eq!(roll.online(limit), 1);
        assert!(roll.heartbeat(beat(u64::MAX, true), now));
        assert_eq!(roll.online(limit), 0);
        assert!(!roll.heartbeat(beat(2, false), now), "an older one is a replay");
        assert_eq!(roll.online(limit), 0);
        roll.seen(&service, now);
        assert_eq!(roll.online(limit), 1);
    }
}
