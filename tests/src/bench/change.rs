//! About one per cent of change, of the kinds that services make, and how it is undone.
//!
//! Rows inserted and edited within dumps and appended to them; some bytes inserted into an archive; parts of images and
//! programs replaced; small files edited and added. What is changed is written anew, and its original waits aside.

use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::Path;

use super::data::{Data, create};
use super::rng::Rng;
use super::text::{Table, row, small};

/// Bytes that are replaced by others at a place of a file.
struct Edit {
    at: u64,
    remove: u64,
    insert: Vec<u8>,
}

/// Changes the data.
///
/// # Errors
/// When a file cannot be read or written.
pub(crate) fn apply(data: &Data) -> io::Result<()> {
    let mut rng = Rng::new(77);
    let tree = data.tree();
    for name in ["shop", "desk"] {
        dump(data, &tree.join(format!("sql/{name}.sql")), &mut rng)?;
    }
    let archive = tree.join("media/archive.bin");
    let middle = archive.metadata()?.len() / 2;
    rewrite(data, &archive, vec![noise(&mut rng, middle, 0, 777)])?;
    for image in [3, 17] {
        let path = data.image(image);
        let quarter = path.metadata()?.len() / 4;
        rewrite(data, &path, vec![noise(&mut rng, quarter, quarter, quarter)])?;
    }
    let program = data.program(1);
    let size = program.metadata()?.len();
    let patch = data.bytes(1.0 / 16.0).min(size / 16);
    let mut edits: Vec<_> =
        (0..6).map(|part| noise(&mut rng, size / 8 * part + patch, patch, patch)).collect();
    edits.push(noise(&mut rng, size / 8 * 7, 0, 4096));
    rewrite(data, &program, edits)?;

    let count = data.small_count();
    for part in 0..data.count(200.0) {
        let path = data.small_path(part * 97 % count);
        let at = path.metadata()?.len() / 2;
        let insert = small(&mut rng, 3, 200).into_bytes();
        rewrite(data, &path, vec![Edit { at, remove: 0, insert }])?;
    }
    let new = tree.join("conf/new");
    fs::create_dir(&new)?;
    for number in 0..data.count(50.0) {
        fs::write(new.join(format!("{number:03}.txt")), small(&mut rng, number, 8_000))?;
    }
    Ok(())
}

/// Puts everything back that [`apply`] changed, also after it was broken off.
///
/// # Errors
/// When a file cannot be moved.
pub(crate) fn revert(data: &Data) -> io::Result<()> {
    let (undo, tree) = (data.undo(), data.tree());
    match fs::remove_dir_all(tree.join("conf/new")) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        Ok(()) | Err(_) => {}
    }
    if undo.exists() {
        put_back(&undo, &tree)?;
        fs::remove_dir_all(undo)?;
    }
    Ok(())
}

fn put_back(from: &Path, to: &Path) -> io::Result<()> {
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let to = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            put_back(&entry.path(), &to)?
        } else {
            fs::rename(entry.path(), to)?
        }
    }
    Ok(())
}

fn dump(data: &Data, path: &Path, rng: &mut Rng) -> io::Result<()> {
    let size = path.metadata()?.len();
    let mut edits = Vec::new();
    let parts = data.count(48.0);
    for part in 0..parts {
        let at = size / parts * part + rng.below(size / parts / 2);
        if part % 6 == 0 {
            let rows = 20 + rng.below(380);
            edits.push(Edit { at, remove: 0, insert: rows_of(rng, Table::Orders, rows) });
        } else {
            let insert = format!("{:08}", rng.below(100_000_000)).into_bytes();
            edits.push(Edit { at, remove: 8, insert });
        }
    }
    edits.push(Edit { at: size, remove: 0, insert: rows_of(rng, Table::Events, size / 200 / 190 + 1) });
    rewrite(data, path, edits)
}

fn rows_of(rng: &mut Rng, table: Table, rows: u64) -> Vec<u8> {
    let mut text = String::new();
    (0..rows).for_each(|number| row(&mut text, rng, table, 90_000_000 + number));
    text.into_bytes()
}

fn noise(rng: &mut Rng, at: u64, remove: u64, insert: u64) -> Edit {
    let mut bytes = vec![0; usize::try_from(insert).expect("a few MiB")];
    rng.fill(&mut bytes);
    Edit { at, remove, insert: bytes }
}

/// Moves the original aside and writes it anew with these edits, which are in order and apart.
fn rewrite(data: &Data, path: &Path, edits: Vec<Edit>) -> io::Result<()> {
    let aside = data.undo().join(path.strip_prefix(data.tree()).expect("a path of the tree"));
    fs::create_dir_all(aside.parent().expect("a file has a folder"))?;
    fs::rename(path, &aside)?;
    let mut old = File::open(aside)?;
    let mut out = create(path)?;
    let mut done = 0;
    for edit in edits {
        io::copy(&mut (&old).take(edit.at - done), &mut out)?;
        out.write_all(&edit.insert)?;
        done = old.seek(SeekFrom::Start(edit.at + edit.remove))?;
    }
    io::copy(&mut old, &mut out)?;
    out.flush()
}
