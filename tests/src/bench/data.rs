//! The data that is backed up: like what services keep, the same on every machine, and 2 GiB at scale 1.
//!
//! Database dumps 600 MiB, 20,000 small text files 200 MiB, media that do not compress 600 MiB, programs that compress
//! about by half 600 MiB. Nothing is held in memory but a buffer: a child's peak memory counts what its parent had
//! when it was started.

use std::fs::{self, File};
use std::io::{self, BufWriter, Read, Write};
use std::path::{Path, PathBuf};

use super::rng::Rng;
use super::text::{Table, row, small, words};

const MIB: f64 = 1024.0 * 1024.0;
/// Tells a folder of ours from any other, and which data lie in it.
const MARK: &str = "muster-bench-data-1";
const IMAGES: u64 = 24;
const PROGRAMS: u64 = 4;

/// A data set in a folder of its own.
#[derive(Debug, Clone)]
pub struct Data {
    folder: PathBuf,
    scale: f64,
}

impl Data {
    /// The data of this scale in `folder`, made unless they are there.
    ///
    /// # Errors
    /// When the folder holds anything else, or cannot be written.
    pub fn make(folder: &Path, scale: f64) -> io::Result<Self> {
        let here = Self { folder: folder.to_owned(), scale };
        let (mark, want) = (folder.join("made"), format!("{MARK} {scale}\n"));
        match fs::read_to_string(&mark) {
            Ok(have) if have == want => {
                super::change::revert(&here)?;
                return Ok(here);
            }
            Ok(have) if have.starts_with("muster-bench-data-") => fs::remove_dir_all(folder)?,
            Ok(_) | Err(_) if folder.exists() && fs::read_dir(folder)?.next().is_some() => {
                let text = format!("{} is not empty and no data set of this bench", folder.display());
                return Err(io::Error::new(io::ErrorKind::AlreadyExists, text));
            }
            Ok(_) | Err(_) => {}
        }
        for part in ["sql", "conf", "media", "bin"] {
            fs::create_dir_all(here.tree().join(part))?;
        }
        here.dumps()?;
        here.small_files()?;
        here.media()?;
        here.programs()?;
        fs::write(mark, want)?;
        Ok(here)
    }

    /// The folder that is backed up.
    #[must_use]
    pub fn tree(&self) -> PathBuf {
        self.folder.join("tree")
    }

    /// Where the originals of changed files wait.
    pub(crate) fn undo(&self) -> PathBuf {
        self.folder.join("undo")
    }

    /// A size in MiB, scaled, in bytes; never nothing.
    pub(crate) fn bytes(&self, mebibytes: f64) -> u64 {
        let bytes = (mebibytes * MIB * self.scale) as u64;
        bytes.max(4096)
    }

    /// How many there are of what there are `count` of at scale 1; never none.
    pub(crate) fn count(&self, count: f64) -> u64 {
        ((count * self.scale) as u64).max(1)
    }

    pub(crate) fn small_count(&self) -> u64 {
        self.count(20_000.0)
    }

    /// Where the small file of this number lies.
    pub(crate) fn small_path(&self, number: u64) -> PathBuf {
        self.tree().join(format!("conf/{:03}/{number:05}.txt", number / 64))
    }

    fn dumps(&self) -> io::Result<()> {
        for (name, mebibytes, seed) in [("shop", 400.0, 1), ("desk", 200.0, 2)] {
            let mut rng = Rng::new(seed);
            let mut out = create(&self.tree().join(format!("sql/{name}.sql")))?;
            for (table, share) in [(Table::People, 0.1), (Table::Orders, 0.45), (Table::Events, 0.45)] {
                out.write_all(b"COPY rows FROM stdin;\n")?;
                let (mut left, mut key, mut text) = (self.bytes(mebibytes * share), 0, String::new());
                while left > 0 {
                    text.clear();
                    key += 1;
                    row(&mut text, &mut rng, table, key);
                    out.write_all(text.as_bytes())?;
                    left = left.saturating_sub(text.len() as u64);
                }
                out.write_all(b"\\.\n\n")?;
            }
            out.flush()?;
        }
        Ok(())
    }

    fn small_files(&self) -> io::Result<()> {
        for number in 0..self.small_count() {
            let mut rng = Rng::new(1_000_000 + number);
            let path = self.small_path(number);
            if number % 64 == 0 {
                fs::create_dir_all(path.parent().expect("a file has a folder"))?;
            }
            // Half of them are below 4 KiB, a few are of 100 KiB: 10 KiB on average.
            let size = 512 << rng.below(7);
            let size = size + rng.index(size);
            fs::write(path, small(&mut rng, number, size))?;
        }
        Ok(())
    }

    fn media(&self) -> io::Result<()> {
        let mut rng = Rng::new(3);
        let write = |path: PathBuf, mut left: u64, rng: &mut Rng| {
            let mut out = create(&path)?;
            let mut buffer = [0; 8192];
            while left > 0 {
                rng.fill(&mut buffer);
                let most = usize::try_from(left).map_or(buffer.len(), |left| left.min(buffer.len()));
                out.write_all(&buffer[..most])?;
                left -= most as u64;
            }
            out.flush()
        };
        write(self.tree().join("media/archive.bin"), self.bytes(300.0), &mut rng)?;
        for image in 0..IMAGES {
            write(self.image(image), self.bytes(12.5), &mut rng)?;
        }
        Ok(())
    }

    pub(crate) fn image(&self, number: u64) -> PathBuf {
        self.tree().join(format!("media/image-{number:02}.bin"))
    }

