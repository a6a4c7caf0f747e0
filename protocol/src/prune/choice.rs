//! Which rounds stay, and why.

use std::collections::BTreeMap;

use super::age::Ages;
use super::calendar::{Span, Spans};
use super::terms::Terms;
use crate::ids::{RoundId, ServiceName};
use crate::log::{Role, RoundPhase, RoundState, Scope, State};
use crate::time::UnixMillis;

/// Why a round stays.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kept {
    /// It is open.
    Open,
    /// An operator holds it.
    Held,
    /// It is one of the newest of some service (`retention.keep_last`).
    Last,
    /// It is young (`retention.keep_days`).
    Days,
    /// It stands for a span of the calendar (`retention.keep_hourly`, and so on).
    Span(Span),
    /// Without it some service would have fewer verified rounds than it must (`retention.min_verified`).
    Minimum,
}

/// What becomes of a round.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It stays, and so does everything that it names.
    Stays(Kept),
    /// Nothing keeps it.
    Goes,
    /// It holds nothing: it was swept before, or ended without a commit.
    Empty,
}

/// Judges the rounds of a log, the newest first.
///
/// Only verified rounds count towards `keep_last` and `min_verified`, and stand for spans of the calendar. A round that is committed
/// and not verified counts for nothing, and stays as long as the verified rounds around it do.
#[derive(Debug)]
pub struct Chooser<'a> {
    state: &'a State,
    terms: Terms,
    ages: Ages,
    /// Verified rounds judged so far, by service.
    verified: BTreeMap<ServiceName, u32>,
    spans: Spans,
    /// The number of the round judged last.
    last: Option<u64>,
}

impl<'a> Chooser<'a> {
    /// For this log and these terms, at `now`.
    #[must_use]
    pub fn new(state: &'a State, terms: Terms, now: UnixMillis) -> Self {
        let ages = Ages::of(state, now, terms.interval);
        Self { state, terms, ages, verified: BTreeMap::new(), spans: Spans::default(), last: None }
    }

    /// The rounds in the order in which they are to be judged.
    #[must_use]
    pub fn order(&self) -> Vec<&'a RoundState> {
        let mut rounds = self.state.rounds_by_number();
        rounds.reverse();
        rounds
    }

    /// Judges the next round. `services` have a slice in it; none: its manifest cannot be read, so that it counts for
    /// nothing, and stays for every service that may have had a slice. Of `damaged` ones the slice names what is in quarantine: it
    /// counts for nothing either, and stays as long as the rounds around it.
    ///
    /// # Panics
    /// When a newer round is judged after an older one: the counts would be wrong, and rounds would be lost.
    pub fn judge(
        &mut self,
        round: &RoundState,
        services: Option<&[ServiceName]>,
        damaged: &[ServiceName],
    ) -> Verdict {
        let number = round.open.number;
        assert!(self.last.is_none_or(|last| number < last), "round {number} is judged out of order");
        self.last = Some(number);
        let is_verified = match &round.phase {
            RoundPhase::Open => return Verdict::Stays(Kept::Open),
            RoundPhase::Ended(_) => return Verdict::Empty,
            RoundPhase::Committed { .. } if round.swept => return Verdict::Empty,
            RoundPhase::Committed { verified, .. } => verified.is_some(),
        };
        let concerned: Vec<&ServiceName> = match (services, &round.open.scope) {
            (Some(services), _) => services.iter().collect(),
            (None, Scope::Services(services)) => services.iter().collect(),
            (None, Scope::All) => self.ever().collect(),
        };
        let fewest = self.fewest(concerned.iter().copied());
        let at = self.ages.when(&round.open.round);
        let span = self.spans.need(&self.terms.calendar, concerned.iter().copied(), at);
        if let Some(services) = services.filter(|_| is_verified) {
            let whole: Vec<_> =
                services.iter().filter(|service| !damaged.contains(service)).cloned().collect();
            for service in &whole {
                *self.verified.entry(service.clone()).or_default() += 1;
            }
            self.spans.cover(&whole, at);
        }
        let below = |limit: u32| fewest.is_some_and(|fewest| fewest < limit);
        if round.hold.is_some() {
            Verdict::Stays(Kept::Held)
        } else if below(self.terms.keep_last) {
            Verdict::Stays(Kept::Last)
        } else if self.is_young(&round.open.round) {
            Verdict::Stays(Kept::Days)
        } else if let Some(span) = span {
            Verdict::Stays(Kept::Span(span))
        } else if below(self.terms.min_verified) {
            Verdict::Stays(Kept::Minimum)
        } else {
            Verdict::Goes
        }
    }

    /// The fewest verified rounds, of those judged so far, that any of the services has; none without services.
    fn fewest<'s>(&self, services: impl Iterator<Item = &'s ServiceName>) -> Option<u32> {
        services.map(|service| self.verified.get(service).copied().unwrap_or_default()).min()
    }

    /// Every service that ever had an agent.
    fn ever(&self) -> impl Iterator<Item = &'a ServiceName> {
        self.state.members.values().filter_map(|member| match &member.member.role {
            Role::Agent { service, .. } => Some(service),
            Role::Coordinator
            | Role::Viewer
            | Role::Operator
            | Role::Admin
            | Role::Pruner
            | Role::Enroller { .. } => None,
        })
    }

    fn is_young(&self, round: &RoundId) -> bool {
        self.terms.keep_days > 0 && self.ages.get(round) <= self.terms.keep_for()
    }
}

