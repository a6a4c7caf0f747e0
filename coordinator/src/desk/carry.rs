//! Effects: what a machine wants done becomes a task, and what the task brings back an event.

use std::sync::Arc;

use muster_protocol::alert::{About, Code, Finding};
use muster_protocol::causes::causes;
use muster_protocol::document::{Absentee, CutAccount, Manifest, ManifestSlice, Receipt};
use muster_protocol::envelope::{Payload, open_as};
use muster_protocol::ids::{RoundId, ServiceName};
use muster_protocol::log::{Commit, End, EndAccount, Found, Outcome, Verified};
use muster_protocol::round::{CheckFailure, Effect, Event, Machine, Phase};
use muster_protocol::subject::Subject;
use muster_protocol::{entropy::random, ids::ObjectId};
use muster_share::entropy::OsEntropy;
use muster_share::layout::{ObjectPath, Prefix, SlicePart};
use muster_share::log::AppendError;
use muster_share::store::Listed;
use muster_telemetry::span;
use tokio::sync::mpsc;

use crate::alerts::Alerts;
use crate::check::{self, Case};
use crate::scribe::{Entry, ScribeError, ScribeHandle, unix_now};
use crate::{manifest, preflight, quarantine, reread};

use super::requests::refused;
use super::{Desk, Report, Round, disown};

/// Has a record written, and reports what came of it.
async fn appended(
    alerts: &Alerts,
    scribe: &ScribeHandle,
    reports: &mpsc::Sender<Report>,
    id: RoundId,
    entry: Entry,
    done: Event,
) {
    let report = match scribe.write(entry).await {
        Ok(()) => {
            alerts.share_took();
            Report::Event(id, Box::new(done))
        }
        Err(ScribeError::Deposed { epoch }) => {
            tracing::warn!(epoch, "COORD-01: another coordinator leads now");
            Report::Deposed
        }
        Err(ScribeError::Revoked { key }) => {
            tracing::error!(key = key.short(), "KEY-03: this coordinator's key was revoked");
            Report::Revoked
        }
        Err(
            error @ (ScribeError::Disowned { .. }
            | ScribeError::Refused
            | ScribeError::Append(_)
            | ScribeError::Gone),
        ) => {
            let reason = causes(&error);
            match &error {
                ScribeError::Append(AppendError::Store(error)) => {
                    alerts.share_failed(error.alert(), reason.clone());
                }
                ScribeError::Append(AppendError::Log(error)) => {
                    alerts.share_failed(error.alert(), reason.clone());
                }
                ScribeError::Append(
                    AppendError::Lost
                    | AppendError::Refused { .. }
                    | AppendError::TooLong { .. }
                    | AppendError::Copy { .. },
                )
                | ScribeError::Deposed { .. }
                | ScribeError::Revoked { .. }
                | ScribeError::Disowned { .. }
                | ScribeError::Refused
                | ScribeError::Gone => {}
            }
            tracing::warn!(reason, "the log took no record; trying again");
            Report::Event(id, Box::new(Event::StageFailed { reason }))
        }
    };
    // The desk may be gone: then nobody waits for the event.
    let _ = reports.send(report).await;
}

impl Desk {
    /// Carries out every effect that is waiting.
    pub(super) fn carry(&mut self) {
        let mut publish = false;
        let ids: Vec<_> = self.rounds.keys().copied().collect();
        for id in ids {
            while let Some(effect) = self.rounds.get_mut(&id).and_then(|r| r.machine.poll_effect()) {
                publish |= effect == Effect::Publish;
                self.carry_one(id, effect);
            }
        }
        if publish {
            self.publish();
        }
        if !self.waiting.is_empty() {
            self.wake_waiting();
        }
        self.forget();
    }

