//! Object stores. Now: a local directory through `object_store`; S3 and others come with delivery.
//!
//! An object is created whole or not at all, and never overwritten. It is staged beside its name
//! as `name#1` (which `object_store` hides), checked against the digest it was announced with,
//! and only then named. Its metadata, `<key>.meta.json`, is there a moment before it: alone it
//! harms nobody, while an object without its metadata would be one nobody can account for. Files,
//! metadata and folders are synced before success is told.
//!
//! Small objects are linked under their name, which fails when the name is taken
//! ([`PutMode::Create`]). Large ones are renamed, which `object_store` cannot make conditional:
//! there the name is looked up before the first byte and again before the rename. That is enough
//! because keys end in a submission id, which only one gateway delivers.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fs::{self, DirBuilder, File};
use std::io::{self, Read as _};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _};
use std::path::{Path as FilePath, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use object_store::local::LocalFileSystem;
use object_store::path::Path;
use object_store::{
    GetResultPayload, MultipartUpload, ObjectStore, ObjectStoreExt as _, PutMode, PutPayload,
};

use crate::depot::extents::u64_of;
use crate::terms::digest::{Digest, DigestKind, Hasher};
use crate::terms::fault::{Blame, Fault, Retry};
use crate::terms::ids::{StoreName, SubmissionId};
use crate::terms::limits;

/// A configured store. Objects are created, never overwritten.
#[derive(Clone, Debug)]
pub struct Store {
    name: StoreName,
    root: Arc<FilePath>,
    /// The file system of `root` when it was opened: another one means it was unmounted.
    device: u64,
    local: Arc<LocalFileSystem>,
    /// Creates that are still to fail.
    failing: Arc<AtomicU64>,
}

/// The object as it came to lie in the store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stored {
    /// `lake:acme/orders/day=20261120/sub_....csv`.
    pub address: String,
    /// Bytes.
    pub bytes: u64,
    /// It was there already, with the same digest: an earlier attempt had succeeded.
    pub already: bool,
}

/// Why an object could not be stored.
#[derive(Debug, thiserror::Error)]
pub enum StoreFault {
    /// The key exists with other content.
    #[error("store {store}: {key} exists with other content")]
    Occupied {
        /// The store.
        store: StoreName,
        /// The key.
        key: String,
    },
    /// The store did not take it; try again.
    #[error("store {store}: {detail}")]
    Unavailable {
        /// The store.
        store: StoreName,
        /// What it said.
        detail: String,
    },
    /// The URL of the config, or the key a policy made, is not one this build can use.
    #[error("store {store}: {detail}")]
    BadUrl {
        /// The store.
        store: StoreName,
        /// What is wrong and what would be right.
        detail: String,
    },
}

/// What the caller supplies, pulled piece by piece and hashed on the way.
struct Supply<F> {
    next: F,
    hasher: Hasher,
    bytes: u64,
    is_over: bool,
}

// === impl Store ===

impl Store {
    /// Opens the store of a config entry: `file:///abs/dir` or a path; creates the directory
    /// (0750) and makes sure that files can be made in it.
    ///
    /// # Errors
    /// [`StoreFault::BadUrl`], [`StoreFault::Unavailable`].
    pub fn open(name: StoreName, url: &str) -> Result<Self, StoreFault> {
        let root = directory(url).map_err(|detail| StoreFault::BadUrl {
            store: name.clone(),
            detail,
        })?;
        let unusable = |what: &str, e: &dyn std::fmt::Display| StoreFault::Unavailable {
            store: name.clone(),
            detail: format!("cannot {what} {}: {e}", root.display()),
        };
        DirBuilder::new()
            .recursive(true)
            .mode(0o750)
            .create(&root)
            .map_err(|e| unusable("create directory", &e))?;
        tempfile::tempfile_in(&root).map_err(|e| unusable("write to", &e))?;
        let device = fs::metadata(&root)
            .map_err(|e| unusable("look at", &e))?
            .dev();
        let local = LocalFileSystem::new_with_prefix(&root)
            .map_err(|e| unusable("open", &e))?
            .with_fsync(true);
        Ok(Self {
            name,
            root: root.into(),
            device,
            local: Arc::new(local),
            failing: Arc::default(),
        })
    }

