//! How commands stand a long past: the same fleet after a few rounds and after many, each command timed and weighed.

use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use serde::Serialize;
use wait4::Wait4;

use crate::history;

/// What is measured: words behind `muster`.
const COMMANDS: [&[&str]; 7] = [
    &["rounds", "--json"],
    &["status", "--json"],
    &["show", "latest", "--json"],
    &["alerts", "--json"],
    &["audit", "--json"],
    &["config", "show", "--json"],
    &["prune", "--dry-run", "--json"],
];
const MIB: f64 = 1024.0 * 1024.0;

/// A fleet on this machine, and how many rounds it is given.
#[derive(Debug)]
pub struct PastBench {
    /// The program.
    pub muster: PathBuf,
    /// An empty folder.
    pub work: PathBuf,
    /// Rounds, fewest first.
    pub rounds: Vec<u64>,
    /// Repetitions.
    pub repetitions: usize,
}

/// One command after so many rounds.
#[derive(Debug, Clone, Serialize)]
pub struct Line {
    /// The words.
    pub command: String,
    /// Rounds on the share.
    pub rounds: u64,
    /// Median, in seconds.
    pub wall_secs: f64,
    /// The most memory, in bytes.
    pub peak_bytes: u64,
}

impl PastBench {
    /// Measures.
    ///
    /// # Errors
    /// When the fleet cannot be made, or a command fails.
    pub fn run(&self, say: &mut dyn FnMut(&str)) -> io::Result<Vec<Line>> {
        let dir = self.work.join("fleet");
        let data = self.work.join("data");
        std::fs::create_dir_all(&data)?;
        let at = |name: &str| self.work.join(name).display().to_string();
        let service = format!("files=files:{}", data.display());
        let init = ["init", &at("fleet"), "--fleet", "past", "--share", &at("share"), "--kit", &at("kit")];
        self.muster(&[&init[..], &["--service", &service]].concat(), None)?;
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
        let (mut lines, mut there) = (Vec::new(), 0);
        for rounds in &self.rounds {
            let began = Instant::now();
            runtime.block_on(history::write(&dir, &["files"], rounds.saturating_sub(there)))?;
            there = *rounds;
            say(&format!("{rounds} rounds are there, {:.0} s", began.elapsed().as_secs_f64()));
            for command in COMMANDS {
                let mut walls = Vec::new();
                let mut peak = 0;
                for _ in 0..self.repetitions {
                    let (wall, memory) = self.muster(command, Some(&dir))?;
                    walls.push(wall);
                    peak = peak.max(memory);
                }
                walls.sort_by(f64::total_cmp);
                let wall_secs = walls[walls.len() / 2];
                say(&format!(
                    "{} after {rounds}: {wall_secs:.2} s, {:.0} MiB",
                    command.join(" "),
                    peak as f64 / MIB
                ));
                lines.push(Line { command: command.join(" "), rounds: *rounds, wall_secs, peak_bytes: peak });
            }
        }
        Ok(lines)
    }

    /// Runs it, and gives seconds and bytes. No NATS server runs: what asks a leader is answered by the share alone.
    fn muster(&self, words: &[&str], dir: Option<&Path>) -> io::Result<(f64, u64)> {
        let mut command = Command::new(&self.muster);
        command.args(words).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        if let Some(dir) = dir {
            command.env("MUSTER_CONFIG", dir.join("operator.toml"));
        }
        let began = Instant::now();
        let ended = command.spawn()?.wait4()?;
        let wall = began.elapsed().as_secs_f64();
        if !ended.status.success() {
            return Err(io::Error::other(format!("muster {}: {}", words.join(" "), ended.status)));
        }
        Ok((wall, ended.rusage.maxrss))
    }
}

/// As a table in Markdown.
#[must_use]
pub fn past_table(lines: &[Line]) -> String {
    let mut text = "| command | rounds | s | MiB |\n|---|---|---|---|\n".to_owned();
    for line in lines {
        let mib = line.peak_bytes as f64 / MIB;
        text.push_str(&format!(
            "| `muster {}` | {} | {:.2} | {mib:.0} |\n",
            line.command, line.rounds, line.wall_secs
        ));
    }
    text
}
