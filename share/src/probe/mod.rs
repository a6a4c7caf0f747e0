//! Testing a share by using it: does it keep what it is given, and the promises that the log stands on?
//!
//! ```text
//! create     a small object
//! exclusive  the same name again with other bytes, alone and eight at once: refused, and one winner
//! read back  the first bytes are still there
//! list       it is in the listing, with its length
//! write/read throughput, compared byte by byte
//! clock      the share's own time of the object against ours
//! delete     whether this credential may; what it may not stays for the next prune
//! space      free bytes against what the rounds will need
//! ```
//!
//! Everything lies below `probe/` under random names, and goes again where the credential allows it. Nothing that is on
//! the share is touched.

mod forecast;
mod lock;

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use bytes::Bytes;
use futures::StreamExt;
use muster_protocol::alert::Code;
use muster_protocol::causes::causes;
use muster_protocol::entropy::{Entropy, random};
use muster_protocol::units::{counted, format_duration};

use crate::entropy::OsEntropy;
use crate::layout::{ObjectPath, Prefix};
use crate::store::{Exclusive, Listed, Store, StoreError};

pub use forecast::{Forecast, forecast};

/// Clocks that differ by less are fine: rounds are told apart by numbers, not by times.
const SKEW: Duration = Duration::from_secs(5 * 60);
/// Writers that race for one name.
const RACERS: u8 = 8;
/// Length of an object of the throughput, as of a pack.
const PACK: usize = 12 << 20;
/// Most objects of the throughput on their way at once, as an agent has.
const AT_ONCE: usize = 4;
/// Below this rate a share is called slow, in bytes a second.
const SLOW: u64 = 1 << 20;

/// What is tested.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Check {
    /// A new object.
    Create,
    /// A name that is taken.
    Exclusive,
    /// What was written, read.
    ReadBack,
    /// The listing.
    List,
    /// Throughput of writing.
    Write,
    /// Throughput of reading.
    Read,
    /// The share's clock.
    Clock,
    /// Deleting.
    Delete,
    /// The lock of what was written.
    Lock,
    /// Room.
    Space,
}

impl Check {
    /// Its name on screens and in JSON.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Create => "create",
            Self::Exclusive => "exclusive",
            Self::ReadBack => "read_back",
            Self::List => "list",
            Self::Write => "write",
            Self::Read => "read",
            Self::Clock => "clock",
            Self::Delete => "delete",
            Self::Lock => "lock",
            Self::Space => "space",
        }
    }
}

/// How it went.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verdict {
    /// As it should be.
    Good,
    /// It works; somebody should know.
    Warning,
    /// No round should be trusted to this share.
    Bad,
}

/// One line of the report.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// What was tested.
    pub check: Check,
    /// How it went.
    pub verdict: Verdict,
    /// The alert that it would raise.
    pub code: Option<Code>,
    /// What was found, in the user's words.
    pub said: String,
}

/// What the share has to serve.
#[derive(Debug, Clone, Copy)]
pub struct Terms {
    /// Bytes to write and read for the throughput; 0 for none.
    pub sample: u64,
    /// Coordinators of the fleet: more than one need a share that creates exclusively.
    pub coordinators: usize,
    /// What is known of past rounds.
    pub forecast: Option<Forecast>,
}

/// What was found, in the order of the tests; those after the first that makes the rest senseless are missing.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Report {
    /// Line by line.
    pub findings: Vec<Finding>,
    /// Bytes a second written, where it was measured.
    pub write_rate: Option<u64>,
    /// Bytes a second read.
    pub read_rate: Option<u64>,
    /// Free bytes, where the share tells.
    pub free: Option<u64>,
    /// Days until it is full, where past rounds tell.
    pub full_in_days: Option<u64>,
    /// Objects that could not be deleted again, and stay for the next prune.
    pub left: usize,
}

impl Report {
    /// The worst verdict.
    #[must_use]
    pub fn verdict(&self) -> Verdict {
        self.findings.iter().map(|finding| finding.verdict).max().unwrap_or(Verdict::Good)
    }

    fn say(&mut self, check: Check, verdict: Verdict, code: Option<Code>, said: impl Into<String>) {
        self.findings.push(Finding { check, verdict, code, said: said.into() });
    }

    fn failed(&mut self, check: Check, error: &StoreError) {
        self.say(check, Verdict::Bad, error.alert().or(Some(Code::Share07)), causes(error));
    }
}

/// Tests the share.
pub async fn probe(store: &Arc<dyn Store>, terms: &Terms) -> Report {
    let mut report = Report::default();
    let mut made = Vec::new();
    let path = new_path(&mut made);
    let bytes = Bytes::copy_from_slice(&random::<64>(&mut OsEntropy));
    match store.put_new(&path, bytes.clone()).await {
        Ok(()) => report.say(Check::Create, Verdict::Good, None, "a new object was written"),
        Err(error) => {
            report.failed(Check::Create, &error);
            return report;
        }
    }
    exclusive(store, terms, (&path, &bytes), &mut made, &mut report).await;
    listed(store, &path, bytes.len() as u64, &mut report).await;
    if terms.sample > 0 {
        throughput(store, terms.sample, &mut made, &mut report).await;
    }
    clock(store, &path, &mut report).await;
    delete(store, terms, &made, &mut report).await;
    space(store, terms, &mut report).await;
    report
}