    pub(super) fn carry_one(&mut self, id: RoundId, effect: Effect) {
        let _within = self.rounds.get_mut(&id).map(|round| {
            round.trace.see(&effect);
            span::enter(round.trace.place())
        });
        match effect {
            Effect::Publish => {}
            Effect::AppendOpen => self.append_open(id),
            Effect::FindReceipts => self.find_receipts(id),
            Effect::PublishRetry { service, attempt } => self.publish_retry(id, service, attempt),
            Effect::Welcome { service, attempt } => self.welcome(id, &service, attempt),
            Effect::Check { service, receipt, receipt_size, attempt } => {
                self.check(id, service, receipt, receipt_size, attempt);
            }
            Effect::Acknowledge { service, attempt, receipt, verdict } => {
                let waits = (service, receipt.is_some());
                let answer = self.rounds.get_mut(&id).and_then(|r| r.notices.remove(&waits));
                if let Some(answer) = answer {
                    self.acknowledge(id, attempt, receipt, verdict, answer);
                }
            }
            Effect::WriteManifest { outcome, slices, absent, cut } => {
                let Some(round) = self.rounds.get(&id) else { return };
                if let Some(reason) = cut.as_ref().and_then(|cut| cut.broken.as_ref()) {
                    tracing::warn!(
                        number = round.open.number,
                        reason,
                        "{}: the cut is broken",
                        Code::Round05
                    );
                }
                let manifest = self.account(round, outcome, slices, absent, cut);
                let (store, signer) = (self.setting.store.clone(), self.setting.signer.clone());
                let (fleet, alerts) = (self.state().fleet, self.setting.alerts.clone());
                self.task(id, async move {
                    match manifest::write(store, signer, fleet, manifest).await {
                        Ok((manifest, manifest_size)) => Event::ManifestWritten { manifest, manifest_size },
                        Err(error) => {
                            alerts.share_failed(error.alert(), causes(&error));
                            Event::StageFailed { reason: causes(&error) }
                        }
                    }
                });
            }
            Effect::AppendCommit { outcome, manifest, manifest_size } => {
                let commit = Commit { epoch: 0, round: id, manifest, manifest_size, outcome, at: unix_now() };
                self.append_commit(id, commit);
            }
            Effect::Reread { slices } => {
                let (store, state) = (self.setting.store.clone(), self.state());
                let scribe = self.setting.scribe.clone();
                self.task(id, async move {
                    let read = match reread::reread(store.clone(), state, id, slices).await {
                        Ok(read) => read,
                        Err(error) => return Event::StageFailed { reason: causes(&error) },
                    };
                    let Some((_, first)) = read.damaged.first() else {
                        return Event::Reread { objects: read.objects, bytes: read.bytes };
                    };
                    let reason = match read.damaged.len() {
                        1 => first.to_string(),
                        more => format!("{more} objects are damaged, {first}"),
                    };
                    tracing::error!(reason, "{}: the round is not verified", Code::Verify01);
                    // The next slice must not rest on what this one cannot rest on.
                    match quarantine::add(store.as_ref(), &scribe, &read.damaged, Found::Bytes).await {
                        Ok(_) => Event::RereadFailed { reason },
                        Err(error) => Event::StageFailed { reason: causes(&error) },
                    }
                });
            }
            Effect::AppendVerified { objects, bytes } => {
                let verified = Verified { epoch: 0, round: id, objects, bytes, at: unix_now() };
                self.append(id, Entry::Verified(verified), Event::VerifiedAppended);
            }
            Effect::AppendEnd { outcome, reason, slices, absent, cut } => {
                let Some(round) = self.rounds.get(&id) else { return };
                let account = self.account(round, outcome, slices, absent, cut);
                let end = End { epoch: 0, round: id, outcome, reason, at: unix_now(), account: None };
                self.append_end(id, end, account);
            }
            Effect::Finished => self.finished(id),
        }
    }

    /// Runs a task whose outcome is an event of the round.
    pub(super) fn task(&self, id: RoundId, work: impl Future<Output = Event> + Send + 'static) {
        let reports = self.reports.clone();
        let work = span::within(self.rounds.get(&id).and_then(|round| round.trace.place()), work);
        tokio::spawn(async move {
            // The desk may be gone: then nobody waits for the event.
            let _ = reports.send(Report::Event(id, Box::new(work.await))).await;
        });
    }

    pub(super) fn append(&self, id: RoundId, entry: Entry, done: Event) {
        let (scribe, reports) = (self.setting.scribe.clone(), self.reports.clone());
        let alerts = self.setting.alerts.clone();
        tokio::spawn(async move { appended(&alerts, &scribe, &reports, id, entry, done).await });
    }

    /// The account of a round, as manifests have it.
    fn account(
        &self,
        round: &Round,
        outcome: Outcome,
        slices: Vec<ManifestSlice>,
        absent: Vec<Absentee>,
        cut: Option<CutAccount>,
    ) -> Manifest {
        Manifest {
            round: round.open.round,
            number: round.open.number,
            epoch: self.setting.scribe.epoch(),
            keyset: self.state().keyset_at(round.position).map_or(0, |(number, _)| number),
            opened: round.open.at,
            assembled: unix_now(),
            trigger: round.open.trigger.clone(),
            outcome,
            slices,
            absent,
            cut,
        }
    }

