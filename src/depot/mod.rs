//! Rank 4: where bytes are kept. `spool` seals what is in flight (laid out as `extents` says),
//! `store` writes objects.

mod extents;

pub mod object;
pub mod spool;
pub mod store;
