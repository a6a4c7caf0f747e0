//! What goes to standard output and standard error: lines, tables, JSON, and the words for times and sizes.
//!
//! Must never lose meaning without colour or a terminal. A reader that went away (`muster rounds | head`) is no error.
//! Names and reasons are often others' words: no control character of theirs reaches a terminal. JSON has them exactly.

#![expect(clippy::print_stderr, reason = "the command line is what talks to people")]

use std::borrow::Cow;
use std::io::{self, IsTerminal, Write};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use comfy_table::{ContentArrangement, Table, presets};
use jiff::tz::TimeZone;
use muster_protocol::time::UnixMillis;
use serde::Serialize;

/// Blanks between columns.
const BETWEEN: usize = 2;
/// No column is cut below this.
const NARROWEST: usize = 6;

/// A line on standard output.
pub(crate) fn line(text: impl AsRef<str>) {
    write(&plain(text.as_ref()));
}

/// A text of ours on standard output, line by line, such as a table.
pub(crate) fn lines(text: impl AsRef<str>) {
    text.as_ref().lines().for_each(line);
}

/// A line on standard error: warnings and what does not belong to the result.
pub(crate) fn aside(text: impl AsRef<str>) {
    eprintln!("{}", plain(text.as_ref()));
}

/// A text of ours on standard error, line by line, such as a failure.
pub(crate) fn asides(text: impl AsRef<str>) {
    text.as_ref().lines().for_each(aside);
}

/// One JSON document on one line.
pub(crate) fn json(value: &impl Serialize) {
    write(&serde_json::to_string(value).expect("our own answers are JSON"));
}

fn write(line: &str) {
    let mut out = io::stdout().lock();
    // Nobody reads any more: there is nobody to tell either.
    drop(writeln!(out, "{line}").and_then(|()| out.flush()));
}

/// `text` as one line that does nothing to a terminal: lines become words, and what controls it or turns the direction of
/// writing is spelled out.
pub(crate) fn plain(text: &str) -> Cow<'_, str> {
    let bidi = |c: char| matches!(c, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    let harmful = |c: char| c.is_control() || bidi(c) || matches!(c, '\u{2028}' | '\u{2029}');
    if !text.contains(harmful) {
        return Cow::Borrowed(text);
    }
    let mut plain = String::new();
    for c in text.trim_end().chars() {
        match c {
            '\n' | '\r' | '\t' | '\u{2028}' | '\u{2029}' => plain.push(' '),
            c if harmful(c) => plain.extend(c.escape_unicode()),
            c => plain.push(c),
        }
    }
    Cow::Owned(plain)
}

/// Whether standard output is a terminal.
pub(crate) fn is_terminal() -> bool {
    io::stdout().is_terminal()
}

/// A table of plain columns; on a terminal, cells are cut so that each row fits a line.
pub(crate) fn table(headings: &[&str], rows: Vec<Vec<String>>) -> String {
    let width = if is_terminal() { Table::new().width() } else { None };
    table_within(headings, rows, width.map(usize::from))
}

fn table_within(headings: &[&str], mut rows: Vec<Vec<String>>, width: Option<usize>) -> String {
    for cell in rows.iter_mut().flatten() {
        if let Cow::Owned(clean) = plain(cell) {
            *cell = clean;
        }
    }
    if let Some(width) = width {
        let widths = fitting(headings, &rows, width);
        for row in &mut rows {
            for (cell, width) in row.iter_mut().zip(&widths) {
                cut(cell, *width);
            }
        }
    }
    let mut table = Table::new();
    table
        .load_style(presets::NOTHING)
        .set_content_arrangement(ContentArrangement::Disabled)
        .set_header(headings.to_vec());
    for row in rows {
        table.add_row(row);
    }
    for column in table.column_iter_mut() {
        column.set_padding((0, 2));
    }
    table.to_string().lines().map(str::trim_end).collect::<Vec<_>>().join("\n")
}

/// Widths of columns, the widest narrowed first, until a row fits; never narrower than heading and [`NARROWEST`].
fn fitting(headings: &[&str], rows: &[Vec<String>], most: usize) -> Vec<usize> {
    let mut widths: Vec<usize> = headings.iter().map(|heading| heading.chars().count()).collect();
    let least: Vec<usize> = widths.iter().map(|width| (*width).max(NARROWEST)).collect();
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let gaps = BETWEEN * widths.len().saturating_sub(1);
    while widths.iter().sum::<usize>() + gaps > most {
        let cuttable = widths.iter().zip(&least).enumerate().filter(|(_, (width, least))| width > least);
        let Some((widest, _)) = cuttable.max_by_key(|(_, (width, _))| **width) else { break };
        widths[widest] -= 1;
    }
    widths
}

