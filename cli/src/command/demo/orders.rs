//! The service `orders`: a SQLite database that the demo fills and changes.

use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};

use rusqlite::{Connection, OpenFlags, Row};

use super::secrets::scrambled;
use crate::exit::Exit;
use crate::failure::Failure;

/// Rows at the start.
pub(super) const ROWS: u32 = 100_000;
/// How many of them are changed: the oldest ones, which lie together as in most databases that live.
const CHANGED: u32 = ROWS / 100;

const GOODS: [&str; 6] = ["rack", "switch", "power supply", "fan", "cable, 3 m", "disk"];

/// The database.
#[derive(Debug, Clone)]
pub(super) struct Orders {
    path: PathBuf,
}

impl Orders {
    /// Makes and fills it.
    pub(super) fn fill(path: &Path) -> Result<Self, Failure> {
        let orders = Self { path: path.to_owned() };
        orders.insert(1..=ROWS).map_err(|error| orders.failure(&error))?;
        Ok(orders)
    }

    /// Changes 1 % of the rows; returns how many.
    pub(super) fn change(&self) -> Result<u64, Failure> {
        let change = || -> rusqlite::Result<usize> {
            let sql = "update orders set amount = amount + 1 where id <= ?1";
            Connection::open(&self.path)?.execute(sql, [CHANGED])
        };
        change().map(|rows| rows as u64).map_err(|error| self.failure(&error))
    }

    /// Adds one order.
    pub(super) fn add_one(&self) -> Result<(), Failure> {
        self.insert(ROWS + 1..=ROWS + 1).map_err(|error| self.failure(&error))
    }

    /// Compares the recovered database row by row; returns how many rows there are.
    ///
    /// # Errors
    /// What is different.
    pub(super) fn compare(&self, recovered: &Path) -> Result<u64, String> {
        let wrong = |error: rusqlite::Error| format!("{}: {error}", recovered.display());
        let open =
            |path: &Path| Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_ONLY).map_err(wrong);
        let (source, copy) = (open(&self.path)?, open(recovered)?);
        let checked: String =
            copy.query_row("pragma integrity_check", [], |row| row.get(0)).map_err(wrong)?;
        if checked != "ok" {
            return Err(format!("{}: {checked}", recovered.display()));
        }
        let sql = "select id, customer, goods, amount from orders order by id";
        let (mut source, mut copy) = (source.prepare(sql).map_err(wrong)?, copy.prepare(sql).map_err(wrong)?);
        let (mut source, mut copy) = (source.query([]).map_err(wrong)?, copy.query([]).map_err(wrong)?);
        let mut rows = 0;
        loop {
            let one = source.next().map_err(wrong)?.map(order).transpose().map_err(wrong)?;
            let other = copy.next().map_err(wrong)?.map(order).transpose().map_err(wrong)?;
            if one != other {
                return Err(format!("{}: row {} is {other:?}, not {one:?}", recovered.display(), rows + 1));
            }
            if one.is_none() {
                return Ok(rows);
            }
            rows += 1;
        }
    }

    fn insert(&self, ids: RangeInclusive<u32>) -> rusqlite::Result<()> {
        let mut database = Connection::open(&self.path)?;
        let all = database.transaction()?;
        let table = "create table if not exists orders \
                     (id integer primary key, customer text not null, goods text not null, amount integer not null)";
        all.execute(table, [])?;
        {
            let mut insert = all.prepare("insert into orders values (?1, ?2, ?3, ?4)")?;
            for id in ids {
                let number = scrambled(u64::from(id));
                let customer = format!("made-up customer {:08x}{:016x}", number >> 32, scrambled(number));
                let goods = GOODS[(number % GOODS.len() as u64) as usize];
                insert.execute((id, customer, goods, id % 97 + 1))?;
            }
        }
        all.commit()
    }

    fn failure(&self, error: &rusqlite::Error) -> Failure {
        Failure::new(Exit::Failed, format!("the database {} fails", self.path.display()))
            .because(error.to_string())
    }
}

fn order(row: &Row<'_>) -> rusqlite::Result<(u32, String, String, u32)> {
    Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?))
}

#[cfg(test)]
mod tests {
    use super::{Orders, ROWS};

    #[test]
    fn a_copy_is_the_same_until_a_row_changes() {
        let folder = tempfile::tempdir().expect("a folder");
        let orders = Orders::fill(&folder.path().join("orders.db")).expect("filled");
        let copy = folder.path().join("copy.db");
        std::fs::copy(&orders.path, &copy).expect("copied");
        assert_eq!(orders.compare(&copy), Ok(u64::from(ROWS)));
        assert_eq!(orders.change().expect("changed"), u64::from(ROWS / 100));
        assert!(orders.compare(&copy).expect_err("another row").contains("row 1 "));
        std::fs::copy(&orders.path, &copy).expect("copied");
        orders.add_one().expect("added");
        assert!(orders.compare(&copy).expect_err("one row less").contains("row 100001 is None"));
    }
}
