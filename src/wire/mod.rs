//! Rank 2, pure: what travels over a channel. Packets in, requests out; replies in, bytes out.
//!
//! Nothing in here decides anything, waits for anything or knows where a byte came from.

pub mod exec;
pub mod kexinit;
pub mod scp;
pub mod sftp;
