//! The age vectors of the Community Cryptography Test Vectors (C2SP/CCTV, `age/testdata`).
//!
//! Those with a passphrase, armor or a post-quantum key do not apply. The folder is `../shared/testdata/cctv-age`
//! beside the workspace, or the one that `MUSTER_CCTV_DIR` names; without it the test says so and proves nothing, except
//! in CI, where it fails.

use std::collections::BTreeMap;
use std::path::PathBuf;

use sha2::{Digest, Sha256};

use super::{FileKey, Identity, OpenError, PayloadReader, open, open_with_file_key, parse_header};
use crate::ids::{hex, unhex};

const APPLICABLE: usize = 67;

struct Vector {
    name: String,
    fields: BTreeMap<String, Vec<String>>,
    sealed: Vec<u8>,
}

impl Vector {
    fn parse(name: String, bytes: &[u8]) -> Self {
        let split = bytes.windows(2).position(|pair| pair == b"\n\n").expect("an empty line ends the fields");
        let mut fields: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for line in std::str::from_utf8(&bytes[..split]).expect("fields are text").lines() {
            let (key, value) = line.split_once(": ").expect("a field is `key: value`");
            fields.entry(key.to_owned()).or_default().push(value.to_owned());
        }
        let body = &bytes[split + 2..];
        let sealed = match fields.get("compressed").map(|values| values[0].as_str()) {
            None => body.to_vec(),
            Some("zlib") => miniz_oxide::inflate::decompress_to_vec_zlib(body).expect("a zlib body"),
            Some(other) => panic!("{name}: compression {other}"),
        };
        Self { name, fields, sealed }
    }

    fn field(&self, key: &str) -> Option<&str> {
        self.fields.get(key).map(|values| values[0].as_str())
    }

    fn applies(&self) -> bool {
        let post_quantum =
            self.fields.get("identity").is_some_and(|ids| ids.iter().any(|id| id.contains("-PQ-")));
        !self.fields.contains_key("passphrase") && !self.fields.contains_key("armored") && !post_quantum
    }
}

fn vectors() -> Option<Vec<Vector>> {
    let folder = std::env::var_os("MUSTER_CCTV_DIR").map_or_else(
        || PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../shared/testdata/cctv-age"),
        PathBuf::from,
    );
    let entries = std::fs::read_dir(&folder).ok()?;
    let mut vectors = Vec::new();
    for entry in entries {
        let path = entry.expect("a folder entry").path();
        let name = path.file_name().expect("a file").to_string_lossy().into_owned();
        vectors.push(Vector::parse(name, &std::fs::read(&path).expect("a vector")));
    }
    Some(vectors)
}

/// The verdict in the words of the vectors, and all plain text that authenticated before it.
fn verdict(sealed: &[u8], identities: &[Identity]) -> (&'static str, Vec<u8>) {
    let mut plain = Vec::new();
    let outcome = (|| {
        let (header, header_bytes) = parse_header(sealed)?;
        let key = header.unwrap(identities)?;
        let mut reader = PayloadReader::new(sealed, header_bytes, &key)?;
        while let Some(chunk) = reader.next_chunk()? {
            plain.extend_from_slice(chunk);
        }
        Ok(())
    })();
    let verdict = match outcome {
        Ok(()) => "success",
        Err(OpenError::NotAge | OpenError::UnsupportedVersion { .. } | OpenError::Header(_)) => {
            "header failure"
        }
        Err(OpenError::NoMatch { .. }) => "no match",
        Err(OpenError::Mac) => "HMAC failure",
        Err(OpenError::Payload(_)) => "payload failure",
    };
    (verdict, plain)
}

#[test]
#[expect(clippy::print_stderr, reason = "a skipped test must say so")]
fn every_applicable_vector_has_its_verdict() {
    let Some(vectors) = vectors() else {
        assert!(std::env::var_os("CI").is_none(), "the age vectors must be present in CI");
        eprintln!("0 vectors: skipped, the folder of the age vectors is absent (see MUSTER_CCTV_DIR)");
        return;
    };
    let mut applicable = 0;
    for vector in vectors.iter().filter(|vector| vector.applies()) {
        applicable += 1;
        let name = &vector.name;
        let identities: Vec<Identity> = vector
            .fields
            .get("identity")
            .into_iter()
            .flatten()
            .map(|text| Identity::parse(text).expect("identities of the vectors are valid"))
            .collect();
        let expected = vector.field("expect").expect("every vector expects something");
        let (found, plain) = verdict(&vector.sealed, &identities);
        assert_eq!(found, expected, "{name}");
        let hash = hex(&Sha256::digest(&plain));
        if let Some(payload) = vector.field("payload") {
            assert_eq!(hash, payload, "{name}");
        } else {
            assert!(plain.is_empty(), "{name}: plain text came out before a {expected}");
        }

        let whole = open(&vector.sealed, &identities);
        assert_eq!(whole.is_ok(), expected == "success", "{name}: {:?}", whole.err());
        if let Ok((_, whole)) = whole {
            assert!(whole == plain, "{name}: open and the reader differ");
            let key = vector.field("file key").and_then(unhex::<16>).expect("16 bytes");
            let (_, by_key) = open_with_file_key(&vector.sealed, &FileKey::from_bytes(&key)).expect(name);
            assert!(by_key == plain, "{name}: the file key of the vector gives another text");
        }
    }
    eprintln!("{applicable} vectors");
    assert_eq!(applicable, APPLICABLE);
}
