//! Services that stand out (ROUND-06): told as long as they do.

use crate::alert::book::shown;
use crate::alert::{About, Book, Code, Finding};
use crate::anomaly::Anomaly;
use crate::log::State;
use crate::time::UnixMillis;

/// Raises ROUND-06 of each of these services, and closes it of all others: accepted where the log says so. True if anything
/// changed.
pub fn judge_anomalies(book: &mut Book, state: &State, anomalies: &[Anomaly], now: UnixMillis) -> bool {
    let before = book.clone();
    let about = |anomaly: &Anomaly| About::Service(anomaly.service.clone());
    let over: Vec<(About, Option<u64>)> = book
        .open()
        .filter(|alert| alert.code == Code::Round06)
        // What it began with, or what came to it, is another cause.
        .filter(|alert| !anomalies.iter().any(|a| about(a) == alert.about && cause(a) == alert.cause))
        .map(|alert| (alert.about.clone(), began(&alert.cause)))
        .collect();
    for (about, began) in over {
        match accepted_by(state, &about, began) {
            Some(by) => book.accepted(Code::Round06, &about, by, now),
            None => book.mended(Code::Round06, &about, now),
        };
    }
    for anomaly in anomalies {
        book.raise(Finding::seen(Code::Round06, about(anomaly), cause(anomaly)), now);
    }
    *book != before
}

/// Who accepted what the service was like from the round on in which it began to be odd.
fn accepted_by(state: &State, about: &About, began: Option<u64>) -> Option<String> {
    let service = about.service()?;
    let up_to = state.accepted.get(service)?;
    began.is_some_and(|began| began <= *up_to).then_some(())?;
    state.accepted_by.get(service).map(|key| state.name_of(key))
}

fn cause(anomaly: &Anomaly) -> String {
    shown(&format!("{anomaly}; prune is frozen"))
}

/// The round with which a cause begins: no clock tells what came first, and books that are kept have nothing else.
fn began(cause: &str) -> Option<u64> {
    cause.strip_prefix("round ")?.split_once(':')?.0.parse().ok()
}
