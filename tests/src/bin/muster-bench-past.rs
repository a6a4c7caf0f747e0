//! `./x bench past`: what commands take on a share with many rounds, beside a few. Prints a table.

#![expect(clippy::print_stdout, clippy::print_stderr, reason = "it talks to people")]

use std::io;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use muster_tests::bench::{PastBench, past_table, program};

/// Commands on a share with a long past.
#[derive(Debug, Parser)]
struct Arguments {
    /// How many rounds; measured after each of these numbers
    #[arg(long, value_name = "N", value_delimiter = ',', default_value = "100,10000")]
    rounds: Vec<u64>,
    /// Repetitions
    #[arg(long, value_name = "N", default_value_t = 3)]
    reps: usize,
    /// Where the fleet and its share go; default the temporary folder
    #[arg(long, value_name = "DIR")]
    work: Option<PathBuf>,
    /// The muster that is measured; default the one beside this program
    #[arg(long, value_name = "PATH")]
    muster: Option<PathBuf>,
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
    if arguments.reps == 0 || !arguments.rounds.is_sorted() {
        return Err(io::Error::other("--reps is at least 1, and --rounds grow"));
    }
    let muster = program(arguments.muster.as_deref())?;
    let work = arguments.work.clone().unwrap_or_else(std::env::temp_dir);
    let folder = tempfile::TempDir::with_prefix_in("muster-past-", work)?;
    let bench = PastBench {
        muster,
        work: folder.path().to_owned(),
        rounds: arguments.rounds.clone(),
        repetitions: arguments.reps,
    };
    let lines = bench.run(&mut |line| eprintln!("{line}"))?;
    if arguments.json {
        println!("{}", serde_json::to_string_pretty(&lines).map_err(io::Error::other)?);
    } else {
        println!("{}", past_table(&lines));
    }
    Ok(())
}
