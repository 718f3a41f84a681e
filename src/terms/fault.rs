//! What every error of the house can answer: which code, whose fault, worth a retry, and what
//! the partner is told.

use std::borrow::Cow;

/// Who has to act to make an error go away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Blame {
    /// A defect of sallyport itself.
    Bug,
    /// The people who run the gateway.
    Operator,
    /// The sender of the file.
    Partner,
    /// The object store.
    Store,
}

/// Whether the same act can succeed later without anybody changing anything.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Retry {
    /// Trying again will end the same way.
    Never,
    /// Trying again later may succeed.
    Later,
}

/// An error with a stable code. `Display` speaks to the operator; `told_partner` to the partner.
pub trait Fault: std::error::Error {
    /// Stable dotted code, as in `intake.too-large`; listed by `sallyport explain`.
    fn code(&self) -> &'static str;
    /// Who has to act.
    fn blame(&self) -> Blame;
    /// Worth another try?
    fn retry(&self) -> Retry;
    /// One ASCII sentence for the partner: the cause and the remedy, nothing internal.
    fn told_partner(&self) -> Cow<'static, str>;
}
