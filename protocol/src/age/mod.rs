//! age v1 files for X25519 recipients: the sealed form of every pack, index and list.
//!
//! Format: the C2SP age specification (`age.md`, "age-encryption.org/v1"). What this module writes, stock `age -d`
//! reads, and the other way round; what the specification tells a strict reader to refuse is refused.
//!
//! ```text
//! header   version line, one stanza per recipient, our own stanzas, MAC      (header.rs, stanza.rs, x25519.rs)
//! nonce    16 bytes                                                          (stream.rs)
//! payload  chunks of 64 KiB, each with a 16-byte tag; the last is marked     (stream.rs)
//! ```
//!
//! Plain text leaves it only after authentication, chunk by chunk. It never seals to nobody, never reads passphrase,
//! armored or post-quantum files, never draws its own random bytes, and never shows a secret in `Debug` or in an error.

mod file_key;
mod header;
mod keys;
mod open;
mod reader;
mod seal;
mod stanza;
mod stream;
mod x25519;

#[cfg(test)]
mod damage;
#[cfg(test)]
mod seeded;
#[cfg(test)]
mod stock;
#[cfg(test)]
mod vectors;

pub use file_key::FileKey;
pub use header::{
    Header, HeaderDamage, HeaderFault, MAX_HEADER_BYTES, MAX_STANZAS, header_bytes, parse_header,
};
pub use keys::{Identity, KeyError, Recipient};
pub use open::{OpenError, open, open_with_file_key};
pub use reader::PayloadReader;
pub use seal::{SealError, Sealer, seal};
pub use stanza::{Stanza, StanzaFault};
pub use stream::{
    CHUNK_BYTES, NONCE_BYTES, PayloadDamage, PayloadFault, PayloadKey, TAG_BYTES, plain_bytes, sealed_bytes,
};
