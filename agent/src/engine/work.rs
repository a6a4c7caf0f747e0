//! A worker: reads jobs and packs parts, whichever there is.

use super::feed::passed_on;
use super::fill::{Filler, Ship};
use super::pack::{Lane, Packer};
use super::part::{Item, Packed, Part};
use super::pipeline::{Results, Run};
use super::queue::{Queue, Task};
use crate::source::Stopped;

/// Works until nothing is left to do.
pub(super) fn work(run: &Run, lane: &Lane<'_>, queue: &Queue, results: &Results) -> Result<(), Stopped> {
    let packer = run.halt.keep(Packer::new(lane, run.zstd_level))?;
    let ship = Share { packer, queue, results };
    let mut filler = Filler::new(queue.own_buffer(), run.chunk, run.settle, &run.halt, &run.progress, ship);
    while let Some(task) = queue.next(&run.halt)? {
        match task {
            Task::Pack(mut part) => {
                filler.ship.pack(&mut part)?;
                queue.give_back(part.bytes);
            }
            Task::Read(job) => {
                filler.start(job.number);
                for item in job.items {
                    match item {
                        Item::File(file) => file.read(&mut filler, run.halt.flag())?,
                        item @ (Item::Entry(_) | Item::Seen(_) | Item::SourceEnd) => {
                            passed_on(item).map_or(Ok(()), |step| filler.step(step))?;
                        }
                    }
                }
                filler.finish()?;
                if queue.done_reading() {
                    run.sources_read();
                }
            }
        }
    }
    Ok(())
}

/// A worker packs its parts itself, or gives them to those who have nothing to do.
struct Share<'a> {
    packer: Packer<'a>,
    queue: &'a Queue,
    results: &'a Results,
}

impl Ship for Share<'_> {
    fn spare(&mut self) -> Result<Option<Vec<u8>>, Stopped> {
        Ok(self.queue.spare())
    }

    fn give(&mut self, part: Part) -> Result<(), Stopped> {
        self.queue.push_part(part);
        Ok(())
    }

    fn pack(&mut self, part: &mut Part) -> Result<(), Stopped> {
        let mut places = Vec::with_capacity(part.lengths.len());
        self.packer.pack(&part.bytes, &part.lengths, &mut places)?;
        let packed = Packed { turn: part.turn, places, steps: std::mem::take(&mut part.steps) };
        self.results.send(packed).map_err(|_| Stopped)
    }
}
