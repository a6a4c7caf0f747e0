//! The book keeps its promises.
