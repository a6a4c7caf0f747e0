//! Services that stand out (ROUND-06): told as long as they do.

use crate::alert::book::shown;
use crate::alert::{About, Book, Code, Finding};
use crate::anomaly::Anomaly;
use crate::time::UnixMillis;

/// Raises ROUND-06 of each of these services, and closes it of all others. True if anything changed.
pub fn judge_anomalies(book: &mut Book, anomalies: &[Anomaly], now: UnixMillis) -> bool {
    let before = book.clone();
    let about = |anomaly: &Anomaly| About::Service(anomaly.service.clone());
    let over: Vec<About> = book
        .open()
        .filter(|alert| alert.code == Code::Round06)
        // What it began with, or what came to it, is another cause.
        .filter(|alert| !anomalies.iter().any(|a| about(a) == alert.about && cause(a) == alert.cause))
        .map(|alert| alert.about.clone())
        .collect();
    for about in over {
        book.mended(Code::Round06, &about, now);
    }
    for anomaly in anomalies {
        book.raise(Finding::seen(Code::Round06, about(anomaly), cause(anomaly)), now);
    }
    *book != before
}

fn cause(anomaly: &Anomaly) -> String {
    shown(&format!("{anomaly}; prune is frozen"))
}
