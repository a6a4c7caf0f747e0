//! Packs from chunk to chunk, under damage, and in the hands of the stock tools.

use std::io::Write;
use std::process::{Command, Stdio};

use muster_protocol::age::{Identity, Sealer, Stanza};
use muster_protocol::entropy::random;
use muster_protocol::ids::{ChunkId, FleetId, ObjectId};

use super::{
    Compressor, DEFAULT_TARGET, Frame, PackBuilder, PackContext, PackError, PackReader, SealedPack, Unlock,
    compress,
};
use crate::chunk::ChunkKey;
use crate::entropy::OsEntropy;
use crate::sealed::{SealedError, skippable};

fn context() -> PackContext {
    PackContext { fleet: FleetId::from_bytes([7; 32]), service: "dns-2".parse().expect("name"), keyset: 12 }
}

fn key() -> ChunkKey {
    ChunkKey::from_bytes([5; 32])
}

/// Text-like, random and empty-looking chunks of many lengths; the joined plain bytes, and the frames.
fn frames(count: usize) -> (Vec<u8>, Vec<Frame>) {
    let mut compressor = Compressor::new(3).expect("memory");
    let (mut plain, mut frames) = (Vec::new(), Vec::new());
    for n in 0..count {
        let chunks: Vec<Vec<u8>> = match n % 3 {
            0 => vec![format!("line {n} of a file\n").repeat(n * 50 + 1).into_bytes()],
            1 => vec![random::<3000>(&mut OsEntropy).repeat(n)],
            _ => (1..20usize).map(|len| vec![u8::try_from(n % 250).expect("small"); len * 7]).collect(),
        };
        let named: Vec<_> = chunks.iter().map(|chunk| (chunk.as_slice(), key().id(chunk))).collect();
        frames.push(compress(&mut compressor, &named).expect("fits"));
        chunks.iter().for_each(|chunk| plain.extend_from_slice(chunk));
    }
    (plain, frames)
}

fn begun(recipient: &Identity, target: usize) -> PackBuilder {
    PackBuilder::new(target, Vec::new(), &[recipient.recipient()], &context(), &mut OsEntropy)
        .expect("usable")
}

fn pack(recipient: &Identity, count: usize) -> (Vec<u8>, SealedPack) {
    let (plain, frames) = frames(count);
    let mut builder = begun(recipient, DEFAULT_TARGET);
    let mut offset = 0;
    for frame in frames {
        let len = frame.plain_len();
        assert_eq!(builder.push(&frame).expect("fits"), offset);
        offset += len;
    }
    assert_eq!(builder.plain_len(), plain.len() as u64);
    let sealed = builder.seal().expect("sealed");
    (plain, sealed)
}

fn read(bytes: &[u8], expected: Option<&ObjectId>, unlock: Unlock<'_>) -> Result<Vec<u8>, PackError> {
    let reader = PackReader::open(bytes, expected, unlock)?;
    let mut plain = Vec::new();
    reader.for_each_chunk(|offset, id, chunk| {
        assert_eq!(offset, plain.len() as u64);
        assert_eq!(key().id(chunk), id);
        plain.extend_from_slice(chunk);
        Ok(())
    })?;
    Ok(plain)
}

#[test]
fn chunks_come_back() {
    for count in [1, 2, 3, 40] {
        let owner = Identity::generate(&mut OsEntropy);
        let (plain, sealed) = pack(&owner, count);
        assert_eq!(sealed.plain_len, plain.len() as u64);
        sealed.self_check(&key()).expect("good");
        let by_key = Unlock::FileKey(&sealed.file_key);
        assert!(read(&sealed.bytes, Some(&sealed.id), by_key).expect("opens") == plain);
        let identities = [Identity::generate(&mut OsEntropy), owner];
        let reader = PackReader::open(&sealed.bytes, None, Unlock::Identities(&identities)).expect("opens");
        assert_eq!(reader.context(), &context());
        let chunks: Vec<_> = reader.contents().chunks().map(|(_, id, len)| (id, len)).collect();
        assert_eq!(chunks, sealed.chunks);
        for (offset, id, len) in reader.contents().chunks() {
            let bytes = reader.read_range(offset, offset + u64::from(len)).expect("there");
            assert_eq!(key().id(&bytes), id);
        }
        let end = plain.len() as u64;
        assert!(reader.read_range(0, end).expect("all") == plain);
        assert_eq!(reader.read_range(end, end).expect("nothing"), b"");
        for (start, end) in [(0, end + 1), (end, end + 1), (1, 0), (u64::MAX, u64::MAX)] {
            assert!(reader.read_range(start, end).is_err(), "{start}..{end}");
        }
    }
}