    /// Whether [`Store::open`] would work, without making anything: the directory, or the nearest
    /// one above it that exists, is a directory that files can be made in.
    ///
    /// # Errors
    /// [`StoreFault::BadUrl`], [`StoreFault::Unavailable`].
    pub fn check(name: &StoreName, url: &str) -> Result<(), StoreFault> {
        let root = directory(url).map_err(|detail| StoreFault::BadUrl {
            store: name.clone(),
            detail,
        })?;
        let found = root.ancestors().find(|folder| folder.exists());
        let found = found.unwrap_or(&root);
        tempfile::tempfile_in(found)
            .map(drop)
            .map_err(|e| StoreFault::Unavailable {
                store: name.clone(),
                detail: format!("cannot write to {}: {e}", found.display()),
            })
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &StoreName {
        &self.name
    }

    /// Writes one whole object under a key of its own (`PutMode::Create`, fsync) and its metadata
    /// beside it (`<key>.meta.json`), object first visible when complete. `digest` is that of the
    /// object's bytes; an existing object with that digest is success. `next` gives the plaintext
    /// pieces in order and `None` at the end; it may block and is called off the async threads.
    /// Holds about 2 MiB of the object at a time, or two pieces if they are larger.
    ///
    /// # Errors
    /// [`StoreFault`]; after an error nothing partial is visible.
    pub async fn create<F>(
        &self,
        key: &str,
        bytes: u64,
        digest: Digest,
        metadata: &BTreeMap<String, String>,
        next: F,
    ) -> Result<Stored, StoreFault>
    where
        F: FnMut() -> Result<Option<Bytes>, String> + Send + 'static,
    {
        let path = self.path_of(key)?;
        self.is_there()?;
        let stored = |already| Stored {
            address: format!("{}:{path}", self.name),
            bytes,
            already,
        };
        if self.holds(&path, bytes, digest).await? {
            return Ok(stored(true));
        }
        let supply = Supply {
            next,
            hasher: Hasher::new(digest.kind),
            bytes: 0,
            is_over: false,
        };
        let (front, supply) = self.pull(supply).await?;
        if supply.is_over {
            self.complete(&supply, bytes, digest)?;
            self.put_metadata(&path, metadata).await?;
            let created = self
                .local
                .put_opts(&path, front, PutMode::Create.into())
                .await;
            return match created {
                Ok(_) => Ok(stored(false)),
                Err(object_store::Error::AlreadyExists { .. }) => {
                    // Made since it was looked up: by an attempt that was given up waiting for.
                    if self.holds(&path, bytes, digest).await? {
                        Ok(stored(true))
                    } else {
                        Err(self.unavailable(&format!("{path} came and went")))
                    }
                }
                Err(e) => Err(self.unavailable(&e)),
            };
        }
        let mut upload = self
            .local
            .put_multipart(&path)
            .await
            .map_err(|e| self.unavailable(&e))?;
        let staged = async {
            self.upload(&mut *upload, front, supply, bytes, digest)
                .await?;
            if self.holds(&path, bytes, digest).await? {
                return Ok(true);
            }
            self.put_metadata(&path, metadata).await?;
            Ok(false)
        };
        match staged.await {
            Ok(false) => match upload.complete().await {
                Ok(_) => Ok(stored(false)),
                Err(e) => Err(self.unavailable(&e)),
            },
            other => {
                // What cannot be removed now is swept at the next start.
                drop(upload.abort().await);
                other.map(stored)
            }
        }
    }

    /// Removes staging files a crash left behind: `<name>#<number>` where the name holds a
    /// submission id, so that nobody else's files are touched. For the start, before anything is
    /// delivered. Gives their number.
    ///
    /// # Errors
    /// [`StoreFault::Unavailable`].
    pub async fn sweep(&self) -> Result<u64, StoreFault> {
        self.is_there()?;
        let root = Arc::clone(&self.root);
        tokio::task::spawn_blocking(move || sweep_below(&root))
            .await
            .map_err(|e| self.unavailable(&e))?
            .map_err(|(path, e)| self.unavailable(&format!("{}: {e}", path.display())))
    }

    /// Makes the next `count` creates fail as [`StoreFault::Unavailable`]; for tests.
    #[doc(hidden)]
    pub fn danger_fail_next(&self, count: u64) {
        self.failing.store(count, Ordering::Release);
    }

    /// The key as a path below the root.
    fn path_of(&self, key: &str) -> Result<Path, StoreFault> {
        let bad = |why: &dyn std::fmt::Display| StoreFault::BadUrl {
            store: self.name.clone(),
            detail: format!("key {key:?} cannot name an object: {why}; correct the feed's key"),
        };
        let path = Path::parse(key).map_err(|e| bad(&e))?;
        let name = path.filename().ok_or_else(|| bad(&"it is empty"))?;
        if name.ends_with(METADATA_ENDING) {
            return Err(bad(&"that ending is for metadata"));
        }
        if is_staging(name) {
            return Err(bad(&"names ending in # and digits are for staging"));
        }
        // Room for the metadata's ending and a staging number.
        let name_bytes = name.len() + METADATA_ENDING.len() + 4;
        let longest = path.parts().map(|part| part.as_ref().len()).max();
        if longest.max(Some(name_bytes)) > Some(limits::NAME_BYTES_MAX) {
            return Err(bad(&"a part of it is too long for a file name"));
        }
        Ok(path)
    }

    /// Fails when told to, or when the directory is not the one that was opened: better no
    /// delivery than one onto the disk below a mount point.
    fn is_there(&self) -> Result<(), StoreFault> {
        let told = self
            .failing
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, |n| n.checked_sub(1));
        if told.is_ok() {
            return Err(self.unavailable(&"told to fail"));
        }
        let root = self.root.display();
        match fs::metadata(&self.root) {
            Ok(metadata) if metadata.dev() == self.device => Ok(()),
            Ok(_) => Err(self.unavailable(&format!(
                "{root} is on another file system than at start; mount it again, or restart"
            ))),
            Err(e) => Err(self.unavailable(&format!("{root}: {e}"))),
        }
    }

