//! Keeping the lead: the lease is written again and again, and the log read on, beside the work of the desk.

use futures::FutureExt;
use futures::future::BoxFuture;
use muster_protocol::lead::{Event, Stop};
use muster_protocol::time::Time;
use tokio::sync::oneshot;

use super::driver::{Driver, Wish};
use crate::scribe::{ReadError, ScribeHandle};

/// Keeps the lead until the log gives it to another, this coordinator must stop, or `ended` says that the desk was left.
/// Gives the driver back.
pub(crate) async fn keep(
    mut driver: Driver,
    scribe: ScribeHandle,
    mut ended: oneshot::Receiver<()>,
) -> Driver {
    let mut changes = scribe.changes();
    let mut reading: Option<(BoxFuture<'static, Result<(), ReadError>>, Time)> = None;
    loop {
        while let Some(wish) = driver.wish() {
            match wish {
                Wish::Read => {
                    let scribe = scribe.clone();
                    reading = Some((async move { scribe.read().await }.boxed(), driver.now()));
                }
                // A leader has its epoch.
                Wish::Append(_) => {}
                Wish::StepDown(epoch) => {
                    tracing::warn!(epoch, "COORD-01: another coordinator leads now");
                    return driver;
                }
                Wish::Stop(Stop::Revoked | Stop::Broken { .. }) => return driver,
            }
        }
        let read = async {
            match &mut reading {
                Some((reading, _)) => reading.await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            read = read => {
                let asked = reading.take().map_or(Time(0), |(_, asked)| asked);
                match read {
                    Ok(()) => driver.log_read(asked, &scribe.state()),
                    Err(ReadError::Unread) => driver.handle(Event::LogUnread),
                    Err(ReadError::Broken) => {
                        driver.handle(Event::LogBroken { reason: "told by the scribe".to_owned() });
                    }
                }
            }
            changed = changes.changed() => {
                if changed.is_err() {
                    return driver;
                }
                // When this was true is not known: it proves nothing, but shows a foreign epoch at once.
                let state = changes.borrow_and_update().clone();
                driver.log_read(Time(0), &state);
            }
            () = driver.turn() => {}
            _ = &mut ended => return driver,
        }
    }
}
