//! The book keeps its promises, whatever is told and in whatever order.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::{
    About, Account, Alert, AlertId, AlertRef, Basis, Begun, Book, Change, ClosedBy, Closing, Code, Finding,
    MAX_CAUSE_LEN, MAX_HISTORY, MAX_KEYS, MAX_OPEN, Part, Rounds, judge_schedule,
};
use crate::document::{Absentee, CutAccount, Excuse, Manifest, ManifestSlice, SliceStatus, SliceTotals};
use crate::ids::{KeyId, Nonce, ObjectId, RoundId, ServiceName};
use crate::log::{Commit, End, Open, Outcome, Pin, RoundPhase, RoundState, Scope, State, Verified};
use crate::seeds::{Rng, each_seed};
use crate::time::UnixMillis;

const DAY: i64 = 86_400_000;
const FLEET: About = About::Part(Part::Fleet);

fn service(name: &str) -> ServiceName {
    name.parse().expect("name")
}

fn dns() -> About {
    About::Service(service("dns"))
}

fn codes(book: &Book) -> Vec<(Code, String)> {
    let mut open: Vec<_> = book.open().map(|alert| (alert.code, alert.about.to_string())).collect();
    open.sort();
    open
}

#[test]
fn a_condition_is_one_alert_until_all_that_holds_it_is_mended() {
    let mut book = Book::default();
    let offline = || Finding::seen(Code::Agent01, dns(), "silent");
    assert_eq!(book.raise(offline(), UnixMillis(10)), Change::Opened);
    assert_eq!(book.raise(offline(), UnixMillis(20)), Change::Nothing, "it is still so");
    let missed = Finding::of_round(4, Code::Agent01, dns(), "round 4: silent");
    assert_eq!(book.raise(missed.clone(), UnixMillis(30)), Change::Changed);
    assert_eq!(book.raise(missed, UnixMillis(40)), Change::Nothing, "the same round");
    let alert = book.find(Code::Agent01, &dns()).expect("open").clone();
    assert_eq!((alert.since, alert.last, alert.count), (UnixMillis(10), UnixMillis(30), 2));

    assert_eq!(book.mended(Code::Agent01, &dns(), UnixMillis(50)), Change::Changed);
    book.service_held(&service("dns"), 3, UnixMillis(60));
    assert!(book.find(Code::Agent01, &dns()).is_some(), "an older round proves nothing");
    book.service_held(&service("web"), 5, UnixMillis(60));
    assert!(book.find(Code::Agent01, &dns()).is_some(), "another service proves nothing");
    book.service_held(&service("dns"), 5, UnixMillis(70));
    assert_eq!(codes(&book), []);
    let closed: Vec<&Alert> = book.history().collect();
    assert_eq!(closed.len(), 1);
    assert_eq!((closed[0].closed, closed[0].reference()), (Some(UnixMillis(70)), alert.reference()));
    assert_eq!(closed[0].closed_by, Some(ClosedBy::Round(5)));
}

#[test]
fn events_end_by_quiet_or_by_acknowledgement_and_conditions_by_neither() {
    let mut book = Book::default();
    let ada = || "ada".parse().expect("name");
    for code in [Code::Key03, Code::Sec01, Code::Agent01] {
        book.raise(Finding::seen(code, dns(), "x"), UnixMillis(0));
        book.raise(Finding { times: 5, ..Finding::seen(code, dns(), "x") }, UnixMillis(7));
    }
    assert_eq!(book.find(Code::Key03, &dns()).map(|alert| alert.count), Some(6));
    assert!(!book.tick(UnixMillis(DAY)), "quiet counts from the last one");
    assert!(book.tick(UnixMillis(DAY + 7)));
    assert!(book.find(Code::Key03, &dns()).is_none());
    let reference = |book: &Book, code| book.find(code, &dns()).map(Alert::reference).expect("open");

    let (event, condition) = (reference(&book, Code::Sec01), reference(&book, Code::Agent01));
    let seen = book.acknowledge(condition, ada(), UnixMillis(8)).expect("open");
    assert_eq!((seen.closed, seen.acknowledged.as_ref().map(|a| a.by.as_str())), (None, Some("ada")));
    let seen = book.acknowledge(event, ada(), UnixMillis(9)).expect("open");
    assert_eq!((seen.closed, seen.closed_by), (Some(UnixMillis(9)), Some(ClosedBy::Acknowledgement)));
    assert_eq!(book.history().next().and_then(|alert| alert.closed_by), Some(ClosedBy::Quiet));
    // The same words again, after it opened anew: they are about the opening that they name.
    book.raise(Finding::seen(Code::Sec01, dns(), "again"), UnixMillis(10));
    assert!(book.acknowledge(event, ada(), UnixMillis(11)).is_err());
    assert!(book.find(Code::Sec01, &dns()).is_some_and(|alert| alert.acknowledged.is_none()));
}

