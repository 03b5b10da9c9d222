//! A folder of the operating system, for this user alone.

use std::{
    fs::{self, DirBuilder, OpenOptions},
    io,
    os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt},
    path::{Path, PathBuf},
    sync::Arc,
};

use rustix::fs::OFlags;

use super::{Disk, File, Name};

/// The file that is locked while the folder is in use. It is no [`Name`], and stays.
const LOCK_NAME: &str = "lock";

/// See the module. Folders inside are made when they are needed and stay when they are empty. One process has a folder at
/// a time; clones are the same, and the last of them lets it go.
#[derive(Debug, Clone)]
pub struct FolderDisk {
    folder: PathBuf,
    _lock: Arc<fs::File>,
}

/// Why a folder cannot be had.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FolderError {
    /// Somebody has it, mostly another process. Nothing was touched.
    #[error("another process has it open")]
    InUse,
    /// It cannot be made, or not locked.
    #[error(transparent)]
    Io(#[from] io::Error),
}

impl FolderDisk {
    /// Of the folder at `path`, which is made if it is not there (mode 0700), durably. One that is there keeps its mode.
    ///
    /// # Errors
    /// See [`FolderError`].
    pub fn new(path: impl Into<PathBuf>) -> Result<Self, FolderError> {
        let folder = path.into();
        DirBuilder::new().recursive(true).mode(0o700).create(&folder)?;
        if let Some(parent) = folder.parent().filter(|parent| !parent.as_os_str().is_empty()) {
            sync_folder(parent)?;
        }
        let path = folder.join(LOCK_NAME);
        let lock = open_file(&path, OpenOptions::new().create(true).truncate(false).mode(0o600))?;
        match lock.try_lock() {
            Ok(()) => Ok(Self { folder, _lock: Arc::new(lock) }),
            Err(fs::TryLockError::WouldBlock) => Err(FolderError::InUse),
            Err(fs::TryLockError::Error(error)) => Err(error.into()),
        }
    }

    fn path(&self, name: &Name) -> PathBuf {
        self.folder.join(name.to_string())
    }

    /// Makes the folders above `path`, each durably.
    fn make_way(&self, path: &Path) -> io::Result<()> {
        let parent = path.parent().expect("a name stands in the folder");
        if parent == self.folder {
            return Ok(());
        }
        match fs::symlink_metadata(parent) {
            Ok(found) if found.is_dir() => return Ok(()),
            // A link could lead out of the folder.
            Ok(_) => return Err(no_file(parent)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
        self.make_way(parent)?;
        match DirBuilder::new().mode(0o700).create(parent) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
            _ => sync_folder(parent.parent().expect("it is inside the folder")),
        }
    }

    fn list_into(&self, folder: &Path, depth: u32, files: &mut Vec<(Name, u64)>) -> io::Result<()> {
        for entry in fs::read_dir(folder)? {
            let entry = entry?;
            let kind = entry.file_type()?;
            if kind.is_dir() && depth > 0 {
                self.list_into(&entry.path(), depth - 1, files)?;
            } else if kind.is_file() {
                let path = entry.path();
                let inside = path.strip_prefix(&self.folder).expect("listed inside the folder");
                if let Some(name) = inside.to_str().and_then(Name::parse) {
                    files.push((name, entry.metadata()?.len()));
                }
            }
        }
        Ok(())
    }
}

impl Disk for FolderDisk {
    fn create(&self, name: &Name) -> io::Result<Arc<dyn File>> {
        let path = self.path(name);
        self.make_way(&path)?;
        let file = OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).open(path)?;
        Ok(Arc::new(file))
    }

    fn open(&self, name: &Name) -> io::Result<Arc<dyn File>> {
        Ok(Arc::new(open_file(&self.path(name), &mut OpenOptions::new())?))
    }

    fn rename(&self, from: &Name, to: &Name) -> io::Result<()> {
        let (from, to) = (self.path(from), self.path(to));
        self.make_way(&to)?;
        fs::rename(from, &to)?;
        sync_folder(to.parent().expect("a name stands in the folder"))
    }

    fn remove(&self, name: &Name) -> io::Result<()> {
        fs::remove_file(self.path(name))
    }

    fn list(&self) -> io::Result<Vec<(Name, u64)>> {
        let mut files = Vec::new();
        self.list_into(&self.folder, 2, &mut files)?;
        Ok(files)
    }

    fn free_bytes(&self) -> io::Result<u64> {
        let about = rustix::fs::statvfs(&self.folder)?;
        Ok(about.f_bavail.saturating_mul(about.f_frsize))
    }
}

impl File for fs::File {
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        self.read_exact_at(buffer, offset)
    }

    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.write_all_at(bytes, offset)
    }

    fn set_len(&self, bytes: u64) -> io::Result<()> {
        fs::File::set_len(self, bytes)
    }

    fn len(&self) -> io::Result<u64> {
        Ok(self.metadata()?.len())
    }

    fn sync(&self) -> io::Result<()> {
        self.sync_data()
    }
}

/// Opens a regular file, and nothing else.
fn open_file(path: &Path, options: &mut OpenOptions) -> io::Result<fs::File> {
    // Without waiting: what stands there might be a pipe.
    let flags = (OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC).bits();
    let opened = options.read(true).write(true).custom_flags(flags.cast_signed()).open(path);
    let is_link = |error: &io::Error| error.raw_os_error() == Some(rustix::io::Errno::LOOP.raw_os_error());
    let file = opened.map_err(|error| if is_link(&error) { no_file(path) } else { error })?;
    if file.metadata()?.is_file() { Ok(file) } else { Err(no_file(path)) }
}

fn sync_folder(path: &Path) -> io::Result<()> {
    fs::File::open(path)?.sync_all()
}

fn no_file(path: &Path) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, format!("{} is a link, or no regular file", path.display()))
}
