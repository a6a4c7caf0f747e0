//! The HTTP API against its own document: Schemathesis sends what the document allows and what it does not, and holds each answer
//! against what is promised. `./x test --servers` installs it and runs this.

use std::fs::File;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use muster_tests::fleet::{Fleet, secret, text};
use muster_tests::process::wait_for;
use muster_tests::tree;

/// Longest run, in seconds.
const LONGEST_SECS: &str = "45";

/// What it may expect beyond what it takes for granted.
const EXPECTED: &str = r#"
[checks.positive_data_acceptance]
# A round that is over is not cancelled, one that others are in waits, and whoever asks too often is told so.
expected-statuses = ["2xx", "401", "403", "404", "409", "413", "429", "5xx"]
[checks.negative_data_rejection]
expected-statuses = ["400", "401", "403", "404", "405", "406", "409", "413", "415", "421", "422", "428", "429", "5xx"]
"#;

#[test]
#[ignore = "needs Schemathesis: ./x test --servers"]
fn servers_schemathesis_finds_nothing_that_the_document_does_not_say() {
    let folder = std::env::var_os("MUSTER_SERVERS").map(PathBuf::from);
    let program = folder
        .expect("MUSTER_SERVERS is not set: run ./x test --servers")
        .join("schemathesis/bin/schemathesis");
    assert!(program.exists(), "{} is missing: run ./x test --servers", program.display());
    let data = tempfile::TempDir::new().expect("folder");
    tree::small(&data.path().join("a"), 1);
    let mut fleet = Fleet::init(&[format!("a=files:{}", text(&data.path().join("a")))]);
    let api = fleet.take_http_port();
    let token = fleet.token("schemathesis", "operator", "never");
    fleet.up();
    api.wait_until_ready();
    wait_for("somebody leads", || {
        (api.with(&token).post("/api/v1/rounds", &[], "").status == 201).then_some(())
    });
    let _ = fleet.wait_for_round(1, &["verified"]);
    let config = fleet.path("schemathesis.toml");
    secret(&config, &format!("headers = {{ Authorization = \"Bearer {token}\" }}\n{EXPECTED}"));
    let said = fleet.path("schemathesis.out");
    let out = File::create(&said).expect("a file");
    let status = Command::new(program)
        .arg("--config-file")
        .arg(&config)
        .args(["run", &format!("http://127.0.0.1:{}/api/v1/openapi.json", api.port)])
        // Whoever follows a round waits for its end: the fleet's own tests do.
        .args(["--exclude-operation-id", "events", "--max-time", LONGEST_SECS, "--max-examples", "25"])
        .args(["--request-timeout", "60", "--seed", "1", "--no-color", "--continue-on-failure"])
        // A request that waits for its services has the id of a round that is not there yet.
        .args(["--exclude-checks", "ensure_resource_availability"])
        .args(["--generation-database", "none", "--suppress-health-check", "all", "--warnings", "off"])
        .current_dir(fleet.path(""))
        .stdin(Stdio::null())
        .stderr(out.try_clone().expect("the file"))
        .stdout(out)
        .status()
        .expect("schemathesis runs");
    let said = std::fs::read_to_string(&said).expect("what it said");
    assert!(status.success(), "{said}");
    // It did get in, and did ask.
    assert!(said.contains("passed"), "{said}");
    assert!(fleet.rounds().len() > 1, "no request of it became a round:\n{said}");
    // Nothing of it was the end of the coordinator.
    let _ = api.with(&token).get("/api/v1/status").with_status(200);
}
