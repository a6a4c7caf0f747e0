//! File systems of their own, each in an image of its own, gone with its value. Need root.

use std::fs::{self, File};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

use crate::process::run;

/// Length of an image; it is sparse.
const IMAGE: u64 = 512 << 20;

/// A mounted file system that everybody may write to.
#[derive(Debug)]
pub struct Mount {
    at: PathBuf,
    // Behind the mount, which uses it.
    _image: TempDir,
}

impl Mount {
    /// A btrfs with so much quota, on a folder that is there. The system tells more room than that.
    ///
    /// # Panics
    /// When it cannot be made or mounted.
    #[must_use]
    pub fn with_quota(at: &Path, mib: u32) -> Self {
        let this = Self::new(at, |image| {
            run(Command::new("mkfs.btrfs").args(["--quiet", "--metadata", "single"]).arg(image));
            run(Command::new("mount").args(["-o", "loop"]).arg(image).arg(at));
        });
        run(Command::new("btrfs").args(["quota", "enable"]).arg(at));
        this.set_quota(mib);
        this
    }

    /// Gives it another quota.
    ///
    /// # Panics
    /// When it has none.
    pub fn set_quota(&self, mib: u32) {
        let limit = format!("{mib}M");
        run(Command::new("btrfs").args(["qgroup", "limit", &limit, "0/5"]).arg(&self.at));
    }

    /// An NTFS for which `FORMAT` and `format` are one name, and that lists it as `format`.
    ///
    /// # Panics
    /// When it cannot be made or mounted.
    #[must_use]
    pub fn ignoring_case(at: &Path) -> Self {
        Self::new(at, |image| {
            run(Command::new("mkntfs").args(["--quiet", "--force", "--fast"]).arg(image));
            run(Command::new("lowntfs-3g").arg(image).arg(at).args(["-o", "ignore_case"]));
        })
    }

    fn new(at: &Path, mount: impl FnOnce(&Path)) -> Self {
        let folder = TempDir::new().expect("a folder");
        let image = folder.path().join("image");
        File::create(&image).and_then(|file| file.set_len(IMAGE)).expect("an image");
        mount(&image);
        let this = Self { at: at.to_owned(), _image: folder };
        fs::set_permissions(at, fs::Permissions::from_mode(0o777)).expect("permissions");
        this
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        // Lazily: a server below it may still be there.
        let _ = Command::new("umount").arg("--lazy").arg(&self.at).status();
    }
}
