//! What the log tells of drills (DRILL-01): that the last one failed, took longer than promised, or is too long ago.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::alert::{About, Book, Code, Finding, Part};
use crate::log::State;
use crate::schedule::Standing;
use crate::settings::{DRILL_WITHIN, RECOVERY_TIME, default_of};
use crate::time::UnixMillis;
use crate::units::{format_duration, parse_duration};

/// What is promised of recoveries.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct DrillTerms {
    /// A whole round is recovered in a drill in each; none: nobody is waited for.
    pub within: Option<Duration>,
    /// A recovery of everything takes no longer; none: nothing is promised.
    pub promised: Option<Duration>,
}

impl DrillTerms {
    /// What the settings say; what is none there says nothing.
    #[must_use]
    pub fn of(clear: &BTreeMap<String, String>) -> Self {
        let read = |key: &str| {
            let set = clear.get(key).map(String::as_str).or_else(|| default_of(key));
            set.and_then(|text| parse_duration(text).ok())
        };
        Self { within: read(DRILL_WITHIN), promised: read(RECOVERY_TIME) }
    }

    /// What is wrong with how long drills take, or how long ago the last one was; that only where an enabled fleet waits for one.
    #[must_use]
    pub fn shortfall(&self, state: &State, enabled: bool, now: UnixMillis) -> Option<String> {
        let took = |millis: u64| format_duration(Duration::from_millis(millis));
        if let (Some(promised), Some(last)) = (self.promised, &state.drilled)
            && u128::from(last.drill.took_millis) > promised.as_millis()
        {
            return Some(format!(
                "the drill of round {} took {}, and {} is promised",
                last.number,
                took(last.drill.took_millis),
                format_duration(promised)
            ));
        }
        let within = self.within.filter(|_| enabled)?;
        let (since, what) = match &state.drill_passed {
            Some(passed) => (state.drilled_at(passed), "the last drill was"),
            None => {
                let committed = state.rounds.values().filter_map(|round| round.commit());
                (committed.map(|commit| commit.at).min()?, "there never was a drill, and the first round was")
            }
        };
        let age = u64::try_from(now.0.saturating_sub(since.0)).unwrap_or(0);
        (u128::from(age) > within.as_millis())
            .then(|| format!("{what} more than {} ago", format_duration(within)))
    }
}

/// Why the last drill of a whole round failed; none: it did not.
#[must_use]
pub fn drill_failure(state: &State) -> Option<(u64, String)> {
    let failed = state.failed_drill()?;
    let why = failed.drill.reason.as_deref().unwrap_or("no reason was given");
    Some((failed.number, format!("the drill of round {} failed: {why}", failed.number)))
}

/// Raises DRILL-01 while something is wrong with the drills: about a round whose drill failed, or about the fleet, which was slow or
/// has none. Closes it when that is over. True if anything changed.
pub fn judge_drills(
    book: &mut Book,
    state: &State,
    clear: &BTreeMap<String, String>,
    now: UnixMillis,
) -> bool {
    let before = book.clone();
    let enabled = match Standing::of(clear, now) {
        Standing::Enabled { .. } => true,
        Standing::Disabled { .. } | Standing::Never => false,
    };
    let wrong = match drill_failure(state) {
        Some((round, cause)) => Some((About::Round(round), cause)),
        None => {
            let cause = DrillTerms::of(clear).shortfall(state, enabled, now);
            cause.map(|cause| (About::Part(Part::Fleet), cause))
        }
    };
    // Another complaint is another alert.
    let over: Vec<About> = book
        .open()
        .filter(|open| open.code == Code::Drill01)
        .filter(|open| {
            wrong.as_ref().is_none_or(|(about, cause)| (about, cause) != (&open.about, &open.cause))
        })
        .map(|open| open.about.clone())
        .collect();
    for about in over {
        book.mended(Code::Drill01, &about, now);
    }
    if let Some((about, cause)) = wrong {
        book.raise(Finding::seen(Code::Drill01, about, cause), now);
    }
    *book != before
}

#[cfg(test)]
mod tests {
    use super::judge_drills;
    use crate::alert::{Book, Code};
    use crate::ids::{ObjectId, ServiceName};
    use crate::log::fixture::{FIRST, Fleet, OPERATOR, ROOT, VIEWER, commit, open, round, service};
    use crate::log::{Commit, Drill, DrillOutcome, Scope};
    use crate::time::UnixMillis;
    use std::collections::BTreeMap;

    const DAY: i64 = 86_400_000;

    fn drill(fleet: &Fleet, number: u8, outcome: DrillOutcome, minutes: u64, day: i64) -> Drill {
        Drill {
            previous: fleet.last::<Drill>(),
            round: round(number),
            scope: Scope::All,
            outcome,
            files: 3,
            bytes: 1_000,
            took_millis: minutes * 60_000,
            reason: (outcome == DrillOutcome::Failed).then(|| "two packs are damaged".to_owned()),
            at: UnixMillis(day * DAY),
        }
    }

    fn committed(fleet: &mut Fleet, number: u8, day: i64) {
        fleet.says(FIRST, &open(1, number, u64::from(number), &["dns"]));
        fleet.says(FIRST, &Commit { at: UnixMillis(day * DAY), ..commit(1, number) });
    }

