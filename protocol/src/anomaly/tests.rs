//! Stories of services: a year of ordinary rounds, and what stands out in them.

use std::collections::BTreeMap;

use super::{Anomalies, Anomaly, LEAST};
use crate::alert::{About, Book, Code, judge_anomalies};
use crate::document::{Manifest, ManifestSlice, SliceTotals, Timing};
use crate::ids::{KeyId, ObjectId};
use crate::log::fixture::{checked_slice, round, service};
use crate::log::{Outcome, Pin, State};
use crate::seeds::Rng;
use crate::time::UnixMillis;

const MIB: u64 = 1 << 20;
const MINUTE: u64 = 60_000;

/// A slice of 1000 MiB that compresses to 400 MiB, of which 8 MiB are new.
const PLAIN: SliceTotals = SliceTotals {
    source_bytes: 1_000 * MIB,
    stored_bytes: 400 * MIB,
    added_bytes: 8 * MIB,
    entries: 20_000,
    gaps: 0,
};

struct Story {
    anomalies: Anomalies,
    told: Vec<Manifest>,
    keyset: u64,
    agent: u8,
}

impl Story {
    fn new() -> Self {
        Self { anomalies: Anomalies::default(), told: Vec::new(), keyset: 1, agent: 1 }
    }

    /// A fleet whose first slice is a full upload, and then so many ordinary ones.
    fn of(rounds: usize) -> Self {
        let mut story = Self::new();
        story.tell(SliceTotals { added_bytes: 400 * MIB, ..PLAIN }, 20 * MINUTE);
        for _ in 1..rounds {
            story.plain();
        }
        story
    }

    fn plain(&mut self) -> Option<Anomaly> {
        self.tell(PLAIN, 2 * MINUTE)
    }

    /// The next verified round.
    fn tell(&mut self, totals: SliceTotals, took: u64) -> Option<Anomaly> {
        let number = self.told.len() as u64 + 1;
        let timing = Timing {
            greeted_millis: 5,
            noticed_millis: took + 5,
            checked_millis: took,
            quiesced_millis: None,
        };
        let slice = ManifestSlice {
            agent: KeyId::from_bytes([self.agent; 32]),
            attempts: 1,
            totals,
            timing: Some(timing),
            ..checked_slice(&service("dns"), ObjectId::of(b"r"))
        };
        let manifest = Manifest {
            round: round(1),
            number,
            epoch: 1,
            keyset: self.keyset,
            opened: UnixMillis(0),
            assembled: UnixMillis(0),
            trigger: String::new(),
            outcome: Outcome::Complete,
            slices: vec![slice],
            absent: Vec::new(),
            cut: None,
        };
        self.anomalies.take(&manifest);
        self.told.push(manifest);
        self.open()
    }

    fn open(&self) -> Option<Anomaly> {
        self.anomalies.open().next()
    }

    /// Everything anew, as a reader does who finds that an operator accepted a round.
    fn accept(&mut self, number: u64) -> Option<Anomaly> {
        self.anomalies = Anomalies::new(BTreeMap::from([(service("dns"), number)]));
        self.told.iter().for_each(|manifest| self.anomalies.take(manifest));
        self.open()
    }
}

fn said(anomaly: Option<Anomaly>) -> String {
    anomaly.expect("an anomaly").to_string()
}

#[test]
fn data_that_is_all_new_and_does_not_compress_stands_out_until_somebody_says_that_it_is_meant() {
    let mut story = Story::of(12);
    assert_eq!(story.open(), None);
    let encrypted = SliceTotals { stored_bytes: 1_010 * MIB, added_bytes: 1_010 * MIB, ..PLAIN };
    let text = said(story.tell(encrypted, 3 * MINUTE));
    assert_eq!(
        text,
        "round 13: 100 % of its data is new, usually 2 %; compressed it takes 101 % of its size, usually 40 %: so does \
         encrypted data. If nobody meant that, look at its machine before older rounds go"
    );
    // The next rounds are quiet, and prove nothing.
    for _ in 0..100 {
        let quiet = story.tell(SliceTotals { added_bytes: 4 * MIB, ..encrypted }, 2 * MINUTE);
        assert_eq!(quiet.expect("still open").round, 13);
    }
    let open = story.open().expect("open");
    assert!(open.needs_a_word() && open.ends().starts_with("an operator's word"), "{}", open.ends());
    assert_eq!(open.newest, 113);
    assert_eq!(
        story.accept(12).map(|open| open.round),
        Some(13).filter(|_| false),
        "twelve is no measure yet"
    );
    assert_eq!(story.accept(113), None);
    for _ in 0..LEAST {
        assert_eq!(story.tell(SliceTotals { added_bytes: 4 * MIB, ..encrypted }, MINUTE), None);
    }
    assert!(
        story.tell(SliceTotals { source_bytes: MIB, ..encrypted }, MINUTE).is_some(),
        "it is judged again"
    );
}

