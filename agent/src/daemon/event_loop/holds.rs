//! Holds: the machine's wish to quiesce becomes a task that speaks several times, until the service is released.

use std::sync::Arc;

use muster_protocol::alert::Code;
use muster_protocol::causes::causes;
use muster_protocol::ids::RoundId;
use muster_protocol::slice::{Event, Phase};
use tokio::sync::oneshot;
use tokio::time::{Instant, timeout};
use tracing::Instrument;

use super::super::beat::{HOLDING, progress};
use super::super::brief::brief;
use super::super::capturer::{Capturer, Failure};
use super::Daemon;
use crate::hold::{HoldError, Said};

/// A hold that the machine has not given up.
pub(super) struct Hold {
    ticket: u64,
    round: RoundId,
    /// Gives it up when it is sent or dropped.
    release: oneshot::Sender<()>,
    /// When it is over at the latest, once the service is quiesced.
    until: Option<Instant>,
}

/// What a hold's task says.
#[derive(Debug)]
pub(super) struct HoldSaid {
    ticket: u64,
    round: RoundId,
    said: Said,
}

impl<C: Capturer> Daemon<C> {
    /// Releases what a former life left quiesced.
    pub(super) fn settle_former(&mut self) {
        let keeper = Arc::clone(&self.keeper);
        let settle = async move {
            if let Err(error) = keeper.settle().await {
                let (code, error) = (error.code().as_str(), causes(&error));
                tracing::error!(
                    code,
                    error,
                    "a former hold is not over; it is tried again before the next one"
                );
            }
        };
        self.holds.spawn(settle.in_current_span());
    }

    pub(super) fn quiesce(&mut self, round: RoundId) {
        let inside = match self.gate.capture() {
            Ok(inside) => inside,
            Err(busy) => {
                let (code, reason) = (Code::Agent03, busy.to_string());
                return self.handle(Event::QuiesceFailed { round, code, reason, permanent: false });
            }
        };
        let (ticket, keeper, out) = (self.ticket(), Arc::clone(&self.keeper), self.said.0.clone());
        let limit = keeper.limit(self.terms.max_hold);
        let (release, given_up) = oneshot::channel();
        // The one before, if any, is given up here.
        self.hold = Some(Hold { ticket, round, release, until: None });
        tracing::info!(round = round.to_string(), limit_millis = limit.as_millis(), "quiescing the service");
        let hold = async move {
            // Nobody hears it once the daemon has ended.
            let say = |said| drop(out.send(HoldSaid { ticket, round, said }));
            keeper.hold(round, limit, given_up, say).await;
            drop(inside);
        };
        let span = self.slice_span(round);
        self.holds.spawn(hold.instrument(span));
    }

    pub(super) fn release(&mut self, round: RoundId) {
        if let Some(hold) = self.hold.take_if(|hold| hold.round == round) {
            // Fails when its task has ended, and with it the hold.
            let _ = hold.release.send(());
        }
    }

    /// What a hold says becomes an event, unless the machine knows of it no more.
    pub(super) fn held(&mut self, HoldSaid { ticket, round, said }: HoldSaid) {
        // Tasks that ended are nobody's concern.
        while self.holds.try_join_next().is_some() {}
        let current = self.hold.as_ref().is_some_and(|hold| hold.ticket == ticket);
        match said {
            Said::Quiesced { until } => {
                tracing::info!(round = round.to_string(), "the service is quiesced");
                if let Some(hold) = self.hold.as_mut().filter(|_| current) {
                    hold.until = Some(until);
                    self.handle(Event::Quiesced { round });
                }
            }
            Said::Lost { why } => {
                if current {
                    self.lose_hold(round, why);
                }
            }
            Said::Failed(error) => {
                let (code, reason, permanent) = told(&error);
                tracing::error!(
                    round = round.to_string(),
                    code = code.as_str(),
                    reason,
                    "the service is not quiesced"
                );
                if current {
                    self.hold = None;
                    let reason = brief(&reason);
                    self.handle(Event::QuiesceFailed { round, code, reason, permanent });
                }
            }
            Said::Released(Ok(())) => tracing::info!(round = round.to_string(), "the service is released"),
            Said::Released(Err(error)) => {
                let (code, reason, permanent) = told(&error);
                tracing::error!(
                    round = round.to_string(),
                    code = code.as_str(),
                    reason,
                    "the service is not released"
                );
                // The slice may be whole. Only as a failure does a person hear of it, and more than of a slice is at stake.
                let reason = brief(&reason);
                self.handle(Event::CaptureFailed { round, code, reason, permanent });
            }
        }
    }

    /// Whether the hold has outlived its time, by the agent's own clock: asked before anything counts as read within it,
    /// as the watchdog's word may still be on its way.
    pub(super) fn look_at_hold(&mut self) {
        let over = |hold: &&Hold| hold.until.is_some_and(|until| until <= Instant::now());
        if let Some(round) = self.hold.as_ref().filter(over).map(|hold| hold.round) {
            self.lose_hold(round, "max_hold is over");
        }
    }

    fn lose_hold(&mut self, round: RoundId, why: &'static str) {
        tracing::warn!(round = round.to_string(), why, "the service is no longer held");
        // The task goes on releasing; giving it up changes nothing of that.
        self.hold = None;
        self.handle(Event::HoldLost { round });
        // What is read from here on may not fit what was read before: better no slice than one that hooks were to prevent.
        // Its packs are found again, so that the next attempt has less to do.
        if self.capture.take().is_some() {
            let reason = format!("the service was released before everything was read: {why}");
            self.failed(round, Failure { code: Code::Agent03, reason, permanent: false });
        }
    }

    /// Says that the service is held, for as long as it only is.
    pub(super) fn tell_of_hold(&mut self) {
        let holding = match self.machine.phase() {
            Phase::Quiescing | Phase::Holding => true,
            Phase::Idle
            | Phase::Greeting
            | Phase::Capturing
            | Phase::Receipting
            | Phase::Noticing(_)
            | Phase::Settled(_) => false,
        };
        if !holding {
            if let Some(telling) = self.telling.take() {
                telling.abort();
            }
        } else if self.telling.is_none() {
            let (identity, bus, every) =
                (Arc::clone(&self.identity), Arc::clone(&self.bus), self.pace.progress);
            let telling = progress(
                identity,
                bus,
                every,
                || HOLDING,
                self.doing.subscribe(),
                self.talker.session.clone(),
            );
            self.telling = Some(self.holds.spawn(telling.in_current_span()));
        }
    }

    /// Gives every hold up, and waits a moment until the service is released. Its watchdog goes on without us.
    pub(super) async fn end_holds(&mut self) {
        self.hold = None;
        if let Some(telling) = self.telling.take() {
            telling.abort();
        }
        let ended = async { while self.holds.join_next().await.is_some() {} };
        if timeout(self.pace.wind_down, ended).await.is_err() {
            tracing::warn!("the service is still being released; its watchdog goes on");
        }
    }
}

fn told(error: &HoldError) -> (Code, String, bool) {
    (error.code(), causes(error), error.is_permanent())
}
