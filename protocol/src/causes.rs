//! An error and what caused it, in one line: for logs, reasons and whatever else has no room for a chain.

use std::error::Error;

/// `error` and its sources, joined by colons.
#[must_use]
pub fn causes(error: &(dyn Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::causes;
    use crate::wire::{WireError, decode};

    #[test]
    fn every_source_is_told_once() {
        let error: WireError = decode::<String>(&[0x01]).expect_err("no text");
        let text = causes(&error);
        assert!(text.starts_with("MessagePack value is not what it should be: "), "{text}");
        assert_eq!(text.matches("MessagePack value").count(), 1);
    }
}