    /// Commits, unless a slice names what was swept since it was checked: that service is absent then, and there is another
    /// manifest.
    fn append_commit(&self, id: RoundId, commit: Commit) {
        let Some(round) = self.rounds.get(&id) else { return };
        let (store, state) = (self.setting.store.clone(), self.state());
        let (scribe, reports) = (self.setting.scribe.clone(), self.reports.clone());
        let alerts = self.setting.alerts.clone();
        let since = round.checked_at.unwrap_or(0);
        let agents = disown::stored(&round.machine);
        let slices: Vec<_> = round.machine.members().filter_map(|m| m.phase.slice().cloned()).collect();
        tokio::spawn(async move {
            match check::lost_since(store.as_ref(), &state, since, id, &slices).await {
                Ok(lost) if lost.is_empty() => {
                    let entry = Entry::Commit(commit, agents, state.head.number);
                    appended(&alerts, &scribe, &reports, id, entry, Event::Committed).await;
                }
                Ok(lost) => {
                    for (service, failure) in lost {
                        tracing::warn!(%service, ?failure, "slice lost before the commit");
                        let event = Event::Disowned { service, failure };
                        let _ = reports.send(Report::Event(id, Box::new(event))).await;
                    }
                }
                Err(reason) => {
                    let event = Event::StageFailed { reason };
                    let _ = reports.send(Report::Event(id, Box::new(event))).await;
                }
            }
        });
    }

    /// Ends a round without a commit. Its story goes to the share first; a share that does not take it keeps no round open.
    fn append_end(&self, id: RoundId, mut end: End, account: Manifest) {
        let (store, signer, fleet) =
            (self.setting.store.clone(), self.setting.signer.clone(), self.state().fleet);
        let (scribe, reports) = (self.setting.scribe.clone(), self.reports.clone());
        let alerts = self.setting.alerts.clone();
        tokio::spawn(async move {
            match manifest::write(store, signer, fleet, account).await {
                Ok((object, size)) => end.account = Some(EndAccount { object, size }),
                Err(error) => {
                    // The alert of the share tells people. Each try writes another account: said aloud, it would be a flood.
                    tracing::debug!(
                        error = causes(&error),
                        "the account of a round without a commit was not kept"
                    );
                }
            }
            appended(&alerts, &scribe, &reports, id, Entry::End(end), Event::EndAppended).await;
        });
    }

    pub(super) fn append_open(&mut self, id: RoundId) {
        let Some(round) = self.rounds.get(&id) else { return };
        let entry = Entry::Open(round.open.clone());
        let (scribe, reports) = (self.setting.scribe.clone(), self.reports.clone());
        let (alerts, store) = (self.setting.alerts.clone(), Arc::clone(&self.setting.store));
        let room = self.setting.room.clone();
        tokio::spawn(async move {
            preflight::run(&store, &scribe.state(), &room, &alerts).await;
            appended(&alerts, &scribe, &reports, id, entry, Event::Opened).await;
        });
    }

    pub(super) fn check(
        &mut self,
        id: RoundId,
        service: ServiceName,
        receipt: ObjectId,
        receipt_size: u64,
        attempt: u32,
    ) {
        let state = self.state();
        let (Some(round), Some(agent)) = (self.rounds.get(&id), state.agent(&service).map(|a| a.key)) else {
            return;
        };
        let case = Case {
            state,
            round: id,
            nonce: round.open.nonce.for_attempt(&service, attempt),
            open_position: round.position,
            service: service.clone(),
            agent,
            attempt,
            receipt,
            receipt_size,
            cut: round.open.cut.is_some(),
        };
        let (number, alerts) = (round.open.number, self.setting.alerts.clone());
        let now = case.state.head.number;
        if let Some(round) = self.rounds.get_mut(&id) {
            round.checked_at = Some(round.checked_at.map_or(now, |earlier| earlier.min(now)));
        }
        let (store, places) = (self.setting.store.clone(), self.checks.clone());
        self.task(id, async move {
            // Never closed, so that there is always a place in the end.
            let _place = places.acquire_owned().await;
            let result = check::check(store, case).await;
            if let Err(CheckFailure::Refused(failure)) = &result {
                let (about, cause) = (About::Service(service.clone()), failure.reason.clone());
                alerts.raise(Finding::of_round(number, failure.code, about, cause));
            }
            if let Err(failure) = &result {
                tracing::warn!(%service, ?failure, "slice not accepted");
            }
            Event::Checked { service, receipt, result: result.map(Box::new) }
        });
    }

