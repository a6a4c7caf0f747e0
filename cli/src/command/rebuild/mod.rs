//! `muster rebuild`: after the loss of everything but share, kit and root, a working folder of the same fleet again.
//!
//! ```text
//! share, kit, root ──Found::read──▶ what the log says, and the files that its configuration keeps sealed
//!                  ──write────────▶ DIR with the files, fresh keys for coordinators, agents, operator, pruner and the bus
//!                  ──say──────────▶ roster (by root) · sealing keys · next epoch · ends of open rounds · configuration
//! ```
//!
//! DIR is taken back unless the roster has its members. From there on it is whole: what the later records say, `muster up` would
//! say as well.

mod found;
mod report;
mod say;
mod write;

use crate::args::Rebuild;
use crate::command::init::undo::Undo;
use crate::exit::Exit;
use crate::failure::Outcome;
use crate::lock;
use found::Found;
use write::Keys;

/// Rebuilds.
pub(crate) async fn run(args: Rebuild) -> Outcome {
    let json = args.json;
    let mut found = Found::read(args).await?;
    let keys = Keys::generate(&found);
    let mut undo = Undo::new();
    write::folder(&found, &keys, &mut undo)?;
    let changes = say::admissions(&found, &keys);
    let head = say::roster(&mut found, &keys, changes).await?;
    undo.keep();
    // Whatever fails from here on leaves a folder that works.
    let said = say::the_rest(&mut found, &keys).await;
    write::pins(&found)?;
    let said = said.map_err(|failure| {
        failure
            .because(format!(
                "{} is whole, and its members count from log record {} on; only what follows was not said.",
                found.dir.display(),
                head.number
            ))
            .next(format!("mend the access to the share, then: muster up {}", found.dir.display()))
    })?;
    debug_assert!(found.dir.join(lock::FILE).exists());
    report::tell(&found, &said, json);
    Ok(Exit::Done)
}
