//! Both directions against the stock `age` program: what either writes, the other reads.
//!
//! Skipped, and says so, where `age` is not installed; in CI it must be.

use std::io::Write;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use super::seeded::Seeded;
use super::{Identity, OpenError, Stanza, open, seal};

const SIZES: [usize; 6] = [0, 1, 65_535, 65_536, 65_537, 3 << 20];

#[expect(clippy::print_stderr, reason = "a skipped test must say so")]
fn stock_is_absent() -> bool {
    let absent = !["age", "age-keygen"].iter().all(|program| {
        Command::new(program).arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok()
    });
    if absent {
        assert!(std::env::var_os("CI").is_none(), "the age program must be installed in CI");
        eprintln!("skipped: the age program is not installed");
    }
    absent
}

/// A folder that goes away with the test.
struct Scratch(PathBuf);

impl Scratch {
    fn new(name: &str) -> Self {
        let folder = std::env::temp_dir().join(format!("muster-age-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&folder).expect("a scratch folder");
        Self(folder)
    }

    fn write(&self, name: &str, bytes: &[u8]) -> PathBuf {
        let path = self.0.join(name);
        std::fs::write(&path, bytes).expect("a scratch file");
        path
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // A left-over folder must not hide the test's own failure.
        drop(std::fs::remove_dir_all(&self.0));
    }
}

/// Runs a program on `input`; its output if it succeeded, else its complaint.
fn run(command: &mut Command, input: &[u8]) -> Result<Vec<u8>, String> {
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the program was found before");
    let mut stdin = child.stdin.take().expect("piped");
    let output = std::thread::scope(|scope| {
        // It may end before it has read all; its status tells then.
        scope.spawn(move || drop(stdin.write_all(input)));
        child.wait_with_output().expect("the program ran")
    });
    if output.status.success() {
        Ok(output.stdout)
    } else {
        Err(String::from_utf8_lossy(&output.stderr).into_owned())
    }
}

fn context() -> Stanza {
    let args = ["v1", "prod", "secrets", "0123abcd"].map(str::to_owned).to_vec();
    Stanza { kind: "muster-context".to_owned(), args, body: Vec::new() }
}

#[test]
fn stock_age_reads_ours() {
    if stock_is_absent() {
        return;
    }
    let mut entropy = Seeded::new(20);
    let scratch = Scratch::new("reads");
    let identities: Vec<Identity> = (0..3).map(|_| Identity::generate(&mut entropy)).collect();
    let recipients: Vec<_> = identities.iter().map(Identity::recipient).collect();
    let keys: Vec<PathBuf> = identities
        .iter()
        .enumerate()
        .map(|(index, identity)| {
            let text = identity.to_file_text("2024-01-02T03:04:05Z");
            scratch.write(&format!("key-{index}"), text.as_bytes())
        })
        .collect();
    for size in SIZES {
        let plain = entropy.bytes(size);
        let full = Stanza { body: entropy.bytes(96), ..context() };
        let (sealed, _) = seal(&plain, &recipients, &[context(), full], &mut entropy).expect("sealed");
        for key in &keys {
            let opened = run(Command::new("age").arg("-d").arg("-i").arg(key), &sealed);
            assert!(opened.as_ref() == Ok(&plain), "{size} bytes: {:?}", opened.err());
        }
    }
    let (sealed, _) = seal(b"for the first", &recipients[..1], &[], &mut entropy).expect("sealed");
    let wrong = run(Command::new("age").arg("-d").arg("-i").arg(&keys[1]), &sealed);
    assert!(wrong.is_err(), "another key must not open it");
}

#[test]
fn ours_reads_stock_age() {
    if stock_is_absent() {
        return;
    }
    let mut entropy = Seeded::new(21);
    let generated = run(&mut Command::new("age-keygen"), b"").expect("a key file");
    let text = String::from_utf8(generated).expect("text");
    let identities = Identity::parse_file(&text).expect("age-keygen's file");
    let theirs = identities[0].recipient();
    assert!(text.contains(&theirs.to_string()), "age-keygen agrees on the public key");
    let ours = Identity::generate(&mut entropy);
    for size in SIZES {
        let plain = entropy.bytes(size);
        let mut command = Command::new("age");
        command.args(["-r", &ours.recipient().to_string(), "-r", &theirs.to_string()]);
        let sealed = run(&mut command, &plain).expect("age seals");
        for identity in [std::slice::from_ref(&ours), identities.as_slice()] {
            let (header, opened) = open(&sealed, identity).expect("one of the recipients");
            assert_eq!(header.recipient_count(), 2);
            assert!(opened == plain, "{size} bytes");
        }
        let stranger = Identity::generate(&mut entropy);
        let refused = open(&sealed, &[stranger]).map(|_| ());
        assert_eq!(refused, Err(OpenError::NoMatch { identities: 1, recipients: 2 }));
    }
}

#[test]
fn our_key_file_is_one_of_age_keygen() {
    if stock_is_absent() {
        return;
    }
    let identity = Identity::generate(&mut Seeded::new(22));
    let scratch = Scratch::new("keygen");
    let path = scratch.write("key", identity.to_file_text("2024-01-02T03:04:05Z").as_bytes());
    let public = run(Command::new("age-keygen").arg("-y").arg(&path), b"").expect("our file is accepted");
    assert_eq!(String::from_utf8_lossy(&public).trim(), identity.recipient().to_string());
}
