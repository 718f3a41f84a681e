//! A whole file at once, for commands and tests.

use std::sync::Arc;

use crate::inspect::Line;
use crate::inspect::report::Report;
use crate::policy::contract::Contract;
use crate::tokens::{TokenFault, TokenKeys};

/// Inspects a file that is in memory and appends its output to `out`.
///
/// # Errors
/// [`TokenFault`] when a keyed column has no key.
pub fn check_all(
    contract: Arc<Contract>,
    keys: &TokenKeys,
    seed: [u8; 16],
    input: &[u8],
    out: &mut Vec<u8>,
) -> Result<Report, TokenFault> {
    let mut line = Line::for_contract(contract, keys, seed)?;
    line.push(input, out);
    Ok(line.finish(out))
}
