//! Object lists: what a `prune` or `sweep` record names. Plain text, so that `sort`, `comm` and `grep` read them.

use std::collections::BTreeSet;
use std::fmt::Write;

use super::{ListError, bounded};
use crate::layout::{LayoutError, ObjectPath};

/// Longest object list, in bytes: about 1.8 million paths.
pub const MAX_OBJECT_LIST_LEN: usize = 256 * 1024 * 1024;

/// The list of these objects: one path a line, in byte order, each once, every line ended.
///
/// # Errors
/// [`ListError::TooLong`] for more than [`MAX_OBJECT_LIST_LEN`] bytes.
pub fn write_object_list(objects: impl IntoIterator<Item = ObjectPath>) -> Result<Vec<u8>, ListError> {
    let lines: BTreeSet<String> = objects.into_iter().map(|path| path.to_string()).collect();
    let mut text = String::new();
    for line in lines {
        writeln!(text, "{line}").expect("text in memory grows");
    }
    bounded(text.as_bytes(), MAX_OBJECT_LIST_LEN)?;
    Ok(text.into_bytes())
}

/// The objects of a list, in its order.
///
/// # Errors
/// For anything that [`write_object_list`] would not have written.
pub fn parse_object_list(bytes: &[u8]) -> Result<Vec<ObjectPath>, ListError> {
    bounded(bytes, MAX_OBJECT_LIST_LEN)?;
    let mut objects = Vec::new();
    let mut before: &[u8] = b"";
    for (at, line) in bytes.split_inclusive(|byte| *byte == b'\n').enumerate() {
        let number = at + 1;
        let Some((b'\n', text)) = line.split_last() else { return Err(ListError::Order { line: number }) };
        if at > 0 && text <= before {
            return Err(ListError::Order { line: number });
        }
        let path = std::str::from_utf8(text)
            .map_err(|_| LayoutError { path: String::from_utf8_lossy(text).chars().take(200).collect() })
            .and_then(str::parse)
            .map_err(|source| ListError::Line { line: number, source })?;
        objects.push(path);
        before = text;
    }
    Ok(objects)
}

#[cfg(test)]
mod tests {
    use super::{parse_object_list, write_object_list};
    use crate::layout::ObjectPath;
    use crate::lists::ListError;
    use muster_protocol::ids::ObjectId;

    #[test]
    fn lists_are_sorted_and_round_trip() {
        let paths: Vec<_> = (0..100u8).map(|n| ObjectPath::List(ObjectId::of(&[n]))).collect();
        let twice = paths.iter().chain(&paths).cloned();
        let bytes = write_object_list(twice).expect("short");
        let back = parse_object_list(&bytes).expect("parses");
        assert_eq!(back.len(), 100);
        assert!(back.iter().all(|path| paths.contains(path)));
        assert_eq!(write_object_list(back).expect("short"), bytes);
        assert!(parse_object_list(b"").expect("an empty list is one").is_empty());
    }

    #[test]
    fn every_other_text_is_refused() {
        let bytes = write_object_list([1u8, 2].map(|n| ObjectPath::List(ObjectId::of(&[n])))).expect("short");
        let lines: Vec<&[u8]> = bytes.split_inclusive(|byte| *byte == b'\n').collect();
        for bad in
            [[lines[1], lines[0]].concat(), [lines[0], lines[0]].concat(), bytes[..bytes.len() - 1].to_vec()]
        {
            assert!(matches!(parse_object_list(&bad), Err(ListError::Order { .. })));
        }
        for bad in [&b"\n"[..], b"FORMAT\r\n", b"../FORMAT\n", b"\xff\n"] {
            assert!(matches!(parse_object_list(bad), Err(ListError::Line { line: 1, .. })), "{bad:?}");
        }
    }
}
