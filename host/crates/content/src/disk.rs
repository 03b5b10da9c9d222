//! What the store asks of a disk: one folder of files, each with a name of its own making.
//!
//! Owns the names ([`Name`]) and the two traits; [`FolderDisk`] is a folder of the operating system, [`MemoryDisk`] one
//! that is gone with the process, and `FaultyDisk` (for tests) one that crashes, fills up and flips bits.
//!
//! What may be relied upon after a crash: bytes of a file up to its last [`File::sync`], and a name given by
//! [`Disk::rename`]. What was written since is there whole, in part, or not at all; a name that was made or removed may
//! be there or not. Specified in `docs/protocol/content.md`, “Stored”.

#[cfg(any(test, feature = "testing"))]
mod faulty;
mod folder;
mod memory;
mod name;

use std::{io, sync::Arc};

#[cfg(any(test, feature = "testing"))]
pub use faulty::{Faults, FaultyDisk};
pub use folder::{FolderDisk, FolderError};
pub use memory::MemoryDisk;
pub use name::Name;

/// A folder. All calls block, and may come from several threads at once.
pub trait Disk: Send + Sync + 'static {
    /// Makes a file, empty, and readable by this user only. Its name need not outlive a crash before it is renamed.
    ///
    /// # Errors
    /// [`io::ErrorKind::AlreadyExists`], and whatever the disk says; there is no new file.
    fn create(&self, name: &Name) -> io::Result<Arc<dyn File>>;

    /// Opens a file for reading and writing.
    ///
    /// # Errors
    /// [`io::ErrorKind::NotFound`]; [`io::ErrorKind::InvalidInput`] when it is a link, a folder, or another thing that
    /// is no file.
    fn open(&self, name: &Name) -> io::Result<Arc<dyn File>>;

    /// Gives a file another name, in place of a file that has it. Who has either of them open goes on with what it has.
    /// When this returns, the name outlives a crash; before, the file has one of the two.
    ///
    /// # Errors
    /// What the disk says; the file has one of the two names.
    fn rename(&self, from: &Name, to: &Name) -> io::Result<()>;

    /// Takes a name away. The bytes go when nobody has the file open. After a crash it may be there again.
    ///
    /// # Errors
    /// [`io::ErrorKind::NotFound`], and what the disk says; then it is still there.
    fn remove(&self, name: &Name) -> io::Result<()>;

    /// All files that have a [`Name`], with their sizes in bytes, in no order. Others are left out.
    ///
    /// # Errors
    /// What the disk says.
    fn list(&self) -> io::Result<Vec<(Name, u64)>>;

    /// How many bytes more fit, as far as the disk knows.
    ///
    /// # Errors
    /// What the disk says.
    fn free_bytes(&self) -> io::Result<u64>;
}

/// An open file; closed when dropped.
pub trait File: Send + Sync {
    /// Fills `buffer` from `offset` on.
    ///
    /// # Errors
    /// [`io::ErrorKind::UnexpectedEof`] when the file ends before; what is in `buffer` then means nothing.
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()>;

    /// Writes all of `bytes` at `offset`; what is between there and the end of the file reads as zeros.
    ///
    /// # Errors
    /// [`io::ErrorKind::StorageFull`], and what else the disk says; a part may be written.
    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()>;

    /// Cuts the file off, or lengthens it by zeros that take no place.
    ///
    /// # Errors
    /// What the disk says; the length is what it was.
    fn set_len(&self, bytes: u64) -> io::Result<()>;

    /// Its length in bytes.
    ///
    /// # Errors
    /// What the disk says.
    fn len(&self) -> io::Result<u64>;

    /// Whether its length is 0.
    ///
    /// # Errors
    /// What the disk says.
    fn is_empty(&self) -> io::Result<bool> {
        Ok(self.len()? == 0)
    }

    /// Returns when all that was written before outlives a crash.
    ///
    /// # Errors
    /// What the disk says: nothing is known then of what was written since the last time.
    fn sync(&self) -> io::Result<()>;
}

#[cfg(test)]
mod tests;
