//! Who is there: agents that fell silent, outside rounds as well, and what was ignored since the last look.

use std::collections::BTreeSet;
use std::time::Duration;

use muster_protocol::alert::{About, Code, Finding, Part};
use muster_protocol::ids::ServiceName;
use muster_protocol::service_policy::{Expected, ServicePolicies};

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
            let about = About::Service(service);
            if !silent {
                // Before anything of it was heard nobody knows.
                if heard.is_some() {
                    alerts.mended(Code::Agent01, &about);
                }
            } else if let Some(service) = about.service()
                && policies.policy(service).expected == Expected::Always
            {
                let cause = match heard {
                    Some(_) => format!("nothing was heard of it for {}", secs(limit)),
                    None => {
                        format!("nothing was heard of it for {} since this coordinator leads", secs(limit))
                    }
                };
                alerts.raise(Finding::seen(Code::Agent01, about, cause));
                continue;
            }
            if about.service().is_some_and(|service| self.roll.speaks(service, limit)) {
                alerts.mended(Code::Agent05, &about);
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

fn secs(limit: Duration) -> String {
    muster_protocol::units::format_duration(limit)
}
