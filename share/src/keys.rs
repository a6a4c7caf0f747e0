//! What opens the objects of a slice: recovery keys, or the file keys that a grant has given out.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use muster_protocol::age::{FileKey, Identity};
use muster_protocol::ids::ObjectId;

use crate::layout::ObjectPath;
use crate::sealed::Unlock;

/// Keys for reading. Cheap to clone.
#[derive(Clone)]
pub enum Keyring {
    /// Private recovery keys: whatever is sealed to one of them opens.
    Recovery(Arc<Vec<Identity>>),
    /// File keys of single objects, out of a grant: nothing else opens.
    Granted(Arc<BTreeMap<ObjectId, FileKey>>),
}

impl Keyring {
    /// What opens the object at this path.
    #[must_use]
    pub fn unlock(&self, path: &ObjectPath) -> Unlock<'_> {
        let keys = match self {
            Self::Recovery(keys) => return Unlock::Identities(keys),
            Self::Granted(keys) => keys,
        };
        // Without an identity nothing opens: what is not granted is sealed to other keys.
        path.id().and_then(|id| keys.get(id)).map_or(Unlock::Identities(&[]), Unlock::FileKey)
    }
}

impl fmt::Debug for Keyring {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Recovery(keys) => write!(f, "Recovery({} keys)", keys.len()),
            Self::Granted(keys) => write!(f, "Granted({} keys)", keys.len()),
        }
    }
}