    /// Whether the object is there with just this content.
    async fn holds(&self, path: &Path, bytes: u64, digest: Digest) -> Result<bool, StoreFault> {
        let found = match self.local.get(path).await {
            Err(object_store::Error::NotFound { .. }) => return Ok(false),
            found => found.map_err(|e| self.unavailable(&e))?,
        };
        let occupied = || StoreFault::Occupied {
            store: self.name.clone(),
            key: path.to_string(),
        };
        if found.meta.size != bytes {
            return Err(occupied());
        }
        let file = match found.payload {
            GetResultPayload::File(file, _) => file,
            GetResultPayload::Stream(_) => {
                return Err(self.unavailable(&"a local directory gave no file"));
            }
        };
        let there = tokio::task::spawn_blocking(move || digest_of(file, digest.kind))
            .await
            .map_err(|e| self.unavailable(&e))?
            .map_err(|e| self.unavailable(&format!("reading {path}: {e}")))?;
        if there == digest {
            Ok(true)
        } else {
            Err(occupied())
        }
    }

    /// The next MiB or so of what the caller supplies.
    async fn pull<F>(&self, supply: Supply<F>) -> Result<(PutPayload, Supply<F>), StoreFault>
    where
        F: FnMut() -> Result<Option<Bytes>, String> + Send + 'static,
    {
        tokio::task::spawn_blocking(move || supply.pull())
            .await
            .map_err(|e| self.unavailable(&e))?
            .map_err(|detail| self.unavailable(&detail))
    }

