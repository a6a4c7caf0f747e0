//! `./x bench fleet`: rounds over many simulated agents, one connection each, beside the bare exchange of as many messages.

#![expect(clippy::print_stdout, clippy::print_stderr, reason = "it talks to people")]

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Parser;
use muster_tests::bench::is_tmpfs;
use muster_tests::swarm::{Failure, Places, Plan, raise_open_files, run};

/// Rounds over many simulated agents on this machine: how long, how much memory, how many messages.
#[derive(Debug, Parser)]
struct Arguments {
    /// How many agents, one connection each
    #[arg(long, value_name = "N", default_value_t = 10_000)]
    agents: usize,
    /// How many rounds, one after the other
    #[arg(long, value_name = "N", default_value_t = 3)]
    rounds: usize,
    /// A program of the bare exchange to measure beside, before each round: PROGRAM setup|agents|coord URL N 1 core;
    /// default what `NATS_BASELINE` in the environment names
    #[arg(long, value_name = "PROGRAM")]
    baseline: Option<PathBuf>,
    /// The coordinator that is measured; default the one beside this program
    #[arg(long, value_name = "PATH")]
    coordinator: Option<PathBuf>,
    /// Where the share and everything else goes; default /dev/shm if it lies in memory, else the temporary folder
    #[arg(long, value_name = "DIR")]
    work: Option<PathBuf>,
    /// Print JSON in place of the table
    #[arg(long)]
    json: bool,
}

/// Open files beside the connections: the server's, a share's, standard ones.
const SPARE_FILES: u64 = 500;

fn main() -> ExitCode {
    match measure(&Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn measure(arguments: &Arguments) -> Result<(), Failure> {
    let files = raise_open_files()?;
    if (arguments.agents as u64).saturating_add(SPARE_FILES) > files {
        return Err(format!(
            "{} agents need as many connections, and a process here may have {files} open files; \
             next step: ulimit -Hn 20000 as root, or fewer --agents",
            arguments.agents
        )
        .into());
    }
    let beside = std::env::current_exe()?.with_file_name("muster-coordinator");
    let coordinator = arguments.coordinator.clone().unwrap_or(beside);
    if !coordinator.is_file() {
        return Err(format!("{} is not there: build it first", coordinator.display()).into());
    }
    let memory = Path::new("/dev/shm");
    let work = match &arguments.work {
        Some(work) => work.clone(),
        None if is_tmpfs(memory) => memory.to_owned(),
        None => std::env::temp_dir(),
    };
    let folder = tempfile::TempDir::with_prefix_in("muster-swarm-", work)?;
    let plan = Plan {
        places: Places { folder: folder.path().to_owned(), coordinator },
        agents: arguments.agents,
        rounds: arguments.rounds.max(1),
        baseline: arguments.baseline.clone().or_else(|| std::env::var_os("NATS_BASELINE").map(PathBuf::from)),
    };
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let report = runtime.block_on(run(&plan, &mut |line: &str| eprintln!("{line}")))?;
    // Ten thousand connections need no farewell.
    runtime.shutdown_background();
    if arguments.json {
        println!("{}", serde_json::to_string_pretty(&report)?);
    } else {
        println!("{}", report.table());
    }
    Ok(())
}
