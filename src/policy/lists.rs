//! Lists of values that columns are looked up in: files of the folder `lists` beside the policies.
//!
//! Two kinds of files: `*.txt` has one value a line; `*.csv` (RFC 4180, with commas) has labels in its
//! first line, and a policy says which column. Both are UTF-8. A value is compared with a cell byte for
//! byte. A list that several columns name is read once for all of them.

use std::collections::{BTreeMap, HashSet};
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use crate::terms::limits;

/// The folder of lists, as it was read.
#[derive(Default)]
pub struct Lists(BTreeMap<String, File>);

/// Values that a cell may have.
pub struct List {
    /// The file's name, as in `countries.txt`.
    pub name: String,
    /// Of a table: which column.
    pub column: Option<String>,
    /// SHA-256 of the file.
    pub hash: [u8; 32],
    values: HashSet<Box<str>>,
}

struct File {
    /// Or why it cannot be read.
    content: Result<Vec<u8>, String>,
    read: Mutex<BTreeMap<Option<String>, Arc<List>>>,
}

/// Why a list cannot be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum BadList {
    /// There is no such file; the names there are.
    Absent(Vec<String>),
    /// The table has no such column; its labels.
    NoColumn(Vec<String>),
    /// Something is wrong with the file.
    Broken(String),
}

// === impl Lists ===

impl Lists {
    /// `files`: their names in the folder, with their bytes or the reason why there are none.
    #[must_use]
    pub fn new(files: impl IntoIterator<Item = (String, Result<Vec<u8>, String>)>) -> Self {
        let files = files.into_iter().map(|(name, content)| {
            let read = Mutex::default();
            (name, File { content, read })
        });
        Self(files.collect())
    }

    /// The values of a file; `column`: of a table, its label.
    pub(crate) fn find(&self, name: &str, column: Option<&str>) -> Result<Arc<List>, BadList> {
        let file = self
            .0
            .get(name)
            .ok_or_else(|| BadList::Absent(self.0.keys().cloned().collect()))?;
        let column = column.map(str::to_owned);
        let mut read = file.read.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(list) = read.get(&column) {
            return Ok(Arc::clone(list));
        }
        let bytes = file.content.as_ref();
        let bytes = bytes.map_err(|why| BadList::Broken(why.clone()))?;
        let list = Arc::new(List {
            name: name.to_owned(),
            column: column.clone(),
            hash: hash(bytes),
            values: match &column {
                Some(column) => values_of_table(bytes, column)?,
                None => values_of_lines(bytes)?,
            },
        });
        read.insert(column, Arc::clone(&list));
        Ok(list)
    }
}

impl fmt::Debug for Lists {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

// === impl List ===

impl List {
    /// Whether a cell has one of its values.
    #[inline]
    #[must_use]
    pub fn contains(&self, cell: &str) -> bool {
        self.values.contains(cell)
    }

    /// How many values it has, each once.
    #[must_use]
    pub fn count(&self) -> usize {
        self.values.len()
    }

    /// How many of its values another lacks.
    #[must_use]
    pub fn beyond(&self, other: &Self) -> usize {
        self.values.difference(&other.values).count()
    }

    /// As in `countries.txt` or `sku of skus.csv`.
    #[must_use]
    pub fn title(&self) -> String {
        match &self.column {
            Some(column) => format!("{column} of {}", self.name),
            None => self.name.clone(),
        }
    }
}

impl fmt::Debug for List {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("List")
            .field("name", &self.name)
            .field("column", &self.column)
            .field("values", &self.values.len())
            .finish_non_exhaustive()
    }
}

fn values_of_lines(bytes: &[u8]) -> Result<HashSet<Box<str>>, BadList> {
    let text = text_of(bytes)?;
    let lines = text.lines().filter(|line| !line.is_empty());
    let values: HashSet<Box<str>> = lines.map(Box::from).collect();
    not_empty(values)
}

fn values_of_table(bytes: &[u8], column: &str) -> Result<HashSet<Box<str>>, BadList> {
    let mut reader = csv::Reader::from_reader(text_of(bytes)?.as_bytes());
    let broken = |fault: csv::Error| {
        let line = fault.position().map(csv::Position::line);
        BadList::Broken(match (fault.kind(), line) {
            (
                csv::ErrorKind::UnequalLengths {
                    expected_len, len, ..
                },
                Some(line),
            ) => format!("line {line} has {len} cells, not {expected_len}"),
            (_, Some(line)) => format!("line {line} is no CSV"),
            (_, None) => "it is no CSV".to_owned(),
        })
    };
    // The reader takes what is left of a file for one cell.
    if memchr::memchr_iter(b'"', bytes).count() % 2 == 1 {
        return Err(BadList::Broken("a quote is never closed".to_owned()));
    }
    let labels = reader.headers().map_err(broken)?;
    let same = labels.iter().filter(|label| *label == column).count();
    if same > 1 {
        let why = format!("{same} columns are called \"{column}\"");
        return Err(BadList::Broken(why));
    }
    let at = labels.iter().position(|label| label == column);
    let at = at.ok_or_else(|| BadList::NoColumn(labels.iter().map(str::to_owned).collect()))?;
    let mut values = HashSet::new();
    let mut record = csv::StringRecord::new();
    while reader.read_record(&mut record).map_err(broken)? {
        if let Some(value) = record.get(at).filter(|value| !value.is_empty()) {
            values.insert(Box::from(value));
        }
    }
    not_empty(values)
}

