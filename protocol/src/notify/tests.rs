//! What is told, and what is not: by the messages that a channel would get.

use std::collections::BTreeSet;
use std::time::Duration;

use super::form::{alertmanager, json, mail, slack};
use super::{
    CALM, Event, Kind, Ledger, MOST_A_MINUTE, Notification, Pace, Repeat, SETTLE, Terms, Unready, What, ready,
};
use crate::alert::{About, Book, Code, Finding, Part, Rounds, Severity};
use crate::time::{Time, UnixMillis};

const BEGAN: UnixMillis = UnixMillis(1_000_000);

fn at(secs: i64) -> UnixMillis {
    UnixMillis(BEGAN.0 + secs * 1000)
}

fn service(name: &str) -> About {
    About::Service(name.parse().expect("name"))
}

fn terms() -> Terms {
    Terms {
        channel: "ops".parse().expect("name"),
        least: Severity::Warning,
        repeat: Repeat::Unacknowledged(Duration::from_secs(86_400)),
        digest: None,
    }
}

fn seen(book: &mut Book, code: Code, name: &str, secs: i64) {
    book.raise(Finding::seen(code, service(name), "why"), at(secs));
}

/// All messages that go now, as kind and what they say of whom.
fn told(ledger: &mut Ledger, book: &Book, terms: &Terms, secs: i64) -> Vec<(Kind, Vec<String>)> {
    let mut messages = Vec::new();
    let mut room = MOST_A_MINUTE;
    while let Some((kind, events)) = ledger.next(book, terms, BEGAN, at(secs), room) {
        ledger.take(kind, &events, at(secs));
        let said = |e: &Event| format!("{} {} {}", e.what.as_str(), e.alert.code, e.alert.about);
        messages.push((kind, events.iter().map(said).collect()));
        room -= 1;
    }
    messages
}

fn one(said: &str) -> Vec<(Kind, Vec<String>)> {
    vec![(Kind::Alert, vec![said.to_owned()])]
}

#[test]
fn an_alert_is_told_once_when_it_opens_and_once_when_it_closes() {
    let (mut book, mut ledger) = (Book::default(), Ledger::default());
    seen(&mut book, Code::Agent01, "dns", 1);
    assert_eq!(told(&mut ledger, &book, &terms(), 2), one("opened AGENT-01 dns"));
    seen(&mut book, Code::Agent01, "dns", 3);
    assert_eq!(told(&mut ledger, &book, &terms(), 4), []);
    book.mended(Code::Agent01, &service("dns"), at(5));
    assert_eq!(told(&mut ledger, &book, &terms(), 6), one("closed AGENT-01 dns"));
    assert_eq!(told(&mut ledger, &book, &terms(), 7), []);
}

#[test]
fn what_was_told_is_not_told_again_after_a_restart() {
    let (mut book, mut ledger) = (Book::default(), Ledger::default());
    seen(&mut book, Code::Agent01, "dns", 1);
    let _ = told(&mut ledger, &book, &terms(), 2);
    let kept = serde_json::to_vec(&ledger).expect("JSON");
    let mut read: Ledger = serde_json::from_slice(&kept).expect("reads");
    assert_eq!(read, ledger);
    assert_eq!(told(&mut read, &book, &terms(), 60), []);
    // Without the file: once more, and in one message.
    seen(&mut book, Code::Agent02, "web", 1);
    let mut lost = Ledger::default();
    assert_eq!(lost.next(&book, &terms(), at(50), at(51), 6), None, "the log is being read");
    let later = at(50 + i64::try_from(SETTLE.as_secs()).expect("small"));
    let (kind, events) = lost.next(&book, &terms(), at(50), later, 6).expect("a message");
    assert_eq!((kind, events.len()), (Kind::Before, 2));
    lost.take(kind, &events, later);
    assert_eq!(lost.next(&book, &terms(), at(50), at(90), 6), None);
}

