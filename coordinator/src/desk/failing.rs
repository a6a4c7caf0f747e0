//! A line for each attempt that came to nothing, when it does: what a round's manifest says only at its end, and what no log had of a
//! round that was not committed.

use std::collections::BTreeMap;

use muster_protocol::document::Try;
use muster_protocol::ids::ServiceName;
use muster_protocol::round::{Event, Machine, MemberPhase, MemberView};

/// Lines at a time: when a deadline passes, thousands may be late at once.
const MOST_LINES: usize = 100;

/// What was told of the services of one round: the last attempt, and when it was over.
#[derive(Debug, Default)]
pub(super) struct Failing(BTreeMap<ServiceName, (u64, u32)>);

impl Failing {
    /// Tells what failed since the last time, of these services; a machine that was told something of one service is asked for that
    /// one alone, since rounds are of thousands.
    pub(super) fn tell(&mut self, number: u64, machine: &Machine, service: Option<&ServiceName>) {
        let mut lines = 0;
        match service {
            Some(service) => {
                machine.member(service).iter().for_each(|one| self.lines(number, one, &mut lines))
            }
            None => machine.members().for_each(|one| self.lines(number, &one, &mut lines)),
        }
        if lines > MOST_LINES {
            let more = lines - MOST_LINES;
            tracing::warn!(
                number,
                more,
                "further attempts failed; muster show tells them once the round has ended"
            );
        }
    }

    fn lines(&mut self, number: u64, member: &MemberView<'_>, lines: &mut usize) {
        let (service, again) = (member.service, is_tried_again(member.phase));
        for Try { attempt, code, reason, .. } in self.fresh(service, member.tries) {
            *lines += 1;
            if *lines <= MOST_LINES {
                tracing::warn!(number, %service, attempt, reason, again, "{code}: an attempt failed");
            }
        }
    }

    /// Those that were not told yet.
    fn fresh<'a>(&mut self, service: &ServiceName, tries: &'a [Try]) -> &'a [Try] {
        let told = self.0.get(service).copied();
        let key = |one: &Try| (one.after_millis, one.attempt);
        let from = tries.partition_point(|one| told.is_some_and(|told| key(one) <= told));
        if let Some(last) = tries.last().filter(|_| from < tries.len()) {
            self.0.insert(service.clone(), key(last));
        }
        &tries[from..]
    }
}

/// Whether the service is still expected to give a slice.
fn is_tried_again(phase: &MemberPhase) -> bool {
    match phase {
        MemberPhase::Absent(_) => false,
        MemberPhase::Queued
        | MemberPhase::Waiting
        | MemberPhase::Working
        | MemberPhase::Holding
        | MemberPhase::Checking { .. }
        | MemberPhase::BackingOff { .. }
        | MemberPhase::Stored(_) => true,
    }
}

/// Whose attempt may have failed by this; none: nobody's.
pub(super) fn suspect(event: &Event) -> Option<&ServiceName> {
    match event {
        Event::Failed { service, .. }
        | Event::Checked { service, .. }
        | Event::Disowned { service, .. }
        | Event::Hello { service, .. }
        | Event::Stored { service, .. }
        | Event::Snapped { service, .. }
        | Event::Quiesced { service, .. } => Some(service),
        Event::Opened
        | Event::Seen { .. }
        | Event::AtWork { .. }
        | Event::ManifestWritten { .. }
        | Event::Committed
        | Event::Reread { .. }
        | Event::RereadFailed { .. }
        | Event::VerifiedAppended
        | Event::EndAppended
        | Event::StageFailed { .. }
        | Event::Cancel { .. } => None,
    }
}

#[cfg(test)]
mod tests {
    use muster_protocol::alert::Code;
    use muster_protocol::document::Try;

    use super::Failing;

    fn failed(attempt: u32, after_millis: u64) -> Try {
        Try { attempt, after_millis, code: Code::Agent03, reason: "locked".to_owned() }
    }

    #[test]
    fn each_attempt_is_told_once() {
        let (dns, web) = ("dns".parse().expect("a name"), "web".parse().expect("a name"));
        let mut failing = Failing::default();
        assert!(failing.fresh(&dns, &[]).is_empty());
        let mut tries = vec![failed(1, 10)];
        assert_eq!(failing.fresh(&dns, &tries), tries);
        assert!(failing.fresh(&dns, &tries).is_empty(), "it was told");
        tries.extend([failed(2, 30), failed(3, 50)]);
        assert_eq!(failing.fresh(&dns, &tries), &tries[1..]);
        // A machine keeps only so many of them, and lets the oldest go.
        tries.remove(0);
        tries.push(failed(4, 60));
        assert_eq!(failing.fresh(&dns, &tries), [failed(4, 60)]);
        assert_eq!(failing.fresh(&web, &[failed(1, 5)]), [failed(1, 5)], "each service for itself");
    }
}
