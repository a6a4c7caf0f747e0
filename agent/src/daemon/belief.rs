//! What is believed of the documents on the bus, and what they ask of this service.
//!
//! Pure: documents and the state of the log in, a wish out. A document counts only if the log on the share says that its
//! signer holds the current epoch, so every new one waits here until the log was read after it came. Must never believe
//! an epoch from the bus, and never let one document push another out before both are judged.

use bytes::Bytes;
use muster_protocol::envelope::{EnvelopeError, open_as};
use muster_protocol::ids::{FleetId, KeyId, Nonce, RoundId, ServiceName};
use muster_protocol::log::{MAX_OPEN_ROUNDS, RoundPhase, State};
use muster_protocol::message::{CutOrder, OpenRound, ServiceState, StateDocument};

/// Most documents that wait for the log; the oldest goes first.
const MAX_WAITING: usize = 8;

/// The two subjects that a document comes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Channel {
    /// `state`: for the whole fleet.
    Fleet,
    /// `state.<service>`: retries of this service.
    Service,
}

/// Why a document is passed over.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Ignored {
    /// No signed document.
    #[error("KEY-03: it is no signed document of this fleet")]
    Envelope(#[from] EnvelopeError),
    /// Signed by somebody who may not say this.
    #[error("KEY-03: key {} is no coordinator's", key.short())]
    Signer {
        /// Who.
        key: KeyId,
    },
    /// Signed by a coordinator that does not lead.
    #[error("KEY-03: key {} does not hold epoch {epoch}", key.short())]
    NotHolder {
        /// Who.
        key: KeyId,
        /// The epoch that it names.
        epoch: u64,
    },
    /// From a leader that was deposed.
    #[error("it is of epoch {epoch}, but the log is at {current}")]
    OldEpoch {
        /// Its epoch.
        epoch: u64,
        /// The log's.
        current: u64,
    },
    /// The log knows no such epoch yet.
    #[error("it is of epoch {epoch}, which the log does not hold yet")]
    Ahead {
        /// Its epoch.
        epoch: u64,
    },
    /// Older than what is believed already, or the same revision with another content.
    #[error("revision {revision} of epoch {epoch} is not newer than what is believed")]
    Revision {
        /// Its epoch.
        epoch: u64,
        /// Its revision.
        revision: u64,
    },
    /// More open rounds than there can be.
    #[error("it names {count} open rounds, more than {MAX_OPEN_ROUNDS}")]
    TooManyRounds {
        /// How many.
        count: usize,
    },
    /// For somebody else.
    #[error("it is for service {service}")]
    OtherService {
        /// For whom.
        service: ServiceName,
    },
    /// More documents than the log can be read for.
    #[error("more documents came than could be judged")]
    Flood,
}

/// What a document that arrived calls for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Arrival {
    /// Nothing: it was judged before.
    Known,
    /// The log must be read before it can be judged.
    New,
}

/// A slice that the leader wants, and all that is needed to talk to the leader about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Order {
    pub(crate) epoch: u64,
    pub(crate) round: RoundId,
    /// The attempt that is wanted at least.
    pub(crate) attempt: u32,
    /// Grows whenever further services may begin.
    pub(crate) turn: u32,
    /// What the cut asks for; none: there is no cut, or it is broken.
    pub(crate) cut: Option<CutOrder>,
    /// Who leads.
    pub(crate) leader: KeyId,
    /// The leader's ephemeral key for this round.
    pub(crate) leader_ephemeral: [u8; 32],
    /// The round's nonce; every attempt's follows from it.
    pub(crate) nonce: Nonce,
}