    /// Everything to the staged file, in order; the next part is read while one is written.
    async fn upload<F>(
        &self,
        upload: &mut dyn MultipartUpload,
        front: PutPayload,
        mut supply: Supply<F>,
        bytes: u64,
        digest: Digest,
    ) -> Result<(), StoreFault>
    where
        F: FnMut() -> Result<Option<Bytes>, String> + Send + 'static,
    {
        let mut part = front;
        loop {
            if supply.bytes > bytes {
                break;
            }
            let is_last = supply.is_over;
            let put = upload.put_part(part);
            if is_last {
                put.await.map_err(|e| self.unavailable(&e))?;
                break;
            }
            let (put, pulled) = tokio::join!(put, self.pull(supply));
            put.map_err(|e| self.unavailable(&e))?;
            (part, supply) = pulled?;
        }
        self.complete(&supply, bytes, digest)
    }

    /// Whether just what was announced was supplied.
    fn complete<F>(
        &self,
        supply: &Supply<F>,
        bytes: u64,
        digest: Digest,
    ) -> Result<(), StoreFault> {
        let there = supply.bytes;
        if there != bytes {
            return Err(self.unavailable(&format!(
                "{there} bytes supplied where {bytes} were announced; nothing was stored"
            )));
        }
        if supply.hasher.clone().finish() != digest {
            return Err(self.unavailable(
                &"the bytes supplied have not the digest that was announced; nothing was stored",
            ));
        }
        Ok(())
    }

    async fn put_metadata(
        &self,
        path: &Path,
        metadata: &BTreeMap<String, String>,
    ) -> Result<(), StoreFault> {
        let beside = Path::parse(format!("{path}{METADATA_ENDING}"));
        let beside = beside.map_err(|e| self.unavailable(&e))?;
        let mut json = serde_json::to_vec_pretty(metadata).map_err(|e| self.unavailable(&e))?;
        json.push(b'\n');
        // Overwriting: an attempt that got no further than here left its own.
        match self.local.put(&beside, json.into()).await {
            Ok(_) => Ok(()),
            Err(e) => Err(self.unavailable(&e)),
        }
    }

    /// The directory behind it.
    pub(super) fn local(&self) -> &LocalFileSystem {
        &self.local
    }

    pub(super) fn unavailable(&self, detail: &dyn std::fmt::Display) -> StoreFault {
        StoreFault::Unavailable {
            store: self.name.clone(),
            detail: detail.to_string(),
        }
    }
}

// === impl StoreFault ===

impl Fault for StoreFault {
    fn code(&self) -> &'static str {
        match self {
            Self::BadUrl { .. } => "depot.store-bad-url",
            Self::Occupied { .. } => "depot.store-occupied",
            Self::Unavailable { .. } => "depot.store-unavailable",
        }
    }
    fn blame(&self) -> Blame {
        match self {
            Self::BadUrl { .. } | Self::Occupied { .. } => Blame::Operator,
            Self::Unavailable { .. } => Blame::Store,
        }
    }
    fn retry(&self) -> Retry {
        match self {
            Self::BadUrl { .. } | Self::Occupied { .. } => Retry::Never,
            Self::Unavailable { .. } => Retry::Later,
        }
    }
    fn told_partner(&self) -> Cow<'static, str> {
        match self {
            Self::BadUrl { .. } | Self::Occupied { .. } | Self::Unavailable { .. } => {
                "delivery is delayed on our side; nothing to do".into()
            }
        }
    }
}

// === impl Supply ===

