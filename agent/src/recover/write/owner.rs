//! Whose the recovered things are: by name where this machine knows the name, else by number.

use std::collections::HashMap;
use std::fs;

use muster_share::entry::Entry;

/// This machine's users and groups by name, as passwd(5) and group(5) have them. Directory services are not asked: on
/// the worst day they may be what is recovered.
#[derive(Debug, Default)]
pub(crate) struct Owners {
    users: HashMap<String, u32>,
    groups: HashMap<String, u32>,
}

impl Owners {
    /// Those of this machine.
    pub(crate) fn load() -> Self {
        // A machine without these files knows no names.
        let read = |path| fs::read(path).map(|bytes| parse(&bytes)).unwrap_or_default();
        Self { users: read("/etc/passwd"), groups: read("/etc/group") }
    }

    /// Nobody: owners go by number.
    pub(crate) fn by_number() -> Self {
        Self::default()
    }

    /// Puts this machine's numbers in place of the entry's, and drops the names, which have served.
    pub(crate) fn resolve(&self, entry: &mut Entry) {
        let known = |names: &HashMap<String, u32>, name: Option<String>| names.get(&name?).copied();
        entry.uid = known(&self.users, entry.user.take()).unwrap_or(entry.uid);
        entry.gid = known(&self.groups, entry.group.take()).unwrap_or(entry.gid);
    }
}

/// `name:password:number:…` in both files; the first line of a name counts.
fn parse(bytes: &[u8]) -> HashMap<String, u32> {
    let mut numbers = HashMap::new();
    for line in String::from_utf8_lossy(bytes).lines() {
        let mut fields = line.split(':');
        if let (Some(name), Some(_), Some(Ok(number))) =
            (fields.next(), fields.next(), fields.next().map(str::parse::<u32>))
        {
            numbers.entry(name.to_owned()).or_insert(number);
        }
    }
    numbers
}

#[cfg(test)]
mod tests {
    use super::{Owners, parse};
    use muster_share::entry::{Entry, Kind};

    #[test]
    fn a_known_name_goes_before_the_number() {
        let owners = Owners {
            users: parse(b"root:x:0:0::/:\norders:x:1234:1::/:\norders:x:9:1::/:\nbroken\nx:y:z\n"),
            groups: parse(b"staff:x:50:\n"),
        };
        let entry = |user: &str, group: &str| Entry {
            uid: 7,
            gid: 8,
            user: Some(user.to_owned()),
            group: Some(group.to_owned()),
            ..Entry::new(b"a".to_vec(), Kind::File, 0o644)
        };
        for (mut entry, want) in [
            (entry("orders", "staff"), (1234, 50)),
            (entry("nobody-here", "staff"), (7, 50)),
            (entry("root", "x"), (0, 8)),
        ] {
            owners.resolve(&mut entry);
            assert_eq!((entry.uid, entry.gid), want);
            assert_eq!((entry.user, entry.group), (None, None));
        }
        let mut unnamed = Entry { uid: 7, ..Entry::new(b"a".to_vec(), Kind::File, 0) };
        owners.resolve(&mut unnamed);
        assert_eq!(unnamed.uid, 7);
        let mut forced = entry("orders", "staff");
        Owners::by_number().resolve(&mut forced);
        assert_eq!((forced.uid, forced.gid), (7, 8));
    }
}
