//! When no scheduled round begins: dates that are excepted, and maintenance windows of the week.

use jiff::civil::{Date, DateTime, Time, Weekday};

use super::NONE;

/// Most dates or windows in one setting: the record has room for more, a calendar of exceptions does not need it.
const MAX_ITEMS: usize = 200;

/// Dates on which no scheduled round begins: `2026-12-24..2026-12-26, 2027-01-01`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Exceptions(Vec<(Date, Date)>);

impl Exceptions {
    /// Those of a setting.
    ///
    /// # Errors
    /// What it must be, in words.
    pub fn parse(text: &str) -> Result<Self, String> {
        let one = |item: &str| {
            let (first, last) = item.split_once("..").unwrap_or((item, item));
            let date = |text: &str| {
                text.trim().parse::<Date>().map_err(|_| {
                    format!(
                        "must be none, or dates and ranges such as 2026-12-24..2026-12-26, 2027-01-01; {:?} is neither",
                        cut(item)
                    )
                })
            };
            let (first, last) = (date(first)?, date(last)?);
            if last < first {
                return Err(format!("has a range that ends before it begins: {}", cut(item)));
            }
            Ok((first, last))
        };
        items(text, one).map(Self)
    }

    /// Where the exception ends that this moment lies in.
    pub(super) fn end_of(&self, at: DateTime) -> Option<DateTime> {
        let (_, last) = self.0.iter().find(|(first, last)| (*first..=*last).contains(&at.date()))?;
        Some(last.tomorrow().map_or(DateTime::MAX, |day| day.to_datetime(Time::midnight())))
    }
}

/// Spans of the week in which no scheduled round begins: `mon-fri 08:00-18:00, sat 22:00-06:00`. One that ends before it begins
/// ends on the next day; without days it is one of every day.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Windows(Vec<Window>);

#[derive(Debug, Clone, PartialEq, Eq)]
struct Window {
    /// By days from Monday.
    days: [bool; 7],
    from: Time,
    /// None: midnight.
    until: Option<Time>,
}

impl Windows {
    /// Those of a setting.
    ///
    /// # Errors
    /// What it must be, in words.
    pub fn parse(text: &str) -> Result<Self, String> {
        items(text, window).map(Self)
    }

    /// Where the window ends that this moment lies in.
    pub(super) fn end_of(&self, at: DateTime) -> Option<DateTime> {
        self.0.iter().find_map(|window| window.end_of(at))
    }
}

impl Window {
    fn end_of(&self, at: DateTime) -> Option<DateTime> {
        // It began today, or yesterday and goes on past midnight.
        let today = at.date();
        let began = [Some(today), today.yesterday().ok()].into_iter().flatten();
        began.filter(|day| self.days[index(day.weekday())]).find_map(|day| {
            let from = day.to_datetime(self.from);
            let next = || day.tomorrow().ok();
            let until = match self.until {
                Some(until) if until > self.from => day.to_datetime(until),
                Some(until) => next()?.to_datetime(until),
                None => next()?.to_datetime(Time::midnight()),
            };
            (from <= at && at < until).then_some(until)
        })
    }
}

fn window(item: &str) -> Result<Window, String> {
    let wrong = || {
        format!(
            "must be none, or windows such as mon-fri 08:00-18:00, sat+sun 22:00-06:00 or 12:00-13:00; {:?} is none",
            cut(item)
        )
    };
    let (days, span) = match item.rsplit_once(char::is_whitespace) {
        Some((days, span)) => (days_of(days).ok_or_else(wrong)?, span),
        None => ([true; 7], item),
    };
    let (from, until) = span.split_once('-').ok_or_else(wrong)?;
    let (from, until) = (time(from).ok_or_else(wrong)?, until.trim());
    let until = match until {
        "24:00" => None,
        until => Some(time(until).ok_or_else(wrong)?),
    };
    if until == Some(from) {
        return Err(format!("has a window without an extent: {:?}; a whole day is 00:00-24:00", cut(item)));
    }
    Ok(Window { days, from, until })
}

fn days_of(text: &str) -> Option<[bool; 7]> {
    let mut days = [false; 7];
    for part in text.split('+') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (mut day, last) = (day(first)?, day(last)?);
        days[day] = true;
        while day != last {
            day = (day + 1) % 7;
            days[day] = true;
        }
    }
    Some(days)
}

fn day(text: &str) -> Option<usize> {
    const DAYS: [&str; 7] = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"];
    DAYS.iter().position(|day| text.trim().eq_ignore_ascii_case(day))
}

fn index(day: Weekday) -> usize {
    usize::try_from(day.to_monday_zero_offset()).unwrap_or_default()
}

/// `08:00`
fn time(text: &str) -> Option<Time> {
    let (hour, minute) = text.trim().split_once(':')?;
    let two = |text: &str| (text.len() == 2).then(|| text.parse::<i8>().ok()).flatten();
    Time::new(two(hour)?, two(minute)?, 0, 0).ok()
}

fn items<T>(text: &str, one: impl Fn(&str) -> Result<T, String>) -> Result<Vec<T>, String> {
    if text.trim() == NONE {
        return Ok(Vec::new());
    }
    let items: Vec<&str> = text.split(',').map(str::trim).collect();
    if items.len() > MAX_ITEMS {
        return Err(format!("has more than {MAX_ITEMS} parts"));
    }
    items.into_iter().map(one).collect()
}

fn cut(text: &str) -> String {
    text.chars().take(64).collect()
}