    #[test]
    fn a_drill_that_failed_was_slow_or_is_overdue_is_told_until_a_better_one() {
        let mut fleet = Fleet::found();
        let mut book = Book::default();
        let settings = |pairs: &[(&str, &str)]| -> BTreeMap<String, String> {
            pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
        };
        let enabled = settings(&[("enabled", "yes"), ("drill.within", "30d"), ("recovery_time", "2h")]);
        let mut judge = |fleet: &Fleet, clear: &BTreeMap<String, String>, day: i64| {
            judge_drills(&mut book, &fleet.state, clear, UnixMillis(day * DAY));
            let open = book.open().find(|alert| alert.code == Code::Drill01);
            open.map(|alert| alert.cause.clone()).unwrap_or_default()
        };
        assert_eq!(judge(&fleet, &enabled, 9_000), "", "there is nothing to drill");
        committed(&mut fleet, 1, 100);
        assert_eq!(judge(&fleet, &enabled, 130), "");
        assert_eq!(
            judge(&fleet, &enabled, 131),
            "there never was a drill, and the first round was more than 30 days ago"
        );
        assert_eq!(judge(&fleet, &settings(&[("drill.within", "30d")]), 131), "", "nobody enabled it");
        assert_eq!(judge(&fleet, &settings(&[("enabled", "yes"), ("drill.within", "off")]), 9_000), "");
        let passed = drill(&fleet, 1, DrillOutcome::Passed, 90, 131);
        fleet.states(FIRST, OPERATOR, &passed);
        assert_eq!(judge(&fleet, &enabled, 161), "");
        assert_eq!(judge(&fleet, &enabled, 162), "the last drill was more than 30 days ago");
        let slow = drill(&fleet, 1, DrillOutcome::Passed, 150, 162);
        fleet.states(FIRST, ROOT, &slow);
        assert_eq!(judge(&fleet, &enabled, 162), "the drill of round 1 took 2 h 30 min, and 2 h is promised");
        let failed = drill(&fleet, 1, DrillOutcome::Failed, 1, 163);
        fleet.states(FIRST, OPERATOR, &failed);
        assert_eq!(judge(&fleet, &settings(&[]), 163), "the drill of round 1 failed: two packs are damaged");
        assert!(fleet.state.failed_drill().is_some());
        let passed = fleet.state.drill_passed.as_ref().map(|passed| passed.drill.took_millis);
        assert_eq!(passed, Some(150 * 60_000), "the last one that passed is another");
        // One of some services proves nothing about the others.
        let part: ServiceName = service("dns");
        let some =
            Drill { scope: Scope::Services(vec![part]), ..drill(&fleet, 1, DrillOutcome::Passed, 1, 164) };
        fleet.states(FIRST, OPERATOR, &some);
        assert!(!judge(&fleet, &enabled, 164).is_empty());
        let passed = drill(&fleet, 1, DrillOutcome::Passed, 1, 164);
        fleet.states(FIRST, OPERATOR, &passed);
        assert_eq!(judge(&fleet, &enabled, 164), "");
        assert!(fleet.state.failed_drill().is_none());
        // An older round neither gives nor takes anything once a newer one was tried.
        committed(&mut fleet, 2, 165);
        let failed = drill(&fleet, 2, DrillOutcome::Failed, 1, 165);
        fleet.states(FIRST, OPERATOR, &failed);
        let older = drill(&fleet, 1, DrillOutcome::Passed, 1, 165);
        fleet.states(FIRST, OPERATOR, &older);
        assert_eq!(judge(&fleet, &enabled, 165), "the drill of round 2 failed: two packs are damaged");
        let passed = drill(&fleet, 2, DrillOutcome::Passed, 1, 165);
        fleet.states(FIRST, OPERATOR, &passed);
        let older = drill(&fleet, 1, DrillOutcome::Failed, 1, 165);
        fleet.states(FIRST, OPERATOR, &older);
        assert_eq!(judge(&fleet, &enabled, 165), "");
    }

    #[test]
    fn a_wrong_clock_makes_no_drill_last_for_ever() {
        let mut fleet = Fleet::found();
        committed(&mut fleet, 1, 100);
        let ahead = drill(&fleet, 1, DrillOutcome::Passed, 1, 4_000);
        fleet.states(FIRST, OPERATOR, &ahead);
        committed(&mut fleet, 2, 101);
        let enabled: BTreeMap<_, _> = [("enabled".to_owned(), "yes".to_owned())].into();
        let mut book = Book::default();
        assert!(!judge_drills(&mut book, &fleet.state, &enabled, UnixMillis(191 * DAY)));
        assert!(
            judge_drills(&mut book, &fleet.state, &enabled, UnixMillis(192 * DAY)),
            "90 days after round 2"
        );
        let behind = drill(&fleet, 2, DrillOutcome::Passed, 1, 3);
        fleet.states(FIRST, OPERATOR, &behind);
        let drilled = fleet.state.drilled.as_ref().expect("a drill");
        assert_eq!(fleet.state.drilled_at(drilled), UnixMillis(101 * DAY), "no earlier than its round");
    }

    #[test]
    fn only_operators_tell_of_drills_and_only_of_rounds_that_are_there() {
        let mut fleet = Fleet::found();
        let early = drill(&fleet, 1, DrillOutcome::Passed, 1, 1);
        fleet.states_in_vain(FIRST, OPERATOR, &early, "does not exist");
        fleet.says(FIRST, &open(1, 1, 1, &["dns"]));
        fleet.states_in_vain(FIRST, OPERATOR, &early, "not committed");
        fleet.says(FIRST, &commit(1, 1));
        fleet.states_in_vain(FIRST, VIEWER, &early, "may not tell of drills");
        fleet.states_in_vain(FIRST, FIRST, &early, "may not tell of drills");
        let forged = Drill { previous: Some(ObjectId::of(b"other")), ..early.clone() };
        fleet.states_in_vain(FIRST, OPERATOR, &forged, "does not follow the last drill");
        fleet.states(FIRST, OPERATOR, &early);
        assert_eq!(fleet.state.drilled.as_ref().map(|drilled| drilled.number), Some(1));
    }
}
