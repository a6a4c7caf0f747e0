//! What accounts with the rights that docs/shares.md gives them can do.
