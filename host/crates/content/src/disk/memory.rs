//! A disk in memory, which fails on command.
//!
//! Every operation that changes something counts. At the one that was named, the disk *crashes*: that operation and all after it
//! fail, until [`MemoryDisk::restart`]. What was synced is there then; of what was written since, any part may be, in pieces
//! of 512 bytes, as a seed says. A rename is durable when it returns; one that the crash interrupts may have happened.

use std::{
    collections::BTreeMap,
    io,
    sync::{Arc, Weak},
};

use parking_lot::Mutex;

use super::{Disk, File};

/// What a drive writes whole or not at all, in bytes.
const SECTOR: usize = 512;

/// See the module. Clones are the same disk.
#[derive(Debug, Clone, Default)]
pub struct MemoryDisk(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    files: BTreeMap<String, Arc<Mutex<Content>>>,
    /// Changes until the crash.
    crash: Option<Crash>,
    is_down: bool,
    /// Counts restarts: files that were opened before one are dead.
    run: u64,
    bytes_max: Option<u64>,
}

/// When a disk fails, and what becomes of what was not synced.
#[derive(Debug, Clone, Copy)]
pub struct Crash {
    /// Changes that succeed before it.
    pub after: u64,
    /// By which the pieces that survive are drawn.
    pub seed: u64,
}

#[derive(Debug, Default)]
struct Content {
    /// As it is seen.
    now: Vec<u8>,
    /// As it would be after a crash, at least.
    synced: Vec<u8>,
}

struct Handle {
    disk: Weak<Mutex<State>>,
    run: u64,
    content: Arc<Mutex<Content>>,
}

fn down() -> io::Error {
    io::Error::other("the disk is gone")
}

impl MemoryDisk {
    /// Crashes later; see the module.
    pub fn crash(&self, crash: Crash) {
        self.0.lock().crash = Some(crash);
    }

    /// Whether it has crashed.
    pub fn is_down(&self) -> bool {
        self.0.lock().is_down
    }

    /// Is there again, with what has survived. Also without a crash: then what was not synced is lost in the same way.
    pub fn restart(&self, seed: u64) {
        let mut state = self.0.lock();
        let mut random = seed | 1;
        for content in state.files.values() {
            content.lock().lose(&mut random);
        }
        state.is_down = false;
        state.crash = None;
        state.run += 1;
    }

    /// Holds so many bytes in all; more is refused as a full disk refuses.
    pub fn limit(&self, bytes_max: Option<u64>) {
        self.0.lock().bytes_max = bytes_max;
    }

    /// Flips a bit.
    ///
    /// # Panics
    /// When there is no such file or byte.
    pub fn flip(&self, name: &str, byte: usize) {
        let state = self.0.lock();
        let mut content = state.files[name].lock();
        content.now[byte] ^= 1;
        content.synced = content.now.clone();
    }
}

/// The next number of a sequence that looks random (xorshift64).
fn next(random: &mut u64) -> u64 {
    *random ^= *random << 13;
    *random ^= *random >> 7;
    *random ^= *random << 17;
    *random
}

impl Content {
    fn lose(&mut self, random: &mut u64) {
        if self.now == self.synced {
            return;
        }
        let len = if next(random).is_multiple_of(2) { self.now.len() } else { self.synced.len() };
        let mut left = self.synced.clone();
        left.resize(len, 0);
        for start in (0..len.min(self.now.len())).step_by(SECTOR) {
            let end = (start + SECTOR).min(len).min(self.now.len());
            if next(random).is_multiple_of(2) {
                left[start..end].copy_from_slice(&self.now[start..end]);
            }
        }
        self.now = left.clone();
        self.synced = left;
    }
}

impl State {
    /// Counts a change; whether it may happen.
    fn change(&mut self) -> io::Result<()> {
        if self.is_down {
            return Err(down());
        }
        if let Some(crash) = &mut self.crash {
            if crash.after == 0 {
                self.is_down = true;
                return Err(down());
            }
            crash.after -= 1;
        }
        Ok(())
    }

    fn bytes(&self) -> u64 {
        self.files.values().map(|content| content.lock().now.len() as u64).sum()
    }