#[test]
fn the_book_is_bounded_and_the_worst_finds_a_place() {
    let mut book = Book::default();
    for number in 0..2 * MAX_OPEN as u64 {
        book.raise(Finding::seen(Code::Agent05, About::Round(number), "x"), UnixMillis(0));
    }
    assert_eq!((book.open().count(), book.passed_over()), (MAX_OPEN, MAX_OPEN as u64));
    assert_eq!(book.raise(Finding::seen(Code::Sec01, FLEET, "y"), UnixMillis(1)), Change::Opened);
    assert_eq!(book.open().count(), MAX_OPEN);
    for number in 0..MAX_OPEN as u64 {
        book.mended(Code::Agent05, &About::Round(number), UnixMillis(2));
    }
    assert_eq!(book.history().count(), MAX_HISTORY);

    let mut book = Book::default();
    for number in 0..1_000u32 {
        let mut key = [0; 32];
        key[..4].copy_from_slice(&number.to_be_bytes());
        let key = About::Key(KeyId::from_bytes(key));
        book.raise(Finding::seen(Code::Key03, key, "z".repeat(9_000)), UnixMillis(0));
    }
    assert_eq!(book.open().count(), MAX_KEYS + 1);
    let others = book.find(Code::Key03, &About::Part(Part::OtherKeys)).expect("the rest as one");
    assert_eq!(others.count, 1_000 - MAX_KEYS as u64);
    assert!(book.open().all(|alert| alert.cause.len() <= MAX_CAUSE_LEN));

    // One that comes and goes drives out no other.
    let mut book = Book::default();
    book.raise(Finding::seen(Code::Share01, FLEET, "x"), UnixMillis(0));
    book.mended(Code::Share01, &FLEET, UnixMillis(1));
    for at in 0..1_000 {
        book.raise(Finding::seen(Code::Agent05, dns(), "x"), UnixMillis(at));
        book.mended(Code::Agent05, &dns(), UnixMillis(at));
    }
    assert!(book.history().any(|alert| alert.code == Code::Share01));
}

#[test]
fn names_of_alerts_are_stable_and_parse_back() {
    let id = AlertId::of(Code::Agent01, "dns");
    assert_eq!(id.to_string().parse(), Ok(id));
    // printf 'AGENT-01\0dns' | sha256sum | head -c 10
    assert_eq!(id.to_string(), "c84e302904");
    let reference = AlertRef { id, since: UnixMillis(-5) };
    assert_eq!(reference.to_string().parse(), Ok(reference));
    for bad in ["", "agent", "0123456789@", "@5", "0123456789@x", "012345678@5", "01234567é9@5"] {
        assert!(bad.parse::<AlertRef>().is_err(), "{bad}");
    }
}

#[test]
fn every_code_says_when_it_is_over() {
    // An event ends by itself: of a condition that could only be acknowledged people would learn to look away.
    let events: Vec<_> =
        Code::ALL.iter().filter(|code| matches!(code.closing(), Closing::Quiet(_))).collect();
    assert_eq!(events, [&Code::Key03, &Code::Round03, &Code::Coord01, &Code::Sec01]);
}

