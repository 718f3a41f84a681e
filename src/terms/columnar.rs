//! Formats that are decoded as wholes, when the last byte has come.

/// A format whose rows cannot be told from the bytes in their order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Columnar {
    /// Arrow IPC, file or stream.
    Arrow,
    /// Avro object container file.
    Avro,
    /// Parquet.
    Parquet,
    /// A workbook of Office Open XML.
    Xlsx,
}

// === impl Columnar ===

impl Columnar {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Arrow, Self::Avro, Self::Parquet, Self::Xlsx];

    /// As policies and command lines name it.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Arrow => "arrow",
            Self::Avro => "avro",
            Self::Parquet => "parquet",
            Self::Xlsx => "xlsx",
        }
    }

    /// As people write it.
    #[must_use]
    pub fn title(self) -> &'static str {
        match self {
            Self::Arrow => "Arrow",
            Self::Avro => "Avro",
            Self::Parquet => "Parquet",
            Self::Xlsx => "an Excel workbook",
        }
    }

    /// Whether this build reads it.
    #[must_use]
    pub fn is_built_in(self) -> bool {
        match self {
            Self::Arrow | Self::Avro | Self::Parquet => cfg!(feature = "columnar"),
            Self::Xlsx => cfg!(feature = "xlsx"),
        }
    }

    /// The format of this name.
    #[must_use]
    pub fn find(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|format| format.word() == word)
    }
}
