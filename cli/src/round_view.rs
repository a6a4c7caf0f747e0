//! A round as screens and JSON show it, with the exit code that tells how it ended.

use crate::exit::Exit;

pub(crate) use muster_coordinator::view::HeadView;
pub(crate) use muster_coordinator::view::round::{RoundView, SliceView, TryView};

/// The exit code of a round.
pub(crate) fn exit(view: &RoundView) -> Exit {
    ended(view.state, view.outcome)
}

fn ended(state: &str, outcome: Option<&str>) -> Exit {
    match (state, outcome) {
        ("verified", Some("complete")) => Exit::Done,
        ("verified", Some("partial")) => Exit::Partial,
        // Committed and not verified: its objects were read again and something is wrong with them.
        (_, Some("complete" | "partial")) => Exit::Damaged,
        _ => Exit::Failed,
    }
}

#[cfg(test)]
mod tests {
    use super::ended;
    use crate::exit::Exit;

    #[test]
    fn the_exit_code_tells_how_it_ended() {
        for (state, outcome, exit) in [
            ("verified", Some("complete"), Exit::Done),
            ("verified", Some("partial"), Exit::Partial),
            ("committed", Some("complete"), Exit::Damaged),
            ("failed", Some("failed"), Exit::Failed),
            ("open", None, Exit::Failed),
        ] {
            assert_eq!(ended(state, outcome), exit, "{state}");
        }
    }
}