/// The documentation names every code, in a row of its own.
#[test]
fn the_documentation_has_every_code() {
    let text = include_str!("../../../docs/alerts.md");
    for code in Code::ALL {
        let row = format!("| {} |", code.as_str());
        assert!(text.lines().any(|line| line.starts_with(&row)), "docs/alerts.md has no row for {code}");
    }
}

/// A fleet's rounds, and their manifests.
struct Story {
    state: State,
    manifests: BTreeMap<RoundId, Manifest>,
}

impl Story {
    fn new() -> Self {
        Self { state: State::new(Pin::default()), manifests: BTreeMap::new() }
    }

    fn id(number: u64) -> RoundId {
        let mut id = [0; 16];
        id[..8].copy_from_slice(&number.to_be_bytes());
        RoundId::from_bytes(id)
    }

    /// A round that is over, with these slices and absentees.
    fn round(&mut self, outcome: Outcome, slices: &[&str], absent: &[(&str, Code, Option<Excuse>)]) -> u64 {
        let number = self.state.last_round + 1;
        self.state.last_round = number;
        let (round, at) = (Self::id(number), UnixMillis(i64::try_from(number).expect("small") * 1_000));
        let open = Open {
            epoch: 1,
            round,
            number,
            scope: Scope::All,
            nonce: Nonce::from_bytes([1; 16]),
            trigger: "test".into(),
            deadline_millis: 1,
            at,
            cut: None,
        };
        let manifest = ObjectId::of(b"manifest");
        let phase = match outcome {
            Outcome::Complete | Outcome::Partial => RoundPhase::Committed {
                commit: Commit { epoch: 1, round, manifest, manifest_size: 1, outcome, at },
                position: number,
                verified: None,
            },
            Outcome::Failed | Outcome::Cancelled | Outcome::Skipped => {
                RoundPhase::Ended(End { epoch: 1, round, outcome, reason: "why".into(), at, account: None })
            }
        };
        let told = Manifest {
            round,
            number,
            epoch: 1,
            keyset: 1,
            opened: at,
            assembled: at,
            trigger: "test".into(),
            outcome,
            slices: slices.iter().map(|name| slice(name)).collect(),
            absent: absent.iter().map(|(name, code, excuse)| absentee(name, *code, *excuse)).collect(),
            cut: None,
        };
        self.manifests.insert(round, told);
        let state =
            RoundState { open, position: number, resumed: Vec::new(), phase, hold: None, swept: false };
        self.state.rounds.insert(round, state);
        number
    }

    fn cut(&mut self, number: u64, broken: Option<&str>) {
        let manifest = self.manifests.get_mut(&Self::id(number)).expect("a round");
        manifest.cut = Some(CutAccount {
            nonce: Nonce::from_bytes([2; 16]),
            skew_millis: 0,
            members: Vec::new(),
            outside: Vec::new(),
            broken: broken.map(str::to_owned),
        });
    }

    fn verify(&mut self, number: u64) {
        let round = Self::id(number);
        let state = self.state.rounds.get_mut(&round).expect("a round");
        if let RoundPhase::Committed { verified, .. } = &mut state.phase {
            let at = UnixMillis(state.open.at.0 + 500);
            *verified = Some(Verified { epoch: 1, round, objects: 1, bytes: 1, at });
        }
    }

    fn tell(&self, book: &mut Book, rounds: &mut Rounds) {
        for round in rounds.untold(&self.state) {
            let manifest = self.manifests.get(&round.open.round);
            rounds.tell(book, round, manifest.map_or(Account::None, Account::Read));
        }
    }
}

fn slice(name: &str) -> ManifestSlice {
    ManifestSlice {
        service: service(name),
        agent: KeyId::from_bytes([3; 32]),
        attempts: 1,
        receipt: ObjectId::of(b"receipt"),
        receipt_size: 1,
        status: SliceStatus::Whole,
        totals: SliceTotals::default(),
        cut: None,
        timing: None,
        tries: Vec::new(),
    }
}