impl<F> Supply<F>
where
    F: FnMut() -> Result<Option<Bytes>, String>,
{
    /// Blocks until about [`PART_BYTES`] are there or no more comes.
    fn pull(mut self) -> Result<(PutPayload, Self), String> {
        let (mut pieces, mut bytes) = (Vec::new(), 0);
        while bytes < PART_BYTES {
            let Some(piece) = (self.next)()? else {
                self.is_over = true;
                break;
            };
            self.hasher.update(&piece);
            bytes += piece.len();
            pieces.push(piece);
        }
        self.bytes = self.bytes.saturating_add(u64_of(bytes));
        Ok((PutPayload::from_iter(pieces), self))
    }
}

/// The directory a URL names.
fn directory(url: &str) -> Result<PathBuf, String> {
    let path = match url.split_once("://") {
        Some(("file", path)) if path.contains('%') => {
            return Err("percent escapes are not read; write the plain path instead".to_owned());
        }
        Some(("file", path)) => path,
        // Not the rest of the URL: it may hold a password.
        Some((scheme, _)) => {
            return Err(format!(
                "this version writes to local directories, not to {scheme}://; \
                 write file:///absolute/directory"
            ));
        }
        None => url,
    };
    if !path.starts_with('/') {
        return Err(format!(
            "{url:?} is not absolute; write file:///absolute/directory"
        ));
    }
    Ok(PathBuf::from(path))
}

/// Digest of a file.
fn digest_of(mut file: File, kind: DigestKind) -> io::Result<Digest> {
    let mut hasher = Hasher::new(kind);
    let mut buffer = vec![0; PART_BYTES];
    loop {
        let bytes = match file.read(&mut buffer) {
            Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
            read => read?,
        };
        let (front, _) = buffer.split_at(bytes);
        if front.is_empty() {
            break;
        }
        hasher.update(front);
    }
    Ok(hasher.finish())
}

/// `name#1`, as `object_store` calls what is not yet whole.
fn is_staging(name: &str) -> bool {
    name.rsplit_once('#')
        .is_some_and(|(_, number)| !number.is_empty() && number.bytes().all(|b| b.is_ascii_digit()))
}

fn holds_submission_id(name: &str) -> bool {
    name.match_indices("sub_").any(|(at, _)| {
        name.get(at..at + 30)
            .is_some_and(|id| SubmissionId::parse(id).is_ok())
    })
}

fn sweep_below(root: &FilePath) -> Result<u64, (PathBuf, io::Error)> {
    let mut swept = 0;
    let mut folders = vec![root.to_path_buf()];
    while let Some(folder) = folders.pop() {
        let fault = |e| (folder.clone(), e);
        let entries = match fs::read_dir(&folder) {
            // Not ours, as lost+found.
            Err(e) if e.kind() == io::ErrorKind::PermissionDenied && folder != root => continue,
            entries => entries.map_err(fault)?,
        };
        for entry in entries {
            let entry = entry.map_err(fault)?;
            let path = entry.path();
            let kind = entry.file_type().map_err(|e| (path.clone(), e))?;
            let name = entry.file_name();
            let name = name.to_string_lossy();
            if kind.is_dir() {
                folders.push(path);
            } else if kind.is_file() && is_staging(&name) && holds_submission_id(&name) {
                match fs::remove_file(&path) {
                    Err(e) if e.kind() == io::ErrorKind::NotFound => {}
                    removed => {
                        removed.map_err(|e| (path, e))?;
                        swept += 1;
                    }
                }
            }
        }
    }
    Ok(swept)
}

