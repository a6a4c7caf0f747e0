//! The grammar of subjects, filters, queue groups and headers (NATS documentation, "Subject-Based Messaging" and
//! ADR-6), and the matching of filters.

use crate::{BusError, Headers};

/// Longest subject or filter; the server's protocol lines end at 4 KiB.
const LONGEST_BYTES: usize = 512;

/// Accepts a subject that a message can be sent to: tokens without wildcards.
pub(crate) fn check_subject(subject: &str) -> Result<(), BusError> {
    check_filter(subject)?;
    if is_wild(subject) { refuse(subject, "it holds a wildcard") } else { Ok(()) }
}

/// Accepts a filter: tokens separated by dots, `*` and a final `>` allowed as whole tokens.
pub(crate) fn check_filter(filter: &str) -> Result<(), BusError> {
    if filter.len() > LONGEST_BYTES {
        return refuse(filter, "it is too long");
    }
    let mut tokens = filter.split('.').peekable();
    while let Some(token) = tokens.next() {
        if token.is_empty() {
            return refuse(filter, "it has an empty token");
        }
        if token.chars().any(|c| c.is_whitespace() || c.is_control()) {
            return refuse(filter, "it holds white space or control characters");
        }
        if token == ">" && tokens.peek().is_some() {
            return refuse(filter, "'>' is not its last token");
        }
        if token.len() > 1 && token.contains(['*', '>']) {
            return refuse(filter, "a wildcard is not a token of its own");
        }
    }
    Ok(())
}

/// Accepts a queue group's name.
pub(crate) fn check_group(group: &str) -> Result<(), BusError> {
    check_subject(group)
}

/// Accepts headers that cannot break out of their line: names of visible ASCII without colon, values of one line.
pub(crate) fn check_headers(subject: &str, headers: &Headers) -> Result<(), BusError> {
    for (name, value) in headers {
        let named = !name.is_empty() && name.bytes().all(|b| b.is_ascii_graphic() && b != b':');
        if !named || value.contains(['\r', '\n']) {
            return Err(BusError::Header { subject: subject.to_owned(), name: name.clone() });
        }
    }
    Ok(())
}

/// Accepts a payload within the limit.
pub(crate) fn check_size(subject: &str, payload: &[u8], limit_bytes: usize) -> Result<(), BusError> {
    if payload.len() <= limit_bytes {
        return Ok(());
    }
    Err(BusError::TooLarge { subject: subject.to_owned(), payload_bytes: payload.len(), limit_bytes })
}

/// Whether the filter holds a wildcard.
pub(crate) fn is_wild(filter: &str) -> bool {
    filter.split('.').any(|token| token == "*" || token == ">")
}

/// Whether `filter` covers `subject`.
pub(crate) fn matches(filter: &str, subject: &str) -> bool {
    let mut tokens = subject.split('.');
    for wanted in filter.split('.') {
        match (wanted, tokens.next()) {
            (">", Some(_)) => return true,
            ("*", Some(_)) => {}
            (wanted, Some(token)) if wanted == token => {}
            (_, Some(_) | None) => return false,
        }
    }
    tokens.next().is_none()
}

fn refuse(subject: &str, reason: &'static str) -> Result<(), BusError> {
    Err(BusError::Subject { subject: subject.chars().take(64).collect(), reason })
}

#[cfg(test)]
mod tests {
    use super::{check_filter, check_headers, check_subject, matches};

    #[test]
    fn filters_match_by_token() {
        for (filter, subject) in [
            ("a.b", "a.b"),
            ("a.*", "a.b"),
            ("*.b", "a.b"),
            ("a.>", "a.b"),
            ("a.>", "a.b.c"),
            (">", "a"),
            ("*.>", "a.b"),
        ] {
            assert!(matches(filter, subject), "{filter} {subject}");
        }
        for (filter, subject) in [
            ("a.b", "a"),
            ("a", "a.b"),
            ("a.*", "a"),
            ("a.*", "a.b.c"),
            ("a.>", "a"),
            ("a.>", "b.c"),
            ("a.b", "a.bc"),
        ] {
            assert!(!matches(filter, subject), "{filter} {subject}");
        }
    }

    #[test]
    fn malformed_subjects_are_refused() {
        for subject in ["", ".", "a.", ".a", "a..b", "a b", "a\r\nPUB x", "a.*", ">", "a.b*", "\u{85}"] {
            assert!(check_subject(subject).is_err(), "{subject:?}");
        }
        for filter in ["a.>.b", "a*", "a.b>", "", "a.*b.c"] {
            assert!(check_filter(filter).is_err(), "{filter:?}");
        }
        for filter in ["a.*.c", "a.>", ">", "*", "$JS.API.>", "muster.v1.prod.state"] {
            assert!(check_filter(filter).is_ok(), "{filter:?}");
        }
        assert!(check_subject(&"a".repeat(513)).is_err());
    }

    #[test]
    fn headers_cannot_break_the_line() {
        let header = |name: &str, value: &str| vec![(name.to_owned(), value.to_owned())];
        assert!(check_headers("a", &header("traceparent", "00-ab-cd-01")).is_ok());
        for (name, value) in
            [("", "x"), ("a b", "x"), ("a:b", "x"), ("é", "x"), ("a", "x\r\nb: c"), ("a", "\n")]
        {
            assert!(check_headers("a", &header(name, value)).is_err(), "{name:?} {value:?}");
        }
    }
}
