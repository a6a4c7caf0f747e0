//! Messages on the bus, version 1. Each is the payload of a signed envelope, or of a sealed message of a session, except triggers and
//! queries, which anyone who may publish can send. None grows with the fleet or the data: [`MAX_MESSAGE_LEN`] bounds them all.

mod agent;
mod command;
mod leader;
mod restore;
mod trigger;

pub use agent::{Heartbeat, Hello, Notice, NoticeOutcome, Progress, Stage};
pub use command::{Command, CommandReply, CommandState, Demand, MAX_SUSPECTS};
pub use leader::{
    Acknowledgement, CutOrder, OpenRound, Order, Ordered, ServiceState, StateDocument, Verdict, Welcome,
};
pub use restore::{
    MAX_NOTE_LEN, MAX_NOTES, MAX_ORDER_PATH, OfferVerdict, RestoreAsk, RestoreExisting, RestoreOffer,
    RestoreOrder, RestoreOutcome, RestoreQuery, RestoreRefusal, RestoreState, RestoreStatus, RestoreTarget,
    cut_note,
};
pub use trigger::{Format, Trigger, TriggerError, TriggerReply, TriggerState};

/// Longest message in bytes, envelope included.
pub const MAX_MESSAGE_LEN: usize = 4096;

/// Longest reason that a message carries, in bytes; longer ones are cut.
pub const MAX_REASON_LEN: usize = 1024;

/// `text` cut to [`MAX_REASON_LEN`] at a character's boundary.
#[must_use]
pub fn cut_reason(text: &str) -> String {
    cut(text, MAX_REASON_LEN)
}

/// An agent's product version as it is remembered: `text` cut to 64 bytes at a character's boundary.
#[must_use]
pub fn cut_version(text: &str) -> String {
    cut(text, 64)
}

/// `text` cut to so many bytes at a character's boundary.
fn cut(text: &str, most: usize) -> String {
    if text.len() <= most {
        return text.to_owned();
    }
    let mut end = most - '…'.len_utf8();
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    format!("{}…", &text[..end])
}

macro_rules! message {
    ($name:ident, $type:literal) => {
        impl crate::envelope::Payload for $name {
            const DOMAIN: &'static str = "muster.bus";
            const TYPE: &'static str = $type;
            const VERSION: u16 = 1;
            const MAX_LEN: usize = crate::message::MAX_MESSAGE_LEN;
        }
    };
}
pub(crate) use message;
