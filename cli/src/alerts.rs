//! `alerts[]` as `alerts` and `status` show them: what is wrong, by stable code, with what to do. Both show the same: the
//! leader's book, or what the share tells while none answers, and what only the operator's machine can judge.

use std::path::Path;

use muster_coordinator::alerts::from_share;
use muster_coordinator::view::alerts as shown_alerts;
use muster_protocol::alert::{Alert, Code};
use muster_protocol::log::State;
use muster_share::secret_file;

use crate::failure::Failure;
use crate::fleet::Fleet;
use crate::operator::Operator;
use crate::proof;

pub(crate) use muster_coordinator::view::alerts::AlertView;

/// What `code` says of `subject`, with what a command that failed says to do.
pub(crate) fn of_failure(code: Code, subject: impl Into<String>, failure: &Failure) -> AlertView {
    let alert = AlertView::new(code, subject, failure.what());
    if failure.steps().is_empty() { alert } else { AlertView { steps: failure.steps().to_vec(), ..alert } }
}

/// What rounds tell, read off the share; `closed`: also what is over. Then how many findings found no place.
///
/// # Errors
/// When the share fails.
pub(crate) async fn of_share(fleet: &Fleet, closed: bool) -> Result<(Vec<Alert>, u64), Failure> {
    let book = from_share(&fleet.log.sure(), fleet.state()).await?;
    let old = book.history().filter(|_| closed);
    Ok((book.open().chain(old).cloned().collect(), book.passed_over()))
}

/// What is judged here and now, and in no book: private keys within reach, recovery keys that nobody proved, this operator's
/// own standing, and records of the log that were refused since the newest commit.
///
/// # Errors
/// When the share fails.
pub(crate) async fn judged(
    operator: Option<(&Path, &Operator)>,
    fleet: Option<&Fleet>,
) -> Result<Vec<AlertView>, Failure> {
    let mut alerts = Vec::new();
    if let Some((folder, operator)) = operator {
        let cause = "the private key lies where this machine can read it: take it away";
        let keys = operator.reachable_keys(folder).into_iter();
        alerts.extend(keys.map(|path| AlertView::new(Code::Key02, path.display().to_string(), cause)));
    }
    let Some(fleet) = fleet else { return Ok(alerts) };
    if let Some((_, operator)) = operator {
        alerts.extend(proof::alerts(operator, fleet.state()));
        alerts.extend(revoked(operator, fleet.state()));
    }
    alerts.extend(shown_alerts::refused(&fleet.shown()).await?);
    Ok(alerts)
}

/// Whoever was revoked, by a rebuild elsewhere perhaps, sees the fleet and can change nothing in it.
fn revoked(operator: &Operator, state: &State) -> Option<AlertView> {
    let key = secret_file::read_signing_key(&operator.operator.key).ok()?.key_id();
    let record = state.members.get(&key)?.revoked?;
    let cause = format!(
        "this operator was revoked by log record {record}: if the fleet was rebuilt elsewhere, go on there"
    );
    Some(AlertView::new(Code::Key03, operator.operator.name.to_string(), cause))
}
