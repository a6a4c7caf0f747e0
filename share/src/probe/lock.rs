//! The test of a share's lock: what was just written must not go before its time.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use muster_protocol::alert::Code;

use super::{Check, Report, Terms, Verdict};
use crate::layout::ObjectPath;
use crate::store::{Store, StoreError};

/// Longest wait for the locks of the test's own objects to end.
const LOCKED: Duration = Duration::from_secs(30);

/// Whether what was written is locked: a version of it must not go before its time.
pub(super) async fn test(store: &Arc<dyn Store>, terms: &Terms, made: &[ObjectPath], report: &mut Report) {
    let (mut left, mut ends) = (Vec::new(), None);
    for path in made {
        // Asked for first: where the credential may not delete either, the refusal proves nothing.
        let until = match store.locked_until(path).await {
            Ok(until) => until.filter(|until| *until > SystemTime::now()),
            Err(error) => {
                report.left = made.len();
                return report.failed(Check::Lock, &error);
            }
        };
        match (until, store.delete(path).await) {
            (_, Ok(()) | Err(StoreError::NotFound { .. })) => {
                let said = "what was locked was deleted before its time: this bucket keeps nothing";
                report.say(Check::Lock, Verdict::Bad, Some(Code::Sec01), said);
            }
            (None, Err(_)) => {
                let said = "what was written carries no lock, though one was asked for";
                report.say(Check::Lock, Verdict::Bad, Some(Code::Sec01), said);
                left.push(path);
            }
            (Some(until), Err(StoreError::Locked { .. })) => {
                ends = ends.max(Some(until));
                left.push(path);
            }
            (Some(_), Err(error)) => {
                report.left = made.len();
                return report.failed(Check::Lock, &error);
            }
        }
        if report.findings.last().is_some_and(|finding| finding.check == Check::Lock) {
            break;
        }
    }
    report.left = left.len();
    if report.findings.iter().any(|finding| finding.check == Check::Lock) {
        return;
    }
    report.say(Check::Lock, Verdict::Good, None, "what is written is locked: deleting it was refused");
    // The long test leaves the share as it was; the one before each round leaves small objects to the next prune.
    if let Some(wait) = ends.and_then(|ends| ends.duration_since(SystemTime::now()).ok())
        && terms.sample > 0
    {
        tokio::time::sleep(wait.min(LOCKED) + Duration::from_secs(1)).await;
        for path in left {
            if store.delete(path).await.is_ok() {
                report.left -= 1;
            }
        }
    }
}
