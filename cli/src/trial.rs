//! Trying the share as a round would, without the throughput: before something is made to rest on it, and where nothing else says
//! what is wrong with it.

use std::sync::Arc;
use std::time::Duration;

use muster_protocol::alert::Code;
use muster_protocol::units::format_duration;
use muster_share::probe::{Terms, Verdict, probe};
use muster_share::store::Store;

use crate::exit::Exit;
use crate::failure::Failure;

/// What keeps rounds from this share, with its alert; none where they could use it.
pub(crate) async fn fault(store: &Arc<dyn Store>, limit: Duration) -> Option<Failure> {
    let terms = Terms { sample: 0, coordinators: 1, forecast: None };
    let tried = async {
        let report = probe(store, &terms).await;
        store.tidy().await;
        report
    };
    let (code, said) = match tokio::time::timeout(limit, tried).await {
        Ok(report) => {
            let bad = report.findings.into_iter().find(|finding| finding.verdict == Verdict::Bad)?;
            (bad.code.unwrap_or(Code::Share07), bad.said)
        }
        Err(_) => {
            (Code::Share07, format!("a test of the share did not end within {}", format_duration(limit)))
        }
    };
    let failure = Failure::new(Exit::Unreachable, format!("{code}: {}: {}", store.describe(), code.title()));
    Some(code.steps().iter().fold(failure.because(said), |failure, step| failure.next(*step)))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use muster_protocol::alert::Code;
    use muster_protocol::config::ShareConfig;
    use muster_share::store::faults::{Fault, Faulty, Op};
    use muster_share::store::{self, Store};

    use super::fault;

    #[tokio::test]
    async fn a_share_that_hangs_is_named_as_what_is_wrong() {
        let folder = tempfile::tempdir().expect("a folder");
        let share = ShareConfig::at(folder.path().display().to_string());
        let store = store::open(&share).await.expect("a folder");
        let of = |op: Op, fault: Fault| {
            let inner = Arc::clone(&store);
            let rule = move |call: &store::faults::Call<'_>| {
                if call.op == op { fault.clone() } else { Fault::None }
            };
            let faulty: Arc<dyn Store> = Arc::new(Faulty::new(inner, rule));
            faulty
        };
        let long = Duration::from_secs(86_400);
        for (op, what, code) in [
            (Op::Put, Fault::Delay(long), Code::Share07),
            (Op::Head, Fault::Delay(long), Code::Share07),
            (Op::Put, Fault::Refused, Code::Share04),
            (Op::List, Fault::Refused, Code::Share03),
        ] {
            let failure = fault(&of(op, what), Duration::from_millis(300)).await.expect("a fault");
            assert_eq!(failure.alert(), Some(code), "{failure}");
            assert!(!failure.steps().is_empty(), "{failure}");
        }
        assert!(fault(&store, Duration::from_secs(60)).await.is_none());
    }
}