/// What is written at once. Objects that fit need one step, and are linked, not renamed.
const PART_BYTES: usize = 1024 * 1024;
/// Metadata lies beside the object under its name and this.
pub(super) const METADATA_ENDING: &str = ".meta.json";

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    const KEY: &str = "acme/orders/day=20261120/sub_01KB3Q9MA2C4E6G8J0MFJ8E2TB.csv";

    struct Bench {
        folder: tempfile::TempDir,
        store: Store,
    }

    impl Bench {
        fn new() -> Self {
            let folder = tempfile::tempdir().unwrap();
            let url = format!("file://{}/lake", folder.path().display());
            let store = Store::open(StoreName::parse("lake").unwrap(), &url).unwrap();
            Self { folder, store }
        }

        fn file(&self, key: &str) -> PathBuf {
            self.folder.path().join("lake").join(key)
        }

        /// Every file there is, staged ones too, sorted.
        fn files(&self) -> Vec<String> {
            let root = self.folder.path().join("lake");
            let (mut folders, mut files) = (vec![root.clone()], Vec::new());
            while let Some(folder) = folders.pop() {
                for entry in fs::read_dir(folder).unwrap() {
                    let path = entry.unwrap().path();
                    if path.is_dir() {
                        folders.push(path);
                    } else {
                        let path = path.strip_prefix(&root).unwrap();
                        files.push(path.to_str().unwrap().to_owned());
                    }
                }
            }
            files.sort();
            files
        }

        /// Announces `told` and supplies `given`, in pieces.
        async fn create(&self, key: &str, told: &[u8], given: &[u8]) -> Result<Stored, StoreFault> {
            let mut pieces = given.chunks(64 * 1024).map(Bytes::copy_from_slice);
            let mut pieces = pieces.by_ref().collect::<Vec<_>>().into_iter();
            let metadata = BTreeMap::from([("partner".to_owned(), "acme".to_owned())]);
            self.store
                .create(
                    key,
                    u64_of(told.len()),
                    digest(told),
                    &metadata,
                    move || Ok(pieces.next()),
                )
                .await
        }
    }

    fn digest(bytes: &[u8]) -> Digest {
        let mut hasher = Hasher::new(DigestKind::Sha256);
        hasher.update(bytes);
        hasher.finish()
    }

    fn content(bytes: usize) -> Vec<u8> {
        (0..bytes).map(|at| (at % 251).to_le_bytes()[0]).collect()
    }

    /// Sizes around nothing, one part, and several.
    const SIZES: [usize; 6] = [
        0,
        1,
        PART_BYTES - 1,
        PART_BYTES,
        PART_BYTES + 1,
        3 * PART_BYTES + 5,
    ];

    #[tokio::test]
    async fn an_object_is_stored_whole_with_its_metadata_beside_it() {
        for bytes in SIZES {
            let bench = Bench::new();
            let data = content(bytes);
            let stored = bench.create(KEY, &data, &data).await.unwrap();
            assert_eq!(stored.address, format!("lake:{KEY}"));
            assert_eq!((stored.bytes, stored.already), (u64_of(bytes), false));
            assert!(fs::read(bench.file(KEY)).unwrap() == data);
            let meta = format!("{KEY}.meta.json");
            let json: serde_json::Value =
                serde_json::from_slice(&fs::read(bench.file(&meta)).unwrap()).unwrap();
            assert_eq!(json, serde_json::json!({"partner": "acme"}));
            assert_eq!(bench.files(), [KEY.to_owned(), meta]);
        }
    }

    #[tokio::test]
    async fn the_same_object_again_is_success_and_another_is_refused() {
        for bytes in SIZES {
            let bench = Bench::new();
            let data = content(bytes);
            bench.create(KEY, &data, &data).await.unwrap();
            let files = bench.files();
            // The second attempt need not even supply it.
            let again = bench.create(KEY, &data, b"").await.unwrap();
            assert!(again.already);
            let mut others = vec![[data.as_slice(), b"x"].concat()];
            if bytes > 0 {
                let mut flipped = data.clone();
                flipped[bytes / 2] ^= 1;
                others.push(flipped);
            }
            for other in others {
                let refused = bench.create(KEY, &other, &other).await.unwrap_err();
                assert!(matches!(&refused, StoreFault::Occupied { key, .. } if key == KEY));
            }
            assert!(fs::read(bench.file(KEY)).unwrap() == data);
            assert_eq!(bench.files(), files);
        }
    }

    #[tokio::test]
    async fn an_object_made_while_its_twin_is_staged_is_never_overwritten() {
        for bytes in [10, 2 * PART_BYTES] {
            let bench = Bench::new();
            let data = content(bytes);
            let file = bench.file(KEY);
            for (winner, occupied) in [(data.clone(), false), (b"other".to_vec(), true)] {
                let mut pieces = vec![Bytes::from(data.clone())].into_iter();
                let (path, theirs) = (file.clone(), winner.clone());
                let stored = bench
                    .store
                    .create(
                        KEY,
                        u64_of(bytes),
                        digest(&data),
                        &BTreeMap::new(),
                        move || {
                            fs::create_dir_all(path.parent().unwrap()).unwrap();
                            fs::write(&path, &theirs).unwrap();
                            Ok(pieces.next())
                        },
                    )
                    .await;
                match stored {
                    Ok(stored) => assert!(stored.already && !occupied),
                    Err(StoreFault::Occupied { .. }) => assert!(occupied),
                    Err(e) => panic!("{e}"),
                }
                assert!(fs::read(&file).unwrap() == winner);
                assert!(bench.files().iter().all(|name| !is_staging(name)));
                fs::remove_file(&file).unwrap();
            }
        }
    }

    #[tokio::test]
    async fn less_more_or_other_bytes_than_announced_leave_nothing_behind() {
        for bytes in SIZES {
            let bench = Bench::new();
            let data = content(bytes);
            let mut wrong = vec![
                [data.as_slice(), b"x"].concat(),
                content(bytes + PART_BYTES),
            ];
            if bytes > 0 {
                let mut flipped = data.clone();
                flipped[bytes - 1] ^= 1;
                wrong.extend([flipped, data[..bytes - 1].to_vec(), Vec::new()]);
            }
            for given in wrong {
                let refused = bench.create(KEY, &data, &given).await.unwrap_err();
                assert!(matches!(refused, StoreFault::Unavailable { .. }));
                assert_eq!(bench.files(), [""; 0]);
            }
            bench.create(KEY, &data, &data).await.unwrap();
        }
    }

    #[tokio::test]
    async fn a_supply_that_fails_leaves_nothing_behind() {
        for whole_pieces in [0, 1, 4] {
            let bench = Bench::new();
            let mut left = whole_pieces;
            let refused = bench
                .store
                .create(KEY, 10_000_000, digest(b""), &BTreeMap::new(), move || {
                    if left == 0 {
                        return Err("spool says no".to_owned());
                    }
                    left -= 1;
                    Ok(Some(content(700_000).into()))
                })
                .await
                .unwrap_err();
            assert_eq!(refused.to_string(), "store lake: spool says no");
            assert_eq!(bench.files(), [""; 0]);
        }
    }

    #[tokio::test]
    async fn creates_that_are_told_to_fail_do_and_then_no_more() {
        let bench = Bench::new();
        bench.store.clone().danger_fail_next(2);
        for _ in 0..2 {
            let refused = bench.create(KEY, b"x", b"x").await.unwrap_err();
            assert!(matches!(refused, StoreFault::Unavailable { .. }));
        }
        bench.create(KEY, b"x", b"x").await.unwrap();
    }

    #[tokio::test]
    async fn a_directory_that_went_away_is_not_made_anew() {
        let bench = Bench::new();
        fs::remove_dir(bench.file("")).unwrap();
        let refused = bench.create(KEY, b"x", b"x").await.unwrap_err();
        assert!(matches!(refused, StoreFault::Unavailable { .. }));
        assert!(!bench.file("").exists());
        fs::create_dir(bench.file("")).unwrap();
        bench.create(KEY, b"x", b"x").await.unwrap();
    }

    #[tokio::test]
    async fn sweeping_takes_what_a_crash_left_and_nothing_else() {
        let bench = Bench::new();
        bench.create(KEY, b"x", b"x").await.unwrap();
        let mut stay = bench.files();
        for name in ["notes#1", "acme/report #12", "acme/sub_01KB#1"] {
            fs::write(bench.file(name), b"theirs").unwrap();
            stay.push(name.to_owned());
        }
        stay.sort();
        for left in [
            format!("{KEY}#1"),
            format!("{KEY}#23"),
            format!("{KEY}.meta.json#1"),
        ] {
            fs::write(bench.file(&left), b"half").unwrap();
        }
        assert_eq!(bench.store.sweep().await.unwrap(), 3);
        assert_eq!(bench.files(), stay);
        assert_eq!(bench.store.sweep().await.unwrap(), 0);
    }

    #[tokio::test]
    async fn what_a_crash_left_does_not_stop_the_next_attempt() {
        for bytes in [5, 2 * PART_BYTES] {
            let bench = Bench::new();
            let data = content(bytes);
            let meta = format!("{KEY}.meta.json");
            fs::create_dir_all(bench.file(KEY).parent().unwrap()).unwrap();
            fs::write(bench.file(&format!("{KEY}#1")), b"half").unwrap();
            fs::write(bench.file(&meta), b"{}").unwrap();
            bench.create(KEY, &data, &data).await.unwrap();
            assert!(fs::read(bench.file(KEY)).unwrap() == data);
            assert!(
                fs::read_to_string(bench.file(&meta))
                    .unwrap()
                    .contains("acme")
            );
        }
    }

    #[tokio::test]
    async fn keys_that_could_leave_the_store_or_confuse_it_are_refused() {
        let bench = Bench::new();
        for key in [
            "",
            "/",
            "../x",
            "a/../../x",
            "a/./x",
            "a//x",
            "a\nb",
            "x#1",
            "a/x.meta.json",
            &"x".repeat(250),
            &format!("{}/x", "y".repeat(256)),
        ] {
            let refused = bench.create(key, b"x", b"x").await.unwrap_err();
            assert!(matches!(refused, StoreFault::BadUrl { .. }), "{key:?}");
            assert!(refused.to_string().contains("key"), "{refused}");
        }
        assert_eq!(bench.files(), [""; 0]);
        for key in ["a b/%2e%2e/ä{}~#x.csv", "x#", &"x".repeat(240)] {
            bench.create(key, b"x", b"x").await.unwrap();
            assert!(bench.file(key).is_file(), "{key:?}");
        }
    }

    #[test]
    fn a_url_is_a_local_directory_or_refused_with_what_would_be_right() {
        let name = || StoreName::parse("lake").unwrap();
        let folder = tempfile::tempdir().unwrap();
        let plain = folder.path().join("a/b");
        Store::open(name(), plain.to_str().unwrap()).unwrap();
        let mode = fs::metadata(&plain).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o750);
        for (url, says) in [
            ("s3://key:hunter2@bucket/prefix", "s3://; write file:///"),
            ("gs://bucket", "gs://; write file:///"),
            ("out", "is not absolute"),
            ("file://out", "is not absolute"),
            ("file:///a%20b", "percent"),
            ("", "is not absolute"),
        ] {
            let refused = Store::open(name(), url).unwrap_err();
            assert!(matches!(refused, StoreFault::BadUrl { .. }), "{url}");
            let text = refused.to_string();
            assert!(text.contains(says) && !text.contains("hunter2"), "{text}");
        }
        fs::write(folder.path().join("file"), b"").unwrap();
        let under_a_file = folder.path().join("file/dir");
        let refused = Store::open(name(), under_a_file.to_str().unwrap()).unwrap_err();
        assert!(matches!(refused, StoreFault::Unavailable { .. }));
        assert!(refused.to_string().contains("file/dir"), "{refused}");
    }
}
