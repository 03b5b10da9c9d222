//! What a node remembers of the deployment slots that it follows and of packages: a private file each.

use std::{fs, path::PathBuf};

use macula_auth::Slot;
use macula_deploy::PackageId;

use super::{
    HomeError, NodeState,
    files::{make_directory, stored, write_private},
};

/// A file of a node's state. Cheap to clone.
#[derive(Debug, Clone)]
pub struct StateFile(PathBuf);

impl NodeState {
    /// The file of a slot; what it holds is for the caller to say.
    ///
    /// # Errors
    /// When its directory cannot be made.
    pub fn slot_file(&self, slot: &Slot) -> Result<StateFile, HomeError> {
        let directory = self.path.join("slots");
        make_directory(&directory)?;
        // A namespace has no '+', so no two slots share a file.
        Ok(StateFile(directory.join(format!("{}.json", slot.as_str().replace('/', "+")))))
    }

    /// Where the node keeps who wants which content kept.
    pub fn pins_file(&self) -> StateFile {
        StateFile(self.path.join("pins.json"))
    }

    /// Where the records of packages are.
    ///
    /// # Errors
    /// When the directory cannot be made.
    pub fn package_files(&self) -> Result<PackageFiles, HomeError> {
        let directory = self.path.join("packages");
        make_directory(&directory)?;
        Ok(PackageFiles(directory))
    }
}

/// The records of packages that a node knows: a file each. Cheap to clone.
#[derive(Debug, Clone)]
pub struct PackageFiles(PathBuf);

impl PackageFiles {
    /// All records.
    ///
    /// # Errors
    /// When the directory, or one that is there, cannot be read.
    pub fn read(&self) -> Result<Vec<Vec<u8>>, HomeError> {
        let failed = |error| HomeError::Io { action: "read", path: self.0.clone(), error };
        let mut records = Vec::new();
        for entry in fs::read_dir(&self.0).map_err(failed)? {
            let path = entry.map_err(failed)?.path();
            if path.extension().is_some_and(|extension| extension == "record") {
                records.extend(StateFile(path).read()?);
            }
        }
        Ok(records)
    }

    /// Keeps the record of a version, in the place of one that was there.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn write(&self, package: &PackageId, record: &[u8]) -> Result<(), HomeError> {
        StateFile(self.0.join(format!("{package}.record"))).write(record)
    }
}

/// A few records, each of some kilobytes, with their tokens.
const STATE_BYTES_MAX: u64 = 16 << 20;

impl StateFile {
    /// Reads it; `None` when it was never written.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn read(&self) -> Result<Option<Vec<u8>>, HomeError> {
        stored(&self.0, STATE_BYTES_MAX)
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