#[test]
fn a_wrong_key_or_name_opens_nothing() {
    let owner = Identity::generate(&mut OsEntropy);
    let (_, sealed) = pack(&owner, 2);
    let others = [Identity::generate(&mut OsEntropy)];
    let error = read(&sealed.bytes, None, Unlock::Identities(&others)).expect_err("another's");
    assert!(matches!(error, PackError::Sealed(SealedError::NoKey(_))), "{error}");
    let (_, other) = pack(&owner, 2);
    let error = read(&sealed.bytes, Some(&other.id), Unlock::Identities(&[owner])).expect_err("another pack");
    assert!(matches!(error, PackError::Sealed(SealedError::HashMismatch { .. })), "{error}");
    assert!(read(&sealed.bytes, None, Unlock::FileKey(&other.file_key)).is_err());
}

#[test]
fn any_damage_is_an_error_and_never_wrong_bytes() {
    let owner = Identity::generate(&mut OsEntropy);
    let (plain, sealed) = pack(&owner, 12);
    let unlock = Unlock::FileKey(&sealed.file_key);
    let bytes = &sealed.bytes;
    // Every byte of the header and of the end, and a sample of those between.
    let spots = (0..600).chain((600..bytes.len() - 600).step_by(997)).chain(bytes.len() - 600..bytes.len());
    for at in spots {
        let mut bent = bytes.to_vec();
        bent[at] ^= 0x40;
        // An order of reading that hands out chunks before a later byte fails: those must be the right ones.
        let reader = PackReader::open(&bent, None, unlock);
        let mut seen = 0;
        let outcome = reader.and_then(|reader| {
            reader.for_each_chunk(|_, _, chunk| {
                assert!(plain[seen..].starts_with(chunk), "byte {at} gave wrong bytes");
                seen += chunk.len();
                Ok(())
            })
        });
        assert!(outcome.is_err(), "byte {at} went unnoticed");
        assert!(matches!(
            PackReader::open(&bent, Some(&sealed.id), unlock),
            Err(PackError::Sealed(SealedError::HashMismatch { .. }))
        ));
    }
    for len in (0..bytes.len()).step_by(1009).chain(bytes.len() - 40..bytes.len()) {
        assert!(read(&bytes[..len], None, unlock).is_err(), "cut to {len}");
    }
    assert!(read(&[&bytes[..], b"x"].concat(), None, unlock).is_err());
    assert!(read(&[&bytes[..], &bytes[..]].concat(), None, unlock).is_err());
}

#[test]
fn the_self_check_notices_what_was_wrong_before_sealing() {
    let owner = Identity::generate(&mut OsEntropy);
    let mut compressor = Compressor::new(3).expect("memory");
    let wrong = ChunkId::from_bytes([9; 32]);
    let good = compress(&mut compressor, &[(b"good", key().id(b"good"))]).expect("fits");
    let misnamed = compress(&mut compressor, &[(b"abc", wrong)]).expect("fits");
    let mut flipped = compress(&mut compressor, &[(&[1; 5000], key().id(&[1; 5000]))]).expect("fits");
    let at = flipped.compressed.len() - 3;
    flipped.compressed[at] ^= 1;
    let mut mislengthed = good.clone();
    mislengthed.chunks[0].1 += 1;
    for frame in [misnamed, flipped, mislengthed] {
        let mut builder = begun(&owner, DEFAULT_TARGET);
        builder.push(&good).expect("fits");
        builder.push(&frame).expect("fits");
        let sealed = builder.seal().expect("sealed");
        assert!(sealed.self_check(&key()).is_err());
    }
    let (_, mut sealed) = pack(&owner, 3);
    sealed.self_check(&key()).expect("good");
    assert!(sealed.self_check(&ChunkKey::from_bytes([6; 32])).is_err());
    let last = sealed.chunks.pop().expect("some");
    assert!(sealed.self_check(&key()).is_err(), "a chunk too many");
    sealed.chunks.extend([last, last]);
    assert!(sealed.self_check(&key()).is_err(), "a chunk too few");
}

