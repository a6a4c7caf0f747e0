//! What the demo says: a numbered line for what happens, an arrow for its proof, a plain one for a new word.

use crate::screen;

/// What happens now.
pub(super) fn step(number: u32, what: &str) {
    screen::line(format!("{number}  {what}"));
}

/// What was found true.
pub(super) fn proof(what: &str) {
    screen::line(format!("   → {what}"));
}

/// What a word of Muster means.
pub(super) fn word(what: &str) {
    screen::line(format!("     {what}"));
}

/// A number with its noun, in groups of three digits: `21 038 files`, `1 pack`.
pub(super) fn count(number: u64, one: &str, many: &str) -> String {
    format!("{} {}", grouped(number), if number == 1 { one } else { many })
}

fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() * 4 / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(' ');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::count;

    #[test]
    fn numbers_are_grouped_by_thousands() {
        assert_eq!(count(0, "file", "files"), "0 files");
        assert_eq!(count(1, "file", "files"), "1 file");
        assert_eq!(count(999, "file", "files"), "999 files");
        assert_eq!(count(21_038, "file", "files"), "21 038 files");
        assert_eq!(count(1_204_331, "file", "files"), "1 204 331 files");
    }
}
