//! Rank 1, pure: policy text in, compiled policies out.
//!
//! [`compile()`] reads one partner's TOML. It gives a [`feed::Policy`] or every
//! [`mistake::Mistake`] with its place; nothing else in the gateway reads policy text.

mod adopt;
mod changes;
mod columns;
mod compile;
pub mod contract;
mod dates;
mod describe;
pub mod feed;
pub mod lists;
pub mod mistake;
mod names;
pub mod rules;
pub(crate) mod text;

pub use adopt::{NotAdopted, adopt};
pub use changes::changes;
pub use compile::{compile, fuzz_policy_text};
pub use describe::describe;
