//! Real servers of shares, and of mail, for tests: each on a free port of loopback, in a folder of its own, and gone with its value.
//!
//! ```text
//! Samba       smb://      smbd of the system
//! Domain      smb://      samba of the system, as a domain controller
//! SeaweedFs   s3://       weed, from MUSTER_SERVERS
//! RcloneS3    s3://       rclone, from MUSTER_SERVERS: overwrites on conditional creates
//! Azurite     azblob://   azurite-blob, from MUSTER_SERVERS, with node
//! Mount       folders     btrfs with a quota, NTFS that ignores case; below any of the servers, too
//! MailServer  smtp        aiosmtpd, from MUSTER_SERVERS, with python3
//! ```
//!
//! Tests that need one are ignored by default; `./x test --servers` installs the servers and runs them. A server that is
//! missing then fails its tests: nothing is skipped.

mod azurite;
mod domain;
mod mail;
mod mount;
mod process;
mod rclone;
mod samba;
mod seaweed;

pub use azurite::Azurite;
pub use domain::Domain;
pub use mail::{MailMode, MailServer};
pub use mount::Mount;
pub use rclone::RcloneS3;
pub use samba::Samba;
pub use seaweed::SeaweedFs;
