//! Who is there: agents that fell silent, outside rounds as well, and what was ignored since the last look.

use std::collections::BTreeSet;
use std::time::Duration;

use muster_protocol::alert::{About, Code, Finding, Part};
use muster_protocol::ids::ServiceName;
use muster_protocol::service_policy::{Expected, ServicePolicies};
use muster_protocol::units::format_duration;

use super::Desk;

/// Longest and shortest time between two looks.
const MOST: Duration = Duration::from_secs(5);
const LEAST: Duration = Duration::from_millis(250);

impl Desk {
    /// How often it looks.
    pub(super) fn look_every(&self) -> Duration {
        (self.setting.policy.offline_after / 4).clamp(LEAST, MOST)
    }

    /// Raises and closes what only a look at the time tells.
    pub(super) fn look(&self) {
        let state = self.state();
        let roster: BTreeSet<ServiceName> = state.services().into_iter().collect();
        self.tell_ignored(&roster);
        let limit = self.setting.policy.offline_after;
        let settled = self.origin.elapsed() > limit;
        let policies =
            state.config.as_ref().map(|config| ServicePolicies::of(&config.clear)).unwrap_or_default();
        let alerts = &self.setting.alerts;
        for service in roster {
            let heard = self.roll.agent(&service).map(|entry| entry.seen.elapsed());
            let silent = heard.map_or(settled, |elapsed| elapsed > limit);
            let about = About::Service(service.clone());
            if self.roll.speaks(&service, limit) {
                alerts.mended(Code::Agent05, &about);
            }
            let may_be_away = policies.policy(&service).expected == Expected::WhilePresent;
            if silent && !may_be_away {
                let limit = format_duration(limit);
                let cause = match heard {
                    Some(_) => format!("nothing was heard of it for {limit}"),
                    None => format!("nothing was heard of it for {limit} since this coordinator leads"),
                };
                alerts.raise(Finding::seen(Code::Agent01, about, cause));
            } else if heard.is_some() || may_be_away {
                // Of any other nobody knows before it is heard, or has been silent for long enough.
                alerts.mended(Code::Agent01, &about);
            }
        }
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
