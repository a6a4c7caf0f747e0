//! Several coordinators stand on one promise of the share: that a record is created once. It is tested before this one
//! writes anything.

use std::sync::Arc;

use muster_protocol::alert::Code;
use muster_protocol::log::State;
use muster_share::probe::{Check, Terms, Verdict, probe};
use muster_share::store::Store;

use super::error::DaemonError;

/// Refuses a share that lets several coordinators write one record, when there are several. What else is wrong with the
/// share is no reason not to start: rounds tell it, with alerts, and go on once it is mended.
///
/// # Errors
/// [`DaemonError::NotExclusive`].
pub(super) async fn required(store: &Arc<dyn Store>, state: &State) -> Result<(), DaemonError> {
    let coordinators = state.coordinators();
    if coordinators < 2 {
        return Ok(());
    }
    let report = probe(store, &Terms { sample: 0, coordinators, forecast: None }).await;
    for finding in report.findings {
        if finding.verdict != Verdict::Bad {
            continue;
        }
        if finding.check == Check::Exclusive && finding.code == Some(Code::Share08) {
            return Err(DaemonError::NotExclusive {
                share: store.describe(),
                coordinators,
                said: finding.said,
            });
        }
        tracing::warn!(check = finding.check.as_str(), said = finding.said, "the test of the share failed");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use muster_protocol::log::{Change, Member, Role};
    use muster_share::store::Store;
    use muster_share::store::faults::{Fault, Faulty, Op};

    use super::{DaemonError, required};
    use crate::fixture::{change, led, signer};

    #[tokio::test]
    async fn only_several_coordinators_need_it() {
        let (_folder, store, mut log) = led().await;
        // What is reported as written and is not: eight racers are told that they won.
        let lies: Arc<dyn Store> = Arc::new(Faulty::new(Arc::clone(&store), |call| {
            let probe = call.op == Op::Put && call.path.starts_with("probe/");
            if probe && call.nth > 0 { Fault::Forget } else { Fault::None }
        }));
        required(&lies, log.state()).await.expect("one coordinator");
        let key = signer(9).key_id();
        let member = Member { key, name: "two".parse().expect("a name"), role: Role::Coordinator };
        change(&mut log, vec![Change::Admit(member)]).await;
        let error = required(&lies, log.state()).await.expect_err("two coordinators");
        assert!(matches!(&error, DaemonError::NotExclusive { coordinators: 2, .. }), "{error}");
        assert_eq!(error.exit_code(), 7);
        required(&store, log.state()).await.expect("a folder creates once");
    }
}
