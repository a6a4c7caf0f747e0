//! What is told over channels that work: each thing once, in the form that the receiver knows.

use futures::StreamExt;
use muster_tests::fleet::{Fleet, text};
use muster_tests::hook::Hook;
use muster_tests::tree;

use super::{
    QUICK, SECRET, begin, channel, channel_of, half, keeps_secrets, said, secret_file, times, wait_until,
};

#[tokio::test(flavor = "multi_thread")]
async fn people_are_told_once_when_it_opens_and_once_when_it_closes_whoever_restarts() {
    let (mut fleet, _data) = half();
    let [ops, prometheus, slack, daily] = [(); 4].map(|()| Hook::start());
    let file = secret_file(&fleet, "ops.secret", SECRET);
    let webhook = |hook: &Hook, more: &str| {
        let url = hook.url("/services/hunter2hunter2");
        format!("kind = \"webhook\"\nurl = \"{url}\"\nmin_severity = \"error\"\n{QUICK}{more}")
    };
    channel(&fleet, "ops", &webhook(&ops, &format!("secret_file = \"{}\"", file.display())));
    channel(&fleet, "am", &webhook(&prometheus, "form = \"alertmanager\""));
    channel(&fleet, "chat", &webhook(&slack, "form = \"slack\""));
    channel(&fleet, "daily", &webhook(&daily, "digest = \"6s\""));
    channel(&fleet, "bus", "kind = \"nats\"\nmin_severity = \"error\"");
    begin(&mut fleet);
    let operator = fleet.client_options(Some(&fleet.dir().join("keys/operator.nk")));
    let client = operator.connect(fleet.nats_url()).await.expect("connects");
    let mut alerts = client.subscribe("muster.v1.test.alert").await.expect("may listen");

    let _ = fleet.run(&["start", "--wait"]).with_code(3);
    wait_until("the webhook is told", || times(&ops.taken(), "opened ROUND-01 fleet") == 1);
    let message = tokio::time::timeout(std::time::Duration::from_secs(20), alerts.next());
    let message = message.await.expect("in time").expect("a message");
    let over_bus: serde_json::Value = serde_json::from_slice(&message.payload).expect("JSON");
    assert_eq!((&over_bus["schema"], &over_bus["channel"]), (&"muster.notification/1".into(), &"bus".into()));
    let first = &ops.got()[0];
    assert!(first.is_signed_with(SECRET) && !first.is_signed_with("another"), "{first:?}");
    let message = first.json();
    assert_eq!(first.headers["muster-delivery"], message["id"].as_str().expect("an id"));
    assert_eq!(message["fleet"], "test");
    assert!(message["alerts"][0]["steps"][0].is_string(), "{message}");

    wait_until("Alertmanager and the chat are told", || {
        let of = |hook: &Hook, what: &str| {
            hook.got().iter().any(|got| String::from_utf8_lossy(&got.body).contains(what))
        };
        of(&prometheus, "\"alertname\":\"ROUND-01\"") && of(&slack, "[muster test] ROUND-01 error: fleet")
    });
    wait_until("the digest comes", || times(&daily.taken(), "opened ROUND-01 fleet") == 1);
    let digest = said(&daily.taken());
    assert!(digest.iter().all(|said| said.starts_with("digest ")), "{digest:?}");

    // A crash between a delivery and its place on the disk is another story.
    let told = ops.taken();
    let id = told.iter().flat_map(|message| message["alerts"].as_array().into_iter().flatten());
    let id =
        id.filter(|alert| alert["code"] == "ROUND-01").find_map(|alert| alert["id"].as_str()).expect("an id");
    wait_until("it stands in the ledgers", || {
        let file = fleet.dir().join("state/coordinator/notify.json");
        let kept: serde_json::Value =
            serde_json::from_slice(&std::fs::read(file).unwrap_or_default()).unwrap_or_default();
        ["ops", "am"].iter().all(|channel| kept["channels"][channel]["told"][id]["open"] == true)
    });
    // Neither a restart nor a coordinator that lost its book tells again what was told.
    fleet.kill_coordinator();
    fleet.start_coordinator();
    wait_until("it leads again", || fleet.run(&["alerts", "--json"]).json()["bus"] == true);
    std::fs::remove_file(fleet.dir().join("state/coordinator/alerts.json")).expect("there is a book");
    fleet.kill_coordinator();
    std::fs::remove_file(fleet.dir().join("state/coordinator/alerts.json")).ok();
    fleet.start_coordinator();

    fleet.start_agent("web");
    let _ = fleet.run(&["start", "--wait"]).with_code(0);
    wait_until("it is told that it is over", || times(&ops.taken(), "closed ROUND-01 fleet") == 1);
    wait_until("Alertmanager is told the end", || {
        prometheus.got().iter().any(|got| {
            let entries = got.json();
            let entries = entries.as_array().cloned().unwrap_or_default();
            entries
                .iter()
                .any(|entry| entry["labels"]["alertname"] == "ROUND-01" && ends_within_the_hour(entry))
        })
    });
    let told = ops.taken();
    assert_eq!(times(&told, "opened ROUND-01 fleet"), 1, "{:?}", said(&told));
    assert_eq!(times(&told, "closed ROUND-01 fleet"), 1, "{:?}", said(&told));
    assert_eq!(times(&told, "opened AGENT-01 web"), 1, "{:?}", said(&told));
    keeps_secrets(&fleet, &["hunter2hunter2", SECRET]);
}

