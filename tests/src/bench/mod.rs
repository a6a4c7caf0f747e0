//! Tool against tool: the same data, fresh repositories, interleaved repetitions.
//!
//! Each repetition of a tool: new repository, first backup, a second of the same data, about one per cent of change, a
//! third, a restore of that one; then the change is undone. Every timed step begins with the data in the page cache.

mod change;
mod collector;
mod data;
mod measure;
mod past;
mod picture;
mod record;
mod rng;
mod shares;
mod table;
mod text;
mod tools;

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

pub use collector::collector;
pub use data::Data;
pub use past::{Line, PastBench, past_table};
pub use picture::picture;
pub use record::{Measured, Record, Run, Sample};
pub use shares::{ShareRow, SharesBench, SharesRecord};
pub use table::tables;
pub use tools::{Tool, installed};

use tools::Place;

/// The `muster` that is measured: the one that was given, else the one beside this program.
///
/// # Errors
/// When it is not there.
pub fn program(given: Option<&Path>) -> io::Result<PathBuf> {
    let muster = match given {
        Some(muster) => muster.canonicalize()?,
        None => std::env::current_exe()?.with_file_name("muster"),
    };
    if muster.is_file() {
        Ok(muster)
    } else {
        Err(io::Error::other(format!("{} is not there: build it first", muster.display())))
    }
}

/// What is measured, and where.
#[derive(Debug, Clone)]
pub struct Bench {
    /// The data.
    pub data: Data,
    /// Their scale.
    pub scale: f64,
    /// Tools, Muster first.
    pub tools: Vec<Tool>,
    /// Repetitions of each.
    pub repetitions: usize,
    /// Where repositories and restores go: a folder in it that is removed again.
    pub work: PathBuf,
}

impl Bench {
    /// Measures, and tells each step as it ends.
    ///
    /// # Errors
    /// When the data or the work folder fail, or Muster itself does. A peer that fails is given up.
    pub fn run(&self, tell: &mut dyn FnMut(String)) -> io::Result<Record> {
        let work = tempfile::Builder::new().prefix("muster-bench-").tempdir_in(&self.work)?;
        let at = |name: &str| work.path().join(name);
        let place = Place { src: self.data.tree(), repo: at("repo"), dst: at("dst"), home: at("home") };
        let (source_files, source_bytes) = data::weigh(&place.src)?;
        let mut measured: Vec<_> = self
            .tools
            .iter()
            .map(|tool| Measured {
                name: tool.name.to_owned(),
                version: measure::said(&tool.version(&place)),
                compared: false,
                failed: None,
                runs: Vec::new(),
            })
            .collect();
        for repetition in 1..=self.repetitions {
            for (tool, result) in self.tools.iter().zip(&mut measured) {
                if result.failed.is_some() {
                    continue;
                }
                let done = self.repetition(tool, &place, repetition == 1);
                data::warm(&place.src).and_then(|()| change::revert(&self.data))?;
                match done {
                    Ok((run, compared)) => {
                        tell(told(repetition, tool, &run));
                        result.compared |= compared;
                        result.runs.push(run);
                    }
                    Err(error) if tool.is_own() => return Err(error),
                    Err(error) => {
                        tell(format!("{}: given up: {error}", tool.name));
                        result.failed = Some("it failed".to_owned());
                    }
                }
            }
        }
        Ok(Record {
            schema: "muster.bench/1",
            cores: std::thread::available_parallelism().map_or(1, usize::from),
            processor: measure::said("grep -m1 'model name' /proc/cpuinfo | cut -d: -f2"),
            kernel: measure::said("uname -sr"),
            in_memory: is_tmpfs(&self.work),
            scale: self.scale,
            source_files,
            source_bytes,
            tools: measured,
        })
    }

    /// One repetition; and whether the restore was the same as the data, if that was to be seen.
    fn repetition(&self, tool: &Tool, place: &Place, compare: bool) -> io::Result<(Run, bool)> {
        for folder in [&place.repo, &place.dst, &place.home] {
            if folder.exists() {
                fs::remove_dir_all(folder)?;
            }
        }
        fs::create_dir(&place.home)?;
        fs::create_dir(&place.dst)?;
        measure::run(&tool.init(place), place)?;
        let empty = weight(place)?;
        let backup = |number: u32| {
            data::warm(&place.src)?;
            measure::run(&tool.backup(place, number), place)
        };
        let first = backup(1)?;
        let stored = weight(place)?;
        let unchanged = backup(2)?;
        let again = weight(place)?;
        change::apply(&self.data)?;
        let changed = backup(3)?;
        let last = weight(place)?;
        let restore = measure::run(&tool.restore(place), place)?;
        let mut compared = false;
        if compare {
            if let Some(path) = data::first_difference(&place.src, &tool.tree(place))? {
                let text = format!("{} restored something else at {}", tool.name, path.display());
                return Err(io::Error::other(text));
            }
            compared = true;
        }
        for folder in [&place.repo, &place.dst] {
            fs::remove_dir_all(folder)?;
        }
        let run = Run {
            first,
            unchanged,
            changed,
            restore,
            stored_bytes: stored.saturating_sub(empty),
            unchanged_added_bytes: again.saturating_sub(stored),
            added_bytes: last.saturating_sub(again),
        };
        Ok((run, compared))
    }
}

fn weight(place: &Place) -> io::Result<u64> {
    if place.repo.exists() { Ok(data::weigh(&place.repo)?.1) } else { Ok(0) }
}

fn told(repetition: usize, tool: &Tool, run: &Run) -> String {
    let steps =
        [("first", run.first), ("unchanged", run.unchanged), ("1 %", run.changed), ("restore", run.restore)];
    let steps = steps.map(|(name, sample)| {
        let busy = if sample.others_cores > 0.25 {
            format!(", others {:.1}", sample.others_cores)
        } else {
            String::new()
        };
        format!("{name} {:.2} s (cpu {:.1}{busy})", sample.wall_secs, sample.cpu_secs)
    });
    format!("{repetition} {}: {}", tool.name, steps.join(", "))
}

/// Whether a folder lies in memory.
#[must_use]
pub fn is_tmpfs(folder: &Path) -> bool {
    let Ok(folder) = folder.canonicalize() else { return false };
    let mounts = fs::read_to_string("/proc/mounts").unwrap_or_default();
    let mounted = mounts.lines().filter_map(|line| {
        let mut fields = line.split(' ').skip(1);
        Some((PathBuf::from(fields.next()?), fields.next()?))
    });
    let here = mounted
        .filter(|(point, _)| folder.starts_with(point))
        .max_by_key(|(point, _)| point.as_os_str().len());
    here.is_some_and(|(_, kind)| kind == "tmpfs")
}