#[test]
fn nothing_is_sealed_empty_and_full_packs_round_up_to_their_target() {
    let owner = Identity::generate(&mut OsEntropy);
    let empty = begun(&owner, 1000);
    assert!(empty.is_empty() && !empty.is_full());
    assert!(empty.seal().is_err());
    let mut compressor = Compressor::new(1).expect("memory");
    let mut builder = begun(&owner, 4 * 1024 * 1024);
    while !builder.is_full() {
        let bytes = random::<60_000>(&mut OsEntropy);
        builder.push(&compress(&mut compressor, &[(&bytes, key().id(&bytes))]).expect("fits")).expect("fits");
    }
    let stored = builder.stored_len();
    let sealed = builder.seal().expect("sealed");
    let over = sealed.bytes.len() - stored;
    assert!(over * 100 < stored * 3, "{over} of {stored}");
    let mut builder = begun(&owner, DEFAULT_TARGET);
    for n in 0..32 {
        assert!(!builder.is_full(), "{n}");
        let zeroes = vec![0; 8 * 1024 * 1024];
        let frame = compress(&mut compressor, &[(&zeroes, key().id(&zeroes))]).expect("fits");
        builder.push(&frame).expect("fits");
    }
    assert!(builder.is_full(), "256 MiB of zeroes are enough");
}

/// A payload of our own making under a valid seal: what a hostile or broken writer with the right keys could store.
fn sealed_payload(payload: &[u8]) -> Result<Vec<u8>, PackError> {
    let owner = Identity::generate(&mut OsEntropy);
    let stanza = Stanza {
        kind: "muster-context".to_owned(),
        args: vec!["1".into(), "07".repeat(32), "dns-2".into(), "12".into()],
        body: Vec::new(),
    };
    let mut sealer = Sealer::new(&[owner.recipient()], &[stanza], 0, &mut OsEntropy).expect("good recipient");
    sealer.write(payload);
    let (bytes, file_key) = sealer.finish();
    let reader = PackReader::open(&bytes, None, Unlock::FileKey(&file_key))?;
    let mut plain = Vec::new();
    reader.for_each_chunk(|_, _, chunk| {
        plain.extend_from_slice(chunk);
        Ok(())
    })?;
    Ok(plain)
}

fn with_contents(body: &[u8], contents: &[u8], contents_at: usize) -> Vec<u8> {
    let mut payload = body.to_vec();
    payload.extend(skippable(0x184D_2A5D, contents));
    let len = (payload.len() + 32) as u64;
    let trailer = [&b"musterp1"[..], &(contents_at as u64).to_be_bytes(), &len.to_be_bytes()].concat();
    payload.extend(skippable(0x184D_2A5F, &trailer));
    payload
}

