//! MessagePack with named fields, and the checks that run before any parser sees a byte.
//!
//! `rmp-serde` limits depth only on some paths (its issue 381) and other decoders pre-allocate what a length field
//! claims (RUSTSEC-2017-0006), so [`decode`] first walks the bytes once without recursion: nesting is capped and no
//! container may claim more elements than bytes remain.

use serde::{Serialize, de::DeserializeOwned};

/// Deepest nesting of arrays and maps that any of our messages uses, with room.
pub const MAX_DEPTH: usize = 16;

/// Why bytes are not the MessagePack value that was wanted.
#[derive(Debug, thiserror::Error)]
pub enum WireError {
    /// The value ends early, or a length claims more than there is.
    #[error("MessagePack value is cut short at byte {at}")]
    Truncated {
        /// Offset of the element that does not fit.
        at: usize,
    },
    /// Bytes follow the value.
    #[error("{extra} bytes follow the MessagePack value")]
    Trailing {
        /// How many.
        extra: usize,
    },
    /// Arrays and maps nest deeper than [`MAX_DEPTH`].
    #[error("MessagePack value nests deeper than {MAX_DEPTH}")]
    TooDeep,
    /// The reserved byte 0xc1.
    #[error("reserved byte 0xc1 at {at}")]
    Reserved {
        /// Its offset.
        at: usize,
    },
    /// Well-formed, but not of the wanted type.
    #[error("MessagePack value is not what it should be")]
    Type(#[source] rmp_serde::decode::Error),
}

/// `value` as MessagePack with named fields.
///
/// # Panics
/// Never for the types of this crate: they have string keys and known lengths.
#[must_use]
pub fn encode<T: Serialize + ?Sized>(value: &T) -> Vec<u8> {
    rmp_serde::to_vec_named(value).expect("protocol types always encode")
}

/// The one value that `bytes` hold.
///
/// # Errors
/// When the bytes are malformed, too deep, followed by others, or of another type.
pub fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, WireError> {
    check(bytes)?;
    rmp_serde::from_slice(bytes).map_err(WireError::Type)
}

/// Walks one value without recursion or allocation beyond a fixed stack.
fn check(bytes: &[u8]) -> Result<(), WireError> {
    let mut open = [0u64; MAX_DEPTH];
    let mut depth = 0;
    let mut at = 0;
    loop {
        let start = at;
        let take = |at: &mut usize, n: usize| -> Result<u64, WireError> {
            let end = at.checked_add(n).filter(|end| *end <= bytes.len());
            let end = end.ok_or(WireError::Truncated { at: start })?;
            let value = bytes[*at..end].iter().take(8).fold(0u64, |acc, b| acc << 8 | u64::from(*b));
            *at = end;
            Ok(value)
        };
        let head = u8::try_from(take(&mut at, 1)?).unwrap_or(0xc1);
        let (skip, children) = match head {
            0x00..=0x7f | 0xe0..=0xff | 0xc0 | 0xc2 | 0xc3 => (0, 0),
            0x80..=0x8f => (0, u64::from(head & 15) * 2),
            0x90..=0x9f => (0, u64::from(head & 15)),
            0xa0..=0xbf => (u64::from(head & 31), 0),
            0xc4 | 0xd9 => (take(&mut at, 1)?, 0),
            0xc5 | 0xda => (take(&mut at, 2)?, 0),
            0xc6 | 0xdb => (take(&mut at, 4)?, 0),
            0xc7 => (take(&mut at, 1)? + 1, 0),
            0xc8 => (take(&mut at, 2)? + 1, 0),
            0xc9 => (take(&mut at, 4)? + 1, 0),
            0xca | 0xce | 0xd2 => (4, 0),
            0xcb | 0xcf | 0xd3 => (8, 0),
            0xcc | 0xd0 => (1, 0),
            0xcd | 0xd1 => (2, 0),
            0xd4..=0xd8 => ((1 << (head - 0xd4)) + 1, 0),
            0xdc => (0, take(&mut at, 2)?),
            0xdd => (0, take(&mut at, 4)?),
            0xde => (0, take(&mut at, 2)? * 2),
            0xdf => (0, take(&mut at, 4)? * 2),
            0xc1 => return Err(WireError::Reserved { at: start }),
        };
        let left = (bytes.len() - at) as u64;
        if skip > left || children > left {
            return Err(WireError::Truncated { at: start });
        }
        at += usize::try_from(skip).map_err(|_| WireError::Truncated { at: start })?;
        if children > 0 {
            if depth == MAX_DEPTH {
                return Err(WireError::TooDeep);
            }
            open[depth] = children;
            depth += 1;
            continue;
        }
        while depth > 0 {
            open[depth - 1] -= 1;
            if open[depth - 1] > 0 {
                break;
            }
            depth -= 1;
        }
        if depth == 0 {
            let extra = bytes.len() - at;
            return if extra == 0 { Ok(()) } else { Err(WireError::Trailing { extra }) };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{WireError, decode, encode};
    use std::collections::BTreeMap;

    #[test]
    fn values_round_trip() {
        let mut map = BTreeMap::new();
        map.insert("a".to_owned(), vec![1u64, 200, 70_000, u64::MAX]);
        map.insert("b".repeat(300), vec![]);
        assert_eq!(decode::<BTreeMap<String, Vec<u64>>>(&encode(&map)).expect("decodes"), map);
        assert_eq!(
            decode::<(i64, f64, bool, Option<u8>)>(&encode(&(-5i64, 1.5f64, true, None::<u8>))).expect("ok"),
            (-5, 1.5, true, None)
        );
    }

    #[test]
    fn hostile_bytes_are_refused_before_parsing() {
        assert!(matches!(
            decode::<Vec<u8>>(&[0xdd, 0xff, 0xff, 0xff, 0xff]),
            Err(WireError::Truncated { .. })
        ));
        assert!(matches!(decode::<Vec<u8>>(&[0x91; 100]), Err(WireError::TooDeep)));
        assert!(matches!(decode::<u8>(&[1, 2]), Err(WireError::Trailing { extra: 1 })));
        assert!(matches!(decode::<u8>(&[0xc1]), Err(WireError::Reserved { at: 0 })));
        assert!(matches!(decode::<u8>(&[]), Err(WireError::Truncated { at: 0 })));
        assert!(matches!(decode::<String>(&[0x01]), Err(WireError::Type(_))));
    }
}
