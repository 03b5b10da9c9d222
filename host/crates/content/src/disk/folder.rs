//! A real folder.

use std::{
    fs, io,
    os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt},
    path::{Path, PathBuf},
    sync::Arc,
};

use super::{Disk, File};

/// A folder of the file system, for this user alone: files 0600, folders 0700.
#[derive(Debug)]
pub struct FolderDisk {
    root: PathBuf,
}

impl FolderDisk {
    /// The folder `root`, made when it is not there.
    ///
    /// # Errors
    /// As the system says.
    pub fn new(root: &Path) -> io::Result<Self> {
        make(root)?;
        sync_folder(root)?;
        Ok(Self { root: root.to_owned() })
    }

    fn path(&self, name: &str) -> io::Result<PathBuf> {
        let is_plain = |segment: &str| {
            let known = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b".-".contains(&byte);
            !segment.is_empty() && !segment.starts_with('.') && segment.bytes().all(known)
        };
        if name.split('/').all(is_plain) {
            return Ok(self.root.join(name));
        }
        Err(io::Error::new(io::ErrorKind::InvalidInput, format!("{name:?} is no name of a store's file")))
    }

    /// Makes the folder that a file is in, to last.
    fn make_folder_of(&self, path: &Path) -> io::Result<()> {
        let folder = path.parent().unwrap_or(&self.root);
        if !folder.exists() {
            make(folder)?;
            // Its parent may be new as well: `data`, and in it `ab`.
            let mut made = folder;
            while made != self.root {
                sync_folder(made)?;
                made = made.parent().unwrap_or(&self.root);
            }
        }
        Ok(())
    }

    fn open_with(&self, name: &str, options: &mut fs::OpenOptions) -> io::Result<Arc<dyn File>> {
        let path = self.path(name)?;
        // Neither a link to somewhere else nor a pipe, which would wait for somebody at its other end.
        match fs::symlink_metadata(&path) {
            Ok(known) if !known.is_file() => {
                Err(io::Error::new(io::ErrorKind::InvalidInput, format!("{} is no file", path.display())))
            }
            _ => Ok(Arc::new(options.read(true).write(true).mode(0o600).open(&path)?)),
        }
    }
}

fn make(path: &Path) -> io::Result<()> {
    fs::DirBuilder::new().recursive(true).mode(0o700).create(path)
}

fn sync_folder(of: &Path) -> io::Result<()> {
    fs::File::open(of.parent().unwrap_or(of))?.sync_all()
}

impl Disk for FolderDisk {
    fn open(&self, name: &str) -> io::Result<Arc<dyn File>> {
        self.open_with(name, &mut fs::OpenOptions::new())
    }

    fn create(&self, name: &str) -> io::Result<Arc<dyn File>> {
        let path = self.path(name)?;
        self.make_folder_of(&path)?;
        let file = self.open_with(name, fs::OpenOptions::new().create_new(true))?;
        sync_folder(&path)?;
        Ok(file)
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let (from, to) = (self.path(from)?, self.path(to)?);
        self.make_folder_of(&to)?;
        fs::rename(&from, &to)?;
        sync_folder(&to)?;
        if from.parent() == to.parent() { Ok(()) } else { sync_folder(&from) }
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        match fs::remove_file(self.path(name)?) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    fn list(&self) -> io::Result<Vec<(String, u64)>> {
        let mut files = Vec::new();
        let mut folders = vec![self.root.clone()];
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(&folder)? {
                let entry = entry?;
                let kind = entry.file_type()?;
                if kind.is_dir() {
                    folders.push(entry.path());
                } else if let Ok(name) = entry.path().strip_prefix(&self.root)
                    && let Some(name) = name.to_str()
                    && kind.is_file()
                {
                    files.push((name.to_owned(), entry.metadata()?.len()));
                }
            }
        }
        Ok(files)
    }

    fn free_bytes(&self) -> io::Result<u64> {
        let system = rustix::fs::statvfs(&self.root)?;
        Ok(system.f_bavail.saturating_mul(system.f_frsize))
    }
}

impl File for fs::File {
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        self.read_exact_at(buffer, offset)
    }

    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.write_all_at(bytes, offset)
    }

    fn len(&self) -> io::Result<u64> {
        Ok(self.metadata()?.len())
    }

    fn set_len(&self, bytes: u64) -> io::Result<()> {
        fs::File::set_len(self, bytes)
    }

    fn sync(&self) -> io::Result<()> {
        self.sync_data()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_its_own_names_and_regular_files() {
        let folder = tempfile::tempdir().unwrap();
        let disk = FolderDisk::new(&folder.path().join("content")).unwrap();
        for name in ["", "/etc/passwd", "../x", "a/../b", "a//b", ".hidden", "A", "a b"] {
            assert!(disk.create(name).is_err(), "{name}");
            assert!(disk.open(name).is_err(), "{name}");
        }
        std::os::unix::fs::symlink("/etc/passwd", folder.path().join("content/link")).unwrap();
        assert!(disk.open("link").is_err());
        let file = disk.create("data/ab/x.data").unwrap();
        assert!(disk.create("data/ab/x.data").is_err(), "it is there");
        file.write_at(3, b"abc").unwrap();
        file.sync().unwrap();
        disk.rename("data/ab/x.data", "data/cd/y.data").unwrap();
        assert_eq!(disk.list().unwrap(), [("data/cd/y.data".to_owned(), 6)]);
        let mut read = [9; 6];
        disk.open("data/cd/y.data").unwrap().read_at(0, &mut read).unwrap();
        assert_eq!(&read, b"\0\0\0abc");
        assert!(disk.open("data/cd/y.data").unwrap().read_at(4, &mut read).is_err(), "beyond the end");
        disk.remove("data/cd/y.data").unwrap();
        disk.remove("data/cd/y.data").unwrap();
        assert!(disk.free_bytes().unwrap() > 0);
    }
}