    /// Like machine code: few instructions come often, with operands that do not, and with tables and texts between.
    fn programs(&self) -> io::Result<()> {
        for program in 0..PROGRAMS {
            let mut rng = Rng::new(100 + program);
            let mut instructions = [[0; 8]; 512];
            instructions.iter_mut().for_each(|bytes| rng.fill(bytes));
            let mut out = create(&self.program(program))?;
            let mut left = self.bytes(150.0);
            let mut page = Vec::with_capacity(8192);
            while left > 0 {
                page.clear();
                match rng.below(10) {
                    0 => page.resize(4096, 0),
                    1 => page.extend_from_slice(words(&mut rng, 300, 300).as_bytes()),
                    2 => {
                        page.resize(4096, 0);
                        rng.fill(&mut page);
                    }
                    _ => {
                        while page.len() < 4096 {
                            // The product of two: small numbers come more often.
                            let which = rng.index(512) * rng.index(512) / 512;
                            let operands = rng.next().to_le_bytes();
                            page.extend_from_slice(&instructions[which]);
                            page.extend_from_slice(&operands[..1 + rng.index(3)]);
                        }
                    }
                }
                let most = usize::try_from(left).map_or(page.len(), |left| left.min(page.len()));
                out.write_all(&page[..most])?;
                left -= most as u64;
            }
            out.flush()?;
        }
        Ok(())
    }

    pub(crate) fn program(&self, number: u64) -> PathBuf {
        self.tree().join(format!("bin/program-{number}.bin"))
    }
}

pub(crate) fn create(path: &Path) -> io::Result<BufWriter<File>> {
    Ok(BufWriter::with_capacity(256 * 1024, File::create(path)?))
}

/// Files and their bytes below a folder.
///
/// # Errors
/// When it cannot be read.
pub(crate) fn weigh(folder: &Path) -> io::Result<(u64, u64)> {
    let (mut files, mut bytes) = (0, 0);
    walk(folder, &mut |path| {
        files += 1;
        bytes += fs::symlink_metadata(path)?.len();
        Ok(())
    })?;
    Ok((files, bytes))
}

/// Reads everything once, so that no tool pays for the disk.
pub(crate) fn warm(folder: &Path) -> io::Result<()> {
    let mut buffer = vec![0; 1 << 20];
    walk(folder, &mut |path| {
        let mut file = File::open(path)?;
        while file.read(&mut buffer)? > 0 {}
        Ok(())
    })
}

/// Every file below a folder, or the file itself.
fn walk(path: &Path, each: &mut dyn FnMut(&Path) -> io::Result<()>) -> io::Result<()> {
    if !path.symlink_metadata()?.is_dir() {
        return each(path);
    }
    for entry in fs::read_dir(path)? {
        walk(&entry?.path(), each)?;
    }
    Ok(())
}

/// The first file that is not the same below both folders, by name and content; none if they are the same.
pub(crate) fn first_difference(want: &Path, have: &Path) -> io::Result<Option<PathBuf>> {
    let names = |folder: &Path| -> io::Result<Vec<_>> {
        let mut names = fs::read_dir(folder)?.map(|e| Ok(e?.file_name())).collect::<io::Result<Vec<_>>>()?;
        names.sort();
        Ok(names)
    };
    let (want_meta, Ok(have_meta)) = (want.symlink_metadata()?, have.symlink_metadata()) else {
        return Ok(Some(have.to_owned()));
    };
    if want_meta.is_dir() && have_meta.is_dir() {
        let found = names(want)?;
        if found != names(have)? {
            return Ok(Some(have.to_owned()));
        }
        for name in found {
            if let Some(difference) = first_difference(&want.join(&name), &have.join(&name))? {
                return Ok(Some(difference));
            }
        }
        return Ok(None);
    }
    let same = want_meta.is_file() && have_meta.is_file() && same_content(want, have)?;
    Ok((!same).then(|| have.to_owned()))
}

fn same_content(one: &Path, two: &Path) -> io::Result<bool> {
    let (mut one, mut two) = (File::open(one)?, File::open(two)?);
    if one.metadata()?.len() != two.metadata()?.len() {
        return Ok(false);
    }
    let (mut a, mut b) = (vec![0; 256 * 1024], vec![0; 256 * 1024]);
    loop {
        let got = one.read(&mut a)?;
        if got == 0 {
            return Ok(true);
        }
        match two.read_exact(&mut b[..got]) {
            Ok(()) if a[..got] == b[..got] => {}
            Ok(()) => return Ok(false),
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(false),
            Err(error) => return Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Data, first_difference, weigh};
    use crate::bench::change;

    #[test]
    fn data_are_the_same_each_time_and_a_change_is_undone() {
        let folder = tempfile::TempDir::new().expect("a folder");
        let [one, two] =
            ["one", "two"].map(|name| Data::make(&folder.path().join(name), 0.002).expect("made"));
        assert_eq!(first_difference(&one.tree(), &two.tree()).expect("compared"), None);
        let (files, bytes) = weigh(&one.tree()).expect("weighed");
        assert!((40..100).contains(&files) && (3 << 20..6 << 20).contains(&bytes), "{files} {bytes}");

        change::apply(&one).expect("changed");
        assert!(first_difference(&one.tree(), &two.tree()).expect("compared").is_some());
        // A bench that was ended in the middle leaves the change behind: the next one undoes it.
        let one = Data::make(&folder.path().join("one"), 0.002).expect("there");
        assert_eq!(first_difference(&one.tree(), &two.tree()).expect("compared"), None);
    }

    #[test]
    fn a_folder_of_something_else_is_left_alone() {
        let folder = tempfile::TempDir::new().expect("a folder");
        std::fs::write(folder.path().join("mine"), b"x").expect("written");
        assert!(Data::make(folder.path(), 0.001).is_err());
        assert!(folder.path().join("mine").exists());
    }
}