/// Cuts a text to `width` characters, the last of which then is an ellipsis.
fn cut(text: &mut String, width: usize) {
    if text.chars().count() > width {
        *text = text.chars().take(width.saturating_sub(1)).collect::<String>().trim_end().to_owned();
        text.push('…');
    }
}

/// A time for people, in the machine's zone; the day only when it is not today's.
pub(crate) fn time(at: UnixMillis) -> String {
    match jiff::Timestamp::from_millisecond(at.0) {
        Ok(time) => {
            let zone = TimeZone::system();
            let then = time.to_zoned(zone.clone());
            let today = jiff::Timestamp::now().to_zoned(zone);
            // Whoever has no zone set reads times that are not those of the clock on the wall.
            let utc = if then.strftime("%Z").to_string() == "UTC" { " UTC" } else { "" };
            if then.date() == today.date() {
                format!("{}{utc} today", then.strftime("%H:%M:%S"))
            } else {
                format!("{}{utc}", then.strftime("%Y-%m-%d %H:%M:%S"))
            }
        }
        Err(_) => "at an impossible time".to_owned(),
    }
}

/// The day of a time, for people, in the machine's zone.
pub(crate) fn day(at: SystemTime) -> String {
    match jiff::Timestamp::try_from(at) {
        Ok(time) => time.to_zoned(TimeZone::system()).strftime("%Y-%m-%d").to_string(),
        Err(_) => "an impossible day".to_owned(),
    }
}

/// A time for machines: RFC 3339 in UTC.
pub(crate) fn rfc3339(at: UnixMillis) -> String {
    at.rfc3339().unwrap_or_default()
}

/// Now, for people.
pub(crate) fn now() -> UnixMillis {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    UnixMillis(i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
}

/// How long ago a time was.
pub(crate) fn age(at: UnixMillis) -> Duration {
    Duration::from_millis(u64::try_from(now().0.saturating_sub(at.0)).unwrap_or(0))
}

/// `1 service`, `2 services`.
pub(crate) fn plural(count: usize, word: &str) -> String {
    if count == 1 { format!("1 {word}") } else { format!("{count} {word}s") }
}

#[cfg(test)]
mod tests {
    use super::{plain, rfc3339, table, table_within};
    use muster_protocol::time::UnixMillis;

    #[test]
    fn tables_have_no_trailing_blanks_and_no_frame() {
        let text = table(&["service", "state"], vec![vec!["dns-2".into(), "ok".into()]]);
        assert_eq!(text, "service  state\ndns-2    ok");
    }

    #[test]
    fn wide_tables_are_cut_to_the_terminal() {
        let long = "AGENT-03 the database is locked by another process and cannot be read".to_owned();
        let rows = vec![vec!["orders".into(), "12".into(), long.clone()]];
        let text = table_within(&["service", "round", "state"], rows.clone(), Some(40));
        assert!(text.lines().all(|line| line.chars().count() <= 40), "{text}");
        assert!(text.ends_with('…') && text.contains("orders"), "{text}");
        assert!(table_within(&["service", "round", "state"], rows.clone(), Some(8)).contains("orders"));
        assert!(table_within(&["service", "round", "state"], rows, None).contains(&long));
    }

    #[test]
    fn what_others_say_controls_no_terminal() {
        let hostile = "\u{1b}[2J\u{1b}]0;pwn\u{7}\r\nround 1 · complete\u{202e}\u{9b}31m";
        let said = plain(hostile);
        assert_eq!(said, "\\u{1b}[2J\\u{1b}]0;pwn\\u{7}  round 1 · complete\\u{202e}\\u{9b}31m");
        assert_eq!(plain("two\nlines\n"), "two lines");
        let text = table(&["service"], vec![vec![hostile.to_owned()]]);
        assert_eq!(text.lines().count(), 2, "{text}");
        assert!(!text.chars().any(|c| c != '\n' && c.is_control()), "{text:?}");
    }

    #[test]
    fn machines_read_utc() {
        assert_eq!(rfc3339(UnixMillis(0)), "1970-01-01T00:00:00Z");
    }
}
