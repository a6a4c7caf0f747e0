//! The ping to somebody outside: it comes while the fleet could be recovered as promised, and stops when it could not.

use std::fs;

use muster_tests::fleet::text;
use muster_tests::hook::Hook;
use muster_tests::process::skip;

use super::{QUICK, begin, channel, half, keeps_secrets, secret_file, wait_until};

#[test]
fn pings_begin_with_a_verified_round_and_stop_when_it_is_too_old() {
    let folders = fs::read_dir("/usr/lib").expect("folders").flatten();
    let mut places = folders.map(|folder| folder.path().join("faketime/libfaketimeMT.so.1"));
    let Some(library) = places.find(|place| place.exists()) else {
        return skip("libfaketime is not installed");
    };
    let (mut fleet, _data) = half();
    let (outside, ops) = (Hook::start(), Hook::start());
    let file = secret_file(&fleet, "ping.url", &outside.url("/ping/hunter2hunter2"));
    channel(
        &fleet,
        "outside",
        &format!("kind = \"ping\"\nurl_file = \"{}\"\nevery = \"1s\"\n{QUICK}", file.display()),
    );
    channel(&fleet, "ops", &format!("kind = \"webhook\"\nurl = \"{}\"\n{QUICK}", ops.url("/")));
    begin(&mut fleet);
    // A round that lacks a service is no recovery point of the whole fleet.
    let _ = fleet.run(&["start", "--wait"]).with_code(3);
    let said = fleet.run(&["notify", "test", "outside"]).with_code(0).out;
    assert!(said.contains("not pinged, as it should be: no verified round holds a slice of"), "{said}");
    assert!(outside.got().is_empty(), "{:?}", outside.got());

    fleet.start_agent("web");
    let _ = fleet.run(&["start", "--wait"]).with_code(0);
    wait_until("pings come", || outside.got().len() >= 3);
    let ping = &outside.got()[0];
    assert_eq!((ping.method.as_str(), ping.path.as_str()), ("GET", "/ping/hunter2hunter2"));

    // Two days later nothing new was verified.
    fleet.kill_coordinator();
    let before = outside.got().len();
    let words = ["env".to_owned(), format!("LD_PRELOAD={}", text(&library))];
    let later = ["FAKETIME=+2d", "FAKETIME_DONT_FAKE_MONOTONIC=1"].map(str::to_owned);
    fleet.start_coordinator_under(&[&words[..], &later].concat());
    wait_until("it is known that it is too late", || {
        let doctor = fleet.run(&["doctor"]).out;
        doctor.contains("outside (ping, http://127.0.0.1:") && doctor.contains("is withheld")
    });
    assert_eq!(outside.got().len(), before, "no ping since");
    wait_until("the others are told why", || super::times(&ops.taken(), "opened ROUND-04 web") == 1);
    keeps_secrets(&fleet, &["hunter2hunter2"]);
}
