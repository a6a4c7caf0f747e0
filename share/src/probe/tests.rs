//! What the test of a share finds: on a good one, on each kind of bad one, and on servers that keep their promises or not.

use std::sync::Arc;

use futures::StreamExt;
use muster_protocol::alert::Code;

use super::{Check, Report, Terms, Verdict, probe};
use crate::layout::Prefix;
use crate::store::faults::{Call, Fault, Faulty, Op};
use crate::store::{FileStore, Store};

const TERMS: Terms = Terms { sample: 1 << 20, coordinators: 2, forecast: None };

async fn probed(fault: impl Fn(&Call<'_>) -> Fault + Send + Sync + 'static) -> Report {
    let folder = tempfile::tempdir().expect("a folder");
    let file: Arc<dyn Store> = Arc::new(FileStore::open(folder.path().to_owned()).await.expect("opens"));
    let store: Arc<dyn Store> = Arc::new(Faulty::new(Arc::clone(&file), fault));
    let report = probe(&store, &TERMS).await;
    let left = file.list(&Prefix::Everything).count().await;
    assert_eq!(left, report.left, "what is left is told");
    report
}

fn verdict(report: &Report, check: Check) -> (Verdict, Option<Code>) {
    let finding = report.findings.iter().find(|finding| finding.check == check);
    finding.map(|finding| (finding.verdict, finding.code)).unwrap_or_else(|| panic!("{check:?}: {report:?}"))
}

#[tokio::test]
async fn a_good_share_passes_and_is_left_as_it_was() {
    let report = probed(|_| Fault::None).await;
    assert!(report.write_rate.is_some() && report.read_rate.is_some() && report.free.is_some(), "{report:?}");
    assert_eq!((report.left, report.verdict()), (0, Verdict::Warning), "{report:?}");
    for check in [Check::Create, Check::Exclusive, Check::ReadBack, Check::List, Check::Write, Check::Read] {
        assert_eq!(verdict(&report, check), (Verdict::Good, None), "{check:?}");
    }
    // A folder lets everybody delete.
    assert_eq!(verdict(&report, Check::Delete), (Verdict::Warning, None));
}

#[tokio::test]
async fn a_share_that_may_not_be_deleted_from_is_well_kept() {
    let report = probed(|call| if call.op == Op::Delete { Fault::Refused } else { Fault::None }).await;
    assert_eq!(verdict(&report, Check::Delete), (Verdict::Good, None));
    assert_eq!((report.left, report.verdict()), (3, Verdict::Good), "{report:?}");
}

#[tokio::test]
async fn each_failure_has_its_code() {
    let put =
        |fault: Fault| move |call: &Call<'_>| if call.op == Op::Put { fault.clone() } else { Fault::None };
    for (fault, code) in
        [(Fault::Unreachable, Code::Share01), (Fault::Refused, Code::Share04), (Fault::Full, Code::Share05)]
    {
        let report = probed(put(fault)).await;
        assert_eq!(verdict(&report, Check::Create), (Verdict::Bad, Some(code)));
        assert_eq!(report.findings.len(), 1, "the rest makes no sense");
    }
    let stale = probed(|call| if call.op == Op::List { Fault::ShortWrite(0) } else { Fault::None }).await;
    assert_eq!(verdict(&stale, Check::List), (Verdict::Bad, Some(Code::Share07)));
    let bent = probed(|call| if call.op == Op::Get { Fault::Flip(3) } else { Fault::None }).await;
    assert_eq!(bent.verdict(), Verdict::Bad, "{bent:?}");
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs servers: ./x test --servers"]
async fn servers_that_overwrite_are_refused_for_several_coordinators() {
    use crate::store::{fixture::at, open};
    use muster_test_servers::{RcloneS3, SeaweedFs};
    let (rclone, seaweed) = (RcloneS3::start(), SeaweedFs::start());
    let admin = SeaweedFs::credentials("admin");
    for (url, credentials, coordinators, verdicts) in [
        (rclone.url("fleet"), RcloneS3::credentials(), 2, (Verdict::Bad, Some(Code::Share08))),
        (rclone.url("fleet"), RcloneS3::credentials(), 1, (Verdict::Warning, Some(Code::Share08))),
        (seaweed.url("fleet"), admin, 2, (Verdict::Good, None)),
    ] {
        let (share, _file) = at(url.clone(), &credentials);
        let store = open(&share).await.expect("opens");
        let report = probe(&store, &Terms { coordinators, ..TERMS }).await;
        assert_eq!(verdict(&report, Check::Exclusive), verdicts, "{url}: {report:?}");
        assert_eq!(report.left, 0, "{url}: {report:?}");
    }
}
