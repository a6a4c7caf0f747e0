//! Reports: what tasks bring back becomes an event of the slice machine.

use std::sync::Arc;

use muster_protocol::causes::causes;
use muster_protocol::ids::RoundId;
use muster_protocol::message::Verdict;
use muster_protocol::slice::Event;

use super::super::belief::Channel;
use super::super::brief::brief;
use super::super::capturer::{Capturer, Failure, Written};
use super::super::talk::{TalkError, Welcomed};

use super::{Daemon, Report};

impl<C: Capturer> Daemon<C> {
    pub(super) fn report(&mut self, report: Report<C>) {
        let span = self.current_span();
        let _within = span.enter();
        match report {
            Report::Read { reader, read } => self.read_on(reader, read),
            Report::Values { fleet, service } => {
                self.fetching = false;
                self.fetched(Channel::Service, service);
                self.fetched(Channel::Fleet, fleet);
                if std::mem::take(&mut self.fetch_again) {
                    self.fetch();
                }
            }
            Report::Hello { ticket, round, answer } => {
                if self.is_current_talk(ticket) {
                    self.welcomed(round, answer);
                }
            }
            Report::Notice { ticket, round, attempt, answer } => {
                if self.is_current_talk(ticket) {
                    self.acknowledged(round, attempt, answer);
                }
            }
            Report::Standing { ticket, round, attempt, answer } => {
                if self.is_current_talk(ticket) {
                    self.standing_noted(round, attempt, answer);
                }
            }
            Report::SourcesRead { ticket, round, read } => {
                if read && self.is_current_capture(ticket) {
                    self.look_at_hold();
                    // Unknown to the machine by now, if the hold was lost.
                    self.handle(Event::Read { round });
                }
            }
            Report::Captured { ticket, round, lists, captured } => {
                self.lists = lists;
                self.captured(ticket, round, captured);
            }
            Report::Receipt { ticket, round, attempt, written } => {
                if self.is_current_capture(ticket) {
                    self.receipt_written(round, attempt, written);
                }
            }
            Report::Kept { receipt, kept } => {
                if let Err(failure) = kept {
                    let (code, reason) = (failure.code.as_str(), failure.reason);
                    tracing::warn!(
                        receipt = receipt.to_string(),
                        code,
                        reason,
                        "the slice counts but was not remembered; the next one uploads more than it had to"
                    );
                }
            }
        }
    }

    pub(super) fn is_current_capture(&self, ticket: u64) -> bool {
        self.capture.as_ref().is_some_and(|capture| capture.ticket == ticket)
    }

    pub(super) fn welcomed(&mut self, round: RoundId, answer: Result<Welcomed, TalkError>) {
        match answer {
            Ok(Welcomed { attempt, credentials, terms, headers }) => {
                self.terms = terms;
                if let Some(credentials) = credentials {
                    self.capturer.accept(&credentials);
                }
                let begun = self.span.as_ref().map(|(round, attempt, _)| (*round, *attempt));
                if let Some(attempt) = attempt.filter(|attempt| begun != Some((round, *attempt))) {
                    self.begin_span(round, attempt, &headers);
                }
                self.handle(Event::Welcomed { round, attempt });
            }
            Err(error) => {
                self.unanswered("welcome", &error);
                self.handle(Event::HelloUnanswered);
            }
        }
    }

    pub(super) fn acknowledged(&mut self, round: RoundId, attempt: u32, answer: Result<Verdict, TalkError>) {
        match answer {
            Ok(verdict) => {
                match &verdict {
                    Verdict::Accepted => {
                        tracing::info!(round = round.to_string(), attempt, "the leader took the notice");
                    }
                    Verdict::Refused { reason } => {
                        tracing::warn!(
                            round = round.to_string(),
                            attempt,
                            reason,
                            "the slice does not count"
                        );
                    }
                    Verdict::Over => tracing::info!(round = round.to_string(), attempt, "the round is over"),
                }
                self.handle(Event::Acknowledged { round, attempt, verdict });
                // Its work is done, however long the round goes on without it.
                self.span = None;
            }
            Err(error) => {
                self.unanswered("acknowledgement", &error);
                self.handle(Event::NoticeUnanswered);
            }
        }
    }

    pub(super) fn standing_noted(&mut self, round: RoundId, attempt: u32, answer: Result<(), TalkError>) {
        match answer {
            Ok(()) => self.handle(Event::StandingNoted { round, attempt }),
            Err(error) => {
                self.unanswered("acknowledgement", &error);
                self.handle(Event::StandingUnanswered);
            }
        }
    }

    pub(super) fn unanswered(&mut self, what: &str, error: &TalkError) {
        if error.is_suspicious() {
            self.passed_over.add(what, error);
        } else {
            tracing::debug!(what, error = causes(error), "nobody answered; asking again");
        }
    }

    pub(super) fn captured(
        &mut self,
        ticket: u64,
        round: RoundId,
        captured: Result<Arc<C::Captured>, Failure>,
    ) {
        if self.is_current_capture(ticket) {
            self.look_at_hold();
        }
        let Some(capture) = self.capture.as_mut().filter(|capture| capture.ticket == ticket) else { return };
        capture.running = None;
        match captured {
            Ok(captured) => {
                capture.captured = Some(captured);
                self.handle(Event::Captured { round });
            }
            Err(failure) => {
                self.capture = None;
                self.failed(round, failure);
            }
        }
    }

    pub(super) fn receipt_written(
        &mut self,
        round: RoundId,
        attempt: u32,
        written: Result<Written, Failure>,
    ) {
        match written {
            Ok(Written { receipt, receipt_size, totals }) => {
                tracing::info!(
                    round = round.to_string(),
                    attempt,
                    source_bytes = totals.source_bytes,
                    added_bytes = totals.added_bytes,
                    gaps = totals.gaps,
                    "the slice is on the share"
                );
                self.handle(Event::ReceiptWritten { round, attempt, receipt, receipt_size, totals });
            }
            // What was captured stays: the machine may have moved on to another attempt of it.
            Err(failure) => self.failed(round, failure),
        }
    }

    pub(super) fn failed(&mut self, round: RoundId, failure: Failure) {
        let Failure { code, reason, permanent } = failure;
        tracing::error!(
            round = round.to_string(),
            code = code.as_str(),
            reason,
            permanent,
            "there is no slice"
        );
        let reason = brief(&reason);
        self.handle(Event::CaptureFailed { round, code, reason, permanent });
    }
}
