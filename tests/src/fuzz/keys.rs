//! Key files, and every name, path, number and duration that is read from a text.

use std::fmt::{Debug, Display};
use std::str::FromStr;

use muster_protocol::age::{Identity, Recipient};
use muster_protocol::ids::{ChunkId, FleetId, KeyId, MemberName, ObjectId, RoundId, ServiceName, SourceName};
use muster_protocol::pem::{
    public_key_from_pem, public_key_to_pem, signing_key_from_pem, signing_key_to_pem,
};
use muster_protocol::subject::Subjects;
use muster_protocol::units::{HumanDuration, HumanSize, format_duration, format_size};
use muster_share::layout::ObjectPath;
use muster_share::log::{Format, parse_head};

use super::input::Fixed;

/// Any text as a key file: what is read is written and read as the same, and no error repeats what it read.
pub(super) fn keys(input: &[u8]) {
    let Ok(text) = std::str::from_utf8(input) else { return };
    if let Ok(signer) = signing_key_from_pem(text) {
        let again = signing_key_from_pem(&signing_key_to_pem(&signer)).expect("a key in its own words");
        assert_eq!(again.key_id(), signer.key_id());
    }
    if let Ok(key) = public_key_from_pem(text) {
        assert_eq!(public_key_from_pem(&public_key_to_pem(&key)).expect("a key in its own words"), key);
    }
    match Identity::parse_file(text) {
        Ok(identities) => {
            assert!(!identities.is_empty());
            for identity in identities {
                let again =
                    Identity::parse_file(&identity.to_file_text("now")).expect("a file in its own words");
                assert_eq!(again.len(), 1);
                assert_eq!(again[0].recipient(), identity.recipient());
            }
        }
        Err(error) => {
            let said = error.to_string();
            let secret = text.lines().find(|line| line.len() > 20 && line.starts_with("AGE-SECRET-KEY-"));
            assert!(secret.is_none_or(|line| !said.contains(line)), "an error shows a secret");
        }
    }
    let _ = Identity::parse(text);
    one_spelling::<Recipient>(text);
}

pub(super) fn samples() -> Vec<Vec<u8>> {
    let identity = Identity::generate(&mut Fixed(9));
    let signer = muster_protocol::envelope::Signer::from_seed(&[4; 32]);
    vec![
        identity.to_file_text("2026-01-01T00:00:00Z").as_bytes().to_vec(),
        identity.recipient().to_string().into_bytes(),
        signing_key_to_pem(&signer).as_bytes().to_vec(),
        public_key_to_pem(&signer.key_id()).into_bytes(),
    ]
}

/// Any text as each thing that has one spelling, and as quantities.
pub(super) fn names(input: &[u8]) {
    if let Ok(format) = Format::parse(input) {
        assert_eq!(Format::parse(format.print().as_bytes()).expect("in its own words"), format);
    }
    let Ok(text) = std::str::from_utf8(input) else { return };
    one_spelling::<ServiceName>(text);
    one_spelling::<SourceName>(text);
    one_spelling::<MemberName>(text);
    one_spelling::<FleetId>(text);
    one_spelling::<RoundId>(text);
    one_spelling::<ObjectId>(text);
    one_spelling::<ChunkId>(text);
    one_spelling::<KeyId>(text);
    one_spelling::<ObjectPath>(text);
    if let Ok(path) = text.parse::<ObjectPath>() {
        let safe = |part: &str| !part.is_empty() && part != "." && part != ".." && !part.contains('\0');
        assert!(path.to_string().split('/').all(safe), "{path}");
    }
    if let Some(head) = parse_head(text) {
        assert_eq!(parse_head(&head.to_string()), Some(head));
    }
    let subjects = Subjects::new(&"prod".parse().expect("a fleet name"));
    if let Some(subject) = subjects.parse(text) {
        assert_eq!(subjects.print(&subject), text);
    }
    if let Ok(duration) = text.parse::<HumanDuration>() {
        assert_eq!(duration.to_string().parse(), Ok(duration));
        assert!(!format_duration(duration.0).is_empty());
    }
    if let Ok(size) = text.parse::<HumanSize>() {
        assert_eq!(size.to_string().parse(), Ok(size));
        assert!(!format_size(size.0).is_empty());
    }
}

pub(super) fn names_samples() -> Vec<Vec<u8>> {
    let hash = "0a".repeat(32);
    let mut samples = vec![
        "dns-2".to_owned(),
        hash.clone(),
        "0b".repeat(16),
        format!("12:{hash}"),
        "FORMAT".to_owned(),
        "log/0000000012".to_owned(),
        "log/segment-0000001000".to_owned(),
        format!("agents/dns/packs/0a/{hash}.age"),
        format!("agents/dns/slices/{}/{hash}.receipt", "0c".repeat(16)),
        format!("lists/{hash}"),
        format!("grants/{hash}.age"),
        format!("muster 0 {hash}\n"),
        "muster.v1.prod.hello.dns".to_owned(),
        "muster.v1.prod.trigger.async".to_owned(),
    ];
    samples.extend(
        ["30s", "4h", "250ms", "9 d", "16MiB", "0B", " 3 GiB ", "18446744073709551615"].map(str::to_owned),
    );
    samples.into_iter().map(String::into_bytes).collect()
}

/// What parses prints as exactly what was parsed.
fn one_spelling<T: FromStr + Display + Debug>(text: &str) {
    if let Ok(value) = text.parse::<T>() {
        assert_eq!(value.to_string(), text, "{value:?} has two spellings");
    }
}
