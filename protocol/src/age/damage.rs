//! Whole files through every door of this module: round trips, one changed byte anywhere, every cut, every refusal.

use std::io::Read;

use super::seeded::Seeded;
use super::{
    CHUNK_BYTES, FileKey, Identity, NONCE_BYTES, OpenError, PayloadDamage, PayloadFault, PayloadKey,
    PayloadReader, SealError, Sealer, Stanza, StanzaFault, TAG_BYTES, header_bytes, open, open_with_file_key,
    parse_header, seal, sealed_bytes,
};

fn context() -> Stanza {
    Stanza { kind: "muster-context".to_owned(), args: vec!["secrets".to_owned()], body: Vec::new() }
}

fn sealed(plain_bytes: usize) -> (Identity, Vec<u8>, Vec<u8>, FileKey) {
    let mut entropy = Seeded::new(30);
    let identity = Identity::generate(&mut entropy);
    let plain = entropy.bytes(plain_bytes);
    let (sealed, key) = seal(&plain, &[identity.recipient()], &[context()], &mut entropy).expect("sealed");
    (identity, plain, sealed, key)
}

fn payload_damage(chunk: u64, fault: PayloadFault) -> OpenError {
    OpenError::Payload(PayloadDamage { chunk, fault })
}

#[test]
fn every_size_round_trips_through_every_door() {
    for size in [0, 1, 65_535, 65_536, 65_537, 131_072, 200_000] {
        let (identity, plain, sealed, key) = sealed(size);
        let header_bytes = header_bytes(1, &[context()]);
        assert_eq!(sealed.len(), sealed_bytes(header_bytes, size), "{size}");
        let (header, opened) = open(&sealed, &[identity]).expect("ours");
        assert!(opened == plain, "{size}");
        assert_eq!(header.stanzas()[1], context());
        assert!(open_with_file_key(&sealed, &key).expect("its key").1 == plain, "{size}");

        let mut reader = PayloadReader::new(&sealed, header_bytes, &key).expect("a payload");
        let mut read = Vec::new();
        reader.read_to_end(&mut read).expect("intact");
        assert!(read == plain, "{size}");
        let mut chunk = Vec::new();
        for index in (0..reader.chunk_count()).rev() {
            reader.chunk(index, &mut chunk).expect("intact");
            let start = usize::try_from(index).expect("small") * CHUNK_BYTES;
            assert!(chunk == plain[start..size.min(start + CHUNK_BYTES)], "{size}, chunk {index}");
        }
        let count = reader.chunk_count();
        assert_eq!(reader.chunk(count, &mut chunk), Err(payload_damage(count, PayloadFault::Absent)));
    }
}

#[test]
fn pieces_and_taking_out_give_the_same_file_in_one_buffer() {
    let mut plain_source = Seeded::new(31);
    let plain = plain_source.bytes(200_000);
    let recipients = [Identity::generate(&mut plain_source).recipient()];
    let (whole, key) = seal(&plain, &recipients, &[], &mut Seeded::new(32)).expect("sealed");
    assert_eq!(whole.capacity(), whole.len(), "the buffer is made once and to size");
    for piece_bytes in [1_000, 65_536, 65_537, 150_000] {
        let mut sealer = Sealer::new(&recipients, &[], 0, &mut Seeded::new(32)).expect("a recipient");
        let mut sent = Vec::new();
        for piece in plain.chunks(piece_bytes) {
            sealer.write(piece);
            sent.extend(sealer.take_sealed());
        }
        assert_eq!(sealer.plain_bytes(), plain.len());
        let told = sealer.sealed_bytes();
        let (rest, piece_key) = sealer.finish();
        sent.extend(rest);
        assert!(sent == whole && piece_key == key && told == whole.len(), "{piece_bytes}");
    }
}

#[test]
fn one_changed_byte_anywhere_never_opens() {
    let (identity, plain, sealed, key) = sealed(100);
    let identities = [identity];
    open(&sealed, &identities).expect("unchanged");
    for at in 0..sealed.len() {
        for mask in [0x01, 0x20, 0x80, 0xff] {
            let mut changed = sealed.clone();
            changed[at] ^= mask;
            let error = open(&changed, &identities).map(|_| ()).expect_err("one byte differs");
            assert!(open_with_file_key(&changed, &key).is_err(), "byte {at} ^ {mask}: {error}");
        }
    }
    assert_eq!(plain.len(), 100);
}

