//! What all share that read a round back: why it does not open, how damage is told, and how far a long reading is.

use std::collections::BTreeSet;
use std::io::IsTerminal;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};
use muster_agent::recover::RoundError;
use muster_protocol::age::Identity;
use muster_protocol::alert::Code;
use muster_protocol::units::{format_duration, format_size};
use muster_share::layout::ObjectPath;
use muster_share::verify::{Damage, LedgerError, Progress, RoundSelector, SelectError};
use serde::Serialize;

use crate::exit::Exit;
use crate::failure::Failure;
use crate::kit::wrong_key;
use crate::round_name::RoundName;
use crate::screen;

/// How often a bar is drawn.
const DRAW: Duration = Duration::from_millis(100);
/// How often a line is printed where there is no terminal.
const LINE: Duration = Duration::from_secs(10);

/// One of `damaged[]`.
#[derive(Debug, Serialize)]
pub(crate) struct DamageView {
    pub(crate) code: &'static str,
    pub(crate) object: String,
    /// Null for what belongs to the whole fleet.
    pub(crate) service: Option<String>,
    pub(crate) what: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) rounds: Option<BTreeSet<u64>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) files: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) first_path: Option<String>,
}

impl DamageView {
    pub(crate) fn new(damage: &Damage) -> Self {
        Self {
            code: alert(damage).as_str(),
            object: damage.object.to_string(),
            service: damage.service().map(ToString::to_string),
            what: damage.fault.to_string(),
            rounds: None,
            files: None,
            first_path: None,
        }
    }
}

/// The alert that a damaged object calls for.
pub(crate) fn alert(damage: &Damage) -> Code {
    match &damage.object {
        ObjectPath::Format | ObjectPath::LogRecord(_) | ObjectPath::LogSegment(_) => Code::Share08,
        // However it is damaged, nobody can use it: the alert of its round says so, too.
        ObjectPath::Manifest(_) => Code::Verify02,
        ObjectPath::Pack { .. }
        | ObjectPath::Slice { .. }
        | ObjectPath::List(_)
        | ObjectPath::Grant(_)
        | ObjectPath::Probe(_)
        | ObjectPath::Copy(_) => Code::Verify01,
    }
}

/// The line of a damaged object.
pub(crate) fn damage_line(damage: &Damage) -> String {
    let service = damage.service().map_or("fleet", |service| service.as_str());
    format!("damaged  {}   {service}   {}", damage.object, damage.fault)
}

/// `round 3`, `rounds 1–3, 7`.
pub(crate) fn round_ranges(rounds: &BTreeSet<u64>) -> String {
    let mut ranges: Vec<(u64, u64)> = Vec::new();
    for round in rounds {
        match ranges.last_mut() {
            Some((_, last)) if *last + 1 == *round => *last = *round,
            Some(_) | None => ranges.push((*round, *round)),
        }
    }
    let texts: Vec<_> = ranges
        .iter()
        .map(|(first, last)| if first == last { first.to_string() } else { format!("{first}–{last}") })
        .collect();
    format!("round{} {}", if rounds.len() == 1 { "" } else { "s" }, texts.join(", "))
}

/// `1 file`, `2 files`.
pub(crate) fn count(number: u64, word: &str) -> String {
    format!("{number} {word}{}", if number == 1 { "" } else { "s" })
}

/// Path bytes, safe on a terminal. What is text stays as it is.
pub(crate) fn path_text(path: &[u8]) -> String {
    match std::str::from_utf8(path) {
        Ok(text) if !text.chars().any(char::is_control) => text.to_owned(),
        Ok(_) | Err(_) => path.escape_ascii().to_string(),
    }
}

/// The round that a name means, for whoever reads the log itself.
pub(crate) fn selector(name: &RoundName) -> RoundSelector {
    match name {
        RoundName::Latest => RoundSelector::Latest,
        RoundName::Number(number) => RoundSelector::Number(*number),
        RoundName::Prefix(prefix) => RoundSelector::Prefix(prefix.clone()),
    }
}