#[cfg(test)]
mod tests {
    use super::{Chooser, Kept, Verdict};
    use crate::ids::ObjectId;
    use crate::ids::ServiceName;
    use crate::log::fixture::{
        FIRST, Fleet, OPERATOR, PRUNER, agent, commit, end, open, round, service, verified,
    };
    use crate::log::{Change, Hold, Prune, Role, Roster, Sweep, fixture::ROOT};
    use crate::prune::{Calendar, Span, Terms};
    use crate::time::UnixMillis;
    use std::time::Duration;

    const DAY: Duration = Duration::from_secs(86_400);

    fn terms(keep_last: u32, keep_days: u32, min_verified: u32) -> Terms {
        let calendar = Calendar::default();
        Terms { keep_last, keep_days, calendar, min_verified, interval: DAY, grace: DAY }
    }

    /// Rounds 1…, a day apart; `dns` is in all, `web` where the name says so.
    fn rounds(words: &[&str]) -> Fleet {
        let mut fleet = Fleet::found();
        let roster = Roster {
            previous: fleet.last::<Roster>(),
            changes: vec![Change::Admit(agent(20, "web"))],
            at: None,
        };
        fleet.states(ROOT, ROOT, &roster);
        for (id, word) in (1u8..).zip(words) {
            let mut opening = open(1, id, u64::from(id), &["dns", "web"]);
            opening.at = UnixMillis(i64::from(id) * 86_400_000);
            fleet.says(FIRST, &opening);
            match *word {
                "open" => {}
                "failed" => fleet.says(FIRST, &end(1, id)),
                "committed" => fleet.says(FIRST, &commit(1, id)),
                _ => {
                    fleet.says(FIRST, &commit(1, id));
                    fleet.says(FIRST, &verified(1, id));
                }
            }
        }
        fleet
    }

    fn judge(fleet: &Fleet, terms: Terms, words: &[&str], now: i64) -> Vec<Verdict> {
        let mut chooser = Chooser::new(&fleet.state, terms, UnixMillis(now * 86_400_000));
        let mut verdicts = Vec::new();
        for round in chooser.order() {
            let word = words[usize::try_from(round.open.number).expect("small") - 1];
            let services: Vec<ServiceName> =
                if word == "web" { vec![service("dns"), service("web")] } else { vec![service("dns")] };
            let services = (word != "damaged").then_some(services.as_slice());
            verdicts.push(chooser.judge(round, services, &[]));
        }
        verdicts.reverse();
        verdicts
    }

    const LAST: Verdict = Verdict::Stays(Kept::Last);
    const DAYS: Verdict = Verdict::Stays(Kept::Days);
    const MINIMUM: Verdict = Verdict::Stays(Kept::Minimum);
    const GOES: Verdict = Verdict::Goes;

    #[test]
    fn each_term_keeps_its_own() {
        let words = ["web", "dns", "dns", "dns", "dns", "dns"];
        let fleet = rounds(&words);
        assert_eq!(judge(&fleet, terms(0, 0, 1), &words, 6), [MINIMUM, GOES, GOES, GOES, GOES, MINIMUM]);
        assert_eq!(judge(&fleet, terms(2, 0, 1), &words, 6), [LAST, GOES, GOES, GOES, LAST, LAST]);
        assert_eq!(judge(&fleet, terms(0, 2, 1), &words, 6), [MINIMUM, GOES, GOES, DAYS, DAYS, DAYS]);
        assert_eq!(judge(&fleet, terms(1, 2, 4), &words, 6), [LAST, GOES, MINIMUM, DAYS, DAYS, LAST]);
    }

