//! The service `secrets`: what a command prints. The command is this executable with a hidden option, and nothing that
//! it prints is secret: the text is made up, the same each time.

use std::fmt::Write as _;
use std::io::{self, Write as _};
use std::path::Path;

use crate::exit::Exit;
use crate::failure::{Failure, Outcome};

/// Lines, of 64 bytes each: about 3 MiB.
const LINES: u64 = 50_000;

/// Writes the text to standard output. Unlike screens, a dump whose reader went away has failed.
pub(super) fn print() -> Outcome {
    let written = io::stdout().lock().write_all(text().as_bytes());
    written.map_err(|error| {
        Failure::new(Exit::Failed, "the dump could not be written").because(error.to_string())
    })?;
    Ok(Exit::Done)
}

/// The text.
pub(super) fn text() -> String {
    let mut text = String::new();
    for number in 1..=LINES {
        let (high, low) = (scrambled(2 * number), scrambled(2 * number + 1));
        writeln!(text, "made-up secret {number:07} = {high:016x}{low:016x}")
            .expect("a string takes every text");
    }
    text
}

/// The first line, without its end.
pub(super) fn first_line() -> String {
    text().lines().next().unwrap_or_default().to_owned()
}

/// # Errors
/// When the recovered dump is not this text.
pub(super) fn compare(recovered: &Path) -> Result<(), String> {
    match std::fs::read(recovered) {
        Ok(bytes) if bytes == text().as_bytes() => Ok(()),
        Ok(bytes) => Err(format!(
            "{} has {} bytes that are not the command's output",
            recovered.display(),
            bytes.len()
        )),
        Err(error) => Err(format!("{}: {error}", recovered.display())),
    }
}

/// SplitMix64's output function (Steele, Lea, Flood 2014): numbers that look random and are the same everywhere.
pub(super) fn scrambled(number: u64) -> u64 {
    let mut z = number.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::{compare, first_line, text};

    #[test]
    fn the_dump_is_a_few_mebibytes_and_always_the_same() {
        let text = text();
        assert!((2 << 20..4 << 20).contains(&text.len()), "{}", text.len());
        assert_eq!(text, super::text());
        assert!(first_line().starts_with("made-up secret 0000001 = "));
    }

    #[test]
    fn one_wrong_byte_is_found() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("output");
        let mut bytes = text().into_bytes();
        std::fs::write(&file, &bytes).expect("written");
        assert_eq!(compare(&file), Ok(()));
        bytes[1_000_000] ^= 1;
        std::fs::write(&file, &bytes).expect("written");
        assert!(compare(&file).is_err());
        assert!(compare(&folder.path().join("absent")).is_err());
    }
}
