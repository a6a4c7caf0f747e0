//! The bench still works: a hundredth of its data, Muster alone, once. What it measures here means nothing.

use muster_tests::bench::{Bench, Data, installed, picture, tables};
use muster_tests::process::binaries;

#[test]
fn a_tiny_bench_backs_up_restores_and_compares() {
    let folder = tempfile::TempDir::new().expect("folder");
    let data = Data::make(&folder.path().join("data"), 0.01).expect("data");
    let (tools, _) = installed(&binaries().join("muster"), &["none".to_owned()], &[], None);
    let bench = Bench { data, scale: 0.01, tools, repetitions: 1, work: folder.path().to_owned() };
    let mut told = Vec::new();
    let record = bench.run(&mut |line| told.push(line)).expect("measured");
    assert_eq!((record.tools.len(), told.len()), (2, 2), "with and without the self-check");
    for tool in &record.tools {
        let [run] = tool.runs.as_slice() else { panic!("one repetition: {tool:?}") };
        assert!(tool.compared && tool.failed.is_none(), "{tool:?}");
        assert!(
            run.stored_bytes > record.source_bytes / 4 && run.stored_bytes < record.source_bytes,
            "{run:?}"
        );
        assert!(run.added_bytes > 0 && run.added_bytes < run.stored_bytes / 2, "{run:?}");
        assert!(run.first.peak_bytes > 1 << 20 && run.first.cpu_secs > 0.0, "{run:?}");
    }
    let (text, picture) = (tables(&record), picture(&record));
    assert!(text.contains("| muster, no self-check"), "{text}");
    assert_eq!(picture.matches("<text").count(), picture.matches("</text>").count());
    assert_eq!(picture.matches("class=\"own\"").count(), 12, "two bars in each of six charts");
}
