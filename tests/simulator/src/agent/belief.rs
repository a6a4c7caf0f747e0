//! What an agent believes of the documents on the bus, by the rules of `agent/src/daemon/belief.rs`: a document counts
//! only if the log on the share says that its signer holds the current epoch, so each waits until the log was read after
//! it came.

use muster_protocol::ids::{KeyId, Nonce, RoundId, ServiceName};
use muster_protocol::log::{RoundPhase, State};
use muster_protocol::message::{CutOrder, OpenRound};

use crate::happening::{Content, Paper};

/// Most documents that wait for the log; the oldest goes first.
const MAX_WAITING: usize = 8;

/// A slice that the leader wants.
#[derive(Debug, Clone)]
pub(crate) struct Order {
    pub(crate) epoch: u64,
    pub(crate) round: RoundId,
    pub(crate) attempt: u32,
    pub(crate) turn: u32,
    pub(crate) cut: Option<CutOrder>,
    pub(crate) leader: KeyId,
    pub(crate) nonce: Nonce,
}

/// What the documents ask for.
#[derive(Debug)]
pub(crate) enum Wish {
    /// Nobody leads that could ask; go on as before.
    Unknown,
    Nothing,
    Slice(Order),
}

/// The documents of one agent.
#[derive(Debug, Default)]
pub(crate) struct Beliefs {
    waiting: Vec<Paper>,
    reading: Vec<Paper>,
    state: Option<Paper>,
    retry: Option<Paper>,
}

impl Beliefs {
    /// Takes a document in; true when the log must be read before it can be judged.
    pub(crate) fn arrive(&mut self, paper: Paper, log: &State) -> bool {
        if !self.may_count(&paper, log)
            || self.current(&paper) == Some(&paper)
            || self.waiting.contains(&paper)
        {
            return false;
        }
        if self.waiting.len() >= MAX_WAITING {
            self.waiting.remove(0);
        }
        self.waiting.push(paper);
        true
    }

    pub(crate) fn wants_reading(&self) -> bool {
        !self.waiting.is_empty()
    }

    pub(crate) fn begin_reading(&mut self) {
        self.reading.append(&mut self.waiting);
    }

    pub(crate) fn reading_failed(&mut self) {
        self.reading.append(&mut self.waiting);
        let excess = self.reading.len().saturating_sub(MAX_WAITING);
        self.waiting = self.reading.split_off(excess);
        self.reading.clear();
    }

    /// Judges what came before the reading began; whether the log lags behind one of them.
    pub(crate) fn judge(&mut self, log: &State) -> bool {
        let mut behind = false;
        for paper in std::mem::take(&mut self.reading) {
            if !self.may_count(&paper, log) {
                continue;
            }
            match log.epoch {
                Some(current) if current.epoch == paper.age().0 => {
                    if current.holder == paper.signer {
                        match paper.content.as_ref() {
                            Content::Fleet(_) => self.state = Some(paper),
                            Content::Service(_) => self.retry = Some(paper),
                        }
                    }
                }
                Some(_) | None => behind = true,
            }
        }
        behind
    }

    pub(crate) fn wish(&self, log: &State, service: &ServiceName) -> Wish {
        let (Some(paper), Some(epoch)) = (&self.state, log.epoch) else { return Wish::Unknown };
        let Content::Fleet(document) = paper.content.as_ref() else { return Wish::Unknown };
        if (epoch.epoch, epoch.holder) != (document.epoch, paper.signer) {
            return Wish::Unknown;
        }
        let leader = (document.epoch, paper.signer);
        match document.rounds.iter().find_map(|open| self.order(log, leader, open, service)) {
            Some(order) => Wish::Slice(order),
            None => Wish::Nothing,
        }
    }

    /// Whether the believed document names a round that the log does not hold yet.
    pub(crate) fn is_ahead(&self, log: &State) -> bool {
        match self.state.as_ref().map(|paper| paper.content.as_ref()) {
            Some(Content::Fleet(document)) => document.rounds.iter().any(|open| open.position >= log.next),
            Some(Content::Service(_)) | None => false,
        }
    }

    fn order(
        &self,
        log: &State,
        (epoch, leader): (u64, KeyId),
        open: &OpenRound,
        service: &ServiceName,
    ) -> Option<Order> {
        let round = log.rounds.get(&open.round)?;
        let wanted = round.position == open.position
            && round.phase == RoundPhase::Open
            && round.open.scope.contains(service);
        wanted.then(|| Order {
            epoch,
            round: open.round,
            attempt: self.attempt(epoch, leader, &open.round),
            turn: open.turn,
            cut: open.cut,
            leader,
            nonce: round.open.nonce,
        })
    }

    fn attempt(&self, epoch: u64, leader: KeyId, round: &RoundId) -> u32 {
        match self.retry.as_ref().map(|paper| (paper.signer, paper.content.as_ref())) {
            Some((signer, Content::Service(retry)))
                if (retry.epoch, signer, &retry.round) == (epoch, leader, round) =>
            {
                retry.attempt.max(1)
            }
            Some(_) | None => 1,
        }
    }

    /// What the log can only confirm: epochs grow, and so do revisions.
    fn may_count(&self, paper: &Paper, log: &State) -> bool {
        let current = log.epoch.map_or(0, |epoch| epoch.epoch);
        let newer = |known: &Paper| known == paper || paper.age() > known.age();
        log.is_coordinator(&paper.signer) && paper.age().0 >= current && self.current(paper).is_none_or(newer)
    }

    fn current(&self, paper: &Paper) -> Option<&Paper> {
        match paper.content.as_ref() {
            Content::Fleet(_) => self.state.as_ref(),
            Content::Service(_) => self.retry.as_ref(),
        }
    }
}