fn absentee(name: &str, code: Code, excuse: Option<Excuse>) -> Absentee {
    Absentee {
        service: service(name),
        attempts: 1,
        code,
        reason: "a native error".into(),
        excuse,
        tries: Vec::new(),
    }
}

#[test]
fn a_partial_round_opens_and_a_later_verified_one_closes() {
    let (mut story, mut book, mut rounds) = (Story::new(), Book::default(), Rounds::default());
    let lost = [("web", Code::Agent03, None), ("lab", Code::Agent01, Some(Excuse::Optional))];
    story.round(Outcome::Partial, &["dns"], &lost);
    story.tell(&mut book, &mut rounds);
    let want = vec![(Code::Agent03, "web".to_owned()), (Code::Round01, "fleet".to_owned())];
    assert_eq!(codes(&book), want, "who is excused is not wrong");
    story.verify(1);
    story.tell(&mut book, &mut rounds);
    assert_eq!(codes(&book), want, "its own verification mends nothing that it lacks");

    story.round(Outcome::Complete, &["dns", "web"], &[]);
    story.tell(&mut book, &mut rounds);
    assert_eq!(codes(&book), want, "committed is not verified");
    story.verify(2);
    story.tell(&mut book, &mut rounds);
    assert_eq!(codes(&book), []);
    assert_eq!(book.history().count(), 2);
}

/// Whatever a round told of a service, by whichever code.
#[test]
fn what_a_round_told_of_a_service_is_over_with_a_later_verified_slice() {
    for code in [Code::Key01, Code::Agent02, Code::Agent04, Code::Round02, Code::Share07] {
        let (mut story, mut book, mut rounds) = (Story::new(), Book::default(), Rounds::default());
        story.round(Outcome::Partial, &["dns"], &[("web", code, None)]);
        story.verify(1);
        story.tell(&mut book, &mut rounds);
        assert!(book.find(code, &About::Service(service("web"))).is_some(), "{code}");
        story.round(Outcome::Complete, &["dns"], &[]);
        story.verify(2);
        story.tell(&mut book, &mut rounds);
        assert!(book.find(code, &About::Service(service("web"))).is_some(), "{code}: it is not in that one");
        story.round(Outcome::Complete, &["web"], &[]);
        story.verify(3);
        story.tell(&mut book, &mut rounds);
        assert_eq!(codes(&book), [], "{code}");
    }
}

#[test]
fn a_service_without_a_slice_is_told_until_a_verified_round_holds_one() {
    let (mut story, mut book, mut rounds) = (Story::new(), Book::default(), Rounds::default());
    let roster = [service("dns")].into();
    rounds.judge(&mut book, &roster, None, UnixMillis(0));
    assert_eq!(codes(&book), [(Code::Cover01, "dns".to_owned())]);
    story.round(Outcome::Complete, &["dns"], &[]);
    story.tell(&mut book, &mut rounds);
    rounds.judge(&mut book, &roster, None, UnixMillis(0));
    assert!(book.find(Code::Cover01, &dns()).is_some(), "committed is not verified");
    story.verify(1);
    story.tell(&mut book, &mut rounds);
    rounds.judge(&mut book, &roster, None, UnixMillis(0));
    assert_eq!(codes(&book), []);
}

#[test]
fn a_round_that_was_found_damaged_is_told_until_it_is_verified_or_gone() {
    let (mut story, mut book, mut rounds) = (Story::new(), Book::default(), Rounds::default());
    for number in 1..=2 {
        story.round(Outcome::Complete, &["dns"], &[]);
        book.raise(
            Finding::seen(Code::Verify01, About::Round(number), "a pack has another hash"),
            UnixMillis(0),
        );
    }
    story.tell(&mut book, &mut rounds);
    assert_eq!(book.open().filter(|alert| alert.code == Code::Verify01).count(), 2);
    story.verify(1);
    story.tell(&mut book, &mut rounds);
    assert_eq!(codes(&book), [(Code::Verify01, "round 2".to_owned())]);
    story.state.rounds.get_mut(&Story::id(2)).expect("a round").swept = true;
    assert!(Rounds::sweep(&mut book, &story.state, UnixMillis(0)));
    assert_eq!(codes(&book), []);
}