/// What the documents ask for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Wish {
    /// Nobody leads that could ask; go on as before.
    Unknown,
    /// This key is not the agent of the service.
    Outsider,
    /// No slice.
    Nothing,
    /// A slice.
    Slice(Order),
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Content {
    Fleet(StateDocument),
    Service(ServiceState),
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Paper {
    signer: KeyId,
    content: Content,
}

/// The documents of one agent.
#[derive(Debug)]
pub(crate) struct Beliefs {
    fleet: FleetId,
    service: ServiceName,
    key: KeyId,
    /// Came since the last reading of the log began.
    waiting: Vec<Paper>,
    /// Came before it began.
    reading: Vec<Paper>,
    state: Option<Paper>,
    retry: Option<Paper>,
    /// What was last seen on each channel, and how far the log was then.
    seen: [Option<(Bytes, u64)>; 2],
}

impl Beliefs {
    pub(crate) fn new(fleet: FleetId, service: ServiceName, key: KeyId) -> Self {
        Self {
            fleet,
            service,
            key,
            waiting: Vec::new(),
            reading: Vec::new(),
            state: None,
            retry: None,
            seen: [None, None],
        }
    }

    /// Takes a document in. `log` is what was read of the log so far.
    pub(crate) fn arrive(
        &mut self,
        channel: Channel,
        bytes: &Bytes,
        log: Option<&State>,
    ) -> Result<Arrival, Ignored> {
        let seen = (bytes.clone(), log.map_or(0, |log| log.next));
        let slot = &mut self.seen[match channel {
            Channel::Fleet => 0,
            Channel::Service => 1,
        }];
        if slot.as_ref() == Some(&seen) {
            return Ok(Arrival::Known);
        }
        *slot = Some(seen);
        let paper = self.parse(channel, bytes)?;
        if let Some(log) = log {
            // Spares the share a reading for what cannot count whatever the log has grown by.
            self.refuse_old(&paper, log)?;
        }
        if self.current(&paper).as_ref() == Some(&paper) || self.waiting.contains(&paper) {
            return Ok(Arrival::Known);
        }
        let flood = self.waiting.len() >= MAX_WAITING;
        if flood {
            self.waiting.remove(0);
        }
        self.waiting.push(paper);
        if flood { Err(Ignored::Flood) } else { Ok(Arrival::New) }
    }

    /// Whether the log must be read.
    pub(crate) fn wants_reading(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// A reading of the log begins: it will see whatever the documents so far depend on.
    pub(crate) fn begin_reading(&mut self) {
        self.reading.append(&mut self.waiting);
    }

    /// The reading failed: what depended on it waits for the next.
    pub(crate) fn reading_failed(&mut self) {
        self.reading.append(&mut self.waiting);
        let excess = self.reading.len().saturating_sub(MAX_WAITING);
        self.waiting = self.reading.split_off(excess);
        self.reading.clear();
    }

    /// Judges what came before the reading began; returns what is passed over.
    pub(crate) fn judge(&mut self, log: &State) -> Vec<Ignored> {
        let mut ignored = Vec::new();
        for paper in std::mem::take(&mut self.reading) {
            match self.believe(paper, log) {
                Ok(()) => {}
                Err(why) => ignored.push(why),
            }
        }
        ignored
    }

    /// What is asked of this service, as the log stands.
    pub(crate) fn wish(&self, log: &State) -> Wish {
        if log.role(&self.key).and_then(|role| role.service()) != Some(&self.service) {
            return Wish::Outsider;
        }
        let (Some(paper), Some(epoch)) = (&self.state, log.epoch) else { return Wish::Unknown };
        let Content::Fleet(document) = &paper.content else { return Wish::Unknown };
        let leads = (epoch.epoch, epoch.holder) == (document.epoch, paper.signer);
        if !leads || !log.is_coordinator(&epoch.holder) {
            return Wish::Unknown;
        }
        match document.rounds.iter().find_map(|open| self.order(log, document.epoch, paper.signer, open)) {
            Some(order) => Wish::Slice(order),
            None => Wish::Nothing,
        }
    }

    /// Whether the believed document names a round that the log does not hold yet.
    pub(crate) fn is_ahead(&self, log: &State) -> bool {
        match self.state.as_ref().map(|paper| &paper.content) {
            Some(Content::Fleet(document)) => document.rounds.iter().any(|open| open.position >= log.next),
            Some(Content::Service(_)) | None => false,
        }
    }

    fn order(&self, log: &State, epoch: u64, leader: KeyId, open: &OpenRound) -> Option<Order> {
        let round = log.rounds.get(&open.round)?;
        let wanted = round.position == open.position
            && round.phase == RoundPhase::Open
            && round.open.scope.contains(&self.service);
        wanted.then(|| Order {
            epoch,
            round: open.round,
            attempt: self.attempt(epoch, leader, &open.round),
            turn: open.turn,
            cut: open.cut,
            leader,
            leader_ephemeral: open.ephemeral,
            nonce: round.open.nonce,
        })
    }

    fn attempt(&self, epoch: u64, leader: KeyId, round: &RoundId) -> u32 {
        match &self.retry {
            Some(Paper { signer, content: Content::Service(retry) })
                if (retry.epoch, *signer, &retry.round) == (epoch, leader, round) =>
            {
                retry.attempt.max(1)
            }
            Some(_) | None => 1,
        }
    }

    fn parse(&self, channel: Channel, bytes: &[u8]) -> Result<Paper, Ignored> {
        match channel {
            Channel::Fleet => {
                let (signer, document) = open_as::<StateDocument>(bytes, &self.fleet)?;
                let count = document.rounds.len();
                if count > MAX_OPEN_ROUNDS {
                    return Err(Ignored::TooManyRounds { count });
                }
                Ok(Paper { signer, content: Content::Fleet(document) })
            }
            Channel::Service => {
                let (signer, retry) = open_as::<ServiceState>(bytes, &self.fleet)?;
                if retry.service != self.service {
                    return Err(Ignored::OtherService { service: retry.service });
                }
                Ok(Paper { signer, content: Content::Service(retry) })
            }
        }
    }

    /// What the log can only confirm: epochs grow, and so do revisions.
    fn refuse_old(&self, paper: &Paper, log: &State) -> Result<(), Ignored> {
        if !log.is_coordinator(&paper.signer) {
            return Err(Ignored::Signer { key: paper.signer });
        }
        let (epoch, revision) = paper.age();
        let current = log.epoch.map_or(0, |epoch| epoch.epoch);
        if epoch < current {
            return Err(Ignored::OldEpoch { epoch, current });
        }
        match self.current(paper) {
            Some(known) if known != *paper && paper.age() <= known.age() => {
                Err(Ignored::Revision { epoch, revision })
            }
            Some(_) | None => Ok(()),
        }
    }

    fn believe(&mut self, paper: Paper, log: &State) -> Result<(), Ignored> {
        self.refuse_old(&paper, log)?;
        let (epoch, _) = paper.age();
        match log.epoch {
            Some(current) if current.epoch == epoch => {
                if current.holder != paper.signer {
                    return Err(Ignored::NotHolder { key: paper.signer, epoch });
                }
            }
            Some(_) | None => return Err(Ignored::Ahead { epoch }),
        }
        match paper.content {
            Content::Fleet(_) => self.state = Some(paper),
            Content::Service(_) => self.retry = Some(paper),
        }
        Ok(())
    }

    /// What is believed of the same kind.
    fn current(&self, paper: &Paper) -> Option<Paper> {
        match paper.content {
            Content::Fleet(_) => self.state.clone(),
            Content::Service(_) => self.retry.clone(),
        }
    }
}

impl Paper {
    fn age(&self) -> (u64, u64) {
        match &self.content {
            Content::Fleet(document) => (document.epoch, document.revision),
            Content::Service(retry) => (retry.epoch, retry.revision),
        }
    }
}
