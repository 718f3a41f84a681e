//! What lies in a store, for those who may fetch it: listing, reading, removing.
//!
//! Only below a prefix that a policy names; [`Store::create`] and its promises are not touched.

use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::StreamExt as _;
use object_store::path::Path;
use object_store::{GetResultPayload, ObjectStore as _, ObjectStoreExt as _};

use crate::depot::store::{METADATA_ENDING, Store, StoreFault};

/// One entry below a prefix.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed {
    /// Its last part.
    pub name: String,
    /// `None` for what only groups others.
    pub object: Option<ObjectFacts>,
}

/// What a store knows of an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ObjectFacts {
    /// Its size.
    pub bytes: u64,
    /// Last written, seconds since 1970.
    pub modified: i64,
}

/// An object open for reading. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Object {
    /// What it was when it was opened.
    pub facts: ObjectFacts,
    file: Arc<File>,
    store: Store,
    key: String,
}

// === impl Store ===

impl Store {
    /// What lies directly below `prefix` (without its slash at the end), by name. Metadata and
    /// what is being written are left out.
    ///
    /// # Errors
    /// [`StoreFault::Unavailable`].
    pub async fn list(&self, prefix: &str) -> Result<Vec<Listed>, StoreFault> {
        let Ok(path) = Path::parse(prefix) else {
            return Ok(Vec::new());
        };
        let found = self
            .local()
            .list_with_delimiter(Some(&path))
            .await
            .map_err(|e| self.unavailable(&e))?;
        let folders = found.common_prefixes.iter().map(|folder| Listed {
            name: folder.filename().unwrap_or_default().to_owned(),
            object: None,
        });
        let objects = found.objects.iter().map(|object| Listed {
            name: object.location.filename().unwrap_or_default().to_owned(),
            object: Some(facts(object)),
        });
        let mut all: Vec<Listed> = folders
            .chain(objects)
            .filter(|entry| !entry.name.is_empty() && !entry.name.ends_with(METADATA_ENDING))
            .collect();
        all.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(all)
    }

    /// Whether anything lies below `prefix`; ends at the first object.
    ///
    /// # Errors
    /// [`StoreFault::Unavailable`].
    pub async fn is_prefix(&self, prefix: &str) -> Result<bool, StoreFault> {
        let Ok(path) = Path::parse(prefix) else {
            return Ok(false);
        };
        match self.local().list(Some(&path)).next().await {
            None => Ok(false),
            Some(Ok(_)) => Ok(true),
            Some(Err(e)) => Err(self.unavailable(&e)),
        }
    }

    /// Opens an object; `None` when there is none. It can be read to its end although it is
    /// removed meanwhile.
    ///
    /// # Errors
    /// [`StoreFault::Unavailable`].
    pub async fn read(&self, key: &str) -> Result<Option<Object>, StoreFault> {
        let Ok(path) = Path::parse(key) else {
            return Ok(None);
        };
        let found = match self.local().get(&path).await {
            Err(object_store::Error::NotFound { .. }) => return Ok(None),
            found => found.map_err(|e| self.unavailable(&e))?,
        };
        let facts = facts(&found.meta);
        match found.payload {
            GetResultPayload::File(file, _) => Ok(Some(Object {
                facts,
                file: Arc::new(file),
                store: self.clone(),
                key: key.to_owned(),
            })),
            GetResultPayload::Stream(_) => Err(self.unavailable(&"a local directory gave no file")),
        }
    }

    /// What is known of an object; `None` when there is none.
    ///
    /// # Errors
    /// [`StoreFault::Unavailable`].
    pub async fn look(&self, key: &str) -> Result<Option<ObjectFacts>, StoreFault> {
        let Ok(path) = Path::parse(key) else {
            return Ok(None);
        };
        match self.local().head(&path).await {
            Ok(meta) => Ok(Some(facts(&meta))),
            Err(object_store::Error::NotFound { .. }) => Ok(None),
            Err(e) => Err(self.unavailable(&e)),
        }
    }

