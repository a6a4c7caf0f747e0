//! Runs one command and measures it: wall time, processor time, and the peak memory of its largest process.

use std::fs::{self, File};
use std::io;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Instant;

use wait4::Wait4;

use super::record::Sample;
use super::tools::{ENVIRONMENT, Place};

/// Unit of `/proc/stat` as every Linux of today has it (`USER_HZ`, proc(5)).
const TICKS_PER_SECOND: f64 = 100.0;

/// Runs a shell command to its end in the folder above the data.
///
/// # Errors
/// When it cannot be run, or fails: with the end of what it said.
pub(crate) fn run(command: &str, place: &Place) -> io::Result<Sample> {
    let said = place.home.join("said");
    let out = File::create(&said)?;
    let mut shell = Command::new("bash");
    shell.args(["-o", "pipefail", "-c", command]).stdin(Stdio::null()).stderr(out.try_clone()?).stdout(out);
    shell.current_dir(place.src.parent().unwrap_or(Path::new("/")));
    for (name, value) in ENVIRONMENT {
        shell.env(name, place.fill(value));
    }
    let (others, began) = (busy_secs(), Instant::now());
    let ended = shell.spawn()?.wait4()?;
    let wall_secs = began.elapsed().as_secs_f64();
    if !ended.status.success() {
        let text = fs::read(&said)?;
        let text = String::from_utf8_lossy(&text[text.len().saturating_sub(2000)..]).into_owned();
        return Err(io::Error::other(format!("{command}: {}\n{text}", ended.status)));
    }
    let cpu_secs = (ended.rusage.utime + ended.rusage.stime).as_secs_f64();
    let others = (busy_secs() - others - cpu_secs).max(0.0) / wall_secs.max(0.01);
    Ok(Sample { wall_secs, cpu_secs, peak_bytes: ended.rusage.maxrss, others_cores: others })
}

/// What a command says, on one line.
pub(crate) fn said(command: &str) -> String {
    let output = Command::new("bash").args(["-c", command]).stdin(Stdio::null()).output();
    let text = output.map(|output| String::from_utf8_lossy(&output.stdout).into_owned()).unwrap_or_default();
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// Seconds that all processors together have worked since the machine started.
fn busy_secs() -> f64 {
    let text = fs::read_to_string("/proc/stat").unwrap_or_default();
    let ticks: Vec<f64> = text
        .lines()
        .next()
        .unwrap_or_default()
        .split_whitespace()
        .skip(1)
        .map_while(|n| n.parse().ok())
        .collect();
    // user, nice, system, irq, softirq, steal: all but idle, iowait and what guests count twice (proc(5)).
    [0, 1, 2, 5, 6, 7].iter().filter_map(|at| ticks.get(*at)).sum::<f64>() / TICKS_PER_SECOND
}