#[test]
fn a_broken_cut_is_over_once_its_services_are_in_rounds_without_a_broken_one() {
    let broken = vec![(Code::Round05, "fleet".to_owned())];
    for disabled in [false, true] {
        let (mut story, mut book, mut rounds) = (Story::new(), Book::default(), Rounds::default());
        story.round(Outcome::Complete, &["dns", "web"], &[]);
        story.cut(1, Some("dns let go"));
        story.round(Outcome::Cancelled, &[], &[("dns", Code::Round01, None)]);
        story.tell(&mut book, &mut rounds);
        assert_eq!(codes(&book), broken, "a cancelled round says nothing");
        for service in ["dns", "web"] {
            assert_eq!(codes(&book), broken, "until each of its services was in one");
            let number = story.round(Outcome::Complete, &[service], &[]);
            if !disabled {
                story.cut(number, None);
            }
            story.tell(&mut book, &mut rounds);
        }
        assert_eq!(codes(&book), [], "disabled: {disabled}");
    }
}

#[test]
fn the_roster_is_judged_as_a_whole() {
    let (mut story, mut book, mut rounds) = (Story::new(), Book::default(), Rounds::default());
    let roster: BTreeSet<_> = ["dns", "web"].map(service).into();
    let promised = Some(Duration::from_secs(60));
    story.round(Outcome::Complete, &["dns"], &[]);
    story.verify(1);
    story.tell(&mut book, &mut rounds);
    rounds.judge(&mut book, &roster, promised, UnixMillis(1_500));
    assert_eq!(codes(&book), [(Code::Cover01, "web".to_owned())]);
    assert!(!rounds.judge(&mut book, &roster, promised, UnixMillis(1_600)), "nothing new");
    rounds.judge(&mut book, &roster, promised, UnixMillis(62_000));
    assert_eq!(codes(&book), [(Code::Round04, "dns".to_owned()), (Code::Cover01, "web".to_owned())]);
    let roster: BTreeSet<_> = ["web"].map(service).into();
    rounds.judge(&mut book, &roster, promised, UnixMillis(62_000));
    assert_eq!(codes(&book), [(Code::Cover01, "web".to_owned())], "nobody mends what is not there");
}

#[test]
fn a_swept_round_tells_nothing_and_what_was_about_it_is_over() {
    let (mut story, mut book, mut rounds) = (Story::new(), Book::default(), Rounds::default());
    story.round(Outcome::Partial, &["dns"], &[("web", Code::Agent03, None)]);
    let manifest = Finding::seen(Code::Verify02, About::Round(1), "missing");
    book.raise(manifest.clone(), UnixMillis(1));
    book.raise(Finding { about: About::Round(2), ..manifest }, UnixMillis(1));
    story.state.rounds.get_mut(&Story::id(1)).expect("a round").swept = true;
    assert!(rounds.untold(&story.state).is_empty());
    story.tell(&mut book, &mut rounds);
    assert!(Rounds::sweep(&mut book, &story.state, UnixMillis(2)));
    assert_eq!(codes(&book), [(Code::Verify02, "round 2".to_owned())], "of another round it stays");
    assert!(!Rounds::sweep(&mut book, &story.state, UnixMillis(2)), "nothing new");
}