#[test]
fn one_that_comes_and_goes_is_told_once_a_while_unless_it_is_critical() {
    let (mut book, mut ledger) = (Book::default(), Ledger::default());
    for secs in [1, 11, 21] {
        seen(&mut book, Code::Agent01, "dns", secs);
        let opened = told(&mut ledger, &book, &terms(), secs);
        assert_eq!(opened.len(), usize::from(secs == 1), "{opened:?}");
        book.mended(Code::Agent01, &service("dns"), at(secs + 5));
        let closed = told(&mut ledger, &book, &terms(), secs + 6);
        assert_eq!(closed.len(), usize::from(secs == 1), "{closed:?}");
    }
    seen(&mut book, Code::Agent01, "dns", 31);
    let later = 7 + i64::try_from(CALM.as_secs()).expect("small");
    assert_eq!(told(&mut ledger, &book, &terms(), later - 1), []);
    assert_eq!(told(&mut ledger, &book, &terms(), later), one("opened AGENT-01 dns"));
    for (secs, code) in [(1, Code::Round04), (11, Code::Round04), (21, Code::Round06), (31, Code::Round06)] {
        seen(&mut book, code, "dns", later + secs);
        assert_eq!(told(&mut ledger, &book, &terms(), later + secs), one(&format!("opened {code} dns")));
        book.mended(code, &service("dns"), at(later + secs + 1));
        assert_eq!(told(&mut ledger, &book, &terms(), later + secs + 2), one(&format!("closed {code} dns")));
    }
}

#[test]
fn what_nobody_acknowledged_is_repeated_and_what_somebody_did_is_not() {
    let (mut book, mut ledger) = (Book::default(), Ledger::default());
    seen(&mut book, Code::Agent01, "dns", 1);
    seen(&mut book, Code::Agent02, "web", 1);
    assert_eq!(told(&mut ledger, &book, &terms(), 1).len(), 2);
    let known = book.find(Code::Agent02, &service("web")).expect("open").reference();
    book.acknowledge(known, "anna".parse().expect("name"), at(2)).expect("acknowledged");
    assert_eq!(told(&mut ledger, &book, &terms(), 86_399), []);
    let again = vec![(Kind::Repeat, vec!["open AGENT-01 dns".to_owned()])];
    assert_eq!(told(&mut ledger, &book, &terms(), 86_402), again);
    assert_eq!(told(&mut ledger, &book, &terms(), 86_403), []);
    let never = Terms { repeat: Repeat::Never, ..terms() };
    assert_eq!(told(&mut ledger, &book, &never, 400_000), []);
    let all = Terms { repeat: Repeat::Everything(Duration::from_secs(3600)), ..terms() };
    assert_eq!(told(&mut ledger, &book, &all, 400_000)[0].1.len(), 2, "the other side forgets");
}

#[test]
fn a_storm_becomes_a_few_messages_and_one_for_the_rest() {
    let (mut book, mut ledger) = (Book::default(), Ledger::default());
    for number in 0..43 {
        seen(&mut book, Code::Agent01, &format!("s{number}"), 1);
    }
    seen(&mut book, Code::Round04, "last", 2);
    let messages = told(&mut ledger, &book, &terms(), 3);
    assert_eq!(messages.len(), MOST_A_MINUTE);
    assert_eq!(messages[0].1, ["opened ROUND-04 last"], "the worst first");
    let last = &messages[MOST_A_MINUTE - 1];
    assert_eq!((last.0, last.1.len()), (Kind::Several, 44 - (MOST_A_MINUTE - 1)));
    let mut pace = Pace::default();
    for secs in 0..10 {
        pace.sent(Time(secs * 1000));
    }
    assert_eq!((pace.room(Time(59_999)), pace.room(Time(60_000)), pace.room(Time(62_000))), (0, 1, 3));
    assert_eq!(ledger.next(&book, &terms(), BEGAN, at(90_000), 0), None, "no room, no message");
}

#[test]
fn a_channel_hears_nothing_of_itself_nor_of_what_is_not_bad_enough() {
    let (mut book, mut ledger) = (Book::default(), Ledger::default());
    let failing =
        |name: &str| Finding::seen(Code::Notify01, About::Channel(name.parse().expect("name")), "dead");
    book.raise(failing("ops"), at(1));
    book.raise(failing("mail"), at(1));
    assert_eq!(told(&mut ledger, &book, &terms(), 2), one("opened NOTIFY-01 channel mail"));
    let worse = Terms { least: Severity::Critical, ..terms() };
    seen(&mut book, Code::Agent01, "dns", 3);
    assert_eq!(told(&mut Ledger::default(), &book, &worse, 20), []);
}