fn not_empty(values: HashSet<Box<str>>) -> Result<HashSet<Box<str>>, BadList> {
    match values.len() {
        0 => Err(BadList::Broken("it has no value in it".to_owned())),
        count if count > limits::LIST_VALUES_MAX => Err(BadList::Broken(format!(
            "it has {count} values, more than {}",
            limits::LIST_VALUES_MAX
        ))),
        _ => Ok(values),
    }
}

fn text_of(bytes: &[u8]) -> Result<&str, BadList> {
    let text = str::from_utf8(bytes).map_err(|fault| {
        let before = bytes.get(..fault.valid_up_to()).unwrap_or_default();
        let line = memchr::memchr_iter(b'\n', before).count() + 1;
        BadList::Broken(format!("line {line} is not UTF-8"))
    })?;
    Ok(text.strip_prefix('\u{feff}').unwrap_or(text))
}

fn hash(bytes: &[u8]) -> [u8; 32] {
    let digest = ring::digest::digest(&ring::digest::SHA256, bytes);
    let mut hash = [0; 32];
    hash.iter_mut()
        .zip(digest.as_ref())
        .for_each(|(to, from)| *to = *from);
    hash
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lists(name: &str, content: &[u8]) -> Lists {
        Lists::new([(name.to_owned(), Ok(content.to_vec()))])
    }

    #[test]
    fn a_list_of_lines_has_each_value_once_and_byte_for_byte() {
        let lists = lists("a.txt", "\u{feff}DE\r\nAT\n\nDE\n CH \n".as_bytes());
        let list = lists.find("a.txt", None).unwrap();
        assert_eq!((list.count(), list.title().as_str()), (3, "a.txt"));
        for (cell, is_in) in [("DE", true), ("AT", true), (" CH ", true)] {
            assert_eq!(list.contains(cell), is_in, "{cell}");
        }
        for cell in ["CH", "de", "", "\u{feff}DE"] {
            assert!(!list.contains(cell), "{cell}");
        }
    }

    #[test]
    fn a_table_gives_the_column_that_is_named_and_is_read_once() {
        let lists = lists("a.csv", b"sku,name\nA-1,\"one, two\"\nA-2,\n\"A-3\",x\n");
        let list = lists.find("a.csv", Some("sku")).unwrap();
        assert_eq!((list.count(), list.title().as_str()), (3, "sku of a.csv"));
        assert!(list.contains("A-3") && !list.contains("x"));
        let again = lists.find("a.csv", Some("sku")).unwrap();
        assert!(Arc::ptr_eq(&list, &again));
        assert_eq!(lists.find("a.csv", Some("name")).unwrap().count(), 2);
    }

    #[test]
    fn what_cannot_be_used_says_why() {
        let of = |content: &[u8], column| lists("a", content).find("a", column).unwrap_err();
        let broken = |why: &str| BadList::Broken(why.to_owned());
        assert_eq!(of(b"\n\r\n", None), broken("it has no value in it"));
        assert_eq!(of(b"a\n\xff\n", None), broken("line 2 is not UTF-8"));
        assert_eq!(
            of(b"a,b\n1\n", Some("a")),
            broken("line 2 has 1 cells, not 2")
        );
        assert_eq!(
            of(b"a,b\n1,2\n", Some("c")),
            BadList::NoColumn(vec!["a".to_owned(), "b".to_owned()])
        );
        assert_eq!(
            of(b"a,b\n1,\"2\n", Some("a")),
            broken("a quote is never closed")
        );
        assert_eq!(
            of(b"a,a\n1,2\n", Some("a")),
            broken("2 columns are called \"a\"")
        );
        let absent = lists("a", b"x").find("b", None).unwrap_err();
        assert_eq!(absent, BadList::Absent(vec!["a".to_owned()]));
        let unread = Lists::new([("a".to_owned(), Err("no right".to_owned()))]);
        assert_eq!(unread.find("a", None).unwrap_err(), broken("no right"));
    }
}
