//! Invariant 11: no bytes make a reader panic. Random ones, and valid ones with a few bytes or their payload changed
//! and signed again, since a member may be stolen.

use crate::log::fixture::{FIRST, Fleet, OPERATOR, ROOT, fleet_id, open, signer};
use crate::log::{Keyset, Roster, State, parse};
use crate::message::{Format, Hello, RestoreAsk, RestoreOrder, RestoreStatus, StateDocument, Trigger};
use crate::seeds::{Rng, each_seed};
use crate::{document, envelope, wire};

fn mangle(rng: &mut Rng, bytes: &mut Vec<u8>) {
    for _ in 0..=rng.below(4) {
        let at = usize::try_from(rng.below(bytes.len() as u64 + 1)).expect("an index");
        let byte = rng.next().to_le_bytes()[0];
        match rng.below(4) {
            0 => bytes.truncate(at),
            1 => bytes.insert(at, byte),
            _ => {
                if let Some(place) = bytes.get_mut(at) {
                    *place = byte;
                }
            }
        }
    }
}

fn read_all(fleet: &Fleet, bytes: &[u8]) {
    let _ = envelope::open(bytes, 4096);
    let _ = envelope::open_as::<Hello>(bytes, &fleet_id());
    if let Ok(record) = parse(bytes) {
        let _ =
            (record.body::<crate::log::Open>(), record.statement::<Roster>(), record.statement::<Keyset>());
    }
    let _ = State::new(fleet.state.pin).replay(bytes);
    let _ = fleet.clone().take(bytes.to_vec());
}

fn decode_all(bytes: &[u8]) {
    let _ = wire::decode::<Hello>(bytes);
    let _ = wire::decode::<StateDocument>(bytes);
    let _ = wire::decode::<RestoreAsk>(bytes);
    let _ = wire::decode::<RestoreOrder>(bytes);
    let _ = wire::decode::<RestoreStatus>(bytes);
    let _ = wire::decode::<document::Manifest>(bytes);
    let _ = wire::decode::<Roster>(bytes);
    let _ = Trigger::parse(Format::Json, bytes);
    let _ = Trigger::parse(Format::MessagePack, bytes);
}

#[test]
fn no_bytes_make_a_reader_panic() {
    let fleet = Fleet::found();
    let samples = [
        fleet.record(FIRST, &open(1, 1, 1, &["dns"])),
        fleet.slots[0].clone(),
        fleet.slots[2].clone(),
        br#"{"services":["dns"],"request":"x"}"#.to_vec(),
    ];
    each_seed(4_000, |seed| {
        let mut rng = Rng(seed);
        let mut bytes = samples[usize::try_from(seed % 4).expect("small")].clone();
        if rng.percent(20) {
            let len = usize::try_from(rng.below(600)).expect("small");
            bytes = (0..len).map(|_| rng.next().to_le_bytes()[0]).collect();
        }
        let payload = envelope::open(&bytes, 1 << 16)
            .map(|opened| (opened.domain.to_owned(), opened.name.to_owned(), opened.payload.to_vec()));
        if let Ok((domain, name, mut payload)) = payload
            && rng.percent(60)
        {
            mangle(&mut rng, &mut payload);
            decode_all(&payload);
            let who = [ROOT, FIRST, OPERATOR][usize::try_from(rng.below(3)).expect("small")];
            bytes = signer(who).seal_raw(&domain, &name, 1, &fleet_id(), &payload);
        } else {
            mangle(&mut rng, &mut bytes);
        }
        read_all(&fleet, &bytes);
        decode_all(&bytes);
    });
}
