//! What must be true of a fleet's share after any fault: one log, objects that are what their names say, and
//! the same bytes back.

use std::path::Path;

use muster_protocol::config::ShareConfig;
use muster_protocol::log::Pin;
use muster_share::log::Log;
use muster_share::store;

use crate::fleet::{Fleet, text};
use crate::tree;

/// The log of a fleet's share, read as anybody may.
///
/// # Panics
/// When it cannot be read or believed.
#[must_use]
pub fn log(fleet: &Fleet) -> Log {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let store = store::open(&ShareConfig::at(text(&fleet.share()))).await.expect("a share");
        Log::open(store, Pin::default()).await.expect("a log that can be believed")
    })
}

/// Invariant 7: the log has one record for each number, without a gap, and every one of them had an effect. A
/// second commit of a round, or a record of a leader that lost its epoch, would be one without.
///
/// # Panics
/// Otherwise.
pub fn one_log(fleet: &Fleet) {
    let log = log(fleet);
    let state = log.state();
    assert!(state.void.is_empty(), "void slots: {:?}", state.void);
    assert!(state.without_effect.is_empty(), "records without effect: {:?}", state.without_effect);
    let slots = std::fs::read_dir(fleet.share().join("log")).expect("a log");
    let names = slots.map(|slot| slot.expect("a slot").file_name().to_string_lossy().into_owned());
    let beyond: Vec<_> =
        names.filter_map(|name| name.parse().ok()).filter(|n: &u64| *n >= state.next).collect();
    assert!(beyond.is_empty(), "the log ends before record {}, but there are {beyond:?}", state.next);
}

/// Invariants 1 and 2: every object of every committed round is what its name says, and the newest committed
/// round recovers from share and kit to the originals: for each `SERVICE/SOURCE`, or a file in it, a tree or
/// a file.
///
/// # Panics
/// Otherwise.
pub fn recovers(fleet: &Fleet, originals: &[(&str, &Path)]) {
    let (share, kit) = (text(&fleet.share()), text(&fleet.kit()));
    let verified = fleet.run(&["verify", "--share", &share, "--kit", &kit]).with_code(0);
    assert!(!verified.out.contains("damaged "), "{}", verified.out);
    let out = tempfile::TempDir::new_in(fleet.path("")).expect("a folder");
    let into = out.path().join("recovered");
    let said = fleet.recover(&into);
    // A partial round recovers what it holds, and says so.
    assert!(matches!(said.code, 0 | 3), "out:\n{}\nerr:\n{}", said.out, said.err);
    for (path, original) in originals {
        let recovered = into.join(path);
        if original.is_dir() {
            tree::assert_same(original, &recovered);
        } else {
            let (want, have) = (std::fs::read(original).expect("an original"), std::fs::read(&recovered));
            assert!(have.expect("it is there") == want, "{path} differs");
        }
    }
}

/// How many rounds were committed.
#[must_use]
pub fn commits(fleet: &Fleet) -> usize {
    let rounds = fleet.rounds();
    rounds.iter().filter(|round| round["outcome"] == "complete" || round["outcome"] == "partial").count()
}
