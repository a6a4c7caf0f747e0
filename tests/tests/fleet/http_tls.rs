//! The HTTP API over TLS: where it is configured, with a certificate that is renewed, and without one that can be used.

use std::process::Command;

use muster_tests::fleet::{Fleet, text};
use muster_tests::process::wait_for;
use muster_tests::tree;
use serde_json::Value;

/// Makes a key and a certificate that it signs itself.
fn certify(certificate: &str, key: &str) {
    let made = Command::new("openssl")
        .args([
            "req",
            "-x509",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:P-256",
            "-nodes",
            "-days",
            "2",
        ])
        .args(["-subj", "/CN=localhost", "-addext", "subjectAltName=IP:127.0.0.1,DNS:localhost"])
        .args(["-keyout", key, "-out", certificate])
        .output()
        .expect("openssl runs");
    assert!(made.status.success(), "{made:?}");
}

#[test]
fn tls_is_spoken_where_it_is_configured() {
    if !muster_tests::process::have("openssl") || !muster_tests::process::have("curl") {
        return;
    }
    let data = tempfile::TempDir::new().expect("folder");
    tree::small(&data.path().join("a"), 1);
    let mut fleet = Fleet::init(&[format!("a=files:{}", text(&data.path().join("a")))]);
    let api = fleet.take_http_port();
    let (certificate, key) = (text(&fleet.path("api.crt")), text(&fleet.path("api.key")));
    certify(&certificate, &key);
    let token = fleet.token("ci", "viewer", "90d");
    fleet.set("MUSTER_HTTP_CERTIFICATE", &certificate);
    fleet.set("MUSTER_HTTP_KEY", &key);
    fleet.up();
    let header = fleet.path("header");
    muster_tests::fleet::secret(&header, &format!("Authorization: Bearer {token}\n"));
    let url = format!("https://127.0.0.1:{}/api/v1/version", api.port);
    let ask = |trusted: &str| {
        let header = format!("@{}", text(&header));
        let args = ["-s", "--max-time", "5", "--cacert", trusted, "-H", &header, &url];
        let said = Command::new("curl").args(args).output().expect("curl runs");
        serde_json::from_slice::<Value>(&said.stdout)
            .ok()
            .filter(|value| value["schema"] == "muster.version/1")
    };
    let version = wait_for("it answers over TLS", || ask(&certificate));
    assert_eq!(version["coordinator"], "coordinator");
    // A new certificate counts from the next connection on, and one that cannot be used for nothing.
    let former = text(&fleet.path("former.crt"));
    std::fs::rename(&certificate, &former).expect("moved");
    std::fs::write(&certificate, "no certificate").expect("written");
    assert!(ask(&former).is_some(), "the former one stays in use");
    std::fs::remove_file(&key).expect("removed");
    certify(&certificate, &key);
    assert!(ask(&certificate).is_some() && ask(&former).is_none(), "the new one is in use");
    fleet.kill_coordinator();
    fleet.set("MUSTER_HTTP_CERTIFICATE", &text(&fleet.path("nothing.crt")));
    fleet.start_coordinator();
    assert_eq!(fleet.coordinator_ends(), Some(2));
}
