//! ROUND on the command line, and what is said of one that is none.

use muster_coordinator::view::round_name::FindError;

use crate::exit::Exit;
use crate::failure::Failure;

pub(crate) use muster_coordinator::view::round_name::RoundName;

impl From<FindError> for Failure {
    fn from(error: FindError) -> Self {
        match &error {
            FindError::NoneYet => Self::new(Exit::Failed, error.to_string())
                .next("start one: muster start --wait, or muster once DIR"),
            FindError::Unknown { .. } => {
                Self::new(Exit::Usage, error.to_string()).next("muster rounds lists them")
            }
            FindError::Several { .. } => {
                Self::usage(error.to_string()).next("write more of it, or the round's number")
            }
        }
    }
}