/// A book that was carried along, through restarts, says what one says that is written anew from the same rounds.
#[test]
fn a_book_written_anew_from_the_rounds_says_the_same() {
    const NAMES: [&str; 4] = ["dns", "idp", "orders", "web"];
    each_seed(300, |seed| {
        let mut rng = Rng(seed);
        let (mut story, mut book, mut rounds) = (Story::new(), Book::default(), Rounds::default());
        let roster: BTreeSet<_> = NAMES.map(service).into();
        let now = UnixMillis(1_000_000);
        for _ in 0..30 {
            let mut slices = Vec::new();
            let mut absent = Vec::new();
            for name in NAMES {
                match rng.below(4) {
                    0 => absent.push((name, Code::ALL[rng.below(Code::ALL.len() as u64) as usize], None)),
                    1 => {}
                    _ => slices.push(name),
                }
            }
            let outcome = match (slices.len(), absent.len(), rng.below(10)) {
                (0, _, _) | (_, _, 0) => Outcome::Failed,
                (_, _, 1) => Outcome::Cancelled,
                (_, 0, _) => Outcome::Complete,
                (_, _, _) => Outcome::Partial,
            };
            let number = story.round(outcome, &slices, &absent);
            if rng.percent(30) {
                story.cut(number, rng.percent(50).then_some("let go"));
            }
            story.tell(&mut book, &mut rounds);
            for _ in 0..rng.below(3) {
                story.verify(1 + rng.below(number));
                story.tell(&mut book, &mut rounds);
            }
            rounds.judge(&mut book, &roster, None, now);
            if rng.percent(20) {
                let text = serde_json::to_string(&(&book, &rounds)).expect("JSON");
                (book, rounds) = serde_json::from_str(&text).expect("reads");
            }
        }
        let (mut again, mut fresh) = (Book::default(), Rounds::default());
        story.tell(&mut again, &mut fresh);
        fresh.judge(&mut again, &roster, None, now);
        let say = |book: &Book| {
            let open = book.open().map(|alert| (alert.id(), alert.seen, alert.round));
            open.collect::<Vec<_>>()
        };
        assert_eq!(say(&book), say(&again), "{:?} {:?}", codes(&book), codes(&again));
    });
}

/// Whatever comes: bounded, nothing open that nothing holds, nothing closed but by what closes it.
#[test]
fn any_sequence_keeps_the_book_in_order() {
    each_seed(200, |seed| {
        let mut rng = Rng(seed);
        let mut book = Book::default();
        for step in 0..400 {
            let at = UnixMillis(step * 1_000 + i64::try_from(rng.below(100)).expect("small"));
            let code = Code::ALL[rng.below(Code::ALL.len() as u64) as usize];
            let about = match rng.below(4) {
                0 => About::Service(service(["dns", "web"][rng.below(2) as usize])),
                1 => About::Round(rng.below(5)),
                2 => About::Key(KeyId::from_bytes([rng.below(60) as u8; 32])),
                _ => About::Part(Part::Share),
            };
            let before = book.clone();
            let basis = if rng.percent(50) { Basis::Seen } else { Basis::Round(rng.below(9)) };
            match rng.below(5) {
                0 => {
                    book.mended(code, &about, at);
                }
                1 => {
                    book.mended_by_round(code, &about, rng.below(9), at);
                }
                2 => {
                    let closed = book.tick(at);
                    assert_eq!(closed, book != before);
                }
                _ => {
                    let finding = Finding { code, about, cause: "x".into(), basis, times: 1 };
                    let change = book.raise(finding, at);
                    assert_eq!(change == Change::Nothing, book == before, "{change:?}");
                    assert!(before.open().all(|alert| book.find(alert.code, &alert.about).is_some()));
                }
            }
            assert!(book.open().all(|a| a.closed.is_none() && (a.seen || a.round.is_some())));
            assert!(book.history().all(|a| a.closed.is_some() && !a.seen && a.round.is_none()));
            assert!(book.history().count() <= MAX_HISTORY);
        }
    });
}

