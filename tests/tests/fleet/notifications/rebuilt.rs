//! After the worst day: a fleet that is rebuilt starts, although the secrets of its channels are gone.

use std::fs;

use muster_tests::fleet::text;

use super::{channel, half, secret_file};

#[test]
fn a_rebuilt_fleet_goes_without_channels_and_says_which_there_were() {
    let (fleet, _data) = half();
    let file = secret_file(&fleet, "ping.url", "https://ping.example.org/hunter2hunter2");
    channel(&fleet, "outside", &format!("kind = \"ping\"\nurl_file = \"{}\"", file.display()));
    // Whatever runs the fleet keeps its files on the share.
    let _ = fleet.run(&["once", &text(&fleet.dir())]).with_code(0);
    fs::remove_dir_all(fleet.dir()).expect("all is lost");
    let (share, kit, root, into) =
        (text(&fleet.share()), text(&fleet.kit()), text(&fleet.root()), text(&fleet.dir()));
    let args = ["rebuild", "--share", &share, "--kit", &kit, "--root", &root, "--into", &into];
    let said = fleet.run(&args).with_code(0).out;
    assert!(said.contains("coordinator told people of alerts by channel outside (ping)"), "{said}");
    let written = fs::read_to_string(fleet.dir().join("coordinator.toml")).expect("a configuration");
    assert!(!written.contains("\n[[notify]]"), "{written}");
}