    /// A former leader may have acknowledged receipts that only the share remembers.
    pub(super) fn find_receipts(&self, id: RoundId) {
        let Some(round) = self.rounds.get(&id) else { return };
        for member in round.machine.members() {
            let (store, reports, service) =
                (self.setting.store.clone(), self.reports.clone(), member.service.clone());
            let state = self.state();
            let (fleet, Some(agent)) = (state.fleet, state.agent(&service).map(|agent| agent.key)) else {
                continue;
            };
            tokio::spawn(async move {
                use futures::StreamExt;
                let mut listing = store.list(&Prefix::RoundSlices(service.clone(), id));
                let mut newest: Option<(u32, ObjectId, u64)> = None;
                while let Some(Ok(listed)) = listing.next().await {
                    let Listed::Object { path, size } = listed else { continue };
                    let ObjectPath::Slice { id: receipt, part: SlicePart::Receipt, .. } = path else {
                        continue;
                    };
                    let max = Receipt::MAX_LEN as u64;
                    let Ok(bytes) = store.get(&path, max).await else { continue };
                    let opened = open_as::<Receipt>(&bytes, &fleet);
                    let Ok((key, read)) = opened else { continue };
                    if key != agent {
                        continue;
                    }
                    if newest.is_none_or(|(attempt, ..)| read.attempt > attempt) {
                        newest = Some((read.attempt, receipt, size));
                    }
                }
                if let Some((attempt, receipt, receipt_size)) = newest {
                    let event = Event::Stored { service, attempt, receipt, receipt_size };
                    let _ = reports.send(Report::Event(id, Box::new(event))).await;
                }
            });
        }
    }

    /// Fetches the manifest of a round that an earlier leader committed but did not verify.
    pub(super) fn verify_later(&self, commit: Commit) {
        let (store, reports, fleet) = (self.setting.store.clone(), self.reports.clone(), self.state().fleet);
        tokio::spawn(async move {
            let path = ObjectPath::Manifest(commit.manifest);
            match check::read_object(store.as_ref(), &path, &commit.manifest, commit.manifest_size).await {
                Ok(bytes) => match open_as::<Manifest>(&bytes, &fleet) {
                    Ok((_, manifest)) => {
                        let _ = reports.send(Report::Unverified(Box::new(manifest))).await;
                    }
                    Err(error) => tracing::error!(error = causes(&error), "{}: {path}", Code::Verify02),
                },
                Err(CheckFailure::Refused(failure)) => {
                    tracing::error!(?failure, "{}: {path} is not readable", Code::Verify02);
                }
                Err(CheckFailure::Unavailable { reason }) => {
                    tracing::warn!(
                        reason,
                        "{path} cannot be read now: its round is not verified by this leader"
                    );
                }
            }
        });
    }

    pub(super) fn verify(&mut self, manifest: Manifest) {
        let state = self.state();
        let Some(round) = state.rounds.get(&manifest.round) else { return };
        let seed = u64::from_be_bytes(random(&mut OsEntropy));
        let machine =
            Machine::verify(manifest.outcome, manifest.slices, self.setting.policy, seed, self.now());
        self.seat(machine, round.open.clone(), round.position);
        if let Some(round) = self.rounds.get_mut(&manifest.round) {
            round.trace.only_verifies();
        }
    }

    pub(super) fn finished(&mut self, id: RoundId) {
        let Some(round) = self.rounds.get_mut(&id) else { return };
        round.finished = true;
        self.setting.sessions.end(&id);
        let took = round.began.elapsed();
        round.took = Some(took);
        round.trace.over(&round.open, &round.machine, took);
        let retries = std::mem::take(&mut round.retries);
        let number = round.open.number;
        match round.machine.phase() {
            Phase::Ended { outcome, verified } => {
                let (outcome, seconds) = (outcome.as_str(), round.began.elapsed().as_secs_f64());
                tracing::info!(number, outcome, verified, seconds, "round ended");
            }
            Phase::Opening
            | Phase::Gathering
            | Phase::Capturing
            | Phase::Writing
            | Phase::Committing { .. }
            | Phase::Verifying { .. }
            | Phase::Confirming { .. }
            | Phase::Ending { .. } => {}
        }
        let answer = refused("the round could not be opened".into());
        for waiter in std::mem::take(&mut round.opened_reply) {
            self.tell_waiter(waiter, &answer);
        }
        self.ended.push_back(id);
        for service in retries {
            self.send_value(&Subject::ServiceState(service), None);
        }
    }
}
