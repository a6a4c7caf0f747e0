//! Promise 2: stock tools suffice in an emergency.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use muster_tests::fleet::{Fleet, text};
use muster_tests::process::have;
use muster_tests::tree;

fn objects(share: &Path) -> Vec<PathBuf> {
    let (mut found, mut folders) = (Vec::new(), vec![share.to_owned()]);
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).expect("folder").map(|e| e.expect("entry").path()) {
            if entry.is_dir() { folders.push(entry) } else { found.push(entry) }
        }
    }
    found
}

#[test]
fn every_pack_opens_with_age_and_zstd_and_every_name_is_a_sha256() {
    if !have("age") || !have("zstd") {
        return;
    }
    let data = tempfile::TempDir::new().expect("folder");
    tree::rich(data.path());
    let fleet = Fleet::init(&[format!("config=files:{}", text(data.path()))]);
    let _ = fleet.run(&["once", &text(&fleet.dir())]).with_code(0);
    let (mut packs, mut plain) = (0, 0);
    for object in objects(&fleet.share()) {
        let relative = object.strip_prefix(fleet.share()).expect("below the share").to_owned();
        if relative.starts_with("log") || relative == Path::new("FORMAT") {
            continue;
        }
        let sum = Command::new("sha256sum").arg(&object).output().expect("sha256sum runs");
        let hash = String::from_utf8_lossy(&sum.stdout).split(' ').next().expect("a hash").to_owned();
        let name = relative.file_stem().expect("a name").to_string_lossy().into_owned();
        assert_eq!(hash, name, "{}", relative.display());
        if relative.components().any(|c| c.as_os_str() == "packs") {
            packs += 1;
            let key = fleet.kit().join("recovery.key");
            let mut age = Command::new("age")
                .arg("-d")
                .arg("-i")
                .arg(key)
                .arg(&object)
                .stdout(Stdio::piped())
                .spawn()
                .expect("age runs");
            let zstd = Command::new("zstd")
                .arg("-dc")
                .stdin(age.stdout.take().expect("piped"))
                .output()
                .expect("zstd runs");
            assert!(
                age.wait().expect("age ends").success() && zstd.status.success(),
                "{}",
                relative.display()
            );
            plain += zstd.stdout.len() as u64;
        }
    }
    // 60 of the big file's 101 MiB are distinct; the small tree comes on top.
    assert!(packs >= 3 && plain > 60 << 20, "{packs} packs, {plain} bytes");
}

#[test]
fn openssl_verifies_the_first_record_with_the_kits_root_key() {
    if !have("openssl") {
        return;
    }
    let data = tempfile::TempDir::new().expect("folder");
    tree::small(data.path(), 1);
    let fleet = Fleet::init(&[format!("config=files:{}", text(data.path()))]);
    let record = fs::read(fleet.share().join("log/0000000000")).expect("genesis");
    let (signed, signature) = record.split_at(record.len() - 64);
    fs::write(fleet.path("signed"), signed).expect("file");
    fs::write(fleet.path("signature"), signature).expect("file");
    let verify = |signature: &Path| {
        let root = fleet.kit().join("root.pub");
        let mut openssl = Command::new("openssl");
        openssl.args(["pkeyutl", "-verify", "-pubin", "-rawin", "-inkey"]).arg(root);
        openssl.arg("-in").arg(fleet.path("signed")).arg("-sigfile").arg(signature);
        openssl.output().expect("openssl runs").status.success()
    };
    assert!(verify(&fleet.path("signature")));
    let mut forged = signature.to_vec();
    forged[0] ^= 1;
    fs::write(fleet.path("forged"), forged).expect("file");
    assert!(!verify(&fleet.path("forged")));
}
