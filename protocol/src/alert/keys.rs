//! What the log tells of the recovery keys: how long the same ones have been in use (KEY-02). Whether their private halves still
//! open a round, no log knows: that is for the operator's machine to tell.

use std::time::Duration;

use crate::alert::{About, Book, Code, Finding, Part};
use crate::log::State;
use crate::time::UnixMillis;
use crate::units::format_duration;

const FLEET: About = About::Part(Part::Fleet);
/// After so long a rotation is due: two years.
const ROTATE_AFTER: Duration = Duration::from_secs(2 * 365 * 86_400);

/// Raises KEY-02 while the keyset in force is older than two years, by the time that it says itself. One that says none tells
/// nothing. True if anything changed.
pub fn judge_keys(book: &mut Book, state: &State, now: UnixMillis) -> bool {
    let before = book.clone();
    let said = state.keyset().and_then(|(number, keyset)| Some((number, keyset.at?)));
    let age =
        |at: UnixMillis| u64::try_from(now.0.saturating_sub(at.0) / 1_000).map(Duration::from_secs).ok();
    match said.and_then(|(number, at)| Some((number, age(at)?))).filter(|(_, age)| *age > ROTATE_AFTER) {
        Some((number, _)) => {
            let limit = format_duration(ROTATE_AFTER);
            let cause = format!("the recovery keys of log record {number} are in use for more than {limit}");
            book.raise(Finding::seen(Code::Key02, FLEET, cause), now);
        }
        None => {
            book.mended(Code::Key02, &FLEET, now);
        }
    }
    *book != before
}

#[cfg(test)]
mod tests {
    use super::judge_keys;
    use crate::alert::{Book, Code};
    use crate::log::Keyset;
    use crate::log::fixture::{FIRST, Fleet, ROOT, recovery_key};
    use crate::time::UnixMillis;

    const DAY: i64 = 86_400_000;

    #[test]
    fn old_recovery_keys_are_told_until_they_are_rotated() {
        let mut fleet = Fleet::found();
        let mut book = Book::default();
        let mut judge = |fleet: &Fleet, day: i64| {
            judge_keys(&mut book, &fleet.state, UnixMillis(day * DAY));
            book.open().map(|alert| alert.code).collect::<Vec<_>>()
        };
        assert_eq!(judge(&fleet, 100_000), [], "of these nobody said since when");
        let keyset = |fleet: &Fleet, day: i64| Keyset {
            previous: fleet.last::<Keyset>(),
            keys: vec![recovery_key(2)],
            at: Some(UnixMillis(day * DAY)),
        };
        fleet.states(FIRST, ROOT, &keyset(&fleet, 10));
        assert_eq!(judge(&fleet, 740), []);
        assert_eq!(judge(&fleet, 741), [Code::Key02]);
        fleet.states(FIRST, ROOT, &keyset(&fleet, 741));
        assert_eq!(judge(&fleet, 742), []);
    }
}
