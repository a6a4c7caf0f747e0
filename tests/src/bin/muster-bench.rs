//! `./x bench`: Muster against the peers that are installed. Prints a table; with `--record`, keeps it in `docs/bench/`.

#![expect(clippy::print_stdout, clippy::print_stderr, reason = "it talks to people")]

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Parser;
use muster_tests::bench::{Bench, Data, Record, collector, installed, is_tmpfs, picture, program, tables};

/// Muster against the backup tools that are installed: first backup, nothing changed, 1 % changed, restore.
#[derive(Debug, Parser)]
struct Arguments {
    /// Only peers whose names begin so; `none` for Muster alone
    #[arg(long, value_delimiter = ',', value_name = "A,B")]
    peers: Vec<String>,
    /// Also Muster while it tells a collector everything, with the ratio of the first backups
    #[arg(long)]
    telemetry: bool,
    /// Where else peers may be installed: PREFIX/bin, PREFIX/*/bin; may repeat
    #[arg(long, value_name = "PREFIX")]
    prefix: Vec<PathBuf>,
    /// Repetitions, interleaved
    #[arg(long, value_name = "N", default_value_t = 3)]
    reps: usize,
    /// How much data; 1 is about 2 GiB
    #[arg(long, value_name = "S", default_value_t = 1.0)]
    scale: f64,
    /// A folder for the data, absent, empty or made by this before
    #[arg(long, value_name = "DIR", default_value = ".build/bench")]
    data: PathBuf,
    /// Where repositories and restores go; default /dev/shm if it lies in memory, else the folder of the data
    #[arg(long, value_name = "DIR")]
    work: Option<PathBuf>,
    /// The muster that is measured; default the one beside this program
    #[arg(long, value_name = "PATH")]
    muster: Option<PathBuf>,
    /// Write results.json, results.svg and README.md here
    #[arg(long, value_name = "DIR", num_args = 0..=1, default_missing_value = "docs/bench")]
    record: Option<PathBuf>,
}

fn main() -> ExitCode {
    match run(&Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &Arguments) -> io::Result<()> {
    if !(arguments.scale > 0.0 && arguments.scale <= 100.0) || arguments.reps == 0 {
        return Err(io::Error::other("--scale is above 0 and at most 100, --reps at least 1"));
    }
    let muster = program(arguments.muster.as_deref())?;
    let collector = arguments.telemetry.then(collector).transpose()?;
    let (tools, missing) = installed(&muster, &arguments.peers, &arguments.prefix, collector.as_deref());
    for peer in missing {
        eprintln!("not installed, left out: {peer}");
    }
    fs::create_dir_all(&arguments.data)?;
    let folder = arguments.data.canonicalize()?;
    let memory = Path::new("/dev/shm");
    let work = match &arguments.work {
        Some(work) => work.canonicalize()?,
        None if is_tmpfs(memory) => memory.to_owned(),
        None => folder.parent().unwrap_or(&folder).to_owned(),
    };
    eprintln!("data of scale {} in {}", arguments.scale, folder.display());
    let data = Data::make(&folder, arguments.scale)?;
    let bench = Bench { data, scale: arguments.scale, tools, repetitions: arguments.reps, work };
    let record = bench.run(&mut |line| eprintln!("{line}"))?;
    println!("{}", tables(&record));
    if let Some(folder) = &arguments.record {
        keep(folder, &record)?;
        eprintln!("kept in {}", folder.display());
    }
    Ok(())
}

fn keep(folder: &Path, record: &Record) -> io::Result<()> {
    fs::create_dir_all(folder)?;
    let json = serde_json::to_string_pretty(record).map_err(io::Error::other)?;
    fs::write(folder.join("results.json"), json + "\n")?;
    fs::write(folder.join("results.svg"), picture(record))?;
    let page = format!(
        "# Muster beside other backup tools\n\nMade by `./x bench --record`; every sample is in [results.json](results.json).\n\n\
         ![bar charts of the table below](results.svg)\n\n{}",
        tables(record)
    );
    fs::write(folder.join("README.md"), page)
}