/// Runs `work` and shows how far it is: a bar on a terminal, a line now and then elsewhere; both on standard error.
/// `title` is asked anew each time, and shown in front.
pub(crate) async fn show_progress<T>(
    work: impl Future<Output = T>,
    progress: &Progress,
    verb: &str,
    mut title: impl FnMut() -> Option<String>,
) -> T {
    let terminal = std::io::stderr().is_terminal();
    let bar = ProgressBar::hidden();
    let mut ticks = tokio::time::interval(if terminal { DRAW } else { LINE });
    ticks.tick().await;
    let begun = Instant::now();
    let mut work = std::pin::pin!(work);
    loop {
        tokio::select! {
            done = &mut work => {
                bar.finish_and_clear();
                if let Some(title) = title() {
                    screen::aside(title);
                }
                return done;
            }
            _ = ticks.tick() => {}
        }
        if let Some(title) = title() {
            screen::aside(title);
        }
        let (total, done) = progress.bytes();
        if total == 0 {
            continue;
        }
        if terminal {
            if bar.is_hidden() {
                bar.set_draw_target(indicatif::ProgressDrawTarget::stderr());
                let template = "{msg} {bar:20} {percent} %  {binary_bytes_per_sec}  {eta} left";
                bar.set_style(
                    ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar()),
                );
            }
            bar.set_message(format!("{verb} {}", format_size(total)));
            bar.set_length(total);
            bar.set_position(done);
        } else {
            let after = format_duration(begun.elapsed());
            screen::aside(format!("{verb}: {} of {}, {after}", format_size(done), format_size(total)));
        }
    }
}

/// A log that tells nothing.
pub(crate) fn ledger_failure(error: LedgerError) -> Failure {
    let exit = match error {
        LedgerError::Store(error) => return error.into(),
        LedgerError::NotAShare { .. } => Exit::Usage,
        LedgerError::Version { .. } | LedgerError::UnknownKind(_) => Exit::Failed,
        LedgerError::OtherRoot { .. } => Exit::Damaged,
    };
    let next = match exit {
        Exit::Usage => "give the path that `muster init` was given",
        Exit::Damaged => {
            "either the share is not what it should be, or the kit or configuration is another fleet's"
        }
        Exit::Done
        | Exit::Failed
        | Exit::Partial
        | Exit::Key
        | Exit::Unreachable
        | Exit::Refused
        | Exit::Interrupted => "take the version of muster that wrote it, or a later one",
    };
    Failure::new(exit, error.to_string()).caused_by(&error).next(next)
}

/// A round that does not open.
pub(crate) fn round_failure(error: RoundError, keys: &[Identity]) -> Failure {
    let because = |exit: Exit, error: &RoundError| Failure::new(exit, error.to_string()).caused_by(error);
    match error {
        RoundError::Store(error) => error.into(),
        RoundError::Ledger(error) => ledger_failure(error),
        RoundError::Select(error) => select_failure(&error),
        RoundError::Key(wrong) => wrong_key(&wrong, keys),
        RoundError::Service { .. } => because(Exit::Usage, &error).next("muster rounds lists the rounds"),
        RoundError::OtherFleet(_) => because(Exit::Key, &error)
            .next("take the kit of this share's fleet; its page names fleet and root key"),
        RoundError::Forged(_) => because(Exit::Damaged, &error)
            .next("compare root.pub with the kit's printed page, then the share with another copy of it"),
        RoundError::Damaged { ref damaged, newest_intact, .. } => {
            let code = damaged.first().map_or(Code::Verify01, alert);
            let failure = Failure::new(Exit::Damaged, format!("{code}: {error}"));
            damaged
                .iter()
                .fold(failure, |failure, damage| failure.because(damage_line(damage)))
                .next(intact(newest_intact))
                .next("muster verify --share URL --kit PATH names everything")
        }
    }
}

/// Which round to take where one is damaged.
pub(crate) fn intact(number: Option<u64>) -> String {
    match number {
        Some(number) => format!("newest intact round by presence and length: {number}; give it instead"),
        None => "no other round is intact; another copy of the share may have these objects".to_owned(),
    }
}

/// A round that cannot be meant.
pub(crate) fn select_failure(error: &SelectError) -> Failure {
    let (exit, next) = match error {
        SelectError::None => (Exit::Failed, "muster start --wait makes one; without NATS: muster once DIR"),
        SelectError::Unknown { .. }
        | SelectError::Ambiguous { .. }
        | SelectError::NotCommitted { .. }
        | SelectError::Swept { .. } => (Exit::Usage, "muster rounds lists them"),
    };
    Failure::new(exit, error.to_string()).next(next)
}

#[cfg(test)]
mod tests {
    use super::{count, path_text, round_ranges};

    #[test]
    fn rounds_and_counts_read_as_people_say_them() {
        assert_eq!(round_ranges(&[3].into()), "round 3");
        assert_eq!(round_ranges(&[1, 2, 3, 7, 9, 10].into()), "rounds 1–3, 7, 9–10");
        assert_eq!((count(1, "file"), count(0, "file")), ("1 file".to_owned(), "0 files".to_owned()));
        assert_eq!(path_text("etc/ö b".as_bytes()), "etc/ö b");
        assert_eq!(path_text(b"a\x1b[2Jb\xff"), "a\\x1b[2Jb\\xff");
    }
}
