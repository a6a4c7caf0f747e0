//! The packs on the demo's share, as plain files: counted, damaged, moved away. Never deleted.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::{FileExt, PermissionsExt};
use std::path::{Path, PathBuf};

use crate::exit::Exit;
use crate::failure::Failure;

/// Every pack beneath the share, relative to it, with its length in bytes.
pub(super) fn list(share: &Path) -> Result<BTreeMap<PathBuf, u64>, Failure> {
    let mut found = BTreeMap::new();
    for service in entries(&share.join("agents"))? {
        let packs = service.join("packs");
        if !packs.is_dir() {
            continue;
        }
        for prefix in entries(&packs)? {
            for pack in entries(&prefix)? {
                let length = fs::metadata(&pack).map_err(|error| failure(&pack, &error))?.len();
                let name = pack.strip_prefix(share).expect("it was found beneath the share").to_owned();
                found.insert(name, length);
            }
        }
    }
    Ok(found)
}

/// The largest pack of a service.
pub(super) fn largest(packs: &BTreeMap<PathBuf, u64>, service: &str) -> Option<PathBuf> {
    let folder = Path::new("agents").join(service);
    packs
        .iter()
        .filter(|(path, _)| path.starts_with(&folder))
        .max_by_key(|(_, length)| **length)
        .map(|(path, _)| path.clone())
}

/// Flips one bit in the middle of a file, whose length stays.
pub(super) fn flip(path: &Path) -> Result<(), Failure> {
    let flip = || -> io::Result<()> {
        let permissions = fs::metadata(path)?.permissions();
        fs::set_permissions(path, fs::Permissions::from_mode(permissions.mode() | 0o600))?;
        let file = File::options().read(true).write(true).open(path)?;
        let middle = file.metadata()?.len() / 2;
        let mut byte = [0];
        file.read_exact_at(&mut byte, middle)?;
        byte[0] ^= 0x10;
        file.write_all_at(&byte, middle)?;
        fs::set_permissions(path, permissions)
    };
    flip().map_err(|error| failure(path, &error))
}

/// Moves a file into a folder, which is made.
pub(super) fn quarantine(path: &Path, folder: &Path) -> Result<(), Failure> {
    let name = path.file_name().expect("a pack has a name");
    fs::create_dir_all(folder)
        .and_then(|()| fs::rename(path, folder.join(name)))
        .map_err(|error| failure(path, &error))
}

fn entries(folder: &Path) -> Result<Vec<PathBuf>, Failure> {
    let list =
        || -> io::Result<Vec<PathBuf>> { fs::read_dir(folder)?.map(|entry| Ok(entry?.path())).collect() };
    list().map_err(|error| failure(folder, &error))
}

fn failure(path: &Path, error: &io::Error) -> Failure {
    Failure::new(Exit::Failed, format!("{} cannot be used", path.display())).because(error.to_string())
}

#[cfg(test)]
mod tests {
    use super::{flip, largest, list, quarantine};
    use std::fs;
    use std::path::Path;

    #[test]
    fn packs_are_found_damaged_in_one_bit_and_moved_away() {
        let folder = tempfile::tempdir().expect("a folder");
        let share = folder.path().join("share");
        for (service, name, length) in [("a", "01.age", 10), ("a", "02.age", 30), ("b", "03.age", 90)] {
            let packs = share.join("agents").join(service).join("packs/aa");
            fs::create_dir_all(&packs).expect("a folder");
            fs::write(packs.join(name), vec![7; length]).expect("a pack");
        }
        fs::create_dir_all(share.join("agents/c/slices")).expect("a service without packs");
        let packs = list(&share).expect("listed");
        assert_eq!(packs.values().sum::<u64>(), 130);
        let pack = largest(&packs, "a").expect("one");
        assert_eq!(pack, Path::new("agents/a/packs/aa/02.age"));
        let path = share.join(&pack);
        flip(&path).expect("flipped");
        let bytes = fs::read(&path).expect("read");
        assert_eq!((bytes.len(), bytes.iter().filter(|byte| **byte != 7).count()), (30, 1));
        quarantine(&path, &folder.path().join("quarantine")).expect("moved");
        assert!(!path.exists() && folder.path().join("quarantine/02.age").exists());
    }
}
