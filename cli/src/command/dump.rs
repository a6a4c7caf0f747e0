//! `muster dump ROUND PATH`: the bytes of one file, to standard output or into a new file.
//!
//! Every byte was compared with the name of its chunk before it goes out. A file that is not whole never gets its name.

use std::io::{self, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use muster_agent::recover::{
    Slice,
    look::{LookError, Piece},
};
use muster_protocol::ids::SourceName;
use muster_protocol::units::format_size;
use muster_share::entry::{Entry, Gap, Kind};
use tempfile::NamedTempFile;

use crate::args::Dump;
use crate::entry_view::gap_words;
use crate::exit::Exit;
use crate::failure::{Failure, Outcome};
use crate::looking::{Looked, Place, blocking};
use crate::reading_back::path_text;
use crate::screen;

/// Zeroes of a hole, where they have to be written.
static ZEROES: [u8; 64 * 1024] = [0; 64 * 1024];

/// Dumps.
pub(crate) async fn run(args: Dump) -> Outcome {
    let stop = Arc::new(AtomicBool::new(false));
    let work = dump(args, Arc::clone(&stop));
    tokio::pin!(work);
    tokio::select! {
        outcome = &mut work => outcome,
        _ = tokio::signal::ctrl_c() => {
            // What was begun is removed by whoever writes it, at its next piece.
            stop.store(true, Ordering::Relaxed);
            let limit = tokio::time::timeout(std::time::Duration::from_secs(2), work);
            drop(limit.await);
            screen::aside("interrupted");
            Ok(Exit::Interrupted)
        }
    }
}

async fn dump(args: Dump, stop: Arc<AtomicBool>) -> Outcome {
    let place = Place::parse(&args.path)?;
    let Place { service: Some(service), source: Some(source), path } = place.clone() else {
        return Err(Failure::usage(format!("{place} is no file"))
            .because("A file is named SERVICE/SOURCE/PATH.")
            .next("muster ls ROUND PATH --kit PATH lists what is there"));
    };
    match &args.output {
        Some(output) if output.symlink_metadata().is_ok() => {
            return Err(Failure::usage(format!("{} exists: nothing is replaced", output.display()))
                .next("give a new name to --output"));
        }
        None if screen::is_terminal() && !args.force => {
            return Err(Failure::usage("standard output is a terminal, and a file may hold anything")
                .next("add --output FILE, or a pipe; --force writes to the terminal all the same"));
        }
        Some(_) | None => {}
    }
    let looked = Looked::open(&args.looking).await?;
    let slice = looked.round.slice(&service).await.map_err(|error| looked.failure(error))?;
    let found = {
        let (source, path) = (source.clone(), path.clone());
        blocking(move || {
            let entry = slice.entry(&source, &path);
            (slice, entry)
        })
    };
    let (slice, entry) = found.await;
    let entry = entry.map_err(|error| looked.failure(error))?.ok_or_else(|| {
        Failure::usage(format!("{place} is not in this round"))
            .next("muster find ROUND PATTERN --kit PATH looks for it")
    })?;
    check(&place, &entry, &args)?;
    let gap = entry.gap;
    let output = args.output.clone();
    match blocking(move || write_out(&slice, &source, entry, output.as_deref(), &stop)).await {
        Ok(bytes) => {
            if let Some(output) = &args.output {
                screen::aside(format!("{place}, {}, is in {}", format_size(bytes), output.display()));
            }
            if let Some(gap) = gap {
                screen::aside(format!("warning: {place}: {}", gap_words(gap)));
            }
            Ok(looked.end(&[]))
        }
        // Whoever read it has enough.
        Err(Stop::Look(LookError::Output(error))) if error.kind() == io::ErrorKind::BrokenPipe => {
            Ok(looked.end(&[]))
        }
        Err(Stop::Look(error)) => {
            let failure = looked.failure(error);
            Err(match &args.output {
                Some(output) => failure.because(format!("{} was not written.", output.display())),
                None => failure.because("What went to standard output is not whole: do not use it."),
            })
        }
        Err(Stop::File(path, error)) => {
            Err(Failure::new(Exit::Failed, format!("{} cannot be written", path.display()))
                .because(error.to_string()))
        }
    }
}

/// Refuses what has no bytes of its own.
fn check(place: &Place, entry: &Entry, args: &Dump) -> Result<(), Failure> {
    match entry.gap {
        Some(gap @ (Gap::Unreadable(_) | Gap::Vanished | Gap::Skipped)) => {
            return Err(Failure::new(Exit::Partial, format!("the backup does not hold {place}"))
                .because(gap_words(gap))
                .next("another round may have it: muster rounds lists them"));
        }
        Some(Gap::Changed | Gap::Attributes(_)) | None => {}
    }
    let round = &args.looking.round;
    let (what, next) = match entry.kind {
        Kind::File => return Ok(()),
        Kind::Directory => (
            "a folder".to_owned(),
            format!(
                "muster recover --share URL --kit PATH --round {round} --path PATH --into DIR brings it back"
            ),
        ),
        Kind::Symlink => {
            let target = entry.target.as_deref().map(|target| path_text(target)).unwrap_or_default();
            (format!("a symbolic link to {target}"), "name the file that it leads to".to_owned())
        }
        Kind::Fifo => ("a named pipe".to_owned(), "name a file".to_owned()),
        Kind::CharDevice | Kind::BlockDevice => ("a device".to_owned(), "name a file".to_owned()),
    };
    Err(Failure::usage(format!("{place} is {what}: only files have bytes")).next(next))
}

#[derive(Debug)]
enum Stop {
    Look(LookError),
    File(PathBuf, io::Error),
}

fn write_out(
    slice: &Slice,
    source: &SourceName,
    entry: Entry,
    output: Option<&Path>,
    stop: &AtomicBool,
) -> Result<u64, Stop> {
    let mut bytes = 0;
    let Some(path) = output else {
        let mut out = io::stdout().lock();
        return slice
            .content(source, entry, |piece| {
                go_on(stop)?;
                bytes += length(piece);
                plain(&mut out, piece)
            })
            .and_then(|()| out.flush().map_err(LookError::Output))
            .map(|()| bytes)
            .map_err(Stop::Look);
    };
    // Owner-only from the first byte, and removed again unless it becomes whole.
    let failed = |error: io::Error| Stop::File(path.to_owned(), error);
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let mut file = NamedTempFile::with_prefix_in(".muster-dump-", folder).map_err(failed)?;
    let written = slice.content(source, entry, |piece| {
        go_on(stop)?;
        bytes += length(piece);
        match piece {
            Piece::Bytes(bytes) => file.write_all(bytes),
            Piece::Hole(length) => {
                let length = i64::try_from(length).map_err(io::Error::other)?;
                file.seek(SeekFrom::Current(length)).map(drop)
            }
        }
    });
    match written {
        Ok(()) => {}
        Err(LookError::Output(error)) => return Err(failed(error)),
        Err(error) => return Err(Stop::Look(error)),
    }
    file.as_file().set_len(bytes).and_then(|()| file.as_file().sync_all()).map_err(failed)?;
    file.persist_noclobber(path).map_err(|error| failed(error.error))?;
    Ok(bytes)
}

fn go_on(stop: &AtomicBool) -> io::Result<()> {
    if stop.load(Ordering::Relaxed) { Err(io::Error::from(io::ErrorKind::Interrupted)) } else { Ok(()) }
}

fn length(piece: Piece<'_>) -> u64 {
    match piece {
        Piece::Bytes(bytes) => bytes.len() as u64,
        Piece::Hole(length) => length,
    }
}

fn plain(out: &mut impl Write, piece: Piece<'_>) -> io::Result<()> {
    match piece {
        Piece::Bytes(bytes) => out.write_all(bytes),
        Piece::Hole(mut left) => {
            while left > 0 {
                let most = usize::try_from(left).map_or(ZEROES.len(), |left| left.min(ZEROES.len()));
                out.write_all(&ZEROES[..most])?;
                left -= most as u64;
            }
            Ok(())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Piece, plain};

    #[test]
    fn a_hole_is_written_as_zeroes() {
        let mut out = Vec::new();
        plain(&mut out, Piece::Bytes(b"a")).expect("written");
        plain(&mut out, Piece::Hole(70_000)).expect("written");
        plain(&mut out, Piece::Bytes(b"b")).expect("written");
        assert_eq!(out.len(), 70_002);
        assert!(out[0] == b'a' && out[70_001] == b'b' && out[1..70_001].iter().all(|byte| *byte == 0));
    }
}
