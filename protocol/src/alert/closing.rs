//! When an alert that was seen to be true, and not told by a round, counts as over.
//!
//! What a round said of a service closes with a later verified round that holds its slice, whatever the code: see
//! [`crate::alert::Rounds`].

use std::time::Duration;

use crate::alert::Code;

const DAY: Duration = Duration::from_secs(86_400);

/// When a condition is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Closing {
    /// It can be seen to be mended. An acknowledgement only says that somebody knows.
    Mended,
    /// It was an event: over once it has not happened again for so long, or once somebody acknowledged it.
    Quiet(Duration),
}

impl Code {
    /// When what this code says is over.
    #[must_use]
    pub fn closing(self) -> Closing {
        match self {
            Self::Key03 | Self::Round03 | Self::Coord01 => Closing::Quiet(DAY),
            // Somebody tried: a week is not too long to be told so.
            Self::Sec01 => Closing::Quiet(DAY.saturating_mul(7)),
            Self::Share01
            | Self::Share02
            | Self::Share03
            | Self::Share04
            | Self::Share05
            | Self::Share06
            | Self::Share07
            | Self::Share08
            | Self::Share09
            | Self::Key01
            | Self::Key02
            | Self::Agent01
            | Self::Agent02
            | Self::Agent03
            | Self::Agent04
            | Self::Agent05
            | Self::Agent06
            | Self::Round01
            | Self::Round02
            | Self::Round04
            | Self::Round05
            | Self::Round06
            | Self::Cover01
            | Self::Verify01
            | Self::Verify02
            | Self::Drill01
            | Self::Ret01
            | Self::Bus01
            | Self::Notify01
            | Self::Sched01 => Closing::Mended,
        }
    }
}
