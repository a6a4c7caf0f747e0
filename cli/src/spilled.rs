//! Private keys in arguments. What stands on a command line is seen by every process of the machine, kept by the shell, and repeated by
//! errors; a reason is even signed into the log for good. So no command takes one, and none repeats it.

use crate::failure::Failure;

/// How an age identity begins, whatever the case (age: Bech32 of both).
const IDENTITY: &str = "AGE-SECRET-KEY-1";
/// How a PEM file of a private key begins.
const PEM: &str = "PRIVATE KEY-----";

/// Refuses arguments of which one holds a private key.
///
/// # Errors
/// Exit 2, naming the argument by its place.
pub(crate) fn refuse(arguments: impl Iterator<Item = std::ffi::OsString>) -> Result<(), Failure> {
    for (place, argument) in arguments.enumerate() {
        if holds_key(&argument.to_string_lossy()) {
            return Err(Failure::usage(format!("argument number {place} holds a private key"))
                .because("What stands on a command line is seen by others: consider that key known, and rotate it.")
                .next("keys come from files: --kit and --root name the folders that they lie in")
                .next("muster key rotate, if it was the fleet's recovery key"));
        }
    }
    Ok(())
}

/// Whether a text holds a private key.
fn holds_key(text: &str) -> bool {
    text.to_ascii_uppercase().contains(IDENTITY) || text.contains(PEM)
}

/// `text` with its private keys left out.
pub(crate) fn without_keys(text: &str) -> String {
    let mut left = String::with_capacity(text.len());
    let upper = text.to_ascii_uppercase();
    let mut at = 0;
    while let Some(found) = upper[at..].find(IDENTITY) {
        left.push_str(&text[at..at + found]);
        left.push_str("AGE-SECRET-KEY-…");
        let key = &text[at + found..];
        at += found + key.find(|c: char| !c.is_ascii_alphanumeric() && c != '-').unwrap_or(key.len());
    }
    left.push_str(&text[at..]);
    left
}

#[cfg(test)]
mod tests {
    use super::{holds_key, refuse, without_keys};

    const KEY: &str = "AGE-SECRET-KEY-1QQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQ";

    #[test]
    fn an_argument_with_a_private_key_is_refused_and_not_repeated() {
        let of = |texts: &[&str]| refuse(texts.iter().map(std::ffi::OsString::from));
        of(&["muster", "hold", "1", "--reason", "audit", "age1qqqq"]).expect("nothing is wrong");
        for text in [KEY, &KEY.to_lowercase(), &format!("--reason={KEY}"), "-----BEGIN PRIVATE KEY-----"] {
            let failure = of(&["muster", "hold", text]).expect_err("refused").to_string();
            assert!(failure.contains("argument number 2") && !holds_key(&failure), "{failure}");
        }
    }

    #[test]
    fn texts_are_cleaned_of_them() {
        let text = format!("ö {KEY}, and \"{}\"", KEY.to_lowercase());
        assert_eq!(without_keys(&text), "ö AGE-SECRET-KEY-…, and \"AGE-SECRET-KEY-…\"");
        assert_eq!(without_keys("nothing"), "nothing");
    }
}
