//! `muster find ROUND [PATTERN]`: entries of a round by name or path, kind, size and time; their full paths, one a line.

use std::ops::ControlFlow;
use std::time::Duration;

use jiff::Timestamp;
use jiff::civil::{Date, DateTime};
use jiff::tz::TimeZone;
use muster_agent::recover::{
    Slice,
    look::{LookError, Pattern},
};
use muster_protocol::units::parse_duration;
use muster_share::entry::{Entry, Kind};

use crate::args::{EntryKind, Find};
use crate::entry_view::{EntryView, modified};
use crate::failure::{Failure, Outcome};
use crate::looking::{Lines, Looked, blocking};
use crate::reading_back::path_text;

/// What is looked for. What is not given does not restrict.
#[derive(Debug, Clone)]
struct Wanted {
    pattern: Option<Pattern>,
    kinds: Vec<Kind>,
    larger: Option<u64>,
    newer: Option<Timestamp>,
}

/// Finds.
pub(crate) async fn run(args: Find) -> Outcome {
    let wanted = Wanted::read(&args)?;
    let json = args.looking.reading.json;
    let looked = Looked::open(&args.looking).await?;
    let mut damaged = Vec::new();
    for service in looked.services(&args.service) {
        let searched = match looked.round.slice(&service).await {
            Ok(slice) => search(slice, wanted.clone(), json).await,
            Err(error) => Err(error),
        };
        match searched {
            Ok(()) => {}
            // What is damaged of one service does not hide the others.
            Err(LookError::Damaged(damage)) => damaged.push(damage),
            Err(error) => return Err(looked.failure(error)),
        }
    }
    Ok(looked.end(&damaged))
}

async fn search(slice: Slice, wanted: Wanted, json: bool) -> Result<(), LookError> {
    blocking(move || {
        let mut lines = Lines::new();
        let searched = slice.look(|source, entry| {
            let below = format!("{}/{}", slice.service(), source.name);
            if !wanted.fits(&below, &entry) {
                ControlFlow::Continue(())
            } else if json {
                lines.json(&EntryView::new(slice.service(), &source.name, &entry))
            } else if entry.path.is_empty() {
                lines.line(&below)
            } else {
                lines.line(&format!("{below}/{}", path_text(&entry.path)))
            }
        });
        lines.flush();
        searched
    })
    .await
}

impl Wanted {
    fn read(args: &Find) -> Result<Self, Failure> {
        let pattern = args.pattern.as_deref().map(Pattern::parse).transpose().map_err(|error| {
            Failure::usage(error.to_string())
                .next("write a name such as '*.conf', or a path such as 'etc/**/*.conf', in quotes")
        })?;
        let newer = args.newer.as_deref().map(|text| moment(text, Timestamp::now())).transpose()?;
        let larger = args.larger.map(|size| size.0);
        Ok(Self { pattern, kinds: args.kinds.iter().map(|kind| kind_of(*kind)).collect(), larger, newer })
    }

    fn fits(&self, below: &str, entry: &Entry) -> bool {
        let folder = entry.kind == Kind::Directory;
        self.pattern.as_ref().is_none_or(|pattern| pattern.fits(below, &entry.path, folder))
            && (self.kinds.is_empty() || self.kinds.contains(&entry.kind))
            && self.larger.is_none_or(|size| entry.kind == Kind::File && entry.size > size)
            && self.newer.is_none_or(|time| modified(entry).is_some_and(|changed| changed > time))
    }
}

fn kind_of(kind: EntryKind) -> Kind {
    match kind {
        EntryKind::F => Kind::File,
        EntryKind::D => Kind::Directory,
        EntryKind::L => Kind::Symlink,
        EntryKind::P => Kind::Fifo,
        EntryKind::C => Kind::CharDevice,
        EntryKind::B => Kind::BlockDevice,
    }
}

/// A moment as people write it: a day, a day and a time of this machine's zone, RFC 3339, or how long ago.
fn moment(text: &str, now: Timestamp) -> Result<Timestamp, Failure> {
    let zone = TimeZone::system;
    let zoned = |time: DateTime| time.to_zoned(zone()).ok().map(|time| time.timestamp());
    let ago = |ago: Duration| now.checked_sub(ago).ok();
    parse_duration(text)
        .ok()
        .and_then(ago)
        .or_else(|| text.parse::<Timestamp>().ok())
        .or_else(|| text.parse::<DateTime>().ok().and_then(zoned))
        .or_else(|| text.parse::<Date>().ok().and_then(|day| zoned(day.at(0, 0, 0, 0))))
        .ok_or_else(|| {
            Failure::usage(format!("--newer {text} is no moment"))
                .next("write 24h, 2026-11-22, 2026-11-22T03:00 or 2026-11-22T03:00:00Z")
        })
}

#[cfg(test)]
mod tests {
    use super::{Wanted, moment};
    use crate::exit::Exit;
    use jiff::Timestamp;
    use muster_agent::recover::look::Pattern;
    use muster_share::entry::{Entry, Kind};

    fn stamp(text: &str) -> Timestamp {
        text.parse().expect("a time")
    }

    #[test]
    fn moments_are_read_as_people_write_them() {
        let now = stamp("2026-11-22T12:00:00Z");
        let read = |text: &str| moment(text, now);
        assert_eq!(read("24h").expect("a moment"), stamp("2026-11-21T12:00:00Z"));
        assert_eq!(read("2026-11-22T03:00:00Z").expect("a moment"), stamp("2026-11-22T03:00:00Z"));
        let day = read("2026-11-22").expect("a moment");
        assert!((day.as_second() - stamp("2026-11-22T00:00:00Z").as_second()).abs() < 16 * 3600);
        assert_eq!(read("yesterday").expect_err("refused").exit(), Exit::Usage);
    }

    #[test]
    fn every_restriction_counts() {
        let open = Wanted { pattern: None, kinds: Vec::new(), larger: None, newer: None };
        let mut entry = Entry::new(b"etc/app.conf".to_vec(), Kind::File, 0o644);
        (entry.size, entry.mtime_secs) = (100, stamp("2026-11-22T00:00:00Z").as_second());
        let fits = |wanted: &Wanted| wanted.fits("dns/files", &entry);
        assert!(fits(&open));
        assert!(fits(&Wanted { pattern: Pattern::parse("*.conf").ok(), ..open.clone() }));
        assert!(!fits(&Wanted { pattern: Pattern::parse("*.log").ok(), ..open.clone() }));
        assert!(!fits(&Wanted { kinds: vec![Kind::Directory], ..open.clone() }));
        assert!(fits(&Wanted { kinds: vec![Kind::Directory, Kind::File], ..open.clone() }));
        assert!(fits(&Wanted { larger: Some(99), ..open.clone() }));
        assert!(!fits(&Wanted { larger: Some(100), ..open.clone() }));
        assert!(fits(&Wanted { newer: Some(stamp("2026-11-21T23:59:59Z")), ..open.clone() }));
        assert!(!fits(&Wanted { newer: Some(stamp("2026-11-22T00:00:00Z")), ..open }));
    }
}
