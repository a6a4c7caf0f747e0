//! The round machine under any sequence of events, timeouts and failures.
//!
//! What must hold: the share comes before the message, only checked slices are committed, nothing follows the end, and
//! once everything answers the round ends.

use std::collections::BTreeSet;
use std::time::Duration;

use muster_protocol::alert::Code;
use muster_protocol::document::{ManifestSlice, SliceStatus, SliceTotals};
use muster_protocol::ids::{KeyId, Nonce, ObjectId, ServiceName};
use muster_protocol::log::{OnBreak, Outcome};
use muster_protocol::retry::{Attempts, Retry};
use muster_protocol::round::{
    CheckFailure, CutPolicy, Effect, Event, Failure, Machine, Phase, Policy, Start,
};
use muster_protocol::service_policy::{Expected, ServicePolicy};
use muster_protocol::time::Time;

use super::input::Draw;

const DEADLINE: Duration = Duration::from_secs(600);
const CUT: Nonce = Nonce::from_bytes([2; 16]);

/// Runs a sequence, then answers everything until the round has ended.
pub(super) fn round(input: &[u8]) {
    let mut draw = Draw::new(input);
    let mut world = World::new(&mut draw);
    world.drain();
    for _ in 0..400 {
        if draw.is_empty() {
            break;
        }
        world.step(&mut draw);
        world.drain();
    }
    world.finish();
}

pub(super) fn samples() -> Vec<Vec<u8>> {
    // Kind of event, then what it draws; see `World::step`.
    let hello = |service: u8| vec![1, service, 1];
    let stored = |service: u8| vec![3, service, 1, service];
    let checked = |service: u8| vec![5, service, service, 0];
    let complete = [
        begins(&[0, 2, 3]),
        vec![0],
        hello(0),
        hello(1),
        stored(0),
        stored(1),
        checked(0),
        checked(1),
        vec![6, 1],
        vec![7],
        vec![8],
        vec![10],
    ];
    let troubled = [
        begins(&[1, 2, 2]),
        hello(0),
        vec![4, 0, 1, 0],
        vec![13, 60],
        vec![12],
        stored(1),
        vec![5, 1, 1, 1],
        vec![5, 1, 1, 2],
        vec![13, 255],
        vec![14],
    ];
    // Cancelled before the round was open.
    let early = [begins(&[0, 2, 3]), vec![14, 11, 13, 60]];
    // With a cut that both hold for, and that one of them loses by a second attempt.
    let held = |service: u8| [hello(service), vec![16, service, 1]].concat();
    let cut = [
        [&[0, 2, 3, 1], &EXPECTED[..], &EXPECTED[..]].concat(),
        vec![0],
        held(0),
        held(1),
        vec![17, 0, 1, 0],
        stored(2),
        vec![4, 1, 1, 0],
        vec![15],
    ];
    vec![complete.concat(), troubled.concat(), early.concat(), cut.concat()]
}

/// What [`expected`] draws for a service that is required, in every round.
const EXPECTED: [u8; 5] = [1, 1, 0, 1, 1];

/// A world of two such services without a cut.
fn begins(first: &[u8]) -> Vec<u8> {
    [first, &[0], &EXPECTED, &EXPECTED].concat()
}

struct World {
    machine: Machine,
    services: Vec<ServiceName>,
    now: Time,
    began: Time,
    opened: bool,
    /// Receipts that a check passed, and those that any check was asked for.
    passed: BTreeSet<ObjectId>,
    asked: BTreeSet<(ServiceName, ObjectId)>,
    manifest: Option<(Outcome, Vec<ManifestSlice>)>,
    written: Option<ObjectId>,
    committing: bool,
    ending: bool,
    finished: bool,
    /// What the machine waits for.
    pending: Vec<Effect>,
}

impl World {
    fn new(draw: &mut Draw<'_>) -> Self {
        let start = if draw.below(2) == 0 { Start::Fresh } else { Start::Resume };
        let names = ["dns", "mail", "web"];
        let services: Vec<ServiceName> =
            names[..usize::from(draw.below(4))].iter().map(|name| name.parse().expect("a name")).collect();
        let attempts = match draw.below(5) {
            0 => Attempts::Unlimited,
            most => Attempts::AtMost(u32::from(most)),
        };
        let retry = Retry::new(Duration::from_secs(1), Duration::from_secs(10), attempts).expect("a policy");
        let policy = Policy {
            deadline: DEADLINE,
            recruit: Duration::from_secs(15),
            offline_after: Duration::from_secs(20),
            retry,
            tier_wait: Duration::from_secs(30),
            cut: match draw.below(3) {
                0 => None,
                way => Some(CutPolicy {
                    nonce: CUT,
                    barrier: Duration::from_secs(25),
                    on_break: if way == 1 { OnBreak::Break } else { OnBreak::GoOn },
                }),
            },
        };
        let now = Time(1_000);
        let expected: Vec<_> = services.iter().map(|service| (service.clone(), expected(draw))).collect();
        Self {
            machine: Machine::start(start, expected, policy, 7, now),
            services,
            now,
            began: now,
            opened: start == Start::Resume,
            passed: BTreeSet::new(),
            asked: BTreeSet::new(),
            manifest: None,
            written: None,
            committing: false,
            ending: false,
            finished: false,
            pending: Vec::new(),
        }
    }