    /// Rounds at noon of 18 days, from Friday, 1970-01-02 on.
    #[test]
    fn the_newest_verified_round_of_each_span_stands_for_it() {
        let mut words = ["dns"; 18];
        // The newest Sunday is not verified, and the Saturday before it stands for that week.
        words[16] = "committed";
        let fleet = rounds(&words);
        let kept = |spans: &[(Span, u32)]| -> Vec<u64> {
            let keep = |span| Ok::<_, ()>(spans.iter().find(|(of, _)| *of == span).map_or(0, |(_, n)| *n));
            let terms = Terms { calendar: Calendar::of(keep).expect("a calendar"), ..terms(0, 0, 1) };
            let verdicts = judge(&fleet, terms, &words, 18);
            let stays = (1..).zip(verdicts).filter(|(_, verdict)| *verdict != GOES);
            stays.map(|(number, _)| number).collect()
        };
        assert_eq!(
            kept(&[(Span::Day, 3)]),
            [15, 16, 17, 18],
            "an unverified day is no day, and stays between"
        );
        assert_eq!(kept(&[(Span::Week, 3)]), [10, 16, 17, 18]);
        assert_eq!(kept(&[(Span::Week, 9)]), [3, 10, 16, 17, 18], "there are no more weeks");
        assert_eq!(kept(&[(Span::Month, 2), (Span::Day, 1)]), [18]);
        assert_eq!(kept(&[(Span::Hour, 2), (Span::Week, 2)]), [16, 17, 18]);
    }

    #[test]
    fn only_verified_rounds_count() {
        let words = ["dns", "dns", "dns", "committed", "failed", "open"];
        let fleet = rounds(&words);
        let open = Verdict::Stays(Kept::Open);
        assert_eq!(
            judge(&fleet, terms(0, 0, 2), &words, 6),
            [GOES, MINIMUM, MINIMUM, MINIMUM, Verdict::Empty, open]
        );
        assert_eq!(judge(&fleet, terms(1, 0, 1), &words, 6), [GOES, GOES, LAST, LAST, Verdict::Empty, open]);
    }

    #[test]
    fn a_round_whose_manifest_is_damaged_counts_for_nothing_and_stays_while_anyone_may_need_it() {
        let words = ["damaged", "web", "web", "damaged"];
        let fleet = rounds(&words);
        assert_eq!(judge(&fleet, terms(0, 0, 2), &words, 4), [GOES, MINIMUM, MINIMUM, MINIMUM]);
        let words = ["damaged", "dns", "dns"];
        assert_eq!(judge(&rounds(&words), terms(0, 0, 1), &words, 4), [MINIMUM, GOES, MINIMUM]);
    }

    #[test]
    fn a_slice_that_rests_on_what_is_damaged_counts_for_nothing_and_stays_between_the_whole_ones() {
        let fleet = rounds(&["dns"; 5]);
        let (dns, sick) = ([service("dns")], [2, 3, 4]);
        let judge = |minimum| {
            let mut chooser = Chooser::new(&fleet.state, terms(0, 0, minimum), UnixMillis(0));
            let mut verdicts = Vec::new();
            for round in chooser.order() {
                let damaged: &[ServiceName] = if sick.contains(&round.open.number) { &dns } else { &[] };
                verdicts.push(chooser.judge(round, Some(&dns), damaged));
            }
            verdicts.reverse();
            verdicts
        };
        assert_eq!(judge(1), [GOES, GOES, GOES, GOES, MINIMUM]);
        assert_eq!(judge(2), [MINIMUM; 5]);
    }

    #[test]
    fn held_rounds_stay_and_swept_ones_are_empty() {
        let words = ["dns"; 4];
        let mut fleet = rounds(&words);
        let hold =
            Hold { previous: None, round: round(1), keep: true, reason: Some("audit".to_owned()), at: None };
        fleet.states(FIRST, OPERATOR, &hold);
        assert_eq!(
            fleet.state.rounds[&round(1)].hold.as_ref().and_then(|h| h.reason.as_deref()),
            Some("audit")
        );
        let (rounds, list) = (vec![round(2)], ObjectId::of(b""));
        fleet.says(PRUNER, &Prune { epoch: 1, rounds: rounds.clone(), list, at: None });
        fleet.says(PRUNER, &Sweep { rounds, list });
        assert_eq!(
            judge(&fleet, terms(0, 0, 1), &words, 9),
            [Verdict::Stays(Kept::Held), Verdict::Empty, GOES, MINIMUM]
        );
    }

    #[test]
    #[should_panic(expected = "out of order")]
    fn another_order_is_refused() {
        let fleet = rounds(&["dns", "dns"]);
        let mut chooser = Chooser::new(&fleet.state, terms(0, 0, 1), UnixMillis(0));
        for round in fleet.state.rounds_by_number() {
            chooser.judge(round, Some(&[]), &[]);
        }
    }

    #[test]
    fn the_role_is_what_makes_a_service() {
        let fleet = rounds(&[]);
        let chooser = Chooser::new(&fleet.state, terms(0, 0, 1), UnixMillis(0));
        assert_eq!(chooser.ever().count(), 2);
        assert!(matches!(fleet.state.role(&crate::log::fixture::key(PRUNER)), Some(Role::Pruner)));
    }
}
