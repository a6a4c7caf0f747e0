//! Which servers are good enough. Older ones lack fixes that Muster relies on, among them that deny rules hold.

/// The versions that are accepted, in words.
pub const OLDEST_SERVER: &str = "2.12.12 or newer of 2.12, or 2.14.3 or newer";

/// Whether a server of this version may be used; a version that cannot be read may not.
pub(crate) fn is_accepted(version: &str) -> bool {
    let mut numbers = version.split(['-', '+']).next().unwrap_or_default().split('.').map(str::parse::<u32>);
    let (Some(Ok(major)), Some(Ok(minor)), Some(Ok(patch)), None) =
        (numbers.next(), numbers.next(), numbers.next(), numbers.next())
    else {
        return false;
    };
    match (major, minor) {
        (2, 12) => patch >= 12,
        (2, 14) => patch >= 3,
        // 2.13 was only ever a preview, older than the fixes in 2.12.12.
        (2, minor) => minor > 14,
        (major, _) => major > 2,
    }
}

#[cfg(test)]
mod tests {
    use super::is_accepted;

    #[test]
    fn versions_with_the_fixes_are_accepted() {
        for version in
            ["2.12.12", "2.12.13", "2.14.3", "2.15.0", "2.15.1", "2.15.1-beta.1", "2.16.0", "3.0.0"]
        {
            assert!(is_accepted(version), "{version}");
        }
        for version in [
            "2.9.10", "2.11.99", "2.12.11", "2.13.0", "2.14.0", "2.14.2", "1.4.1", "", "2.15", "2.15.x",
            "2.15.1.1",
        ] {
            assert!(!is_accepted(version), "{version}");
        }
    }
}
