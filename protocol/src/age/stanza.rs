//! One stanza of the header: its argument line and its body (specification, "Recipient stanza").
//!
//! Reads only the canonical form, and writes nothing else: a body whose base64 fills its last line is followed by an
//! empty line.

use base64::Engine;
use base64::engine::general_purpose::STANDARD_NO_PAD;

/// Columns of a full body line.
const COLUMNS: usize = 64;
/// Bytes of a full body line.
const LINE_BYTES: usize = 48;

/// One stanza: `-> KIND ARG…` and a body.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stanza {
    /// The first argument, such as `X25519`.
    pub kind: String,
    /// The further arguments, each of one or more visible ASCII characters.
    pub args: Vec<String>,
    /// The body, any bytes.
    pub body: Vec<u8>,
}

/// Why a stanza cannot be written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum StanzaFault {
    /// Its kind or an argument is empty or holds something other than visible ASCII.
    #[error("its kind and arguments must be visible ASCII characters, and not empty")]
    Argument,
    /// Its kind is one that only recipients may write.
    #[error("its kind is reserved for recipients")]
    Reserved,
}

impl Stanza {
    /// Whether a caller's own stanza may be written.
    pub(super) fn check(&self) -> Result<(), StanzaFault> {
        if !std::iter::once(&self.kind).chain(&self.args).all(|argument| is_argument(argument.as_bytes())) {
            return Err(StanzaFault::Argument);
        }
        // A reader takes these for recipients: a second meaning would make it refuse the file.
        if ["X25519", "scrypt", "mlkem768x25519"].contains(&self.kind.as_str())
            || self.kind.starts_with("ssh-")
        {
            return Err(StanzaFault::Reserved);
        }
        Ok(())
    }

    /// Length of the written form.
    pub(super) fn encoded_bytes(&self) -> usize {
        let arguments: usize = self.args.iter().map(|argument| 1 + argument.len()).sum();
        let columns = (self.body.len() * 4).div_ceil(3);
        "-> ".len() + self.kind.len() + arguments + 1 + columns + columns / COLUMNS + 1
    }

    /// Appends the written form.
    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(b"-> ");
        out.extend_from_slice(self.kind.as_bytes());
        for argument in &self.args {
            out.push(b' ');
            out.extend_from_slice(argument.as_bytes());
        }
        out.push(b'\n');
        for line in self.body.chunks(LINE_BYTES) {
            out.extend_from_slice(base64(line).as_bytes());
            out.push(b'\n');
        }
        // The last line must be shorter than the others, so a full one, or none, is followed by an empty one.
        if self.body.len().is_multiple_of(LINE_BYTES) {
            out.push(b'\n');
        }
    }
}

/// The kind and arguments of a line after its `-> `; `None` when it is not canonical.
pub(super) fn parse_arguments(line: &[u8]) -> Option<(String, Vec<String>)> {
    let mut arguments = line
        .split(|byte| *byte == b' ')
        .map(|argument| is_argument(argument).then(|| String::from_utf8_lossy(argument).into_owned()));
    let kind = arguments.next()??;
    let rest: Option<Vec<String>> = arguments.collect();
    Some((kind, rest?))
}

/// Appends one body line to `body`, and tells whether it was the last; `None` when it is not canonical.
pub(super) fn parse_body_line(line: &[u8], body: &mut Vec<u8>) -> Option<bool> {
    if line.len() > COLUMNS {
        return None;
    }
    body.extend_from_slice(&unbase64(line)?);
    Some(line.len() < COLUMNS)
}

/// Standard base64 without padding.
pub(super) fn base64(bytes: &[u8]) -> String {
    STANDARD_NO_PAD.encode(bytes)
}

/// Canonical standard base64 without padding: other characters, padding and stray trailing bits give `None`.
pub(super) fn unbase64(text: &[u8]) -> Option<Vec<u8>> {
    STANDARD_NO_PAD.decode(text).ok()
}

/// One or more VCHAR (RFC 5234 appendix B.1).
fn is_argument(text: &[u8]) -> bool {
    !text.is_empty() && text.iter().all(u8::is_ascii_graphic)
}

#[cfg(test)]
mod tests {
    use super::{Stanza, StanzaFault, parse_arguments, unbase64};

    fn stanza(kind: &str, args: &[&str], body_bytes: usize) -> Stanza {
        let args = args.iter().map(|arg| (*arg).to_owned()).collect();
        Stanza { kind: kind.to_owned(), args, body: vec![0xa5; body_bytes] }
    }

    #[test]
    fn the_last_body_line_is_always_short() {
        for (body_bytes, lines) in [(0, 1), (1, 1), (47, 1), (48, 2), (49, 2), (95, 2), (96, 3), (97, 3)] {
            let stanza = stanza("kind", &["a", "b"], body_bytes);
            let mut out = Vec::new();
            stanza.encode(&mut out);
            let text = String::from_utf8(out).expect("ASCII");
            assert_eq!(text.len(), stanza.encoded_bytes(), "{body_bytes}");
            assert_eq!(text.matches('\n').count(), 1 + lines, "{body_bytes}: {text:?}");
            let last = text.lines().last().expect("a last line");
            assert!(last.len() < 64, "{body_bytes}: {text:?}");
        }
    }

    #[test]
    fn arguments_are_visible_characters_between_single_spaces() {
        assert_eq!(parse_arguments(b"a ~!"), Some(("a".to_owned(), vec!["~!".to_owned()])));
        for bad in ["", " a", "a ", "a  b", "a\tb", "a\x7f", "a\u{e9}", "a\r"] {
            assert_eq!(parse_arguments(bad.as_bytes()), None, "{bad:?}");
        }
    }

    #[test]
    fn base64_is_canonical() {
        assert_eq!(unbase64(b"AA"), Some(vec![0]));
        for bad in ["AB", "AA==", "A", "A-", "AA\n", "A A"] {
            assert_eq!(unbase64(bad.as_bytes()), None, "{bad:?}");
        }
    }

    #[test]
    fn a_caller_cannot_write_what_readers_refuse() {
        assert_eq!(stanza("muster-context", &["a"], 0).check(), Ok(()));
        for kind in ["X25519", "scrypt", "ssh-ed25519"] {
            assert_eq!(stanza(kind, &[], 0).check(), Err(StanzaFault::Reserved), "{kind}");
        }
        for bad in [stanza("", &[], 0), stanza("a b", &[], 0), stanza("a", &[""], 0), stanza("a", &["\n"], 0)]
        {
            assert_eq!(bad.check(), Err(StanzaFault::Argument), "{bad:?}");
        }
    }
}
