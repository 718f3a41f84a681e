//! Rank 4: where bytes are kept. `spool` seals what is in flight (laid out as `extents` says,
//! with what was sealed last in `latest`), `store` writes objects.

mod extents;
mod latest;

pub mod object;
pub mod spool;
pub mod store;
