//! A folder of files, as the store needs it: so that the store can be tested with a disk that fails.
//!
//! Names are the store's own: segments of lower-case letters, digits, `.`, `-`, joined by `/`. Nothing that comes from others
//! is ever part of one unchecked: an MCID is written in base32.

mod folder;
#[cfg(any(test, feature = "testing"))]
mod memory;

use std::{io, sync::Arc};

pub use folder::FolderDisk;
#[cfg(any(test, feature = "testing"))]
pub use memory::{Crash, MemoryDisk};

/// A folder. All errors are the disk's, and what was asked for may have happened in part.
#[expect(clippy::missing_errors_doc, reason = "each fails as the disk says")]
pub trait Disk: Send + Sync + 'static {
    /// Opens a file that is there.
    fn open(&self, name: &str) -> io::Result<Arc<dyn File>>;

    /// Makes a file, which must not be there. After this returns, a crash does not undo it; what is in it is another matter.
    fn create(&self, name: &str) -> io::Result<Arc<dyn File>>;

    /// Gives a file another name, in place of what had it. After this returns, a crash does not undo it.
    fn rename(&self, from: &str, to: &str) -> io::Result<()>;

    /// Removes a file; none is no error.
    fn remove(&self, name: &str) -> io::Result<()>;

    /// All files, with their sizes in bytes.
    fn list(&self) -> io::Result<Vec<(String, u64)>>;

    /// Bytes that can still be written.
    fn free_bytes(&self) -> io::Result<u64>;
}

/// An open file. Several may write to different places of it at once.
#[expect(
    clippy::missing_errors_doc,
    clippy::len_without_is_empty,
    reason = "each fails as the disk says; a file is no list"
)]
pub trait File: Send + Sync {
    /// Fills `buffer` from `offset` on; an end before that is an error.
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()>;

    /// Writes all of `bytes` at `offset`.
    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()>;

    /// Its size in bytes.
    fn len(&self) -> io::Result<u64>;

    /// Cuts it, or adds zeros.
    fn set_len(&self, bytes: u64) -> io::Result<()>;

    /// After this returns, a crash does not undo what was written before.
    fn sync(&self) -> io::Result<()>;
}
