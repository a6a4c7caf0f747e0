//! Arguments of the commands that enable, disable and look back: `enable`, `disable`, `audit`.

use clap::Args;

use super::{Contact, Reading};
use crate::reason::Reason;

#[derive(Debug, Args)]
pub(crate) struct Enable {
    /// Only test: nothing is changed
    #[arg(long)]
    pub(crate) check: bool,
    #[command(flatten)]
    pub(crate) contact: Contact,
}

#[derive(Debug, Args)]
pub(crate) struct Disable {
    /// Why, for whoever finds it disabled
    #[arg(long, value_name = "TEXT")]
    pub(crate) reason: Option<Reason>,
    /// When it is enabled again by itself: a moment (2026-12-01, 2026-12-01 08:00, of schedule.zone) or a duration (4h)
    #[arg(long, value_name = "TIME|DURATION")]
    pub(crate) until: Option<String>,
    #[command(flatten)]
    pub(crate) contact: Contact,
}

#[derive(Debug, Args)]
pub(crate) struct Audit {
    #[command(flatten)]
    pub(crate) page: Page,
    /// Only records of this kind: config, roster, open, end, …
    #[arg(long, value_name = "KIND")]
    pub(crate) kind: Option<String>,
    #[command(flatten)]
    pub(crate) reading: Reading,
}

/// Which part of the log.
#[derive(Debug, Clone, Default, Args)]
pub(crate) struct Page {
    /// Nothing older: a moment (2026-12-01, UTC) or a duration (7d)
    #[arg(long, value_name = "TIME|DURATION")]
    pub(crate) since: Option<String>,
    /// How many, newest first; 0 for all
    #[arg(long, value_name = "N", default_value_t = 50)]
    pub(crate) limit: usize,
    /// Only records before this number: the next page
    #[arg(long, value_name = "RECORD")]
    pub(crate) before: Option<u64>,
}