    fn room_for(&self, more: u64) -> io::Result<()> {
        match self.bytes_max {
            Some(max) if self.bytes() + more > max => Err(io::ErrorKind::StorageFull.into()),
            _ => Ok(()),
        }
    }

    fn find(&self, name: &str) -> io::Result<Arc<Mutex<Content>>> {
        self.files.get(name).cloned().ok_or_else(|| io::ErrorKind::NotFound.into())
    }
}

impl MemoryDisk {
    fn handle(&self, run: u64, content: Arc<Mutex<Content>>) -> Arc<dyn File> {
        Arc::new(Handle { disk: Arc::downgrade(&self.0), run, content })
    }
}

impl Disk for MemoryDisk {
    fn open(&self, name: &str) -> io::Result<Arc<dyn File>> {
        let state = self.0.lock();
        if state.is_down {
            return Err(down());
        }
        Ok(self.handle(state.run, state.find(name)?))
    }

    fn create(&self, name: &str) -> io::Result<Arc<dyn File>> {
        let mut state = self.0.lock();
        state.change()?;
        if state.files.contains_key(name) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        let content = Arc::<Mutex<Content>>::default();
        state.files.insert(name.to_owned(), Arc::clone(&content));
        Ok(self.handle(state.run, content))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let mut state = self.0.lock();
        let outcome = state.change();
        let interrupted = outcome.is_err() && state.crash.is_some_and(|crash| crash.seed.is_multiple_of(2));
        if outcome.is_ok() || interrupted {
            let content = state.find(from)?;
            state.files.remove(from);
            state.files.insert(to.to_owned(), content);
        }
        outcome
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        let mut state = self.0.lock();
        state.change()?;
        state.files.remove(name);
        Ok(())
    }

    fn list(&self) -> io::Result<Vec<(String, u64)>> {
        let state = self.0.lock();
        if state.is_down {
            return Err(down());
        }
        Ok(state.files.iter().map(|(name, content)| (name.clone(), content.lock().now.len() as u64)).collect())
    }

    fn free_bytes(&self) -> io::Result<u64> {
        let state = self.0.lock();
        Ok(state.bytes_max.map_or(u64::MAX, |max| max.saturating_sub(state.bytes())))
    }
}

impl Handle {
    /// The disk, if it is still the one that this file was opened on.
    fn disk(&self) -> io::Result<Arc<Mutex<State>>> {
        self.disk.upgrade().filter(|disk| disk.lock().run == self.run).ok_or_else(down)
    }

    fn grow(&self, state: &State, len: usize) -> io::Result<()> {
        let more = len.saturating_sub(self.content.lock().now.len());
        state.room_for(more as u64)
    }
}

impl File for Handle {
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        let disk = self.disk()?;
        if disk.lock().is_down {
            return Err(down());
        }
        let content = self.content.lock();
        let from = usize::try_from(offset).unwrap_or(usize::MAX);
        let bytes = content.now.get(from..from.saturating_add(buffer.len()));
        buffer.copy_from_slice(bytes.ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }

    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let disk = self.disk()?;
        let mut state = disk.lock();
        let outcome = state.change();
        let (from, to) = (offset as usize, offset as usize + bytes.len());
        // The write that a crash interrupts may leave pieces.
        if outcome.is_ok() || state.crash.is_some_and(|crash| crash.after == 0) {
            self.grow(&state, to)?;
            let mut content = self.content.lock();
            if content.now.len() < to {
                content.now.resize(to, 0);
            }
            content.now[from..to].copy_from_slice(bytes);
        }
        outcome
    }

    fn len(&self) -> io::Result<u64> {
        self.disk()?;
        Ok(self.content.lock().now.len() as u64)
    }

    fn set_len(&self, bytes: u64) -> io::Result<()> {
        let disk = self.disk()?;
        let mut state = disk.lock();
        state.change()?;
        self.grow(&state, bytes as usize)?;
        self.content.lock().now.resize(bytes as usize, 0);
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        self.disk()?.lock().change()?;
        let mut content = self.content.lock();
        content.synced = content.now.clone();
        Ok(())
    }
}