#[test]
fn a_fleet_that_is_disabled_or_has_no_schedule_is_told_until_it_is_not() {
    let settings = |pairs: &[(&str, &str)]| -> BTreeMap<String, String> {
        pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
    };
    let judge = |book: &mut Book, clear: &BTreeMap<String, String>, now: UnixMillis| {
        judge_schedule(book, clear, Begun::default(), now)
    };
    let told = vec![(Code::Sched01, "fleet".to_owned())];
    let mut book = Book::default();
    let noon = UnixMillis(1_795_953_600_000); // 2026-11-29T12:00:00Z
    for quiet in [vec![], vec![("schedule", "off")], vec![("schedule", "every 12h")]] {
        assert!(!judge(&mut book, &settings(&quiet), noon), "nobody enabled it: {quiet:?}");
    }
    let paused = [("enabled", "no"), ("disabled.until", "2026-11-29T14:00:00Z"), ("disabled.reason", "move")];
    assert!(judge(&mut book, &settings(&paused), noon));
    assert_eq!(codes(&book), told);
    let cause = book.open().next().map(|alert| alert.cause.clone()).unwrap_or_default();
    assert!(cause.contains("until 2026-11-29T14:00:00Z: move"), "{cause}");
    assert!(!judge(&mut book, &settings(&paused), UnixMillis(noon.0 + 1)), "nothing new");
    let longer = [("enabled", "no"), ("disabled.reason", "a longer move")];
    assert!(judge(&mut book, &settings(&longer), noon), "another pause");
    assert_eq!((codes(&book), book.history().count()), (told.clone(), 1));
    assert!(judge(&mut book, &settings(&[("enabled", "yes"), ("schedule", "every 12h")]), noon));
    assert_eq!(codes(&book), []);
    assert!(judge(&mut book, &settings(&[("enabled", "yes"), ("schedule", "off")]), noon));
    assert_eq!(codes(&book), told, "it was enabled, and begins nothing");
    // Somebody's timer does.
    let off = settings(&[("enabled", "yes"), ("schedule", "off")]);
    let day = Some(Duration::from_secs(86_400));
    for (hours, promised, tells) in
        [(1, day, false), (24, day, false), (25, day, true), (-1, day, false), (9_999, None, false)]
    {
        let newest = Some(UnixMillis(noon.0 - hours * 3_600_000));
        let _ = judge_schedule(&mut book, &off, Begun { newest, promised }, noon);
        assert_eq!(codes(&book), if tells { told.clone() } else { vec![] }, "{hours} h, {promised:?}");
    }
    let paused_all_the_same = Begun { newest: Some(noon), promised: day };
    let _ = judge_schedule(&mut book, &settings(&paused), paused_all_the_same, noon);
    assert_eq!(codes(&book), told);
    let over = UnixMillis(noon.0 + 2 * 3_600_000);
    let until = [("enabled", "no"), ("disabled.until", "2026-11-29T14:00:00Z"), ("schedule", "every 12h")];
    assert!(judge(&mut book, &settings(&until), over), "the pause is over by itself");
    assert_eq!(codes(&book), []);
    assert!(judge(&mut book, &settings(&[("schedule", "0 0 30 2 *")]), noon));
    assert_eq!(codes(&book), told, "what is set is no schedule");
}

#[test]
fn a_promise_that_was_broken_is_kept_again_by_a_verified_round() {
    let (mut story, mut book, mut rounds) = (Story::new(), Book::default(), Rounds::default());
    let roster: BTreeSet<_> = ["dns"].map(service).into();
    let promised = Some(Duration::from_secs(60));
    story.round(Outcome::Complete, &["dns"], &[]);
    story.verify(1);
    story.tell(&mut book, &mut rounds);
    rounds.judge(&mut book, &roster, promised, UnixMillis(62_000));
    assert_eq!(codes(&book), [(Code::Round04, "dns".to_owned())]);
    // The same from the log alone, as after a restart.
    let (mut again, mut read) = (Book::default(), Rounds::default());
    story.tell(&mut again, &mut read);
    read.judge(&mut again, &roster, promised, UnixMillis(62_000));
    assert_eq!(codes(&again), codes(&book));
    let number = story.round(Outcome::Complete, &["dns"], &[]);
    story.verify(number);
    story.tell(&mut book, &mut rounds);
    rounds.judge(&mut book, &roster, promised, UnixMillis(2_500));
    assert_eq!(codes(&book), []);
}