#[test]
fn what_was_on_its_way_when_the_process_ended_is_told_to_its_end() {
    for (closes, kept) in [(false, true), (true, true), (true, false)] {
        let (mut book, mut ledger) = (Book::default(), Ledger::default());
        seen(&mut book, Code::Agent01, "dns", 1);
        let (_, events) = ledger.next(&book, &terms(), BEGAN, at(2), 1).expect("news");
        assert!(ledger.begin(&events) && !ledger.begin(&events), "kept once");
        // The process ends here, and nobody knows whether the message arrived.
        let kept_file = serde_json::to_string(&ledger).expect("JSON");
        let mut ledger: Ledger = match kept {
            true => serde_json::from_str(&kept_file).expect("read"),
            false => Ledger::default(),
        };
        assert_eq!(ledger.last_told(&events), UnixMillis(0), "sent again, it has the same id");
        if closes {
            book.mended(Code::Agent01, &service("dns"), at(5));
        }
        let said = match (closes, kept) {
            (false, _) => one("opened AGENT-01 dns"),
            (true, true) => one("closed AGENT-01 dns"),
            (true, false) => vec![],
        };
        assert_eq!(told(&mut ledger, &book, &terms(), 20), said);
        assert_eq!(told(&mut ledger, &book, &terms(), 21), []);
        assert!(!serde_json::to_string(&ledger).expect("JSON").contains("telling"), "nothing is on its way");
    }
}

#[test]
fn what_is_not_delivered_before_it_is_over_is_not_told_to_be_over() {
    let (mut book, mut ledger) = (Book::default(), Ledger::default());
    seen(&mut book, Code::Agent01, "dns", 1);
    let (_, events) = ledger.next(&book, &terms(), BEGAN, at(2), 1).expect("news");
    ledger.begin(&events);
    ledger.give_up(&events);
    book.mended(Code::Agent01, &service("dns"), at(5));
    assert_eq!(told(&mut ledger, &book, &terms(), 20), []);
}

#[test]
fn a_digest_collects_what_is_not_critical() {
    let (mut book, mut ledger) = (Book::default(), Ledger::default());
    let terms = Terms { digest: Some(Duration::from_secs(3600)), ..terms() };
    seen(&mut book, Code::Agent01, "dns", 1);
    seen(&mut book, Code::Round04, "web", 1);
    assert_eq!(told(&mut ledger, &book, &terms, 2), one("opened ROUND-04 web"));
    let digest =
        |said: &[&str]| vec![(Kind::Digest, said.iter().map(|s| (*s).to_owned()).collect::<Vec<_>>())];
    assert_eq!(told(&mut ledger, &book, &terms, 3601), digest(&["opened AGENT-01 dns"]));
    seen(&mut book, Code::Agent02, "app", 3700);
    book.mended(Code::Agent01, &service("dns"), at(3800));
    assert_eq!(told(&mut ledger, &book, &terms, 7100), []);
    let both = digest(&["opened AGENT-02 app", "closed AGENT-01 dns"]);
    assert_eq!(told(&mut ledger, &book, &terms, 7300), both);
    assert_eq!(told(&mut ledger, &book, &terms, 11_000), digest(&["open AGENT-02 app"]));
    book.mended(Code::Agent02, &service("app"), at(11_001));
    assert_eq!(told(&mut ledger, &book, &terms, 15_000), digest(&["closed AGENT-02 app"]));
    // A period without anything passes in silence, and what comes then waits for the next.
    assert_eq!(told(&mut ledger, &book, &terms, 19_000), []);
    seen(&mut book, Code::Agent02, "app", 19_001);
    assert_eq!(told(&mut ledger, &book, &terms, 19_002), []);
}

/// Names and causes of others: they stay text in every form.
fn hostile() -> Notification {
    let mut book = Book::default();
    let cause = "a\r\nBcc: x@example.org <!channel> <https://example.org|click> & \u{202e}\"}],{";
    book.raise(Finding::seen(Code::Agent03, service("dns"), cause), at(1));
    let alert = book.open().next().expect("open").clone();
    let events = vec![Event { what: What::Opened, alert }];
    let (fleet, channel) = ("prod".parse().expect("name"), "ops".parse().expect("name"));
    Notification::new(fleet, channel, Kind::Alert, events, UnixMillis(0), at(2))
}

#[test]
fn what_others_said_stays_text_in_every_form() {
    let message = hostile();
    let slack: serde_json::Value = serde_json::from_slice(&slack(&message)).expect("JSON");
    let text = slack["text"].as_str().expect("text");
    assert!(!text.contains('<') && !text.contains('>') && text.contains("&lt;!channel&gt;"), "{text}");
    let mail = mail(&message);
    assert!(!mail.subject.contains(['\r', '\n', '\u{202e}']), "{:?}", mail.subject);
    assert!(mail.subject.starts_with("[muster prod] AGENT-03 error: dns: a"), "{}", mail.subject);
    assert!(mail.text.contains("  do      muster start --services dns --wait\n"), "{}", mail.text);
    assert!(!mail.text.lines().any(|line| line.starts_with("Bcc:")), "{}", mail.text);
    let json: serde_json::Value = serde_json::from_slice(&json(&message, 10)).expect("JSON");
    assert_eq!((&json["schema"], &json["kind"]), (&"muster.notification/1".into(), &"alert".into()));
    assert_eq!(json["alerts"][0]["event"], "opened");
    assert_eq!(json["id"], message.id.as_str());
}

