//! The targets under libFuzzer: `MUSTER_FUZZ_TARGET` names the one to run, and with `MUSTER_FUZZ_SAMPLES` its samples
//! are written to that folder first. Everything else is libFuzzer's own command line; `./x fuzz` gives it.
#![no_main]

use std::path::Path;
use std::sync::LazyLock;

use muster_tests::fuzz::{Target, target, write_samples};

static TARGET: LazyLock<&Target> = LazyLock::new(|| {
    let name = std::env::var("MUSTER_FUZZ_TARGET").expect("MUSTER_FUZZ_TARGET names a target");
    target(&name).unwrap_or_else(|| panic!("no fuzz target `{name}`"))
});

libfuzzer_sys::fuzz_target!(
    init: {
        if let Some(folder) = std::env::var_os("MUSTER_FUZZ_SAMPLES") {
            write_samples(*TARGET, Path::new(&folder)).expect("the samples can be written");
        }
    },
    |input: &[u8]| (TARGET.run)(input)
);
