//! Reasons short enough for a message: what failed stands at their beginning, what a program said last at their end.

use muster_protocol::message::MAX_REASON_LEN;

/// Bytes of the beginning that are kept.
const BEGINNING: usize = 300;

/// The text, without its middle if it is longer than a message carries. The agent's own log has all of it.
pub(crate) fn brief(text: &str) -> String {
    if text.len() <= MAX_REASON_LEN {
        return text.to_owned();
    }
    let beginning = text.floor_char_boundary(BEGINNING);
    let end = text.ceil_char_boundary(text.len() - (MAX_REASON_LEN - BEGINNING - ELLIPSIS.len()));
    format!("{}{ELLIPSIS}{}", &text[..beginning], &text[end..])
}

const ELLIPSIS: &str = " … ";

#[cfg(test)]
mod tests {
    use super::{MAX_REASON_LEN, brief};

    #[test]
    fn beginning_and_end_are_kept() {
        assert_eq!(brief("short"), "short");
        for filler in ["x", "ü"] {
            let text = format!("the hook failed: {}no lock", filler.repeat(5_000));
            let told = brief(&text);
            assert!(told.starts_with("the hook failed: ") && told.ends_with("no lock"), "{told}");
            assert!(told.len() <= MAX_REASON_LEN && told.len() > MAX_REASON_LEN - 8, "{}", told.len());
        }
    }
}
