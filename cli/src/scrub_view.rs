//! How far the stored objects have been read again, and what of them is in quarantine: as `status` tells people.

use std::time::Duration;

use muster_coordinator::view::scrub::{PassView, ScrubView};
use muster_protocol::units::{format_duration, format_size};

use crate::screen;

/// The lines of a screen.
pub(crate) fn lines(view: &ScrubView) -> Vec<String> {
    let mut lines = vec![format!("SCRUB            {}", line(view))];
    for (service, of) in &view.quarantine {
        let objects = screen::plural(of.objects, "object");
        lines.push(match of.healed_by {
            Some(number) => format!(
                "QUARANTINE       {objects} of {service}: round {number} is whole again; muster verify names the older ones that are damaged"
            ),
            None => format!(
                "QUARANTINE       {objects} of {service}: its rounds are damaged; muster start --services {service} --wait uploads again \
                 what the service still has"
            ),
        });
    }
    lines
}

fn line(view: &ScrubView) -> String {
    let Some(within) = view.within_secs.map(Duration::from_secs) else {
        return "off: stored objects are not read again (muster config set scrub.within 30d)".to_owned();
    };
    let read = |pass: &PassView| {
        let objects = screen::plural(usize::try_from(pass.objects).unwrap_or(usize::MAX), "object");
        format!("{objects}, {}", format_size(pass.bytes))
    };
    let overdue = if view.overdue { "OVERDUE: " } else { "" };
    let each = format_duration(within);
    match (&view.last, &view.current) {
        (Some(last), _) => {
            format!("{overdue}all read again by {}: {}; each object within {each}", last.at, read(last))
        }
        (None, Some(current)) => {
            format!(
                "{overdue}{} read again since {}; each object within {each}",
                read(current),
                current.began
            )
        }
        (None, None) => format!("nothing read again yet; each object within {each}"),
    }
}
