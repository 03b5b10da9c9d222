//! A result that goes to a file: there as a whole, or not at all.

use std::{
    fs::{self, File, OpenOptions},
    io::Write,
    path::{Path, PathBuf},
};

use crate::failure::Failure;

/// A file that is going to be written, and can be. What is at its place stays until then.
pub(crate) struct WholeFile {
    file: File,
    path: PathBuf,
    /// Where it is written; nothing for what is no regular file, and written as it is.
    draft: Option<PathBuf>,
}

impl WholeFile {
    /// Finds out now whether there will be a place for it.
    pub(crate) fn at(path: &Path) -> Result<Self, Failure> {
        let failed = |error| Failure::from(error).during(format!("cannot write {}", path.display()));
        if path.is_dir() {
            return Err(Failure::usage(format!("cannot write {}: it is a folder", path.display())));
        }
        let is_special = fs::metadata(path).is_ok_and(|metadata| !metadata.is_file());
        if is_special {
            let file = OpenOptions::new().write(true).open(path).map_err(failed)?;
            return Ok(Self { file, path: path.to_owned(), draft: None });
        }
        let mut draft = path.as_os_str().to_owned();
        draft.push(".part");
        let draft = PathBuf::from(draft);
        let file = File::create(&draft).map_err(failed)?;
        Ok(Self { file, path: path.to_owned(), draft: Some(draft) })
    }

    /// Writes it, and puts it in its place.
    pub(crate) fn put(mut self, text: &str) -> Result<(), Failure> {
        let written = self.file.write_all(text.as_bytes());
        let put = written.and_then(|()| match &self.draft {
            Some(draft) => self.file.sync_all().and_then(|()| fs::rename(draft, &self.path)),
            None => Ok(()),
        });
        put.map_err(|error| Failure::from(error).during(format!("cannot write {}", self.path.display())))
    }
}

impl Drop for WholeFile {
    fn drop(&mut self) {
        // It is not there any more when it was put in its place.
        if let Some(draft) = &self.draft {
            let _ = fs::remove_file(draft);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_there_stays_until_all_of_it_is_written() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.toml");
        fs::write(&path, "before").unwrap();
        drop(WholeFile::at(&path).unwrap());
        assert_eq!(fs::read_to_string(&path).unwrap(), "before");
        WholeFile::at(&path).unwrap().put("after").unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "after");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_place_that_is_none_is_found_out_at_once() {
        let folder = tempfile::tempdir().unwrap();
        assert!(WholeFile::at(folder.path()).is_err());
        assert!(WholeFile::at(&folder.path().join("none/a.toml")).is_err());
        let full = WholeFile::at(Path::new("/dev/full")).unwrap();
        assert!(full.put("x").is_err() && Path::new("/dev/full").exists());
    }
}