    fn step(&mut self, draw: &mut Draw<'_>) {
        let kind = draw.below(18);
        let stray: ServiceName = "stray".parse().expect("a name");
        let service = |draw: &mut Draw<'_>| {
            let at = usize::from(draw.byte());
            self.services.get(at).cloned().unwrap_or(stray.clone())
        };
        let event = match kind {
            0 => Event::Opened,
            1 => Event::Hello { service: service(draw), attempt: u32::from(draw.byte()) },
            2 => Event::Seen { service: service(draw) },
            3 => Event::Stored {
                service: service(draw),
                attempt: u32::from(draw.byte()),
                receipt: receipt(draw.byte()),
                receipt_size: 300,
            },
            4 => Event::Failed {
                service: service(draw),
                attempt: if draw.below(8) == 7 { u32::MAX } else { u32::from(draw.below(4)) },
                failure: failure(draw.below(4) == 3),
            },
            5 => {
                let (service, receipt) = (service(draw), receipt(draw.byte()));
                let result = match draw.below(4) {
                    1 => Err(CheckFailure::Unavailable { reason: "share unreachable".to_owned() }),
                    2 => Err(CheckFailure::Refused(failure(false))),
                    3 => Err(CheckFailure::Refused(failure(true))),
                    _ => Ok(Box::new(slice(&service, receipt))),
                };
                if result.is_ok() {
                    self.passed.insert(receipt);
                }
                Event::Checked { service, receipt, result }
            }
            6 => {
                let manifest = receipt(draw.byte());
                if *self.machine.phase() == Phase::Writing {
                    self.written = Some(manifest);
                }
                Event::ManifestWritten { manifest, manifest_size: 500 }
            }
            // A commit or an end that nobody was asked for cannot have been appended.
            7 if self.committing => Event::Committed,
            8 => Event::Reread { objects: 3, bytes: 900 },
            9 => Event::RereadFailed { reason: "a hash differs".to_owned() },
            10 => Event::VerifiedAppended,
            11 if self.ending => Event::EndAppended,
            12 => Event::StageFailed { reason: "share unreachable".to_owned() },
            13 => {
                self.now = self.now.after(Duration::from_secs(u64::from(draw.byte())));
                return self.machine.handle_timeout(self.now);
            }
            16 => Event::Quiesced { service: service(draw), attempt: u32::from(draw.below(4)) },
            17 => Event::Snapped {
                service: service(draw),
                attempt: u32::from(draw.below(4)),
                nonce: if draw.below(4) == 3 { Nonce::from_bytes([3; 16]) } else { CUT },
            },
            14 => Event::Cancel { reason: "an operator says so".to_owned() },
            _ => {
                let Some((due, _)) = self.machine.poll_timeout() else { return };
                self.now = self.now.max(due);
                return self.machine.handle_timeout(self.now);
            }
        };
        if event == Event::Opened {
            self.opened = true;
        }
        self.machine.handle(event, self.now);
    }

    fn drain(&mut self) {
        while let Some(effect) = self.machine.poll_effect() {
            self.judge(&effect);
            self.pending.push(effect);
        }
        if let Some((due, _)) = self.machine.poll_timeout() {
            let limit = self.began.after(DEADLINE).max(self.now.after(Duration::from_secs(60)));
            assert!(due <= limit, "a wait beyond every limit: {due:?}");
        }
        let settled = self.machine.members().filter(|member| member.phase.is_settled()).count();
        assert!(settled <= self.services.len());
    }

    fn judge(&mut self, effect: &Effect) {
        let after_the_end = matches!(
            effect,
            Effect::AppendOpen
                | Effect::AppendCommit { .. }
                | Effect::AppendEnd { .. }
                | Effect::WriteManifest { .. }
                | Effect::Check { .. }
                | Effect::Reread { .. }
                | Effect::AppendVerified { .. }
                | Effect::Finished
        );
        assert!(!self.finished || !after_the_end, "after the end: {effect:?}");
        match effect {
            Effect::Publish => {
                let wants = self.machine.wants_slices();
                assert!(self.opened || !wants, "slices are wanted before the open record");
            }
            Effect::Check { service, receipt, .. } => {
                assert!(self.services.contains(service));
                self.asked.insert((service.clone(), *receipt));
            }
            Effect::WriteManifest { outcome, slices, absent, cut } => {
                let missed = absent.iter().any(|absentee| absentee.excuse.is_none());
                assert_eq!(*outcome == Outcome::Partial, missed);
                if let Some(cut) = cut {
                    let members = cut.members.len() + cut.outside.len();
                    assert_eq!(members, self.services.len(), "somebody is neither in the cut nor outside");
                    let proved = |service: &ServiceName| {
                        slices.iter().any(|s| s.service == *service && s.cut == Some(CUT))
                    };
                    assert!(cut.members.iter().all(proved), "a member without the cut's nonce");
                }
                assert_eq!(slices.len() + absent.len(), self.services.len(), "somebody is not accounted for");
                assert!(!slices.is_empty());
                for slice in slices {
                    assert!(self.passed.contains(&slice.receipt), "unchecked: {slice:?}");
                    assert!(self.asked.contains(&(slice.service.clone(), slice.receipt)));
                }
                self.manifest = Some((*outcome, slices.clone()));
            }
            Effect::AppendCommit { outcome, manifest, .. } => {
                assert_eq!(self.written.as_ref(), Some(manifest), "committed before it was written");
                assert_eq!(self.manifest.as_ref().map(|(outcome, _)| outcome), Some(outcome));
                assert!(!self.ending, "an ended round is committed");
                self.committing = true;
            }
            Effect::Reread { slices } => {
                assert!(self.committing, "read again before the commit");
                assert_eq!(self.manifest.as_ref().map(|(_, slices)| slices), Some(slices));
            }
            Effect::AppendVerified { .. } => assert!(self.committing),
            Effect::AppendEnd { outcome, .. } => {
                assert!(!self.committing, "ends what may be committed");
                assert!(matches!(outcome, Outcome::Failed | Outcome::Cancelled | Outcome::Skipped));
                self.ending = true;
            }
            Effect::Finished => self.finished = true,
            Effect::AppendOpen
            | Effect::FindReceipts
            | Effect::PublishRetry { .. }
            | Effect::Welcome { .. }
            | Effect::Acknowledge { .. } => {}
        }
    }

    /// From now on the share works and nobody says a word: the round ends, by its deadline if need be.
    fn finish(&mut self) {
        for _ in 0..3_000 {
            if self.finished {
                assert!(self.machine.poll_timeout().is_none(), "wakes after the end");
                return;
            }
            for effect in std::mem::take(&mut self.pending) {
                self.answer(effect);
            }
            self.drain();
            if self.pending.is_empty() && !self.finished {
                // What an event out of turn made stale is asked for again by the phase itself.
                let (due, _) = self.machine.poll_timeout().unwrap_or_else(|| {
                    panic!("it waits for nothing in {:?}", self.machine.phase());
                });
                self.now = self.now.max(due);
                self.machine.handle_timeout(self.now);
                self.drain();
            }
        }
        panic!("no end: {:?} at {:?}", self.machine.phase(), self.now);
    }

    fn answer(&mut self, effect: Effect) {
        let event = match effect {
            Effect::AppendOpen => {
                self.opened = true;
                Event::Opened
            }
            Effect::Check { service, receipt, .. } => {
                self.passed.insert(receipt);
                Event::Checked { result: Ok(Box::new(slice(&service, receipt))), service, receipt }
            }
            Effect::WriteManifest { .. } => {
                let manifest = receipt(200);
                if *self.machine.phase() == Phase::Writing {
                    self.written = Some(manifest);
                }
                Event::ManifestWritten { manifest, manifest_size: 500 }
            }
            Effect::AppendCommit { .. } => Event::Committed,
            Effect::Reread { .. } => Event::Reread { objects: 1, bytes: 1 },
            Effect::AppendVerified { .. } => Event::VerifiedAppended,
            Effect::AppendEnd { .. } => Event::EndAppended,
            Effect::Publish
            | Effect::FindReceipts
            | Effect::PublishRetry { .. }
            | Effect::Welcome { .. }
            | Effect::Acknowledge { .. }
            | Effect::Finished => return,
        };
        self.machine.handle(event, self.now);
    }
}

fn receipt(number: u8) -> ObjectId {
    ObjectId::from_bytes([number; 32])
}

fn failure(permanent: bool) -> Failure {
    Failure { code: Code::Agent03, reason: "source locked".to_owned(), permanent }
}

fn slice(service: &ServiceName, receipt: ObjectId) -> ManifestSlice {
    ManifestSlice {
        service: service.clone(),
        agent: KeyId::from_bytes([1; 32]),
        attempts: 0,
        receipt,
        receipt_size: 300,
        status: SliceStatus::Whole,
        totals: SliceTotals::default(),
        // Half of the agents say that they were in the cut.
        cut: receipt.as_bytes()[0].is_multiple_of(2).then_some(CUT),
        timing: None,
        tries: Vec::new(),
    }
}

/// What may be expected of a service.
fn expected(draw: &mut Draw<'_>) -> ServicePolicy {
    ServicePolicy {
        required: draw.below(3) != 0,
        expected: if draw.below(3) == 0 { Expected::WhilePresent } else { Expected::Always },
        tier: 1 + draw.below(3),
        attempts: (draw.below(3) == 0).then_some(1),
        deadline: (draw.below(3) == 0).then_some(Duration::from_secs(40)),
        ..ServicePolicy::default()
    }
}
