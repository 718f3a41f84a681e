//! How the columns of files come to differ from those of their contract.

use std::fmt;

/// One difference between a file's columns and its contract's.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Drift {
    /// What has happened.
    pub kind: DriftKind,
    /// The contract's column; the file's label where it has been added. Never a value: labels that may
    /// be one are not told.
    pub column: String,
    /// Of a column that was renamed: its label now, and how alike the two are, in percent.
    pub now: Option<(String, u8)>,
    /// The label is told as it is. Else it is only the shape of one that may be a value, or the start of one
    /// that is very long.
    pub is_exact: bool,
}

/// What has happened to a column.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum DriftKind {
    /// The contract does not know it.
    Added,
    /// The file does not have it.
    Removed,
    /// The file has a label that is much like it in its place.
    Renamed,
    /// It stands elsewhere; the first of them that does.
    Reordered,
    /// Nearly none of its values is of its type.
    Retyped,
}

// === impl DriftKind ===

impl DriftKind {
    /// Every kind.
    pub const ALL: [Self; 5] = [
        Self::Added,
        Self::Removed,
        Self::Renamed,
        Self::Reordered,
        Self::Retyped,
    ];

    /// The word for it, as in `added`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Added => "added",
            Self::Removed => "removed",
            Self::Renamed => "renamed",
            Self::Reordered => "reordered",
            Self::Retyped => "type_changed",
        }
    }

    /// The kind of this word.
    #[must_use]
    pub fn find(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == word)
    }
}

impl fmt::Display for DriftKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
