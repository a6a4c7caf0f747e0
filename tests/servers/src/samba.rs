//! Samba: an SMB share with users of a domain's name.

/// A running smbd.
#[derive(Debug)]
pub struct Samba;
