//! The table: every metric that a process of Muster tells, its unit, its attributes, and what it says. `docs/metrics.md` is made of it.

use super::{By, Kind, Metric};

/// Key of the attribute that names a service.
pub const SERVICE: &str = "muster.service";
/// Key of the attribute that says how something ended.
pub const OUTCOME: &str = "muster.outcome";
/// Key of the attribute with an alert's code.
pub const CODE: &str = "muster.code";
/// Key of the attribute with an alert's severity.
pub const SEVERITY: &str = "muster.severity";
/// Key of the attribute with a phase of a round.
pub const PHASE: &str = "muster.phase";
/// Key of the attribute with a stage of a capture.
pub const STAGE: &str = "muster.stage";
/// Key of the attribute with what a share was asked for.
pub const OPERATION: &str = "muster.operation";
/// Key of the attribute that tells reading from writing.
pub const DIRECTION: &str = "muster.direction";
/// Key of the attribute with why a message was passed over.
pub const REASON: &str = "muster.reason";
/// Key of the attribute that names a way of notifications.
pub const CHANNEL: &str = "muster.channel";
/// Key of the attribute that tells traces, metrics and logs apart.
pub const SIGNAL: &str = "muster.signal";

/// Seconds of what people wait for: from a tenth to a day.
const LONG: &[f64] = &[
    0.1, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 900.0, 1_800.0, 3_600.0, 7_200.0, 14_400.0, 28_800.0,
    86_400.0,
];
/// Seconds of one request.
const SHORT: &[f64] =
    &[0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0];

