//! What a node remembers of the deployment slots that it follows: a private file each.

use std::{fs, io, path::PathBuf};

use macula_auth::Slot;

use super::{
    HomeError, NodeState,
    files::{make_directory, write_private},
};

/// A slot's file. Cheap to clone.
#[derive(Debug, Clone)]
pub struct SlotFile(PathBuf);

impl NodeState {
    /// The file of a slot; what it holds is for the caller to say.
    ///
    /// # Errors
    /// When its directory cannot be made.
    pub fn slot_file(&self, slot: &Slot) -> Result<SlotFile, HomeError> {
        let directory = self.path.join("slots");
        make_directory(&directory)?;
        // A namespace has no '+', so no two slots share a file.
        Ok(SlotFile(directory.join(format!("{}.json", slot.as_str().replace('/', "+")))))
    }
}

impl SlotFile {
    /// Reads it; `None` when it was never written.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn read(&self) -> Result<Option<Vec<u8>>, HomeError> {
        match fs::read(&self.0) {
            Ok(bytes) => Ok(Some(bytes)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(HomeError::Io { action: "read", path: self.0.clone(), error }),
        }
    }

    /// Replaces it; when this returns, it is on the disk.
    ///
    /// # Errors
    /// When it cannot be written; then the old one is still there.
    pub fn write(&self, bytes: &[u8]) -> Result<(), HomeError> {
        write_private(&self.0, bytes)
    }

    /// Where it is, for people.
    pub fn path(&self) -> &std::path::Path {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use crate::Home;

    #[test]
    fn a_file_for_each_slot() {
        let directory = tempfile::tempdir().unwrap();
        let node = Home::open(directory.path()).unwrap().node("host").unwrap();
        let [one, other] = ["a.b/c", "a/b-c"].map(|slot| node.slot_file(&slot.parse().unwrap()).unwrap());
        assert_eq!(one.read().unwrap(), None);
        one.write(b"1").unwrap();
        one.write(b"2").unwrap();
        assert_eq!((one.read().unwrap().as_deref(), other.read().unwrap()), (Some(&b"2"[..]), None));
    }
}
