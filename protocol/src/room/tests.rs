//! Years of free space, hour by hour.

use super::{Basis, Looks, MOST_LOOKS, Outlook};
use crate::alert::{About, Book, Code, Part, judge_room};
use crate::seeds::Rng;
use crate::time::UnixMillis;

const GIB: u64 = 1 << 30;
const HOUR: i64 = 3_600_000;
const LEAST_DAYS: u64 = 14;

/// A share and the leader's looks at it.
struct Share {
    looks: Looks,
    book: Book,
    hour: i64,
}

impl Share {
    fn new() -> Self {
        Self { looks: Looks::default(), book: Book::default(), hour: 0 }
    }

    fn look(&mut self, free: u64) -> Outlook {
        self.hour += 1;
        let now = UnixMillis(self.hour * HOUR);
        assert!(self.looks.take(now, free));
        let outlook = Outlook::of(free, &self.looks, Some(GIB), Some(GIB));
        judge_room(&mut self.book, &outlook, LEAST_DAYS, now);
        outlook
    }

    fn is_told(&self) -> bool {
        self.book.find(Code::Share06, &About::Part(Part::Share)).is_some()
    }
}

/// Two rounds a day add, one prune a day frees what they added: a year in which nothing is told.
#[test]
fn a_year_in_balance_does_not_fill_the_share() {
    let mut share = Share::new();
    let mut rng = Rng(7);
    let mut free = 500 * GIB;
    for day in 0..365 {
        for hour in 0..24 {
            if hour % 12 == 3 {
                free -= 20 * GIB;
            }
            if hour == 18 && day > 7 {
                free += 40 * GIB;
            }
            let outlook = share.look(free - rng.below(3 * GIB));
            if day > 45 {
                assert_eq!(outlook.basis, Basis::Looks);
                assert!(outlook.days_left.is_none_or(|days| days > 200), "day {day}: {outlook:?}");
                assert!(!share.is_told(), "day {day}");
            }
        }
    }
}

/// A share that fills is told two weeks before, once, until somebody adds space.
#[test]
fn a_year_that_fills_the_share_is_told_in_time_and_until_space_is_added() {
    let mut share = Share::new();
    let (mut free, mut told_on, mut openings) = (1_000 * GIB, None, 0);
    for hour in 0..365 * 24_u64 {
        free -= 4 * GIB / 24;
        let was_told = share.is_told();
        share.look(free);
        if share.is_told() && !was_told {
            told_on.get_or_insert(free / (4 * GIB));
            openings += 1;
        }
        if hour == 240 * 24 {
            assert!(share.is_told(), "ten days are left");
            free += 2_000 * GIB;
        }
    }
    assert_eq!((told_on, openings), (Some(13), 1));
    assert!(!share.is_told(), "there is room for a year again");
}

#[test]
fn a_forecast_wavers_and_the_alert_does_not() {
    let mut book = Book::default();
    let mut changes = 0;
    for (at, days) in (0..).zip([20, 13, 14, 15, 16, 13, 17, 18, 14, 17]) {
        let outlook =
            Outlook { free_bytes: GIB, days_left: Some(days), basis: Basis::Looks, need_bytes: None };
        changes += u32::from(judge_room(&mut book, &outlook, LEAST_DAYS, UnixMillis(at)));
        let told = book.find(Code::Share06, &About::Part(Part::Share)).is_some();
        assert_eq!(told, (1..=6).contains(&at), "look {at}: {days} days");
    }
    assert_eq!(changes, 2);
    let outlook =
        |free_bytes| Outlook { free_bytes, days_left: None, basis: Basis::Looks, need_bytes: Some(100) };
    for (free, open) in [(120, false), (99, true), (105, true), (110, false)] {
        judge_room(&mut book, &outlook(free), LEAST_DAYS, UnixMillis(20));
        assert_eq!(book.open().count() == 1, open, "{free}");
    }
}

#[test]
fn one_file_that_comes_and_goes_is_no_trend() {
    let mut share = Share::new();
    for hour in 0..20 * 24_u64 {
        let film = if (200..260).contains(&hour) { 400 * GIB } else { 0 };
        let outlook = share.look(500 * GIB - film);
        assert!(hour < 24 || outlook.days_left.is_none_or(|days| days > 60), "hour {hour}: {outlook:?}");
    }
}

#[test]
fn before_there_is_a_day_of_looks_the_rounds_tell() {
    let mut looks = Looks::default();
    assert_eq!(Outlook::of(GIB, &looks, None, None).basis, Basis::Nothing);
    for hour in 0..24 {
        assert!(looks.take(UnixMillis(hour * HOUR), 100 * GIB - hour.unsigned_abs() * GIB));
        let outlook = Outlook::of(80 * GIB, &looks, Some(2 * GIB), None);
        assert_eq!((outlook.basis, outlook.days_left), (Basis::Rounds, Some(40)));
        assert!(!looks.take(UnixMillis(hour * HOUR + HOUR - 1), 0), "an hour is not over");
    }
    assert!(looks.take(UnixMillis(24 * HOUR), 76 * GIB));
    let outlook = Outlook::of(76 * GIB, &looks, Some(2 * GIB), None);
    assert_eq!((outlook.basis, outlook.days_left), (Basis::Looks, Some(3)));
    assert_eq!(Outlook::of(GIB, &looks, None, None).days_left, Some(0));
}

#[test]
fn looks_are_bounded_and_outlive_a_clock_that_leaps() {
    let mut looks = Looks::default();
    for hour in 0..5_000 {
        looks.take(UnixMillis(hour * HOUR), GIB);
    }
    let json = serde_json::to_value(&looks).expect("JSON");
    assert_eq!(json.as_array().map(Vec::len), Some(MOST_LOOKS));
    assert!(looks.take(UnixMillis(100 * HOUR), GIB), "the clock was ahead before");
    assert!(!looks.take(UnixMillis(100 * HOUR + 1), GIB));
    assert_eq!(looks.lost_a_day(), None, "nothing is known of what the wrong clock saw");
    looks.take(UnixMillis(i64::MAX), 0);
    assert_eq!(looks.lost_a_day().map(|lost| lost < GIB), Some(true));
}
