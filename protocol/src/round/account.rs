//! The account of a round: what goes into its manifest.

use crate::alert::Code;
use crate::document::{Absentee, CutAccount, ManifestSlice};
use crate::log::Outcome;
use crate::round::machine::Machine;
use crate::round::member::MemberPhase;

impl Machine {
    /// Complete when every service gave a slice, or is excused.
    pub(super) fn outcome(&self) -> Outcome {
        let fine =
            self.members.values().all(|member| member.phase.slice().is_some() || member.excuse().is_some());
        if fine { Outcome::Complete } else { Outcome::Partial }
    }

    /// Slices and absentees, each sorted by service. Who was still at work is absent, too.
    pub(super) fn account(&self) -> (Vec<ManifestSlice>, Vec<Absentee>) {
        let (mut slices, mut absent) = (Vec::new(), Vec::new());
        for (service, member) in &self.members {
            match &member.phase {
                MemberPhase::Stored(slice) => slices.push(slice.as_ref().clone()),
                MemberPhase::Absent(failure) => {
                    absent.push(member.absentee(service, failure.code, failure.reason.clone()));
                }
                MemberPhase::Queued
                | MemberPhase::Waiting
                | MemberPhase::Working
                | MemberPhase::Holding
                | MemberPhase::Checking { .. }
                | MemberPhase::BackingOff { .. } => {
                    let reason = format!("the round ended while it was {}", member.word());
                    absent.push(member.absentee(service, Code::Round01, reason));
                }
            }
        }
        (slices, absent)
    }

    /// What became of the cut, if there was to be one.
    pub(super) fn cut_account(&self) -> Option<CutAccount> {
        let services = self.members.iter().map(|(service, member)| {
            (service, member.excuse().is_none(), member.phase.slice().map(|slice| slice.cut))
        });
        self.cut.as_ref().map(|cut| cut.account(services))
    }
}
