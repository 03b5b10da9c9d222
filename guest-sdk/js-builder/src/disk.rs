//! The disk as modules are looked for on it, and all that was seen there.
//!
//! A component is made of what was read, and what was read follows from more than files: which names lead nowhere, which
//! are folders, where symbolic links go. Each look is kept as a [`Sight`], so that whoever asks later whether anything has
//! changed compares with what went in, not with what lay there when the build was over. A file is read once: all who ask
//! for it have the same text, also when it is saved meanwhile.

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use anyhow::{Context as _, Result};
use oxc_resolver::{FileMetadata, FileSystem, FileSystemOs, ResolveError};
use serde::Serialize;

/// What was seen at a path.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Sight {
    /// No file, folder or symbolic link.
    Nothing,
    /// A folder.
    Folder,
    /// A regular file, which was not read.
    File,
    /// A symbolic link, and where it says that it leads.
    Link(PathBuf),
    /// A file that was read: the BLAKE3 digest of its bytes, in hexadecimal.
    Read(String),
}

/// The disk. Clones see and keep the same.
#[derive(Clone, Default)]
pub struct Disk(Arc<Mutex<Seen>>);

#[derive(Default)]
struct Seen {
    /// A path that was another thing later has two: then nothing is the same as when it was built.
    sights: BTreeSet<(PathBuf, Sight)>,
    files: BTreeMap<PathBuf, Arc<[u8]>>,
}

impl Disk {
    /// A file's text, without the byte-order mark that some editors put first.
    ///
    /// # Errors
    /// It cannot be read, or is no text in UTF-8.
    pub fn text(&self, path: &Path) -> Result<String> {
        let bytes = self.bytes(path).with_context(|| path.display().to_string())?;
        let text = std::str::from_utf8(&bytes).with_context(|| path.display().to_string())?;
        Ok(text.strip_prefix('\u{feff}').unwrap_or(text).to_owned())
    }

    /// Whether a regular file lies there.
    pub fn is_file(&self, path: &Path) -> bool {
        self.symlink_metadata(path).is_ok() && path.is_file()
    }

    /// All that was seen but below `folder`.
    pub fn sights_outside(&self, folder: &Path) -> Vec<(PathBuf, Sight)> {
        self.seen().sights.iter().filter(|(path, _)| !path.starts_with(folder)).cloned().collect()
    }

    fn bytes(&self, path: &Path) -> io::Result<Arc<[u8]>> {
        let mut seen = self.seen();
        if let Some(bytes) = seen.files.get(path) {
            return Ok(Arc::clone(bytes));
        }
        let bytes: Arc<[u8]> = match std::fs::read(path) {
            Ok(bytes) => bytes.into(),
            Err(error) => {
                if error.kind() == io::ErrorKind::NotFound {
                    seen.sights.insert((path.to_owned(), Sight::Nothing));
                }
                return Err(error);
            }
        };
        seen.sights.insert((path.to_owned(), Sight::Read(blake3::hash(&bytes).to_hex().to_string())));
        seen.files.insert(path.to_owned(), Arc::clone(&bytes));
        Ok(bytes)
    }

    fn keep(&self, path: &Path, sight: Sight) {
        self.seen().sights.insert((path.to_owned(), sight));
    }

    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl FileSystem for Disk {
    fn new() -> Self {
        Self::default()
    }

    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        self.bytes(path).map(|bytes| bytes.to_vec())
    }

    fn read_to_string(&self, path: &Path) -> io::Result<String> {
        self.read(path).and_then(FileSystemOs::validate_string)
    }

    fn metadata(&self, path: &Path) -> io::Result<FileMetadata> {
        self.look(path, FileSystemOs::metadata(path))
    }

    fn symlink_metadata(&self, path: &Path) -> io::Result<FileMetadata> {
        self.look(path, FileSystemOs::symlink_metadata(path))
    }

    fn read_link(&self, path: &Path) -> Result<PathBuf, ResolveError> {
        FileSystemOs::read_link(path)
    }

    fn canonicalize(&self, path: &Path) -> io::Result<PathBuf> {
        FileSystemOs::canonicalize(path)
    }
}

impl Disk {
    /// Keeps what a look at a path has shown. A link that is followed was looked at itself before.
    fn look(&self, path: &Path, found: io::Result<FileMetadata>) -> io::Result<FileMetadata> {
        let sight = match &found {
            Ok(metadata) if metadata.is_symlink() => std::fs::read_link(path).map_or(Sight::Nothing, Sight::Link),
            Ok(metadata) if metadata.is_dir() => Sight::Folder,
            Ok(metadata) if metadata.is_file() => Sight::File,
            _ => Sight::Nothing,
        };
        let is_followed = sight != Sight::Nothing && !matches!(sight, Sight::Link(_)) && path.is_symlink();
        if !is_followed {
            self.keep(path, sight);
        }
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_read_is_kept_and_not_what_lies_there_later() {
        let folder = std::env::temp_dir().join(format!("macula-disk-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let file = folder.join("a.js");
        std::fs::write(&file, "\u{feff}1").unwrap();
        std::os::unix::fs::symlink("a.js", folder.join("link.js")).unwrap();
        let disk = Disk::default();
        assert_eq!(disk.text(&file).unwrap(), "1");
        std::fs::write(&file, "2").unwrap();
        assert_eq!(disk.text(&file).unwrap(), "1");
        assert!(disk.symlink_metadata(&folder.join("link.js")).unwrap().is_symlink());
        assert!(disk.metadata(&folder.join("link.js")).unwrap().is_file());
        assert!(disk.symlink_metadata(&folder.join("none.js")).is_err());
        let digest = blake3::hash("\u{feff}1".as_bytes()).to_hex().to_string();
        let expected = [
            (file, Sight::Read(digest)),
            (folder.join("link.js"), Sight::Link("a.js".into())),
            (folder.join("none.js"), Sight::Nothing),
        ];
        assert_eq!(disk.sights_outside(Path::new("/nowhere")), expected);
        assert!(disk.sights_outside(&folder).is_empty());
        std::fs::remove_dir_all(&folder).unwrap();
    }
}
