//! The sealed part of the fleet's configuration: whoever holds a coordinator's key, or once held it, may have written it.

use muster_protocol::age::{self, Stanza};
use muster_protocol::ids::ObjectId;
use muster_share::credentials::Credentials;
use muster_share::sealed_config::{CONFIG_STANZA, CONFIG_VERSION, MAX_CONTENT_LEN, SealedConfig};
use zeroize::Zeroizing;

use super::input::Fixed;
use super::vault::{KEY, context};

/// Any content, and any object: what opens shows no secret, and seals and opens as the same again.
pub(super) fn sealed_config(input: &[u8]) {
    let open = |bytes: &[u8]| {
        SealedConfig::open(bytes, &ObjectId::of(bytes), std::slice::from_ref(&KEY), context().fleet)
    };
    assert!(open(input).is_err(), "nobody seals to this key by chance");
    let Ok(config) = open(&object(input)) else { return };
    assert!(input.len() <= MAX_CONTENT_LEN);
    if let Some(credentials) = &config.credentials {
        let secret = credentials.expose();
        let shown = format!("{credentials:?}");
        assert!(secret.len() < 20 || !shown.contains(&*String::from_utf8_lossy(secret)), "a secret is shown");
    }
    let again = SealedConfig { recipients: vec![KEY.recipient()], ..config };
    let sealed = again.seal(context().fleet, &mut Fixed(3)).expect("what opened can be sealed");
    assert_eq!(open(&sealed.bytes).expect("what was sealed opens"), again);
}

/// An object with this content.
fn object(content: &[u8]) -> Vec<u8> {
    let frame = zstd::bulk::compress(content, 1).expect("compressed");
    let args = vec![CONFIG_VERSION.to_string(), context().fleet.to_string()];
    let stanza = Stanza { kind: CONFIG_STANZA.to_owned(), args, body: Vec::new() };
    age::seal(&frame, &[KEY.recipient()], &[stanza], &mut Fixed(2)).expect("sealed").0
}

pub(super) fn samples() -> Vec<Vec<u8>> {
    let secret = Zeroizing::new(b"user=backup".to_vec());
    let full = SealedConfig {
        recipients: vec![KEY.recipient()],
        files: [("agents/dns.toml".to_owned(), "[agent]\n".to_owned())].into(),
        credentials: Some(Credentials::new(secret, &mut Fixed(5))),
    };
    let least = SealedConfig { recipients: vec![KEY.recipient()], ..SealedConfig::default() };
    [full, least]
        .map(|config| {
            let sealed = config.seal(context().fleet, &mut Fixed(4)).expect("sealed");
            let (_, payload) = age::open(&sealed.bytes, std::slice::from_ref(&KEY)).expect("opens");
            zstd::stream::decode_all(payload.as_slice()).expect("decompresses")
        })
        .into()
}
