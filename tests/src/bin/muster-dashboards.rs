//! `./x dashboards`: pictures of the dashboards, from the answers of a real Prometheus about a real fleet.

#![expect(clippy::print_stderr, reason = "it talks to people")]

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Parser;
use muster_tests::dashboards::pictures;

/// Pictures of the dashboards.
#[derive(Debug, Parser)]
struct Arguments {
    /// How many rounds the fleet runs
    #[arg(long, value_name = "N", default_value_t = 18)]
    rounds: u32,
    /// Where the pictures go; default docs/dashboards
    #[arg(long, value_name = "DIR")]
    into: Option<PathBuf>,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let docs = || Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/dashboards");
    let into = arguments.into.unwrap_or_else(docs);
    match pictures(&into, arguments.rounds, &mut |line| eprintln!("{line}")) {
        Ok(files) => {
            for file in files {
                eprintln!("{}", file.display());
            }
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("error: cannot write to {}: {error}", into.display());
            ExitCode::FAILURE
        }
    }
}