/// Two coordinators with the same channel. What is open is told once by the one that leads, once more by its successor, as from before
/// it led, and its end once.
#[test]
fn after_a_takeover_nothing_is_lost_and_nothing_told_as_new_again() {
    let data = tempfile::TempDir::new().expect("folder");
    let services = ["config", "web"].map(|name| {
        tree::small(&data.path().join(name), 1);
        format!("{name}=files:{}", text(&data.path().join(name)))
    });
    let mut fleet = Fleet::init_with_coordinators(2, &services);
    let ops = Hook::start();
    let url = ops.url("/hook");
    let keys = format!("kind = \"webhook\"\nurl = \"{url}\"\nmin_severity = \"error\"\n{QUICK}");
    for name in ["coordinator", "coordinator-2"] {
        channel_of(&fleet, name, "ops", &keys);
    }
    fleet.set("MUSTER_LEAD_LEASE", "2s");
    fleet.set("MUSTER_LEAD_TAKEOVER", "2s");
    fleet.set("MUSTER_HTTP_LISTEN", "");
    fleet.start_nats();
    fleet.start_coordinator();
    let leads = |fleet: &Fleet, name: &str| {
        wait_until(&format!("{name} leads"), || {
            let status = fleet.run(&["status", "--json"]);
            let status: serde_json::Value = serde_json::from_str(&status.out).unwrap_or_default();
            status["leader"]["coordinator"] == name
        });
    };
    leads(&fleet, "coordinator");
    fleet.start_standby("coordinator-2");
    fleet.start_agent("config");
    let _ = fleet.run(&["start", "--wait"]).with_code(3);
    wait_until("the first tells", || times(&ops.taken(), "opened ROUND-01 fleet") == 1);
    let before = ops.taken().len();
    fleet.kill_coordinator();
    leads(&fleet, "coordinator-2");
    wait_until("the second tells what was open before it", || {
        said(&ops.taken()[before..]).contains(&"before opened ROUND-01 fleet".to_owned())
    });
    fleet.start_agent("web");
    let _ = fleet.run(&["start", "--wait"]).with_code(0);
    wait_until("it is told that it is over", || times(&ops.taken(), "closed ROUND-01 fleet") == 1);
    // Back again, the first has nothing to add: it follows.
    fleet.start_coordinator();
    wait_until("the first follows", || {
        let log = std::fs::read_to_string(fleet.path("coordinator.log")).unwrap_or_default();
        log.contains("another coordinator leads")
    });
    let told = said(&ops.taken());
    let count = |what: &str| told.iter().filter(|said| *said == what).count();
    for (what, often) in [
        ("alert opened ROUND-01 fleet", 1),
        ("before opened ROUND-01 fleet", 1),
        ("alert closed ROUND-01 fleet", 1),
    ] {
        assert_eq!(count(what), often, "{what}: {told:?}");
    }
    assert_eq!(told.iter().filter(|said| said.ends_with("ROUND-01 fleet")).count(), 3, "{told:?}");
}

/// An end that is not the promise of three hours for one that is open.
fn ends_within_the_hour(entry: &serde_json::Value) -> bool {
    let minutes = |key: &str| {
        let text = entry[key].as_str().expect("a time");
        let (hour, minute) =
            (text[11..13].parse::<u32>().expect("hours"), text[14..16].parse::<u32>().expect("minutes"));
        hour * 60 + minute
    };
    (minutes("endsAt") + 1440 - minutes("startsAt")) % 1440 < 60
}