#[test]
fn a_valid_seal_around_nonsense_is_refused() {
    type Frames = Vec<(u32, Vec<(ChunkId, u32)>)>;
    #[derive(serde::Serialize)]
    struct OneFrame {
        compressed_len: u32,
        chunks: Vec<(ChunkId, u32)>,
    }
    #[derive(serde::Serialize)]
    struct Written {
        version: u16,
        frames: Vec<OneFrame>,
    }
    let contents = |version, frames: Frames| {
        let frames =
            frames.into_iter().map(|(compressed_len, chunks)| OneFrame { compressed_len, chunks }).collect();
        rmp_serde::to_vec_named(&Written { version, frames }).expect("encodes")
    };
    let id = ChunkId::from_bytes([1; 32]);
    let body = zstd::bulk::compress(b"0123456789", 3).expect("memory");
    let len = u32::try_from(body.len()).expect("short");
    let good = contents(1, vec![(len, vec![(id, 4), (id, 6)])]);
    assert_eq!(sealed_payload(&with_contents(&body, &good, body.len())).expect("good"), b"0123456789");
    let padded = [&body[..], &skippable(0x184D_2A5E, &[0; 9])].concat();
    assert_eq!(sealed_payload(&with_contents(&padded, &good, padded.len())).expect("padded"), b"0123456789");

    let refused = |what: &str, payload: Vec<u8>| {
        assert!(sealed_payload(&payload).is_err(), "{what}");
    };
    let bomb = zstd::bulk::compress(&vec![0; 9 << 20], 3).expect("memory");
    let bomb_len = u32::try_from(bomb.len()).expect("short");
    refused(
        "a frame of 9 MiB",
        with_contents(&bomb, &contents(1, vec![(bomb_len, vec![(id, 9 << 20)])]), bomb.len()),
    );
    refused(
        "a frame that holds more",
        with_contents(&bomb, &contents(1, vec![(bomb_len, vec![(id, 10)])]), bomb.len()),
    );
    refused(
        "a frame that holds less",
        with_contents(&body, &contents(1, vec![(len, vec![(id, 11)])]), body.len()),
    );
    refused(
        "an empty chunk",
        with_contents(&body, &contents(1, vec![(len, vec![(id, 10), (id, 0)])]), body.len()),
    );
    refused("a frame of no chunk", with_contents(&body, &contents(1, vec![(len, vec![])]), body.len()));
    refused(
        "frames beyond the contents",
        with_contents(&body, &contents(1, vec![(len + 1, vec![(id, 10)])]), body.len()),
    );
    refused(
        "lengths that overflow",
        with_contents(&body, &contents(1, vec![(len, vec![(id, u32::MAX); 3])]), body.len()),
    );
    refused("another version", with_contents(&body, &contents(2, vec![(len, vec![(id, 10)])]), body.len()));
    refused("no contents", with_contents(&body, b"", body.len()));
    refused("a trailer that points behind", with_contents(&body, &good, body.len() + 1));
    refused("a trailer that points beyond", with_contents(&body, &good, 1 << 40));
    let hidden = [&body[..], &body].concat();
    refused("a frame that the contents hide", with_contents(&hidden, &good, hidden.len()));
    refused("no trailer", body.clone());
    refused("nothing", Vec::new());
}

/// Whether the stock programs are there. Their absence is shown, and fatal where `CI` is set.
fn stock_tools() -> bool {
    let missing: Vec<_> = ["age", "zstd"]
        .into_iter()
        .filter(|tool| {
            Command::new(tool).arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status().is_err()
        })
        .collect();
    assert!(missing.is_empty() || std::env::var_os("CI").is_none(), "CI lacks {missing:?}");
    if !missing.is_empty() {
        let _ = writeln!(std::io::stderr(), "SKIPPED: stock tools are not installed: {missing:?}");
    }
    missing.is_empty()
}

#[test]
fn stock_age_and_zstd_give_the_plain_chunks() {
    if !stock_tools() {
        return;
    }
    let owner = Identity::generate(&mut OsEntropy);
    let (plain, sealed) = pack(&owner, 40);
    let dir = tempfile::tempdir().expect("temporary folder");
    let path = |name: &str| dir.path().join(name);
    std::fs::write(path("recovery.key"), &*owner.to_file_text("2026-01-01T00:00:00Z")).expect("written");
    std::fs::write(path("pack.age"), &sealed.bytes).expect("written");
    let age = Command::new("age")
        .args(["-d", "-i"])
        .args([path("recovery.key"), path("pack.age")])
        .output()
        .expect("runs");
    assert!(age.status.success(), "{}", String::from_utf8_lossy(&age.stderr));
    std::fs::write(path("pack.zst"), &age.stdout).expect("written");
    let zstd = Command::new("zstd").args(["-d", "-c"]).arg(path("pack.zst")).output().expect("runs");
    assert!(zstd.status.success(), "{}", String::from_utf8_lossy(&zstd.stderr));
    assert!(zstd.stdout == plain, "stock tools read the same bytes");
}
