//! Signed envelopes, and what stands in them: bus messages, receipts, manifests.

use std::fmt::Debug;

use muster_protocol::document::{Manifest, Receipt};
use muster_protocol::envelope::{self, EnvelopeError, Payload, SIGNATURE_LEN, Signer, open_as};
use muster_protocol::ids::FleetId;
use muster_protocol::message::{
    Acknowledgement, Format, Heartbeat, Hello, Notice, Progress, RestoreAsk, RestoreOffer, RestoreOrder,
    RestoreQuery, RestoreStatus, ServiceState, StateDocument, Trigger, Welcome,
};
use muster_protocol::wire;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::corpus::golden;

fn signer() -> Signer {
    Signer::from_seed(&[2; 32])
}

fn fleet() -> FleetId {
    FleetId::from_bytes([3; 32])
}

/// Any bytes as an envelope: what opens was signed over exactly these bytes.
pub(super) fn envelope(input: &[u8]) {
    if let Ok(opened) = envelope::open(input, input.len()) {
        let _ = opened.parse::<Hello>(&opened.fleet);
        let signed = [opened.domain.len(), opened.name.len(), 2, 32, 32, opened.payload.len()];
        let len = signed.iter().map(|field| field + 4).sum::<usize>() + SIGNATURE_LEN;
        assert_eq!(len, input.len(), "every byte is accounted for");
        for at in [0, input.len() / 2, input.len() - 1] {
            let mut changed = input.to_vec();
            changed[at] ^= 1;
            assert!(envelope::open(&changed, changed.len()).is_err(), "byte {at} is not signed");
        }
        assert!(matches!(
            envelope::open(input, input.len() - 1),
            Err(EnvelopeError::TooLong { max, .. }) if max == input.len() - 1
        ));
    }
    // The same bytes, signed: framing that nobody writes, under a good signature.
    let sealed = signer().seal_raw("muster.bus", "hello", 1, &fleet(), input);
    let opened = envelope::open(&sealed, sealed.len()).expect("what was signed opens");
    assert_eq!((opened.payload, opened.key, opened.fleet), (input, signer().key_id(), fleet()));
    assert!(open_as::<Welcome>(&sealed, &fleet()).is_err(), "a hello is no welcome");
}

pub(super) fn envelope_samples() -> Vec<Vec<u8>> {
    let mut samples = golden("");
    samples.truncate(4);
    samples
}

/// Any payload of any message, and any trigger.
pub(super) fn message(input: &[u8]) {
    plain::<Hello>(input);
    plain::<Notice>(input);
    plain::<Heartbeat>(input);
    plain::<Progress>(input);
    plain::<StateDocument>(input);
    plain::<ServiceState>(input);
    plain::<Welcome>(input);
    plain::<Acknowledgement>(input);
    plain::<RestoreAsk>(input);
    plain::<RestoreOffer>(input);
    plain::<RestoreOrder>(input);
    plain::<RestoreQuery>(input);
    plain::<RestoreStatus>(input);
    // Signatures are dear, and the same code for all.
    signed::<Notice>(input);
    for format in [Format::Json, Format::MessagePack] {
        let Ok(trigger) = Trigger::parse(format, input) else { continue };
        let again = match format {
            Format::Json => serde_json::to_vec(&trigger).expect("a trigger is JSON"),
            Format::MessagePack => wire::encode(&trigger),
        };
        assert_eq!(Trigger::parse(format, &again).expect("a trigger in its own words"), trigger);
    }
}

pub(super) fn message_samples() -> Vec<Vec<u8>> {
    let mut samples = payloads("muster.bus.");
    samples.push(br#"{"services":["dns","web"],"request":"r-1","reason":"because"}"#.to_vec());
    samples.push(wire::encode(&Trigger { request: Some("r".to_owned()), ..Trigger::default() }));
    samples
}

/// Any payload of a receipt, and any bytes as one.
pub(super) fn receipt(input: &[u8]) {
    signed::<Receipt>(input);
}

pub(super) fn receipt_samples() -> Vec<Vec<u8>> {
    payloads("muster.share.receipt")
}

/// Any payload of a manifest, and any bytes as one.
pub(super) fn manifest(input: &[u8]) {
    signed::<Manifest>(input);
}

pub(super) fn manifest_samples() -> Vec<Vec<u8>> {
    payloads("muster.share.manifest")
}

/// A stolen member signs anything: what parses is a value that is written and read again as the same.
fn signed<P: Payload + PartialEq + Debug>(payload: &[u8]) {
    assert!(open_as::<P>(payload, &fleet()).is_err() || payload.len() > SIGNATURE_LEN);
    let sealed = signer().seal_raw(P::DOMAIN, P::TYPE, P::VERSION, &fleet(), payload);
    match open_as::<P>(&sealed, &fleet()) {
        Ok((key, value)) => {
            assert_eq!(key, signer().key_id());
            assert!(sealed.len() <= P::MAX_LEN);
            same_again(&value);
        }
        Err(EnvelopeError::TooLong { .. }) => assert!(sealed.len() > P::MAX_LEN),
        Err(EnvelopeError::Payload(_)) => {}
        Err(error) => panic!("the envelope is good: {error}"),
    }
}

/// The payload without its envelope.
fn plain<P: Payload + PartialEq + Debug>(payload: &[u8]) {
    if let Ok(value) = wire::decode::<P>(payload) {
        same_again(&value);
    }
}

/// A value that was read is written and read as the same.
pub(super) fn same_again<T: Serialize + DeserializeOwned + PartialEq + Debug>(value: &T) {
    let bytes = wire::encode(value);
    let again: T = wire::decode(&bytes).expect("what was written reads");
    assert_eq!(&again, value);
}

/// The payloads of the golden samples whose names start so.
pub(super) fn payloads(prefix: &str) -> Vec<Vec<u8>> {
    let open = |bytes: Vec<u8>| {
        envelope::open(&bytes, bytes.len()).expect("golden samples are signed").payload.to_vec()
    };
    golden(prefix).into_iter().map(open).collect()
}
