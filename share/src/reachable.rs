//! Private keys that lie where they should not (KEY-02): recovery and root keys below a folder of a fleet's machine.
//!
//! Looks by content, so that a copy under another name is found as well. Must never print or keep what it reads.

use std::path::{Path, PathBuf};

use muster_protocol::ids::KeyId;
use muster_protocol::pem;
use zeroize::Zeroizing;

/// Longest file that is looked into, in bytes: longer than any key file.
const MAX_LEN: u64 = 64 * 1024;
/// Folders within folders.
const MAX_DEPTH: usize = 4;
/// Most things that are looked at: a fleet's folder has far fewer, and a wrong one must not take for ever.
const MAX_LOOKED: usize = 10_000;
/// How every age identity begins, alone in a file or within a text.
const IDENTITY: &str = "AGE-SECRET-KEY-1";
/// The ending of an agent's own age identity, which opens no data.
const SEALING: &str = "sealing";

/// Files at or below `folder` that hold the private key of `root`, or an age identity that is not an agent's own sealing
/// key. What cannot be read is passed over: nobody else reads it from here either.
#[must_use]
pub fn private_keys_below(folder: &Path, root: &KeyId) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![(folder.to_owned(), 0)];
    let mut looked = 0;
    while let Some((folder, depth)) = folders.pop() {
        for entry in std::fs::read_dir(&folder).into_iter().flatten().flatten() {
            looked += 1;
            if looked > MAX_LOOKED {
                return found;
            }
            let path = entry.path();
            // Links are not followed: what they lead to lies elsewhere.
            match entry.metadata() {
                Ok(meta) if meta.is_dir() && depth < MAX_DEPTH => folders.push((path, depth + 1)),
                Ok(meta) if meta.is_file() && meta.len() <= MAX_LEN && holds_key(&path, root) => {
                    found.push(path)
                }
                Ok(_) | Err(_) => {}
            }
        }
    }
    found.sort();
    found
}

fn holds_key(path: &Path, root: &KeyId) -> bool {
    let Ok(text) = std::fs::read_to_string(path).map(Zeroizing::new) else { return false };
    if pem::signing_key_from_pem(&text).is_ok_and(|key| key.key_id() == *root) {
        return true;
    }
    path.extension().is_none_or(|ending| ending != SEALING) && text.contains(IDENTITY)
}

#[cfg(test)]
mod tests {
    use super::private_keys_below;
    use crate::entropy::OsEntropy;
    use muster_protocol::age::Identity;
    use muster_protocol::envelope::Signer;
    use muster_protocol::pem::signing_key_to_pem;

    #[test]
    fn copies_are_found_by_what_they_hold() {
        let folder = tempfile::TempDir::new().expect("a folder");
        let (root, other) = (Signer::from_seed(&[1; 32]), Signer::from_seed(&[2; 32]));
        let identity = Identity::generate(&mut OsEntropy).to_file_text("now");
        std::fs::create_dir_all(folder.path().join("a/b")).expect("folders");
        let write = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).expect("written");
        write("keys.sealing", &identity);
        write("coordinator.key", &signing_key_to_pem(&other));
        write("agent.toml", "[agent]\n");
        assert!(private_keys_below(folder.path(), &root.key_id()).is_empty());
        write("a/b/notes.txt", &identity);
        write("a/old", &signing_key_to_pem(&root));
        let found = private_keys_below(folder.path(), &root.key_id());
        assert_eq!(found, [folder.path().join("a/b/notes.txt"), folder.path().join("a/old")]);
    }
}