#[test]
fn data_that_is_all_new_and_compresses_as_before_is_over_with_the_next_ordinary_round() {
    let mut story = Story::of(12);
    let vacuumed = SliceTotals { added_bytes: 380 * MIB, ..PLAIN };
    let text = said(story.tell(vacuumed, 3 * MINUTE));
    assert_eq!(
        text,
        "round 13: 95 % of its data is new, usually 2 %; it compresses as before, which encrypted data does not"
    );
    assert_eq!(story.plain(), None);
}

#[test]
fn half_of_the_data_encrypted_is_enough() {
    let mut story = Story::of(12);
    let half = SliceTotals { stored_bytes: 700 * MIB, added_bytes: 500 * MIB, ..PLAIN };
    assert!(story.tell(half, 3 * MINUTE).expect("odd").needs_a_word());
    // Pictures never compress: nobody can tell.
    let mut story = Story::new();
    let pictures = SliceTotals { stored_bytes: 990 * MIB, ..PLAIN };
    for _ in 0..8 {
        assert_eq!(story.tell(pictures, MINUTE), None);
    }
    assert!(
        story.tell(SliceTotals { added_bytes: 900 * MIB, ..pictures }, MINUTE).expect("odd").needs_a_word()
    );
}

#[test]
fn what_is_gone_stands_out_until_it_is_back() {
    let mut story = Story::of(8);
    let gone = SliceTotals { source_bytes: 40 * MIB, entries: 900, ..PLAIN };
    let text = said(story.tell(gone, MINUTE));
    assert!(
        text.starts_with(
            "round 9: it holds 40.0 MiB, usually 1000 MiB; it holds 900 entries, usually 20000."
        ),
        "{text}"
    );
    for _ in 0..50 {
        assert!(story.tell(gone, MINUTE).is_some(), "that it stays away makes it no less lost");
    }
    let open = story.open().expect("open");
    assert!(
        open.ends().starts_with("the next verified round in which it is ordinary again"),
        "{}",
        open.ends()
    );
    assert_eq!(story.plain(), None);
    story.tell(gone, MINUTE).expect("lost again");
    assert_eq!(story.accept(60), None);
    assert_eq!(story.tell(gone, MINUTE), None);
}

#[test]
fn what_grew_or_is_slow_is_usual_once_it_stays_so() {
    let mut story = Story::of(8);
    let grown = SliceTotals { source_bytes: 3_000 * MIB, ..PLAIN };
    assert_eq!(said(story.tell(grown, 2 * MINUTE)), "round 9: it holds 2.9 GiB, usually 1000 MiB");
    for _ in 0..5 {
        assert!(story.tell(grown, 2 * MINUTE).is_some());
    }
    assert_eq!(story.tell(grown, 2 * MINUTE), None, "seven in a row");
    assert_eq!(story.tell(grown, 2 * MINUTE), None);
    assert_eq!(said(story.tell(grown, 60 * MINUTE)), "round 17: it took 1 h, usually 2 min");
    assert_eq!(story.tell(grown, 2 * MINUTE), None);
}

#[test]
fn new_keys_a_new_machine_and_small_services_are_nothing_odd() {
    let full = SliceTotals { added_bytes: 400 * MIB, ..PLAIN };
    let mut story = Story::of(12);
    story.keyset = 9;
    assert_eq!(story.tell(full, 60 * MINUTE), None, "a new recovery key");
    assert_eq!(story.plain(), None);
    story.agent = 2;
    assert_eq!(story.tell(full, 60 * MINUTE), None, "another machine");
    assert!(story.tell(full, 2 * MINUTE).is_some(), "and once more for no reason");
    let mut small = Story::new();
    let zone =
        SliceTotals { source_bytes: 4 * MIB, stored_bytes: MIB, added_bytes: 10_000, entries: 40, gaps: 0 };
    for _ in 0..12 {
        assert_eq!(small.tell(zone, 900), None);
    }
    let all =
        SliceTotals { source_bytes: MIB, stored_bytes: 4 * MIB, added_bytes: 4 * MIB, entries: 2, gaps: 0 };
    assert_eq!(small.tell(all, 9 * MINUTE), None);
}

