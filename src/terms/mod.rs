//! The words every other module speaks: ids, paths, time, secrets, bounds, codes, faults.
//!
//! A value of a type in here is valid because it exists: `parse` is the only door. Nothing in
//! here reads a file, a clock or the environment.

pub mod clock;
pub mod codes;
pub mod columnar;
pub mod digest;
pub mod drift;
pub mod fault;
pub mod ids;
pub mod limits;
pub mod path;
pub mod secret;
pub mod verdict;
