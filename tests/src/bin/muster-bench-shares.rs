//! `./x bench shares`: what each kind of share takes from an agent, and from its stock client. Prints a table.

#![expect(clippy::print_stdout, clippy::print_stderr, reason = "it talks to people")]

use std::io;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use muster_tests::bench::{SharesBench, program};

/// Each kind of share beside its stock client: an agent's slice, and `share copy`.
#[derive(Debug, Parser)]
struct Arguments {
    /// How much data, in MiB
    #[arg(long, value_name = "N", default_value_t = 1008)]
    mib: usize,
    /// Repetitions
    #[arg(long, value_name = "N", default_value_t = 3)]
    reps: usize,
    /// Where the data and folders go
    #[arg(long, value_name = "DIR", default_value = ".")]
    work: PathBuf,
    /// The muster that is measured; default the one beside this program
    #[arg(long, value_name = "PATH")]
    muster: Option<PathBuf>,
    /// Only this kind; may repeat
    #[arg(long, value_name = "KIND", value_parser = ["folder", "smb", "s3", "azure"])]
    only: Vec<String>,
    /// Print JSON
    #[arg(long)]
    json: bool,
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
    if arguments.reps == 0 || arguments.mib < 12 {
        return Err(io::Error::other("--reps is at least 1, --mib at least 12"));
    }
    let muster = program(arguments.muster.as_deref())?;
    let work = arguments.work.canonicalize()?;
    let (files, repetitions) = (arguments.mib / 12, arguments.reps);
    let only = arguments.only.clone();
    let record =
        SharesBench { files, repetitions, work, muster, only }.run(&mut |line| eprintln!("{line}"))?;
    if arguments.json {
        println!("{}", serde_json::to_string_pretty(&record).map_err(io::Error::other)?);
    } else {
        println!("{}", record.table());
    }
    Ok(())
}
