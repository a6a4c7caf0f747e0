//! What was seen is gone by only while it is true; every slice is compared with its source byte for byte.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use super::Fleet;
use crate::state::FILE_NAME;

/// Regular files of the tree, each of several names once, and those of its subfolder once more.
const FILES: u64 = 305 + 300;

async fn fleet() -> Fleet {
    let mut fleet = Fleet::with_tree().await;
    fleet.config.settle = Duration::ZERO;
    fleet
}

fn seen(fleet: &Fleet, source: &str) -> PathBuf {
    fleet.dir.path().join("state/seen").join(format!("{source}.seen"))
}

#[tokio::test(flavor = "multi_thread")]
async fn unchanged_files_are_not_opened() {
    let mut fleet = fleet().await;
    fleet.slice().await;
    assert_eq!(fleet.progress.unchanged(), 0);
    let before = fleet.packs().await.len();
    for _ in 0..2 {
        let slice = fleet.slice().await;
        assert_eq!(fleet.progress.unchanged(), FILES);
        assert_eq!(fleet.progress.source_bytes(), slice.receipt.totals.source_bytes);
        assert_eq!(fleet.packs().await.len(), before, "nor are entries stored again");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_kind_of_change_is_noticed() {
    let mut fleet = fleet().await;
    fleet.slice().await;
    let (file, other) = (fleet.data().join("a/b/77"), fleet.data().join("a/b/78"));
    let times = fs::metadata(&file).expect("there").modified().expect("a time");
    let length = fs::metadata(&file).expect("there").len();
    let put_back = |path: &PathBuf| {
        fs::File::options().write(true).open(path).expect("opens").set_modified(times).expect("set");
    };
    let changes: [(&str, &dyn Fn()); 4] = [
        ("other bytes, of the same length and time", &|| {
            fs::write(&file, super::noise(5, usize::try_from(length).expect("small"))).expect("written");
            put_back(&file);
        }),
        ("another file of the same length and time", &|| {
            fs::write(&other, super::noise(6, usize::try_from(length).expect("small"))).expect("written");
            put_back(&other);
            fs::rename(&other, &file).expect("renamed");
        }),
        ("attributes", &|| xattr::set(&file, "user.colour", b"green").expect("set")),
        ("another name", &|| fs::rename(&file, fleet_name(&file)).expect("renamed")),
    ];
    for (what, change) in changes {
        change();
        fleet.slice().await;
        let unchanged = fleet.progress.unchanged();
        assert!((FILES - 4..FILES - 1).contains(&unchanged), "{what}: {unchanged}");
        fleet.slice().await;
    }
}

fn fleet_name(file: &std::path::Path) -> PathBuf {
    file.with_file_name("new name")
}

#[tokio::test(flavor = "multi_thread")]
async fn young_files_are_read_again() {
    let mut fleet = fleet().await;
    fleet.config.settle = Duration::from_secs(3600);
    for _ in 0..2 {
        fleet.slice().await;
        assert_eq!(fleet.progress.unchanged(), 0);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn damage_only_means_reading_again() {
    let mut fleet = fleet().await;
    fleet.slice().await;
    let path = seen(&fleet, "one");
    let whole = fs::read(&path).expect("kept");
    let mut damaged: Vec<Vec<u8>> = vec![Vec::new(), whole[..10].to_vec(), whole[..whole.len() - 3].to_vec()];
    for at in (0..whole.len()).step_by(whole.len() / 9) {
        let mut bytes = whole.clone();
        bytes[at] ^= 0x40;
        damaged.push(bytes);
    }
    damaged.push([&whole[..], &whole[46..]].concat());
    for bytes in damaged {
        fs::write(&path, bytes).expect("damaged");
        fleet.slice().await;
        assert!(fleet.progress.unchanged() >= 300, "the other source's are whole");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_seen_belongs_to_one_memory_of_packs() {
    let mut fleet = fleet().await;
    fleet.slice().await;
    fs::remove_file(fleet.dir.path().join("state").join(FILE_NAME)).expect("removed");
    fleet.slice().await;
    assert_eq!(fleet.progress.unchanged(), 0, "the numbers of its packs mean other packs now");
    fleet.keyset = 9;
    fleet.slice().await;
    assert_eq!(fleet.progress.unchanged(), 0, "its packs are sealed to other keys");
}

/// A state folder that was put back file by file: pack numbers given since mean other packs.
#[tokio::test(flavor = "multi_thread")]
async fn what_was_seen_is_not_paired_with_an_older_memory_of_packs() {
    let mut fleet = fleet().await;
    fleet.slice().await;
    let memory = fleet.dir.path().join("state").join(FILE_NAME);
    let old = fs::read(&memory).expect("read");
    fs::write(fleet.data().join("a/b/77"), super::noise(7, 3000)).expect("written");
    fleet.slice().await;
    fs::write(&memory, old).expect("put back");
    fs::write(fleet.data().join("a/b/78"), super::noise(8, 3000)).expect("written");
    for _ in 0..2 {
        // Compared with the sources byte for byte.
        fleet.slice().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn files_in_packs_that_are_gone_are_read_again() {
    let mut fleet = fleet().await;
    let first = fleet.slice().await;
    let victim = first.packs.values().map(|(id, _)| *id).next().expect("a pack");
    fleet.refused.insert(victim);
    let second = fleet.slice().await;
    assert!(second.packs.values().all(|(id, _)| *id != victim));
    assert!(fleet.progress.unchanged() < FILES && fleet.progress.unchanged() > 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_folder_that_cannot_be_written_costs_no_slice() {
    let mut fleet = fleet().await;
    fs::write(fleet.dir.path().join("state/seen"), b"no folder").expect("written");
    for _ in 0..2 {
        fleet.slice().await;
        assert_eq!(fleet.progress.unchanged(), 0);
    }
}
