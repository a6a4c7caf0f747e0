//! Channels that fail: they are told over the others, hold nobody up, and say everything once they are back.

use std::fs;
use std::time::Duration;

use muster_tests::fleet::{secret, text};
use muster_tests::hook::{Answer, Hook};

use super::{QUICK, begin, channel, half, keeps_secrets, said, times, wait_until};

fn webhook(hook: &Hook) -> String {
    format!(
        "kind = \"webhook\"\nurl = \"{}\"\nmin_severity = \"warning\"\n{QUICK}",
        hook.url("/hunter2hunter2")
    )
}

#[test]
fn a_dead_channel_is_told_over_the_others_and_says_everything_once_it_is_back() {
    let (mut fleet, _data) = half();
    let [ops, dead, hung] = [(); 3].map(|()| Hook::start());
    dead.answers([Answer::After(429, 2)], Answer::Status(503));
    hung.answers([], Answer::Nothing);
    channel(&fleet, "dead", &webhook(&dead));
    channel(&fleet, "hung", &webhook(&hung));
    channel(&fleet, "ops", &webhook(&ops));
    begin(&mut fleet);
    // A round is not held up by channels that answer nothing.
    let _ = fleet.run(&["start", "--wait"]).with_code(3);
    wait_until("the others say that it fails", || times(&ops.taken(), "opened NOTIFY-01 channel dead") == 1);
    let tries = dead.got();
    let first = tries[0].headers["muster-delivery"].clone();
    let same =
        tries.iter().take(5).all(|got| got.headers["muster-delivery"] == first && got.body == tries[0].body);
    assert!(same, "all attempts are one delivery: {tries:?}");
    assert!(tries[1].at.duration_since(tries[0].at) >= Duration::from_secs(2), "it was asked to wait");
    assert!(dead.taken().is_empty());
    let alerts = fleet.run(&["alerts", "--json"]).with_code(0).out;
    assert!(alerts.contains("NOTIFY-01") && !alerts.contains("hunter2hunter2"), "{alerts}");
    let doctor = fleet.run(&["doctor"]).out;
    assert!(doctor.contains("dead (webhook, http://127.0.0.1:") && doctor.contains("is failing"), "{doctor}");

    dead.answers([], Answer::Status(200));
    wait_until("the others say that it is back", || {
        times(&ops.taken(), "closed NOTIFY-01 channel dead") == 1
    });
    wait_until("it says what it could not", || times(&dead.taken(), "opened ROUND-01 fleet") == 1);
    assert_eq!(times(&dead.taken(), "NOTIFY-01 channel dead"), 0, "{:?}", said(&dead.taken()));
    assert_eq!(times(&ops.taken(), "opened NOTIFY-01 channel dead"), 1);
    keeps_secrets(&fleet, &["hunter2hunter2"]);
}

#[test]
fn a_test_tells_what_each_of_the_other_sides_answers() {
    let (mut fleet, _data) = half();
    let _ = {
        begin(&mut fleet);
        fleet.run(&["notify", "test"]).with_code(2)
    };
    fleet.kill_coordinator();
    let [ops, moved, shut] = [(); 3].map(|()| Hook::start());
    moved.answers([], Answer::Redirect("/elsewhere"));
    shut.answers([], Answer::Status(403));
    channel(&fleet, "ops", &webhook(&ops));
    channel(&fleet, "bus", "kind = \"nats\"");
    fleet.start_coordinator();
    let said = fleet.run(&["notify", "test", "--json"]).with_code(0).json();
    assert_eq!((&said["schema"], &said["fleet"]), (&"muster.notify.test/1".into(), &"test".into()));
    let channels = said["channels"].as_array().expect("channels");
    let names: Vec<_> = channels.iter().map(|c| (c["channel"].as_str(), c["delivered"].as_bool())).collect();
    assert_eq!(names, [(Some("bus"), Some(true)), (Some("ops"), Some(true))]);
    let tests = ops.taken().into_iter().filter(|message| message["kind"] == "test").count();
    assert_eq!(tests, 1, "asked once, sent once");

    fleet.kill_coordinator();
    channel(&fleet, "moved", &webhook(&moved));
    channel(&fleet, "shut", &webhook(&shut));
    fleet.start_coordinator();
    let said = fleet.run(&["notify", "test"]).with_code(1).out;
    assert!(
        said.contains("answered 307") && said.contains("answered 403") && said.contains("FAILED"),
        "{said}"
    );
    assert!(!said.contains("hunter2hunter2"), "{said}");
    assert!(moved.got().iter().all(|got| got.path == "/hunter2hunter2"), "no redirect is followed");
    let _ = fleet.run(&["notify", "test", "ops"]).with_code(0);
    let unknown = fleet.run(&["notify", "test", "nobody"]).with_code(2).err;
    assert!(unknown.contains("no channel nobody") && unknown.contains("muster notify test"), "{unknown}");
}

#[test]
fn a_configuration_that_cannot_be_is_said_at_once() {
    let (mut fleet, _data) = half();
    let file = fleet.dir().join("coordinator.toml");
    let right = fs::read_to_string(&file).expect("a configuration");
    let loose = fleet.path("loose");
    secret(&loose, "hunter2hunter2");
    fs::set_permissions(&loose, std::os::unix::fs::PermissionsExt::from_mode(0o644)).expect("opened");
    let empty = fleet.path("empty");
    secret(&empty, "\n");
    let mail = "host = \"mail.example.org\"\nfrom = \"a@example.org\"\nto = [\"b@example.org\"]";
    let signed = |file: &std::path::Path| {
        format!("kind = \"webhook\"\nurl = \"https://hooks.example.org/\"\nsecret_file = \"{}\"", text(file))
    };
    for (keys, part) in [
        (
            "kind = \"pager\"".to_owned(),
            "unknown variant `pager`, expected one of `nats`, `webhook`, `smtp`, `ping`",
        ),
        (format!("kind = \"smtp\"\ntls = \"none\"\n{mail}"), "in clear text"),
        (
            "kind = \"webhook\"\nurl = \"http://hooks.example.org/hunter2hunter2\"".to_owned(),
            "must begin with https://",
        ),
        (signed(&fleet.path("nowhere")), "nowhere is missing"),
        (signed(&loose), "may be read by others"),
        (signed(&empty), "empty is empty"),
    ] {
        fs::write(&file, &right).expect("written");
        channel(&fleet, "ops", &keys);
        let log = fleet.path("coordinator.log");
        let _ = fs::remove_file(&log);
        fleet.start_coordinator();
        assert_eq!(fleet.coordinator_ends(), Some(2), "{keys}");
        let said = fs::read_to_string(&log).expect("a log");
        assert!(said.contains(part) && !said.contains("hunter2hunter2"), "{keys}: {said}");
    }
}
