//! age v1: the header, and the payload behind a header that verifies.

use muster_protocol::age::{
    CHUNK_BYTES, FileKey, OpenError, PayloadReader, Stanza, open, open_with_file_key, parse_header,
};

use super::input::{Draw, Fixed};
use super::vault::{KEY, seal};

/// Any bytes as a file: nothing but a header that parses the same again and a payload that authenticates.
pub(super) fn header(input: &[u8]) {
    let Ok((header, len)) = parse_header(input) else { return };
    assert!(len <= input.len(), "a header of {len} bytes in {}", input.len());
    let (again, again_len) = parse_header(&input[..len]).expect("a header stands alone");
    assert_eq!((again.stanzas(), again_len), (header.stanzas(), len));
    assert!(header.recipient_count() <= header.stanzas().len());
    let _ = header.unwrap(std::slice::from_ref(&*KEY));
    let _ = header.verify_mac(&FileKey::from_bytes(&[7; 16]));
    let _ = open(input, std::slice::from_ref(&*KEY));
}

pub(super) fn header_samples() -> Vec<Vec<u8>> {
    let grease = Stanza { kind: "x".to_owned(), args: vec!["y".to_owned()], body: vec![8; 60] };
    let two = [KEY.recipient(), muster_protocol::age::Identity::generate(&mut Fixed(5)).recipient()];
    let plain = muster_protocol::age::seal(b"plain", &two, &[grease], &mut Fixed(6)).expect("sealed");
    vec![seal(b"payload").0, plain.0, b"age-encryption.org/v1\n-> X25519 \n---\n".to_vec()]
}

/// A sealed payload with edits: the edits that change anything are noticed, and reading in order, by chunk and at once
/// agree. The input: the payload's length (2 bytes), pairs of place (3 bytes) and new byte, an odd byte cuts the end.
pub(super) fn stream(input: &[u8]) {
    let mut draw = Draw::new(input);
    let len = usize::from(draw.short()) * 3;
    let plain: Vec<u8> = (0..len).map(|at| at.to_le_bytes()[0] ^ at.to_le_bytes()[1]).collect();
    let (good, key) = seal(&plain);
    let mut bytes = good.clone();
    while !draw.is_empty() {
        let at = usize::from(draw.short()) | usize::from(draw.byte()) << 16;
        if draw.is_empty() {
            bytes.truncate(bytes.len().saturating_sub(at));
            break;
        }
        let last = bytes.len().saturating_sub(1);
        if let Some(place) = bytes.get_mut(at.min(last)) {
            *place = draw.byte();
        }
    }
    let opened = open_with_file_key(&bytes, &key);
    if bytes == good {
        assert!(opened.is_ok_and(|(_, have)| have == plain), "what was sealed opens");
        return;
    }
    assert!(opened.is_err(), "a changed file opened");
    let (_, header_len) = parse_header(&good).expect("the header as it was sealed");
    by_chunk(&bytes, header_len, &key, &plain);
}

/// Whatever a reader gives out of a damaged payload is what was sealed there, and its end is never believed.
fn by_chunk(bytes: &[u8], header_len: usize, key: &FileKey, plain: &[u8]) {
    let Ok(mut reader) = PayloadReader::new(bytes, header_len, key) else { return };
    let mut chunk = Vec::new();
    for number in 0..reader.chunk_count() {
        if reader.chunk(number, &mut chunk).is_ok() {
            let from = usize::try_from(number).expect("few chunks") * CHUNK_BYTES;
            assert_eq!(Some(&chunk[..]), plain.get(from..from + chunk.len()), "chunk {number}");
        }
    }
    let mut at = 0;
    loop {
        match reader.next_chunk() {
            Ok(Some(part)) => {
                assert_eq!(Some(part), plain.get(at..at + part.len()));
                at += part.len();
            }
            Ok(None) => {
                // The header alone was changed: the payload is whole, and only its own to prove.
                assert_eq!(at, plain.len(), "the end of a payload that was cut or changed");
                return;
            }
            Err(error) => {
                assert!(matches!(error, OpenError::Payload(_)), "{error}");
                return;
            }
        }
    }
}

pub(super) fn stream_samples() -> Vec<Vec<u8>> {
    vec![
        vec![],
        vec![100, 0],
        vec![0x55, 0x55, 200, 0, 0, 1],
        vec![0x56, 0x55, 16, 0, 0],
        vec![0xff, 0xff, 255, 255, 2, 9],
    ]
}
