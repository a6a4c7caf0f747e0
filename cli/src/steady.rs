//! The time, by a clock that does not leap while the machine runs.
//!
//! The grace between the marking of a prune and its sweep is people's time: whoever sets the clock forward in between, or whatever
//! does, must not take it from them. So the first look since the machine started is remembered, and from there on time goes by as the
//! machine runs, also while it sleeps. The clock on the wall counts where it says less, where the machine was started anew, and where
//! nothing can be remembered.
//!
//! ```text
//! <boot id> <milliseconds since the start> <milliseconds since 1970>\n
//! ```

use std::fs;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::time::Duration;

use muster_protocol::time::UnixMillis;
use muster_protocol::units::format_duration;

use crate::screen;

/// The file in the operator's state folder.
const FILE: &str = "clock";
/// A clock that is kept right is moved by less.
const NUDGE: Duration = Duration::from_secs(60);
const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";
const UPTIME: &str = "/proc/uptime";

/// A look at both clocks.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Look {
    /// Another for each start of the machine.
    boot: String,
    /// Since the start.
    running: Duration,
    wall: UnixMillis,
}

/// The time now; `state`: where looks are remembered. Tells when the clock has leapt.
pub(crate) fn now(state: &Path) -> UnixMillis {
    let wall = screen::now();
    let Some((boot, running)) = since_start() else { return wall };
    let look = Look { boot, running, wall };
    let file = state.join(FILE);
    let known = fs::read_to_string(&file).ok().and_then(|text| parse(&text));
    let known = known.filter(|known| known.boot == look.boot && known.running <= look.running);
    let Some(known) = known else {
        // Without a place for it there is the clock on the wall.
        drop(remember(&file, &look));
        return wall;
    };
    let now = bounded(&known, &look);
    let leap = Duration::from_millis(u64::try_from(wall.0.saturating_sub(now.0)).unwrap_or(0));
    if !leap.is_zero() {
        screen::aside(format!(
            "note: this machine's clock was set forward by {} while it ran; what is deleted goes by how long it ran",
            format_duration(Duration::from_secs(leap.as_secs()))
        ));
    }
    now
}

/// What the wall says, but no more than has gone by since `known`.
fn bounded(known: &Look, look: &Look) -> UnixMillis {
    let gone = look.running.saturating_sub(known.running).saturating_add(NUDGE);
    let most = known.wall.0.saturating_add(i64::try_from(gone.as_millis()).unwrap_or(i64::MAX));
    if look.wall.0 <= most {
        return look.wall;
    }
    UnixMillis(most)
}

fn since_start() -> Option<(String, Duration)> {
    let boot = fs::read_to_string(BOOT_ID).ok()?.trim().to_owned();
    let uptime = fs::read_to_string(UPTIME).ok()?;
    let secs: f64 = uptime.split(' ').next()?.parse().ok()?;
    Some((boot, Duration::try_from_secs_f64(secs).ok()?))
}

fn parse(text: &str) -> Option<Look> {
    let mut words = text.trim_end().split(' ');
    let (boot, running, wall, None) = (words.next()?, words.next()?, words.next()?, words.next()) else {
        return None;
    };
    let running = Duration::from_millis(running.parse().ok()?);
    Some(Look { boot: boot.to_owned(), running, wall: UnixMillis(wall.parse().ok()?) })
}

fn remember(file: &Path, look: &Look) -> std::io::Result<()> {
    let temporary = file.with_extension(format!("{}.tmp", std::process::id()));
    let text = format!("{} {} {}\n", look.boot, look.running.as_millis(), look.wall.0);
    let mut options = fs::OpenOptions::new();
    let written = options.write(true).create(true).truncate(true).mode(0o600).open(&temporary);
    let written = written
        .and_then(|mut made| made.write_all(text.as_bytes()))
        .and_then(|()| fs::rename(&temporary, file));
    written.inspect_err(|_| drop(fs::remove_file(&temporary)))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use muster_protocol::time::UnixMillis;

    use super::{FILE, Look, bounded, now, parse, since_start};

    const HOUR: i64 = 3_600_000;

    fn look(hours_running: u64, wall: i64) -> Look {
        let running = Duration::from_secs(hours_running * 3_600);
        Look { boot: "b".to_owned(), running, wall: UnixMillis(wall) }
    }

    #[test]
    fn no_more_time_passes_than_the_machine_ran() {
        let known = look(1, 100 * HOUR);
        let at = |hours, wall| bounded(&known, &look(hours, wall)).0;
        assert_eq!(at(25, 124 * HOUR), 124 * HOUR, "a clock that is right");
        assert_eq!(at(25, 124 * HOUR + 59_000), 124 * HOUR + 59_000, "or is nudged");
        assert_eq!(at(2, 100_000 * HOUR), 101 * HOUR + 60_000, "a leap of years");
        assert_eq!(at(25, 100_000 * HOUR), 124 * HOUR + 60_000, "and the time after it");
        assert_eq!(at(2, 50 * HOUR), 50 * HOUR, "set back, it counts as it says");
    }

    #[test]
    fn the_first_look_since_the_start_is_what_counts() {
        let folder = tempfile::tempdir().expect("folder");
        let file = folder.path().join(FILE);
        let Some((boot, running)) = since_start() else { return };
        let first = now(folder.path());
        let kept = std::fs::read_to_string(&file).expect("remembered");
        assert_eq!(parse(&kept).map(|look| (look.boot, look.wall)), Some((boot.clone(), first)));
        assert!(now(folder.path()) >= first);
        assert_eq!(std::fs::read_to_string(&file).expect("there"), kept, "the first one stays");
        // As if the clock had been set forward by ten years since.
        let years = 10 * 365 * 24 * HOUR;
        let before = first.0 - years;
        std::fs::write(&file, format!("{boot} {} {before}\n", running.as_millis())).expect("written");
        let held = now(folder.path()).0;
        assert!((before..before + HOUR).contains(&held), "{held} {before}");
        // What was remembered before the machine was started anew says nothing.
        for other in [format!("other {} {before}\n", running.as_millis()), "garbage".to_owned()] {
            std::fs::write(&file, other).expect("written");
            assert!(now(folder.path()) >= first);
        }
        assert!(now(&folder.path().join("nowhere")) >= first);
    }
}
