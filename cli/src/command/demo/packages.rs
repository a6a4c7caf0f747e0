//! The service `packages`: a copy of a part of /usr/share, because the demo changes it.
//!
//! Of each folder beneath it a bounded part is taken, in the order of names, so that it is a mix of everything.

use std::ffi::OsString;
use std::fs::{self, File, FileTimes};
use std::io::{self, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use super::halt::Halt;
use crate::exit::Exit;
use crate::failure::Failure;

/// How much is taken.
#[derive(Debug, Clone, Copy)]
pub(super) struct Bounds {
    /// Files in all.
    pub(super) files: u64,
    /// Bytes in all.
    pub(super) bytes: u64,
    /// Files of one folder of the uppermost level.
    pub(super) files_of_one: u64,
    /// Bytes of one folder of the uppermost level.
    pub(super) bytes_of_one: u64,
}

/// 128 MiB in at most 12,000 files: enough to be real, little enough for a slow disk.
pub(super) const BOUNDS: Bounds =
    Bounds { files: 12_000, bytes: 128 << 20, files_of_one: 3_000, bytes_of_one: 32 << 20 };

/// One file of so many is changed.
const CHANGED_OF: usize = 100;

/// The copy.
#[derive(Debug, Clone, Default)]
pub(super) struct Packages {
    files: Vec<PathBuf>,
    /// Bytes of all files.
    pub(super) bytes: u64,
    /// What could not be read, or is neither file, folder nor link.
    pub(super) left_out: u64,
}

impl Packages {
    /// Copies a part of `from` to the new folder `to`.
    pub(super) fn copy(from: &Path, to: &Path, bounds: Bounds, halt: &Halt) -> Result<Self, Failure> {
        let mut copy = Copy { done: Self::default(), halt, files_left: 0, bytes_left: 0 };
        fs::create_dir_all(to).map_err(|error| failure(to, &error))?;
        for name in names(from).unwrap_or_default() {
            copy.files_left = bounds.files.saturating_sub(copy.done.count()).min(bounds.files_of_one);
            copy.bytes_left = bounds.bytes.saturating_sub(copy.done.bytes).min(bounds.bytes_of_one);
            copy.one(&from.join(&name), &to.join(&name))?;
        }
        Ok(copy.done)
    }

    /// How many files there are.
    pub(super) fn count(&self) -> u64 {
        self.files.len() as u64
    }

    /// Adds a line to one file of a hundred, at least to one; returns how many.
    pub(super) fn change(&self) -> Result<u64, Failure> {
        let mut changed = 0;
        for path in self.files.iter().step_by(CHANGED_OF) {
            let change = || -> io::Result<()> {
                let mode = fs::metadata(path)?.permissions().mode();
                fs::set_permissions(path, fs::Permissions::from_mode(mode | 0o200))?;
                File::options().append(true).open(path)?.write_all(b"a line of the demo\n")
            };
            change().map_err(|error| failure(path, &error))?;
            changed += 1;
        }
        Ok(changed)
    }
}

struct Copy<'a> {
    done: Packages,
    halt: &'a Halt,
    files_left: u64,
    bytes_left: u64,
}

impl Copy<'_> {
    fn one(&mut self, from: &Path, to: &Path) -> Result<(), Failure> {
        self.halt.check()?;
        let Ok(metadata) = fs::symlink_metadata(from) else {
            self.done.left_out += 1;
            return Ok(());
        };
        let kind = metadata.file_type();
        if kind.is_dir() {
            let Ok(names) = names(from) else {
                self.done.left_out += 1;
                return Ok(());
            };
            fs::create_dir(to).map_err(|error| failure(to, &error))?;
            for name in names {
                if self.files_left == 0 {
                    break;
                }
                self.one(&from.join(&name), &to.join(&name))?;
            }
        } else if kind.is_symlink() {
            if let Ok(target) = fs::read_link(from) {
                std::os::unix::fs::symlink(target, to).map_err(|error| failure(to, &error))?;
            }
        } else if !kind.is_file() {
            self.done.left_out += 1;
        } else if self.files_left > 0 && metadata.len() <= self.bytes_left {
            let Ok(mut source) = File::open(from) else {
                self.done.left_out += 1;
                return Ok(());
            };
            let copy = |source: &mut File| -> io::Result<u64> {
                let mut target = File::create_new(to)?;
                let bytes = io::copy(source, &mut target)?;
                target.set_permissions(fs::Permissions::from_mode(metadata.permissions().mode() & 0o777))?;
                target.set_times(FileTimes::new().set_modified(metadata.modified()?))?;
                Ok(bytes)
            };
            let bytes = copy(&mut source).map_err(|error| failure(to, &error))?;
            self.done.files.push(to.to_owned());
            self.done.bytes += bytes;
            self.files_left -= 1;
            self.bytes_left = self.bytes_left.saturating_sub(bytes);
        }
        Ok(())
    }
}

fn names(folder: &Path) -> io::Result<Vec<OsString>> {
    let mut names: Vec<_> =
        fs::read_dir(folder)?.map(|entry| Ok(entry?.file_name())).collect::<io::Result<_>>()?;
    names.sort();
    Ok(names)
}

fn failure(path: &Path, error: &io::Error) -> Failure {
    Failure::new(Exit::Failed, format!("{} cannot be written", path.display())).because(error.to_string())
}

#[cfg(test)]
mod tests {
    use super::{Bounds, Packages};
    use crate::command::demo::halt::Halt;
    use std::fs;

    #[test]
    fn a_bounded_mix_is_copied_and_one_of_a_hundred_changes() {
        let folder = tempfile::tempdir().expect("a folder");
        let (from, to) = (folder.path().join("from"), folder.path().join("to"));
        for top in ["a", "b"] {
            fs::create_dir_all(from.join(top).join("sub")).expect("a folder");
            for number in 0..150 {
                fs::write(from.join(top).join("sub").join(format!("{number:03}")), "ten bytes\n")
                    .expect("a file");
            }
        }
        std::os::unix::fs::symlink("a/sub", from.join("link")).expect("a link");
        let bounds = Bounds { files: 180, bytes: 1 << 20, files_of_one: 120, bytes_of_one: 1 << 20 };
        let packages = Packages::copy(&from, &to, bounds, &Halt::default()).expect("copied");
        assert_eq!((packages.count(), packages.bytes, packages.left_out), (180, 1_800, 0));
        assert_eq!(fs::read_dir(to.join("a/sub")).expect("listed").count(), 120);
        assert_eq!(fs::read_link(to.join("link")).expect("a link"), std::path::Path::new("a/sub"));
        let modified =
            |path: &std::path::Path| fs::metadata(path).expect("there").modified().expect("a time");
        assert_eq!(modified(&from.join("a/sub/007")), modified(&to.join("a/sub/007")));
        assert_eq!(packages.change().expect("changed"), 2);
        assert_eq!(fs::read(to.join("a/sub/000")).expect("read"), b"ten bytes\na line of the demo\n");
        assert_eq!(fs::read(to.join("a/sub/001")).expect("read"), b"ten bytes\n");

        let halt = Halt::default();
        halt.set();
        let stopped = Packages::copy(&from, &folder.path().join("stopped"), bounds, &halt);
        assert!(stopped.is_err());
    }
}
