//! How a message reads for each kind of receiver.
//!
//! What alerts say of the world holds names and errors that others chose. Each form takes care that they stay text: JSON by its
//! encoder, Slack's markup and mail headers by what is here.

mod alertmanager;
mod json;
mod mail;
mod slack;

pub use alertmanager::alertmanager;
pub use json::{SCHEMA, json};
pub use mail::{Mail, mail};
pub use slack::slack;