macro_rules! table {
    ($($(#[$doc:meta])* $id:ident = $name:literal, $kind:expr, $unit:literal, [$($key:ident),*], $by:ident, $what:literal;)*) => {
        $(
            #[doc = concat!("`", $name, "`: ", $what)]
            pub static $id: Metric = Metric {
                name: $name,
                kind: $kind,
                unit: $unit,
                attributes: &[$($key),*],
                by: By::$by,
                what: $what,
            };
        )*
        /// Every metric, in the order of the page.
        pub static TABLE: &[&Metric] = &[$(&$id),*];
    };
}

use Kind::{Counter, Gauge, Histogram};

table! {
    ROUNDS = "muster.rounds", Counter, "{round}", [OUTCOME], Leader, "rounds that ended";
    ROUND_DURATION = "muster.round.duration", Histogram(LONG), "s", [OUTCOME], Leader, "from the opening of a round to its end";
    PHASE_DURATION = "muster.round.phase.duration", Histogram(LONG), "s", [PHASE], Leader, "how long rounds stay in a phase: opening, quiescing, capturing, committing, verifying, ending";
    ROUNDS_OPEN = "muster.round.open", Gauge, "{round}", [], Leader, "rounds that are open now";
    ROUNDS_VERIFIED = "muster.rounds.verified", Gauge, "{round}", [], Leader, "verified rounds on the share that can be recovered";
    SLICES = "muster.slices", Counter, "{slice}", [OUTCOME], Leader, "services of ended rounds: stored, gaps (stored, and something could not be read), absent";
    SLICE_DURATION = "muster.slice.duration", Histogram(LONG), "s", [], Leader, "from a service's hello to its slice that was checked";
    SLICE_SOURCE = "muster.slice.source", Gauge, "By", [SERVICE], Leader, "what the newest slice of a service holds, as its sources have it";
    SLICE_STORED = "muster.slice.stored", Gauge, "By", [SERVICE], Leader, "what the newest slice of a service names on the share";
    SLICE_ADDED = "muster.slice.added", Gauge, "By", [SERVICE], Leader, "what the newest slice of a service added to the share";
    DEDUP = "muster.dedup", Gauge, "1", [SERVICE], Leader, "part of the newest slice that had not to be stored again: 1 - added / source, 0 to 1";
    RETRIES = "muster.retries", Counter, "{attempt}", [CODE], Leader, "attempts of services that failed, by alert code, counted when their round is over";
    CUT_SKEW = "muster.cut.skew", Histogram(SHORT), "s", [], Leader, "how far apart the services of a cut were captured, at most";
    LAST_SUCCESS_AGE = "muster.last_success.age", Gauge, "s", [SERVICE], Leader, "since a service was last part of a verified round; absent: it never was";
    PROMISE_MET = "muster.promise.met", Gauge, "", [SERVICE], Leader, "1: a service has a verified round within the promised interval";
    PROMISE_INTERVAL = "muster.promise.interval", Gauge, "s", [], Leader, "the promised interval";
    SCHEDULE_ENABLED = "muster.schedule.enabled", Gauge, "", [], Leader, "1: rounds begin by themselves";
    SCHEDULE_NEXT = "muster.schedule.next", Gauge, "s", [], Leader, "until the next round begins by itself; absent: none will";
    SERVICES = "muster.services", Gauge, "{service}", [], Leader, "services of the roster";
    AGENTS_PRESENT = "muster.agents.present", Gauge, "{agent}", [], Leader, "agents that were heard of within the limit";
    ALERTS_OPEN = "muster.alerts.open", Gauge, "{alert}", [CODE, SEVERITY], Leader, "alerts that are open";
    NOTIFICATIONS = "muster.notifications", Counter, "{message}", [CHANNEL, OUTCOME], Leader, "deliveries that were tried: sent, failed";
    MESSAGES_IGNORED = "muster.messages.ignored", Counter, "{message}", [REASON], Leader, "messages that were none of the fleet's, or refused";
    SHARE_FREE = "muster.share.free", Gauge, "By", [], Leader, "free on the share";
    SHARE_FORECAST = "muster.share.forecast", Gauge, "s", [], Leader, "until the share is full, by its trend; absent: it does not fill";
    SCRUB_OBJECTS = "muster.scrub.objects", Counter, "{object}", [], Leader, "objects that were read again";
    SCRUB_IO = "muster.scrub.io", Counter, "By", [], Leader, "bytes that were read again";
    SCRUB_AGE = "muster.scrub.age", Gauge, "s", [], Leader, "since every stored object had been read again; absent: they never were";
    QUARANTINE = "muster.quarantine.objects", Gauge, "{object}", [], Leader, "damaged objects in quarantine";
    LEADER = "muster.leader", Gauge, "", [], Coordinator, "1: this coordinator leads";
    LEADER_CHANGES = "muster.leader.changes", Counter, "{change}", [], Coordinator, "times that this coordinator took or lost the lead";
    EPOCH = "muster.epoch", Gauge, "{epoch}", [], Coordinator, "the epoch that this coordinator last led in";
    STAGE_IO = "muster.stage.io", Counter, "By", [SERVICE, STAGE], Agent, "bytes through a stage of captures";
    STAGE_BUSY = "muster.stage.busy", Counter, "s", [SERVICE, STAGE], Agent, "time at work in a stage, over all threads; bytes by it are the throughput of one";
    CAPTURES = "muster.captures", Counter, "{capture}", [SERVICE, OUTCOME], Agent, "captures that ended: captured, failed, cancelled";
    CAPTURE_DURATION = "muster.capture.duration", Histogram(LONG), "s", [SERVICE], Agent, "how long captures took";
    CHUNK_INDEX_ENTRIES = "muster.chunk_index.entries", Gauge, "{chunk}", [SERVICE], Agent, "chunks that the agent's memory knows";
    CHUNK_INDEX_SIZE = "muster.chunk_index.size", Gauge, "By", [SERVICE], Agent, "the agent's memory on its disk";
    SELF_CHECK_FAILURES = "muster.self_check.failures", Counter, "{pack}", [SERVICE], Agent, "packs that did not open as they were sealed";
    SHARE_OPERATIONS = "muster.share.operations", Counter, "{operation}", [OPERATION, OUTCOME], All, "requests to the share: ok, absent, taken, transient, permanent";
    SHARE_OPERATION_DURATION = "muster.share.operation.duration", Histogram(SHORT), "s", [OPERATION], All, "how long the share took to answer";
    SHARE_IO = "muster.share.io", Counter, "By", [DIRECTION], All, "bytes from and to the share";
    NATS_CONNECTED = "muster.nats.connected", Gauge, "", [], All, "1: the connection to NATS is up";
    NATS_RECONNECTS = "muster.nats.reconnects", Counter, "{connection}", [], All, "connections to NATS that were made again";
    NATS_SLOW_CONSUMERS = "muster.nats.slow_consumers", Counter, "{message}", [], All, "messages that were dropped because nobody took them in time";
    DROPPED = "muster.telemetry.dropped", Counter, "{item}", [SIGNAL], All, "spans, figures and log records that were not delivered: the queue was full, or the collector away";
    FOLDED = "muster.log.folded", Counter, "{event}", [], All, "log lines that said the same as one before";
    MEMORY_USAGE = "process.memory.usage", Gauge, "By", [], All, "memory of the process";
    CPU_TIME = "process.cpu.time", Counter, "s", [], All, "processor time of the process";
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn names_are_unique_and_say_no_unit() {
        let names: BTreeSet<_> = TABLE.iter().map(|metric| metric.name).collect();
        assert_eq!(names.len(), TABLE.len());
        for metric in TABLE {
            assert!(
                metric.name.bytes().all(|b| b.is_ascii_lowercase() || b == b'.' || b == b'_'),
                "{}",
                metric.name
            );
            for unit in ["bytes", "seconds", "ratio", "total"] {
                assert!(!metric.name.ends_with(unit), "{} has its unit in its name", metric.name);
            }
        }
    }
}
