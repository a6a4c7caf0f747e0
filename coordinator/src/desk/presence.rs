//! Who is there: agents that fell silent, outside rounds as well, and what was ignored since the last look.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use muster_protocol::alert::{About, Code, Finding, Part};
use muster_protocol::ids::ServiceName;
use muster_protocol::service_policy::{Expected, ServicePolicies};
use muster_protocol::time::UnixMillis;
use muster_protocol::units::format_duration;
use muster_telemetry::metrics::{AGENTS_PRESENT, ROUNDS_OPEN, Value};

use super::Desk;
use crate::lead::Trust;
use crate::scribe::unix_now;

/// Longest and shortest time between two looks.
const MOST: Duration = Duration::from_secs(5);
const LEAST: Duration = Duration::from_millis(250);
/// Clocks that differ by more are told. Nothing of what counts depends on them: what is recorded and shown does.
const SKEW: Duration = Duration::from_secs(5 * 60);
/// And by less, they are fine again.
const SKEW_OVER: Duration = Duration::from_secs(4 * 60);

impl Desk {
    /// How often it looks.
    pub(super) fn look_every(&self) -> Duration {
        (self.setting.policy.offline_after / 4).clamp(LEAST, MOST)
    }

    /// Raises and closes what only a look at the time tells.
    pub(super) fn look(&mut self) {
        let state = self.state();
        let roster: BTreeSet<ServiceName> = state.services().into_iter().collect();
        self.tell_ignored(&roster);
        if self.setting.standing.trust() != Trust::Sure {
            // Another may lead, and hear what this one does not. If not, silence counts from when that is known.
            self.listening = Instant::now();
            return;
        }
        let limit = self.setting.policy.offline_after;
        let settled = self.listening.elapsed() > limit;
        self.tell_figures(&roster, limit);
        let policies =
            state.config.as_ref().map(|config| ServicePolicies::of(&config.clear)).unwrap_or_default();
        let alerts = &self.setting.alerts;
        for service in roster {
            let known = self.roll.agent(&service);
            let heard = known.map(|entry| entry.seen);
            let silent = settled && heard.is_none_or(|seen| seen.elapsed() > limit);
            let about = About::Service(service.clone());
            if self.roll.speaks(&service, limit) {
                alerts.mended(Code::Agent05, &about);
            }
            let may_be_away = policies.policy(&service).expected == Expected::WhilePresent;
            if silent && !may_be_away {
                let limit = format_duration(limit);
                let cause = match heard {
                    Some(_) if known.is_some_and(|entry| entry.left) => {
                        format!("it was stopped, and has not begun again for {limit}")
                    }
                    Some(_) => format!("nothing was heard of it for {limit}"),
                    None => format!("nothing was heard of it for {limit} since this coordinator leads"),
                };
                alerts.raise(Finding::seen(Code::Agent01, about, cause));
                continue;
            }
            if heard.is_some() || may_be_away {
                // Of any other nobody knows before it is heard, or has been silent for long enough.
                alerts.mended(Code::Agent01, &about);
            }
            let told = alerts.read(|book| book.find(Code::Agent01, &about).and_then(|alert| alert.round));
            if let (Some(number), Some(seen)) = (told, heard)
                && self.ended_before(number, seen)
            {
                alerts.heard(&about, number);
            }
        }
    }

    /// Who is there, and what is open, as metrics.
    #[expect(clippy::cast_precision_loss, reason = "counts of a fleet are exact")]
    fn tell_figures(&self, roster: &BTreeSet<ServiceName>, limit: Duration) {
        let is_there = |service: &&ServiceName| {
            self.roll.agent(service).is_some_and(|entry| entry.seen.elapsed() <= limit)
        };
        AGENTS_PRESENT.set(Value::Is(roster.iter().filter(is_there).count() as f64), Vec::new());
        let open = self.rounds.values().filter(|round| !round.finished).count();
        ROUNDS_OPEN.set(Value::Is(open as f64), Vec::new());
    }

    /// An agent said what time it is: AGENT-06 while that is far from this coordinator's own, whichever of the two is wrong.
    /// Between the two limits nothing changes: a clock at the edge does not come and go.
    pub(super) fn clock(&self, service: &ServiceName, at: UnixMillis) {
        let about = About::Service(service.clone());
        let now = unix_now();
        let skew = Duration::from_millis(now.0.abs_diff(at.0));
        if skew > SKEW {
            let side = if at < now { "behind" } else { "ahead of" };
            let cause = format!("its clock is {} {side} the leader's", format_duration(whole(skew)));
            self.setting.alerts.raise(Finding::seen(Code::Agent06, about, cause));
        } else if skew < SKEW_OVER {
            self.setting.alerts.mended(Code::Agent06, &about);
        }
    }

    /// Whether the round of this number was over by then. One that is not at the desk ended before this coordinator led.
    fn ended_before(&self, number: u64, then: Instant) -> bool {
        let round = self.rounds.values().find(|round| round.open.number == number);
        round.is_none_or(|round| round.took.is_some_and(|took| round.began + took < then))
    }

    /// Names come from the roster alone: whoever may publish makes up as many as it likes.
    fn tell_ignored(&self, roster: &BTreeSet<ServiceName>) {
        for mut finding in self.setting.ignored.findings() {
            if finding.about.service().is_some_and(|service| !roster.contains(service)) {
                finding.about = About::Part(Part::Messages);
            }
            self.setting.alerts.raise(finding);
        }
    }
}

/// Without the milliseconds: nobody reads them.
fn whole(duration: Duration) -> Duration {
    Duration::from_secs(duration.as_secs())
}