fn new_path(made: &mut Vec<ObjectPath>) -> ObjectPath {
    let path = ObjectPath::Probe(random(&mut OsEntropy));
    made.push(path.clone());
    path
}

async fn exclusive(
    store: &Arc<dyn Store>,
    terms: &Terms,
    (path, bytes): (&ObjectPath, &Bytes),
    made: &mut Vec<ObjectPath>,
    report: &mut Report,
) {
    let other = Bytes::copy_from_slice(&random::<64>(&mut OsEntropy));
    let overwritten = match store.put_new(path, other).await {
        Err(StoreError::AlreadyExists { .. }) => false,
        Ok(()) => true,
        Err(error) => return report.failed(Check::Exclusive, &error),
    };
    let overwritten = match store.get(path, bytes.len() as u64).await {
        Ok(there) if there == *bytes => overwritten,
        Ok(_) | Err(StoreError::TooLong { .. }) => true,
        Err(error) => return report.failed(Check::ReadBack, &error),
    };
    let winners = if overwritten { Ok(1) } else { race(store, &new_path(made)).await };
    let (verdict, refused) =
        if terms.coordinators > 1 { (Verdict::Bad, true) } else { (Verdict::Warning, false) };
    let ending = if refused {
        format!("with {} coordinators two could write the same record of the log", terms.coordinators)
    } else {
        "keep to one coordinator, and let nothing else write here".to_owned()
    };
    match winners {
        Err(error) => report.failed(Check::Exclusive, &error),
        Ok(_) if overwritten => {
            report.say(
                Check::Exclusive,
                verdict,
                Some(Code::Share08),
                format!("a name that was taken was overwritten: {ending}"),
            );
        }
        Ok(1) if store.exclusive() == Exclusive::OneCoordinator => {
            let said = format!("names are taken once, but a crash may leave half a record: {ending}");
            report.say(Check::Exclusive, verdict, Some(Code::Share08), said);
        }
        Ok(1) => {
            let said = format!("a taken name is refused; of {RACERS} writers one won");
            report.say(Check::Exclusive, Verdict::Good, None, said);
        }
        Ok(winners) => {
            let said = format!("of {RACERS} writers of one name {winners} were told that they won: {ending}");
            report.say(Check::Exclusive, verdict, Some(Code::Share08), said);
        }
    }
    if !overwritten {
        report.say(Check::ReadBack, Verdict::Good, None, "what was written came back");
    }
}

