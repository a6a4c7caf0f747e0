//! The shape of a source that is one dump: a root folder with one file in it.

use muster_share::entry::{Entry, Kind};

use super::{Sink, Stopped};

/// Pushes the root folder and begins the file; both take owner and time from `file`, whose path is the dump's name.
pub(crate) fn begin(sink: &mut dyn Sink, file: Entry) -> Result<(), Stopped> {
    sink.entry(root(&file))?;
    sink.begin(file)
}

/// A root folder for a source that has none of its own.
pub(crate) fn root(file: &Entry) -> Entry {
    // Whoever may read the file may enter the folder.
    let mode = 0o700 | (file.mode & 0o044) | ((file.mode & 0o044) >> 2);
    let mut root = Entry::new(Vec::new(), Kind::Directory, mode);
    root.uid = file.uid;
    root.gid = file.gid;
    root.user.clone_from(&file.user);
    root.group.clone_from(&file.group);
    root.mtime_secs = file.mtime_secs;
    root.mtime_nanos = file.mtime_nanos;
    root
}

#[cfg(test)]
mod tests {
    use super::root;
    use muster_share::entry::{Entry, Kind};

    #[test]
    fn the_root_is_as_open_as_the_file() {
        for (file, folder) in [(0o600, 0o700), (0o644, 0o755), (0o640, 0o750), (0o4711, 0o700)] {
            assert_eq!(root(&Entry::new(b"f".to_vec(), Kind::File, file)).mode, folder, "{file:o}");
        }
    }
}
