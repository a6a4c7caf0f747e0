//! Real servers of shares, of mail and of telemetry, for tests: each on a free port of loopback, in a folder of its own, and gone with its value.
//!
//! ```text
//! Samba       smb://      smbd of the system
//! Domain      smb://      samba of the system, as a domain controller
//! SeaweedFs   s3://       weed, from MUSTER_SERVERS
//! RcloneS3    s3://       rclone, from MUSTER_SERVERS: overwrites on conditional creates
//! Azurite     azblob://   azurite-blob, from MUSTER_SERVERS, with node
//! Mount       folders     btrfs with a quota, NTFS that ignores case; below any of the servers, too
//! MailServer  smtp        aiosmtpd, from MUSTER_SERVERS, with python3
//! Rotel       OTLP        rotel, from MUSTER_SERVERS
//! Prometheus  its API     prometheus and promtool, from MUSTER_SERVERS
//! ```
//!
//! Tests that need one are ignored by default; `./x test --servers` installs the servers and runs them. A server that is
//! missing then fails its tests: nothing is skipped.

mod azurite;
mod domain;
mod mail;
mod mount;
mod process;
mod prometheus;
mod rclone;
mod rotel;
mod samba;
mod seaweed;

pub use azurite::Azurite;
pub use domain::Domain;
pub use mail::{MailMode, MailServer};
pub use mount::Mount;
pub use prometheus::{Prometheus, promtool};
pub use rclone::RcloneS3;
pub use rotel::Rotel;
pub use samba::Samba;
pub use seaweed::SeaweedFs;