/// How many of the racers for one name were told that they won.
async fn race(store: &Arc<dyn Store>, path: &ObjectPath) -> Result<usize, StoreError> {
    let racers = (0..RACERS).map(|n| {
        let (store, path) = (Arc::clone(store), path.clone());
        async move { store.put_new(&path, Bytes::from(vec![n; 4096])).await }
    });
    let mut winners = 0;
    for done in futures::future::join_all(racers).await {
        match done {
            Ok(()) => winners += 1,
            Err(StoreError::AlreadyExists { .. }) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(winners)
}

async fn listed(store: &Arc<dyn Store>, path: &ObjectPath, size: u64, report: &mut Report) {
    let mut lines = store.list(&Prefix::Probes);
    while let Some(line) = lines.next().await {
        match line {
            Ok(Listed::Object { path: there, size: have }) if there == *path => {
                let (verdict, code) =
                    if have == size { (Verdict::Good, None) } else { (Verdict::Bad, Some(Code::Share07)) };
                let said = format!("the listing names it with {have} of {size} bytes");
                return report.say(Check::List, verdict, code, said);
            }
            Ok(_) => {}
            Err(error) => return report.failed(Check::List, &error),
        }
    }
    let said = "an object that was just written is not in the listing: prune and verify cannot work here";
    report.say(Check::List, Verdict::Bad, Some(Code::Share07), said);
}

async fn throughput(store: &Arc<dyn Store>, sample: u64, made: &mut Vec<ObjectPath>, report: &mut Report) {
    let mut rest = usize::try_from(sample).unwrap_or(PACK);
    let mut parts = Vec::new();
    // One random block; each object differs from the others by its first bytes, so that no server folds them into one.
    let mut block = vec![0; PACK.min(rest)];
    OsEntropy.fill(&mut block);
    while rest > 0 {
        let len = rest.min(PACK);
        let mut bytes = block[..len].to_vec();
        for (byte, salt) in bytes.iter_mut().zip(random::<16>(&mut OsEntropy)) {
            *byte = salt;
        }
        parts.push((new_path(made), Bytes::from(bytes)));
        rest -= len;
    }
    let began = Instant::now();
    // Owned, and each future of one type: a borrowed closure makes the whole no longer `Send`.
    let put = |store: Arc<dyn Store>, path: ObjectPath, bytes: Bytes| async move {
        store.put_new(&path, bytes).await
    };
    let calls: Vec<_> =
        parts.iter().map(|(path, bytes)| put(Arc::clone(store), path.clone(), bytes.clone())).collect();
    let mut puts = futures::stream::iter(calls).buffer_unordered(AT_ONCE);
    while let Some(done) = puts.next().await {
        if let Err(error) = done {
            return report.failed(Check::Write, &error);
        }
    }
    drop(puts);
    report.write_rate = Some(rated(sample, began, Check::Write, report));
    let began = Instant::now();
    let same = |store: Arc<dyn Store>, path: ObjectPath, bytes: Bytes| async move {
        Ok::<_, StoreError>(store.get(&path, bytes.len() as u64).await? == bytes)
    };
    let calls: Vec<_> =
        parts.iter().map(|(path, bytes)| same(Arc::clone(store), path.clone(), bytes.clone())).collect();
    let mut gets = futures::stream::iter(calls).buffer_unordered(AT_ONCE);
    while let Some(done) = gets.next().await {
        match done {
            Ok(true) => {}
            Ok(false) => {
                let said = "other bytes came back than were written: this share damages what it keeps";
                return report.say(Check::Read, Verdict::Bad, Some(Code::Verify01), said);
            }
            Err(error) => return report.failed(Check::Read, &error),
        }
    }
    drop(gets);
    report.read_rate = Some(rated(sample, began, Check::Read, report));
}

fn rated(bytes: u64, began: Instant, check: Check, report: &mut Report) -> u64 {
    let micros = u64::try_from(began.elapsed().as_micros()).unwrap_or(u64::MAX).max(1);
    let rate = u64::try_from(u128::from(bytes) * 1_000_000 / u128::from(micros)).unwrap_or(u64::MAX);
    let said = format!("{:.1} MiB/s", rate as f64 / f64::from(1 << 20));
    if rate < SLOW {
        report.say(check, Verdict::Warning, Some(Code::Share07), format!("{said}: slow"));
    } else {
        report.say(check, Verdict::Good, None, said);
    }
    rate
}

async fn clock(store: &Arc<dyn Store>, path: &ObjectPath, report: &mut Report) {
    let modified = match store.head(path).await {
        Ok(meta) => meta.modified,
        Err(error) => return report.failed(Check::Clock, &error),
    };
    let Some(modified) = modified else { return };
    let now = SystemTime::now();
    let (skew, side) = match now.duration_since(modified) {
        Ok(behind) => (behind, "behind"),
        Err(ahead) => (ahead.duration(), "ahead of"),
    };
    if skew > SKEW {
        let said = {
            let skew = format_duration(Duration::from_secs(skew.as_secs()));
            format!("the share's clock is {skew} {side} ours")
        };
        report.say(Check::Clock, Verdict::Warning, Some(Code::Agent06), said);
    } else {
        report.say(Check::Clock, Verdict::Good, None, "the share's clock agrees with ours");
    }
}

async fn delete(store: &Arc<dyn Store>, terms: &Terms, made: &[ObjectPath], report: &mut Report) {
    if store.lock().is_some() {
        return lock::test(store, terms, made, report).await;
    }
    let (mut gone, mut failure) = (0, None);
    for path in made {
        match store.delete(path).await {
            Ok(()) | Err(StoreError::NotFound { .. }) => gone += 1,
            Err(StoreError::WriteRefused { .. } | StoreError::Denied { .. } | StoreError::Locked { .. }) => {}
            Err(error) => failure = Some(error),
        }
    }
    report.left = made.len() - gone;
    match failure {
        Some(error) => report.failed(Check::Delete, &error),
        None if gone == 0 => {
            let said = "this credential may not delete, as it should be; what the test wrote goes with the next prune";
            report.say(Check::Delete, Verdict::Good, None, said);
        }
        None => {
            // A warning only: a folder without rights of its own is where everybody begins.
            let said = "unprotected: this credential may delete; docs/shares.md shows rights under which only the pruner may";
            report.say(Check::Delete, Verdict::Warning, None, said);
        }
    }
}

async fn space(store: &Arc<dyn Store>, terms: &Terms, report: &mut Report) {
    let free = match store.free_bytes().await {
        Ok(Some(free)) => free,
        Ok(None) => return,
        Err(error) => return report.failed(Check::Space, &error),
    };
    report.free = Some(free);
    let Some(forecast) = &terms.forecast else {
        return report.say(Check::Space, Verdict::Good, None, "no round tells yet how much is needed");
    };
    report.full_in_days = forecast.full_in_days(free);
    let (need, days) = (forecast.need, report.full_in_days);
    let ending = days.map(|days| format!(", full in about {}", counted(days, "day"))).unwrap_or_default();
    if free < need {
        let said = format!("less is free than twice the retained rounds need by the largest of them{ending}");
        report.say(Check::Space, Verdict::Warning, Some(Code::Share06), said);
    } else {
        report.say(Check::Space, Verdict::Good, None, format!("enough is free{ending}"));
    }
}

#[cfg(test)]
mod tests;
