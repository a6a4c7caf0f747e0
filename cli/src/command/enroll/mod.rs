//! `muster enroll NAME`: a new member. Its keys are made here, the roster says so on the share, and one folder holds what
//! the new machine needs.
//!
//! ```text
//! arguments ──Request::check──▶ Request ──files, user of the bus (taken back if the log refuses)──▶ roster statement
//! ```
//!
//! The statement goes to the log directly, signed by root or enroller: no coordinator can withhold it.

mod bus;
mod files;
mod report;
mod request;

use muster_protocol::log::{Change, Member, Roster};
use muster_share::log::HeadMemory;

use crate::args::Enroll;
use crate::command::init::undo::Undo;
use crate::exit::Exit;
use crate::failure::Outcome;
use crate::fleet::{self, Fleet};
use crate::saying::{previous, say};
use crate::screen;
use crate::sealed_files;
use bus::NewUser;
use files::Keys;
use request::Request;

pub(crate) use report::role_word;

/// Enrolls.
pub(crate) async fn run(args: Enroll) -> Outcome {
    let (folder, operator) = fleet::operator_at(args.contact.config.as_deref())?;
    let mut fleet = Fleet::to_change(operator.clone()).await?;
    let json = args.contact.json;
    let request = Request::check(args, folder.clone(), operator.clone(), fleet.state())?;
    let keys = Keys::generate(&request.role);
    let member =
        Member { key: keys.signer().key_id(), name: request.name.clone(), role: keys.role(&request.role) };

    let user = NewUser::plan(&request, &folder)?;
    let mut undo = Undo::new();
    let written = files::write(&request, &keys, user.as_ref(), &fleet.log.seen(), &mut undo)?;
    if let Some(user) = &user {
        user.add()?;
    }
    let make = |state: &_| {
        let (previous, changes) = (previous::<Roster>(state), vec![Change::Admit(member.clone())]);
        Ok(Roster { previous, changes, at: Some(screen::now()) })
    };
    let admitted = |state: &muster_protocol::log::State| state.role(&member.key).is_some();
    let said = say::<Roster>(&mut fleet.log, &request.signer, make, admitted).await;
    if let (Err(_), Some(user)) = (&said, &user) {
        // The first error is the one that helps.
        drop(user.take_back());
    }
    let head = said?;
    undo.keep();
    // The member's file, as it would lie in the fleet's own folder.
    let also = files::published(&request, &written)?;
    sealed_files::refresh_or_say(&mut fleet.log, &folder, &operator, &also).await;
    fleet.remember()?;
    // Without it the member pins the head before its own admission, which is as safe and one record older.
    if let Err(error) = HeadMemory::at(&written.state.join("head")).remember(&fleet.log.seen()) {
        screen::aside(format!("warning: {error}: the new member pins the record before its admission"));
    }
    if let Some(former) = files::set_aside(&request, &written)? {
        screen::aside(format!("the former configuration is kept as {}", former.display()));
    }
    if let Some(user) = user.as_ref().filter(|_| request.replace) {
        user.replace()?;
    }
    report::tell(&request, &written, user.as_ref(), &member, head, json);
    Ok(Exit::Done)
}
