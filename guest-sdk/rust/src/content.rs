//! Store and read content by its id (MCID). What is read is what the id names: the host verifies it first.
//!
//! Content that is not on this host needs the right `/mesh/fetch`; what is stored counts against the plugin's quota.

use crate::{Error, host};

/// How far a fetch has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// Verified and stored here.
    pub stored_bytes: u64,
    /// `None` until a provider has proved the size.
    pub total_bytes: Option<u64>,
    /// Providers sending now.
    pub providers: u32,
}

/// The state of a fetch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FetchState {
    /// Going on.
    Running(Progress),
    /// All of it is on this host.
    Done,
    /// What was stored stays; a later fetch goes on from there.
    Failed(Error),
}

/// Stores up to 1 MiB and gives its id; storing the same bytes again is free.
///
/// # Errors
/// `TooLarge` (use [`create`]), `QuotaExceeded`, `Unavailable` (disk).
pub fn put(data: &[u8]) -> Result<String, Error> {
    host::content_put(data)
}

/// Begins content of any size.
///
/// # Errors
/// `QuotaExceeded`, `Unavailable`.
pub fn create() -> Result<Writer, Error> {
    host::content_create().map(Writer)
}

/// Opens content for reading; parts that are not on this host are fetched as they are read.
///
/// # Errors
/// `Invalid` (not an id, unknown hash), `Denied`, `NotFound` (no provider), `Timeout`, `Unavailable`, `QuotaExceeded`
/// (64 are open).
pub fn open(mcid: &str) -> Result<Blob, Error> {
    host::content_open(mcid).map(Blob)
}

/// Begins to fetch all of it in the background. Look at [`Fetch::state`] from a timer.
///
/// # Errors
/// `Invalid`, `Denied`, `QuotaExceeded`.
pub fn fetch_all(mcid: &str) -> Result<Fetch, Error> {
    host::content_fetch_all(mcid).map(Fetch)
}

/// Whether all of it is on this host.
///
/// # Errors
/// `Invalid`.
pub fn has(mcid: &str) -> Result<bool, Error> {
    host::content_has(mcid)
}

/// Keeps it from being evicted, on behalf of this plugin and beyond the life of the instance. Twice is once.
///
/// # Errors
/// `Invalid`, `NotFound` (not complete on this host), `QuotaExceeded`.
pub fn pin(mcid: &str) -> Result<(), Error> {
    host::content_pin(mcid)
}

/// Lets it be evicted again. Unpinning what is not pinned does nothing.
///
/// # Errors
/// `Invalid`.
pub fn unpin(mcid: &str) -> Result<(), Error> {
    host::content_unpin(mcid)
}

/// Content open for reading. It cannot be evicted while open: drop it when done.
#[derive(Debug)]
pub struct Blob(host::Blob);

impl Blob {
    /// Its size in bytes.
    pub fn size(&self) -> u64 {
        self.0.size()
    }

    /// Reads `len` bytes (at most 1 MiB) from `offset`; fewer only at the end, none beyond it. Waits for bytes that are
    /// not on this host yet, within the handler's time budget.
    ///
    /// # Errors
    /// `TooLarge` (`len`), `Timeout`, `Unavailable` (no provider left), `NotFound` (gone everywhere).
    pub fn read(&self, offset: u64, len: u32) -> Result<Vec<u8>, Error> {
        self.0.read(offset, len)
    }
}

/// Content being written in pieces. Dropping it without [`finish`](Self::finish) forgets the pieces.
#[derive(Debug)]
pub struct Writer(host::Writer);

impl Writer {
    /// Adds a piece of at most 1 MiB.
    ///
    /// # Errors
    /// `TooLarge`, `QuotaExceeded`, `Unavailable` (disk).
    pub fn write(&self, piece: &[u8]) -> Result<(), Error> {
        self.0.write(piece)
    }

    /// Stores what was written and gives its id.
    ///
    /// # Errors
    /// `QuotaExceeded`, `Unavailable` (disk); the pieces are then forgotten.
    pub fn finish(self) -> Result<String, Error> {
        self.0.finish()
    }
}

/// A fetch in the background, until done, [`cancel`](Self::cancel), or the end of the instance: **dropping this handle
/// changes nothing**.
#[derive(Debug)]
pub struct Fetch(host::Fetch);

impl Fetch {
    /// How far it is.
    pub fn state(&self) -> FetchState {
        self.0.state()
    }

    /// Stops it; [`state`](Self::state) is then [`FetchState::Failed`] unless it was done.
    pub fn cancel(&self) {
        self.0.cancel();
    }
}