#[test]
fn a_service_that_stands_out_is_one_alert_until_it_does_not() {
    let mut story = Story::of(8);
    let mut book = Book::default();
    let state = State::new(Pin::default());
    let mut judge = |story: &Story, now| {
        let open: Vec<_> = story.anomalies.open().collect();
        judge_anomalies(&mut book, &state, &open, UnixMillis(now));
        book.find(Code::Round06, &About::Service(service("dns")))
            .map(|alert| (alert.since.0, alert.cause.clone()))
    };
    assert_eq!(judge(&story, 1), None);
    story.tell(SliceTotals { entries: 900, ..PLAIN }, MINUTE);
    let (since, cause) = judge(&story, 2).expect("told");
    assert_eq!(since, 2);
    assert!(
        cause.starts_with("round 9: it holds 900 entries, usually 20000. If nobody")
            && cause.ends_with("; prune is frozen")
    );
    story.tell(SliceTotals { entries: 800, ..PLAIN }, MINUTE);
    assert_eq!(judge(&story, 3), Some((2, cause)), "the same");
    story.tell(SliceTotals { entries: 800, source_bytes: MIB, ..PLAIN }, MINUTE);
    assert!(judge(&story, 4).expect("told").1.contains("usually 1000 MiB"), "worse");
    story.plain();
    assert_eq!(judge(&story, 5), None);
}

#[test]
fn an_anomaly_that_was_accepted_is_not_told_to_be_mended() {
    let dns = About::Service(service("dns"));
    for (up_to, by) in [(9, Some(format!("key {}", KeyId::from_bytes([4; 32]).short()))), (8, None)] {
        let mut story = Story::of(8);
        story.tell(SliceTotals { entries: 900, ..PLAIN }, MINUTE);
        let (mut book, mut state) = (Book::default(), State::new(Pin::default()));
        let open: Vec<_> = story.anomalies.open().collect();
        judge_anomalies(&mut book, &state, &open, UnixMillis(1));
        assert!(book.find(Code::Round06, &dns).is_some());
        // What was accepted up to a round before it began is another one.
        state.accepted.insert(service("dns"), up_to);
        state.accepted_by.insert(service("dns"), KeyId::from_bytes([4; 32]));
        judge_anomalies(&mut book, &state, &[], UnixMillis(2));
        let closed = book.history().next().expect("closed");
        assert_eq!((closed.accepted_by.clone(), closed.closed), (by, Some(UnixMillis(2))));
    }
}

#[test]
fn too_few_rounds_tell_nothing() {
    for rounds in 1..LEAST {
        let mut story = Story::of(rounds);
        assert_eq!(story.tell(SliceTotals { source_bytes: MIB, ..PLAIN }, 600 * MINUTE), None, "{rounds}");
    }
}

/// A year, four rounds a day, of a service that grows, is written to in bursts and reorganised every night.
#[test]
fn an_ordinary_year_raises_nothing() {
    for seed in 0..20 {
        let mut rng = Rng(seed);
        let mut story = Story::of(1);
        for day in 0..365_u64 {
            for hour in 0..4 {
                let source = (1_000 + day * 4) * MIB + rng.below(60 * MIB);
                let nightly = if hour == 0 { 60 * MIB } else { 0 };
                let totals = SliceTotals {
                    source_bytes: source,
                    stored_bytes: source / 5 * 2 + rng.below(40 * MIB),
                    added_bytes: rng.below(30 * MIB) + nightly,
                    entries: 20_000 + day * 10 + rng.below(500),
                    gaps: 0,
                };
                let anomaly = story.tell(totals, 2 * MINUTE + rng.below(4 * MINUTE));
                assert_eq!(anomaly, None, "seed {seed}, day {day}");
            }
        }
    }
}