#[test]
fn every_cut_and_every_addition_fails() {
    let (identity, _, sealed, key) = sealed(100);
    let identities = [identity];
    for length in 0..sealed.len() {
        assert!(open(&sealed[..length], &identities).is_err(), "cut to {length}");
        assert!(open_with_file_key(&sealed[..length], &key).is_err(), "cut to {length}");
    }
    for extra in [1, TAG_BYTES, TAG_BYTES + 1, CHUNK_BYTES] {
        let longer = [sealed.as_slice(), &vec![0; extra]].concat();
        assert!(open(&longer, &identities).is_err(), "{extra} more");
    }
}

#[test]
fn a_cut_between_chunks_is_told_from_a_changed_chunk() {
    let (identity, plain, sealed, key) = sealed(3 * CHUNK_BYTES);
    let identities = [identity];
    let (_, header_bytes) = parse_header(&sealed).expect("ours");
    let two_chunks = header_bytes + NONCE_BYTES + 2 * (CHUNK_BYTES + TAG_BYTES);
    let cut = &sealed[..two_chunks];
    assert_eq!(open(cut, &identities).map(|_| ()), Err(payload_damage(2, PayloadFault::Truncated)));
    let mut reader = PayloadReader::new(cut, header_bytes, &key).expect("a payload");
    let mut read = Vec::new();
    let error = reader.read_to_end(&mut read).expect_err("cut");
    assert_eq!(error.kind(), std::io::ErrorKind::InvalidData);
    assert!(read == plain[..2 * CHUNK_BYTES], "what is intact comes out");
    assert!(reader.read(&mut [0]).is_err(), "and the error stays");

    let longer = [sealed.as_slice(), b"x"].concat();
    assert_eq!(open(&longer, &identities).map(|_| ()), Err(payload_damage(3, PayloadFault::TrailingData)));

    let mut changed = sealed.clone();
    changed[two_chunks - 1] ^= 1;
    assert_eq!(open(&changed, &identities).map(|_| ()), Err(payload_damage(1, PayloadFault::Damaged)));
    let reader = PayloadReader::new(&changed, header_bytes, &key).expect("a payload");
    let mut chunk = vec![1];
    reader.chunk(2, &mut chunk).expect("another chunk is intact");
    assert!(reader.chunk(1, &mut chunk).is_err() && chunk.is_empty());
}

#[test]
fn a_chunk_opens_from_a_range_of_the_file() {
    let (_, plain, sealed, key) = sealed(CHUNK_BYTES + 5);
    let (_, header_bytes) = parse_header(&sealed).expect("ours");
    let (nonce, chunks) = sealed[header_bytes..].split_first_chunk::<NONCE_BYTES>().expect("a nonce");
    let mut tail = Vec::new();
    let payload_key = PayloadKey::derive(&key, nonce);
    payload_key.open_chunk(1, true, &chunks[CHUNK_BYTES + TAG_BYTES..], &mut tail).expect("the last chunk");
    assert!(tail == plain[CHUNK_BYTES..]);
}

#[test]
fn what_must_not_be_sealed_is_refused() {
    let mut entropy = Seeded::new(33);
    let recipient = Identity::generate(&mut entropy).recipient();
    let refused = |recipients: &[_], extra: &[Stanza]| {
        seal(b"x", recipients, extra, &mut Seeded::new(34)).map(|_| ()).expect_err("refused")
    };
    assert_eq!(refused(&[], &[context()]), SealError::NoRecipients);
    let many = vec![recipient.clone(); 257];
    assert!(matches!(refused(&many, &[]), SealError::TooLarge { stanzas: 257, .. }));
    let long = Stanza { body: vec![0; 60_000], ..context() };
    assert!(matches!(
        refused(std::slice::from_ref(&recipient), &[long]),
        SealError::TooLarge { stanzas: 2, .. }
    ));
    let forged = Stanza { kind: "X25519".to_owned(), ..context() };
    assert_eq!(
        refused(&[recipient], &[forged]),
        SealError::Stanza { kind: "X25519".to_owned(), source: StanzaFault::Reserved }
    );
    let zero: super::Recipient =
        bech32::encode::<bech32::Bech32>(bech32::Hrp::parse("age").expect("valid"), &[0; 32])
            .expect("encodes")
            .parse()
            .expect("canonical");
    assert_eq!(refused(std::slice::from_ref(&zero), &[]), SealError::WeakRecipient { recipient: zero });
}

#[test]
fn a_file_key_of_another_file_is_refused() {
    let (_, _, first, _) = sealed(10);
    let other = FileKey::from_bytes(&[3; 16]);
    assert_eq!(open_with_file_key(&first, &other).map(|_| ()), Err(OpenError::Mac));
}
