//! What must stay, compared with what is there. What an object is called is the share's business.

use std::collections::BTreeMap;

/// An object is named with two lengths: one of the two rounds that name it is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Contradiction {
    /// One length, in bytes.
    pub one: u64,
    /// The other.
    pub other: u64,
}

/// What a listed object is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sight {
    /// Needed, and of the length that names it.
    Needed,
    /// Needed, and of another length than the one that names it.
    OtherLength {
        /// The length that it should have, in bytes.
        want: u64,
    },
    /// Nobody needs it.
    Unneeded,
}

#[derive(Debug, Clone, Copy)]
struct Want {
    size: Option<u64>,
    seen: bool,
}

/// The objects that must stay.
#[derive(Debug, Clone)]
pub struct Stock<O> {
    needed: BTreeMap<O, Want>,
}

impl<O> Default for Stock<O> {
    fn default() -> Self {
        Self { needed: BTreeMap::new() }
    }
}

impl<O: Ord> Stock<O> {
    /// This object must stay. `size`: its length in bytes, where it is known.
    ///
    /// # Errors
    /// When it was named with another length before.
    pub fn need(&mut self, object: O, size: Option<u64>) -> Result<(), Contradiction> {
        let want = self.needed.entry(object).or_insert(Want { size, seen: false });
        match (want.size, size) {
            (Some(one), Some(other)) if one != other => Err(Contradiction { one, other }),
            (None, Some(_)) => {
                want.size = size;
                Ok(())
            }
            (Some(_), _) | (None, None) => Ok(()),
        }
    }

    /// Whether it must stay.
    #[must_use]
    pub fn is_needed(&self, object: &O) -> bool {
        self.needed.contains_key(object)
    }

    /// The share lists this object, with this length in bytes.
    pub fn see(&mut self, object: &O, size: u64) -> Sight {
        match self.needed.get_mut(object) {
            Some(want) => {
                want.seen = true;
                match want.size {
                    Some(want) if want != size => Sight::OtherLength { want },
                    Some(_) | None => Sight::Needed,
                }
            }
            None => Sight::Unneeded,
        }
    }

    /// Needed objects that were not seen.
    pub fn missing(&self) -> impl Iterator<Item = &O> {
        self.needed.iter().filter(|(_, want)| !want.seen).map(|(object, _)| object)
    }
}

#[cfg(test)]
mod tests {
    use super::{Contradiction, Sight, Stock};

    #[test]
    fn what_is_needed_is_told_from_what_is_not() {
        let mut stock = Stock::default();
        for (object, size) in [("a", Some(1)), ("b", None), ("b", Some(2)), ("b", None), ("c", Some(3))] {
            stock.need(object, size).expect("agrees");
        }
        assert_eq!(stock.need("a", Some(9)), Err(Contradiction { one: 1, other: 9 }));
        assert_eq!(stock.need("b", Some(9)), Err(Contradiction { one: 2, other: 9 }));
        assert_eq!(stock.see(&"a", 1), Sight::Needed);
        assert_eq!(stock.see(&"b", 7), Sight::OtherLength { want: 2 });
        assert_eq!(stock.see(&"d", 7), Sight::Unneeded);
        assert_eq!(stock.missing().collect::<Vec<_>>(), [&"c"]);
        assert!(stock.is_needed(&"c") && !stock.is_needed(&"d"));
    }
}
