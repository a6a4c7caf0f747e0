//! Whether the share will be full soon (SHARE-06).

use crate::alert::{About, Book, Code, Finding, Part};
use crate::room::{Basis, Outlook};
use crate::time::UnixMillis;
use crate::units::{counted, format_size};

const SHARE: About = About::Part(Part::Share);

/// Raises SHARE-06 while the share is full in less than `least_days`, or the coming rounds need more than is free. Closes it when
/// there is a quarter more time, and a tenth more room, than would raise it: what is told is not taken back by the next look. True
/// if anything changed.
pub fn judge_room(book: &mut Book, outlook: &Outlook, least_days: u64, now: UnixMillis) -> bool {
    let before = book.clone();
    let free = format_size(outlook.free_bytes);
    let soon = outlook.days_left.filter(|days| *days < least_days);
    if let Some(days) = soon {
        let by = match outlook.basis {
            Basis::Looks => "as free space went of late",
            Basis::Rounds | Basis::Nothing => "by what the newest rounds added",
        };
        let cause =
            format!("{free} free, full in about {} {by}; {least_days} should be left", counted(days, "day"));
        book.raise(Finding::seen(Code::Share06, SHARE, cause), now);
    } else if let Some(need) = outlook.need_bytes.filter(|_| outlook.is_short()) {
        let cause = format!("{free} free, and the coming rounds may need {}", format_size(need));
        book.raise(Finding::seen(Code::Share06, SHARE, cause), now);
    } else {
        let has_time =
            outlook.days_left.is_none_or(|days| days >= least_days.saturating_add(least_days.div_ceil(4)));
        let has_room =
            outlook.need_bytes.is_none_or(|need| outlook.free_bytes >= need.saturating_add(need / 10));
        if has_time && has_room {
            book.mended(Code::Share06, &SHARE, now);
        }
    }
    *book != before
}
