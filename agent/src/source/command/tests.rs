//! Commands that succeed, fail, hang, and leave children behind.

use super::super::testing::{Memory, capture};
use super::super::{CaptureContext, Cause, SourceConfig, SourceTable};
use super::GRACE;
use crate::source::Source;
use crate::source::config::CommandTable;
use muster_protocol::units::HumanDuration;
use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

fn build(table: CommandTable) -> Box<dyn Source> {
    let mut configs =
        SourceConfig::resolve(&[SourceTable::Command(table)], Path::new("/")).expect("resolves");
    configs.remove(0).build()
}

fn shell(script: &str) -> CommandTable {
    CommandTable::new(["sh", "-c", script].map(str::to_owned).to_vec())
}

/// Runs to an error; what was begun must have been discarded.
fn fails(table: CommandTable) -> crate::source::SourceError {
    let mut sink = Memory::default();
    let error = capture(&*build(table), &mut sink, Path::new("/")).expect_err("fails");
    assert!(sink.content.is_empty());
    error
}

fn gone(pid: &str) -> bool {
    // A zombie that its new parent has not collected yet is as good as gone.
    fs::read_to_string(format!("/proc/{}/stat", pid.trim())).map_or(true, |stat| stat.contains(") Z "))
}

#[test]
fn output_becomes_the_dump_whatever_its_length() {
    let mut sink = Memory::default();
    let table =
        CommandTable { file: "zeroes".to_owned(), ..shell("head -c 3000001 /dev/zero; echo said >&2") };
    capture(&*build(table), &mut sink, Path::new("/")).expect("captures");
    assert_eq!((sink.source_bytes(), sink.entries.len()), (3_000_001, 2));
    assert_eq!(sink.paths(), ["", "zeroes"]);
    assert!(sink.content[&b"zeroes"[..]] == vec![0; 3_000_001]);
}

#[test]
fn the_environment_is_what_is_listed() {
    let mut sink = Memory::default();
    let table = CommandTable { env: vec!["CARGO_MANIFEST_DIR".to_owned()], ..shell("env; pwd; cat") };
    capture(&*build(table), &mut sink, Path::new("/")).expect("captures");
    let text = String::from_utf8_lossy(&sink.content[&b"output"[..]]).into_owned();
    let mut names: Vec<&str> = text.lines().filter_map(|line| Some(line.split_once('=')?.0)).collect();
    // The shell itself adds PWD and, by kind, others of its own.
    names.retain(|name| !["PWD", "OLDPWD", "SHLVL", "_"].contains(name));
    names.sort_unstable();
    assert_eq!(names, ["CARGO_MANIFEST_DIR", "LANG", "PATH"], "{text}");
    assert!(text.lines().any(|line| line == "/"), "{text}");
}

#[test]
fn a_bad_end_keeps_nothing_and_says_why() {
    let error = fails(shell("echo half; printf 'out of \\033[31mspace\\n' >&2; exit 3"));
    assert!(matches!(&*error.cause, Cause::Status { status, .. } if status.code() == Some(3)), "{error}");
    assert!(
        error.to_string().contains("\"sh\"") && error.to_string().contains("out of  [31mspace"),
        "{error}"
    );
    assert!(!error.is_permanent());
    let error = fails(shell("echo half; kill -9 $$"));
    assert!(error.to_string().contains("signal: 9"), "{error}");
}

#[test]
fn too_little_output_is_no_dump() {
    let error = fails(shell("true"));
    assert!(matches!(*error.cause, Cause::Short { have: 0, want: 1, .. }), "{error}");
    let error = fails(CommandTable { min_bytes: 6, ..shell("echo half") });
    assert!(matches!(*error.cause, Cause::Short { have: 5, want: 6, .. }), "{error}");
    let nothing = CommandTable { min_bytes: 0, ..shell("true") };
    capture(&*build(nothing), &mut Memory::default(), Path::new("/")).expect("nothing was allowed");
}

#[test]
fn a_missing_program_or_folder_is_permanent() {
    for table in [
        CommandTable::new(vec!["no-such-program-of-muster".to_owned()]),
        CommandTable::new(vec!["/etc/passwd".to_owned()]),
        CommandTable { dir: Some("/no/such/folder".into()), ..shell("echo x") },
    ] {
        let error = fails(table);
        assert!(error.is_permanent(), "{error}");
    }
    assert!(build(CommandTable::new(vec!["/no/such/program".to_owned()])).preflight().is_err());
    assert!(build(shell("true")).preflight().is_ok());
}

#[test]
fn a_timeout_kills_the_whole_group() {
    let folder = tempfile::tempdir().expect("folder");
    let pids = folder.path().join("pids");
    // The grandchild ignores the polite signal and holds the pipe.
    let script = format!(
        "sh -c 'trap \"\" TERM; echo $$ >> {0}; while :; do sleep 1; done' & echo $$ >> {0}; wait; wait",
        pids.display()
    );
    let error = fails(CommandTable { timeout: HumanDuration(Duration::from_millis(500)), ..shell(&script) });
    assert!(matches!(*error.cause, Cause::TimedOut { .. }), "{error}");
    let pids = fs::read_to_string(pids).expect("both had started");
    assert_eq!(pids.lines().count(), 2);
    let since = Instant::now();
    while !pids.lines().all(gone) {
        assert!(since.elapsed() < Duration::from_secs(20), "still there: {pids}");
        std::thread::yield_now();
    }
}

#[test]
fn a_process_left_behind_with_the_pipe_is_not_waited_for() {
    let error = fails(shell("echo data; sleep 600 & exit 0"));
    assert!(matches!(*error.cause, Cause::Held { .. }), "{error}");
    // Without the pipe it is none of our business.
    let script = "echo data; sleep 0.2 >/dev/null 2>&1 & exit 0";
    capture(&*build(shell(script)), &mut Memory::default(), Path::new("/")).expect("captures");
    assert!(GRACE < Duration::from_secs(600));
}

#[test]
fn a_cancelled_capture_ends() {
    let cancel = AtomicBool::new(false);
    let mut sink =
        Memory { on_data: Some(Box::new(|_, _| cancel.store(true, Ordering::Relaxed))), ..Memory::default() };
    let context = CaptureContext { spool: Path::new("/"), cancel: &cancel };
    let error =
        build(shell("echo data; exec sleep 600")).capture(&mut sink, &context).expect_err("cancelled");
    assert!(matches!(*error.cause, Cause::Cancelled), "{error}");
    assert_eq!(sink.discarded, 1);
}