    /// Removes an object; one that is gone already is no fault.
    ///
    /// # Errors
    /// [`StoreFault::Unavailable`].
    pub async fn remove(&self, key: &str) -> Result<(), StoreFault> {
        let Ok(path) = Path::parse(key) else {
            return Ok(());
        };
        match self.local().delete(&path).await {
            Ok(()) | Err(object_store::Error::NotFound { .. }) => Ok(()),
            Err(e) => Err(self.unavailable(&e)),
        }
    }
}

// === impl Object ===

impl Object {
    /// Up to `bytes` bytes from `offset` on; fewer only at the end.
    ///
    /// # Errors
    /// [`StoreFault::Unavailable`].
    pub async fn read_at(&self, offset: u64, bytes: usize) -> Result<Bytes, StoreFault> {
        let rest = self.facts.bytes.saturating_sub(offset);
        let bytes = bytes.min(usize::try_from(rest).unwrap_or(usize::MAX));
        let file = Arc::clone(&self.file);
        tokio::task::spawn_blocking(move || {
            let mut piece = vec![0; bytes];
            file.read_exact_at(&mut piece, offset).map(|()| piece)
        })
        .await
        .map_err(|e| self.store.unavailable(&e))?
        .map(Bytes::from)
        .map_err(|e| {
            self.store
                .unavailable(&format!("reading {}: {e}", self.key))
        })
    }
}

fn facts(meta: &object_store::ObjectMeta) -> ObjectFacts {
    ObjectFacts {
        bytes: meta.size,
        modified: meta.last_modified.timestamp(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::terms::ids::StoreName;

    fn lake(folder: &std::path::Path) -> Store {
        let url = folder.display().to_string();
        Store::open(StoreName::parse("lake").unwrap(), &url).unwrap()
    }

    #[tokio::test]
    async fn only_what_lies_directly_below_a_prefix_is_listed() {
        let folder = tempfile::tempdir().unwrap();
        for (path, content) in [
            ("to-acme/b.csv", "bb"),
            ("to-acme/b.csv.meta.json", "{}"),
            ("to-acme/a.csv#1", "x"),
            ("to-acme/day/c.csv", "c"),
            ("to-acme-2/d.csv", "d"),
            ("e.csv", "e"),
        ] {
            let path = folder.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, content).unwrap();
        }
        let lake = lake(folder.path());
        let names = |list: Vec<Listed>| -> Vec<(String, Option<u64>)> {
            let told = |entry: Listed| (entry.name, entry.object.map(|object| object.bytes));
            list.into_iter().map(told).collect()
        };
        assert_eq!(
            names(lake.list("to-acme").await.unwrap()),
            [("b.csv".to_owned(), Some(2)), ("day".to_owned(), None)]
        );
        assert_eq!(names(lake.list("nowhere").await.unwrap()), []);
        assert!(lake.is_prefix("to-acme/day").await.unwrap());
        assert!(!lake.is_prefix("nowhere").await.unwrap());
    }

    #[tokio::test]
    async fn an_object_is_read_in_pieces_to_its_end_also_when_it_is_removed() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("x")).unwrap();
        std::fs::write(folder.path().join("x/y"), "hello").unwrap();
        let lake = lake(folder.path());
        let object = lake.read("x/y").await.unwrap().unwrap();
        assert_eq!(lake.look("x/y").await.unwrap(), Some(object.facts));
        lake.remove("x/y").await.unwrap();
        lake.remove("x/y").await.unwrap();
        assert_eq!(object.read_at(1, 3).await.unwrap(), "ell");
        assert_eq!(object.read_at(3, 100).await.unwrap(), "lo");
        assert_eq!(object.read_at(5, 100).await.unwrap(), "");
        assert!(lake.read("x/y").await.unwrap().is_none());
        assert!(lake.look("../x").await.unwrap().is_none());
    }
}