#[test]
fn alertmanager_gets_labels_that_stay_the_same_and_an_end_that_moves() {
    let mut message = hostile();
    let read = |message: &Notification| -> serde_json::Value {
        serde_json::from_slice(&alertmanager(message, Duration::from_secs(3600))).expect("JSON")
    };
    let open = read(&message);
    let labels = serde_json::json!({ "alertname": "AGENT-03", "severity": "error", "fleet": "prod", "subject": "dns" });
    assert_eq!(open[0]["labels"], labels);
    assert_eq!(
        (&open[0]["startsAt"], &open[0]["endsAt"]),
        (&"1970-01-01T00:16:41Z".into(), &"1970-01-01T01:16:42Z".into())
    );
    message.events[0].what = What::Closed;
    message.events[0].alert.closed = Some(at(3));
    let closed = read(&message);
    assert_eq!((&closed[0]["labels"], &closed[0]["endsAt"]), (&labels, &"1970-01-01T00:16:43Z".into()));
}

#[test]
fn an_id_is_the_same_for_the_same_message_and_for_no_other() {
    let message = hostile();
    let again = |what: What, before: i64| {
        let events = vec![Event { what, alert: message.events[0].alert.clone() }];
        let Notification { fleet, channel, kind, .. } = message.clone();
        Notification::new(fleet, channel, kind, events, UnixMillis(before), at(9)).id
    };
    assert_eq!(again(What::Opened, 0), message.id, "made again at another time");
    assert_ne!(again(What::Closed, 0), message.id);
    assert_ne!(again(What::Opened, 1), message.id);
}

#[test]
fn long_lists_are_cut_and_counted() {
    let mut message = hostile();
    let event = message.events[0].clone();
    message.events = vec![event; 150];
    message.kind = Kind::Several;
    assert!(mail(&message).text.contains("and 50 more: muster alerts"));
    assert!(String::from_utf8(slack(&message)).expect("text").contains("and 130 more: muster alerts"));
    let json: serde_json::Value = serde_json::from_slice(&json(&message, 30)).expect("JSON");
    assert_eq!((json["alerts"].as_array().map(Vec::len), &json["more"]), (Some(30), &120.into()));
    assert!(message.headline().contains("150 opened (150 error)"), "{}", message.headline());
}

#[test]
fn a_fleet_without_a_verified_round_is_not_ready() {
    let (book, rounds) = (Book::default(), Rounds::default());
    let day = Some(Duration::from_secs(86_400));
    let roster = BTreeSet::from(["dns".parse().expect("name")]);
    let judged = |roster, promised| ready(&rounds, &book, roster, promised, None, at(1));
    let nobody = BTreeSet::new();
    assert_eq!(judged(&nobody, day), Err(Unready::NoService));
    assert_eq!(judged(&roster, None), Err(Unready::NoPromise));
    assert!(matches!(judged(&roster, day), Err(Unready::Uncovered { .. })));
    let mut rounds: serde_json::Value = serde_json::to_value(Rounds::default()).expect("JSON");
    rounds["verified"] = serde_json::json!({ "dns": { "round": 7, "at": at(0).0 } });
    rounds["proven"] = 7.into();
    let rounds: Rounds = serde_json::from_value(rounds).expect("rounds");
    let judged = |book: &Book, secs| ready(&rounds, book, &roster, day, None, at(secs));
    assert_eq!(judged(&book, 86_400), Ok(7));
    assert!(matches!(judged(&book, 86_401), Err(Unready::TooOld { round: 7, .. })));
    let drilled = ready(&rounds, &book, &roster, day, Some(6), at(1));
    assert_eq!(drilled, Err(Unready::DrillFailed { round: 6 }));
    let mut damaged = Book::default();
    damaged.raise(Finding::seen(Code::Agent01, About::Part(Part::Fleet), "silent"), at(1));
    assert_eq!(judged(&damaged, 1), Ok(7), "what is stored is none the worse");
    damaged.raise(Finding::seen(Code::Verify01, About::Round(7), "torn"), at(1));
    assert!(matches!(judged(&damaged, 1), Err(Unready::Damaged { code: Code::Verify01, .. })));
}
