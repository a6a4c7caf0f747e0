//! Files with several names of which the first cannot be read.

use std::sync::atomic::AtomicBool;

use muster_protocol::document::SliceStatus;
use muster_protocol::ids::{Nonce, ObjectId};
use muster_protocol::log::Head;
use muster_share::entry::Gap;
use serde_bytes::ByteBuf;

use super::{Fleet, file, noise, reader, scripted};
use crate::source::{Content, Stopped, Unread};

/// A file that breaks after some bytes.
struct Breaks;

impl Unread for Breaks {
    fn size(&self) -> u64 {
        1 << 20
    }

    fn read(self: Box<Self>, content: &mut dyn Content, _: &AtomicBool) -> Result<(), Stopped> {
        content.begin(file("a"))?;
        content.data(&noise(1, 400_000))?;
        content.discard();
        let mut gap = file("a");
        gap.gap = Some(Gap::Unreadable(5));
        content.lost(gap)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_name_of_a_file_that_breaks_is_the_same_gap() {
    let mut fleet = Fleet::new().await;
    let broken = scripted(|sink, _| {
        sink.file(Box::new(Breaks))?;
        for (path, target) in [("b", "a"), ("c", "a"), ("d", "whole")] {
            let mut link = file(path);
            link.hard_link = Some(ByteBuf::from(target));
            sink.entry(link)?;
        }
        Ok(())
    });
    // Another source's names are other files.
    let other = scripted(|sink, _| {
        let mut link = file("b");
        link.hard_link = Some(ByteBuf::from("a"));
        Ok(sink.entry(link)?)
    });
    fleet.sources = vec![broken, other];
    let captured = fleet.capture().await.expect("captured");
    assert_eq!((captured.totals.entries, captured.totals.gaps, captured.status), (5, 3, SliceStatus::Gaps));
    let head = Head { number: 7, hash: ObjectId::of(b"record") };
    let nonce = Nonce::from_bytes([3; 16]);
    let written = fleet.engine().write_receipt(&captured, 1, nonce, head, None, &fleet.signer).await;
    let (store, keys) = (&*fleet.share, &fleet.recovery);
    let (fleet_id, service, round) = (&captured.fleet, &captured.service, captured.round);
    let slice = reader::read(store, fleet_id, service, round, written.expect("written").0, keys).await;
    let kept: Vec<_> = slice.entries.iter().map(|(e, _)| (e.gap, e.hard_link.is_some())).collect();
    let gap = (Some(Gap::Unreadable(5)), false);
    assert_eq!(kept, [gap, gap, gap, (None, true), (None, true)]);
}
