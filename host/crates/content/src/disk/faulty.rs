//! A disk in memory on which everything goes wrong that a disk may do, the same for the same seed.
//!
//! It keeps what would outlive a crash apart from what is seen before. At a crash, of everything that was not synced
//! each sector of 512 bytes, each change of a length, and each name that was made or removed is kept or lost by itself.

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    sync::Arc,
};

use parking_lot::Mutex;

use super::{
    Disk, File, Name,
    memory::{read_from, write_to},
};

/// What is written at once at least.
const SECTOR_BYTES: usize = 512;
/// What a file takes at least, as on usual disks.
const BLOCK_BYTES: u64 = 4096;

/// What is to go wrong; nothing by default.
#[derive(Debug, Clone, Copy, Default)]
pub struct Faults {
    /// What a crash leaves of unsynced writes is drawn from this.
    pub seed: u64,
    /// Crash in the middle of the operation after so many more that change something. Reads do not count.
    pub crash_after: Option<u64>,
    /// The operation after so many more that change something fails, this once. A write is done in part; when it is a
    /// sync, some of what was not synced is lost.
    pub fail_after: Option<u64>,
    /// Bytes that fit in all, in blocks of 4,096; above that writes fail with [`io::ErrorKind::StorageFull`].
    pub capacity_bytes: Option<u64>,
    /// What [`Disk::free_bytes`] says; without it, that there is room. For others write too, it need not be true for
    /// long.
    pub free_bytes: Option<u64>,
}

/// See the module. Clones are the same disk.
#[derive(Clone, Default)]
pub struct FaultyDisk(Arc<Mutex<Inner>>);

#[derive(Default)]
struct Inner {
    faults: Faults,
    operations: u64,
    is_crashed: bool,
    /// Counts restarts: what was opened before one is closed.
    life: u64,
    names: BTreeMap<Name, usize>,
    durable_names: BTreeMap<Name, usize>,
    files: Vec<Stored>,
    draws: u64,
}

#[derive(Default, Clone)]
struct Stored {
    bytes: Vec<u8>,
    durable: Vec<u8>,
    pending: Vec<Change>,
    /// Which blocks hold something.
    blocks: BTreeSet<u64>,
}

#[derive(Clone)]
enum Change {
    Write(u64, Vec<u8>),
    Length(u64),
}

struct Open {
    disk: FaultyDisk,
    file: usize,
    life: u64,
}

impl FaultyDisk {
    /// An empty one.
    pub fn new(faults: Faults) -> Self {
        let disk = Self::default();
        disk.0.lock().faults = faults;
        disk
    }

    /// From now on, other faults.
    pub fn set_faults(&self, faults: Faults) {
        let mut inner = self.0.lock();
        inner.faults = faults;
        inner.operations = 0;
        inner.draws = 0;
    }

    /// Whether it has crashed, and every operation fails until [`FaultyDisk::restart`].
    pub fn is_crashed(&self) -> bool {
        self.0.lock().is_crashed
    }

    /// Operations that changed something since the faults were set.
    pub fn operations(&self) -> u64 {
        self.0.lock().operations
    }

    /// Crashes now unless it has already, and starts again without faults, with what is left. Files that were open
    /// fail.
    pub fn restart(&self) {
        let mut inner = self.0.lock();
        inner.crash();
        inner.faults = Faults { seed: inner.faults.seed, ..Faults::default() };
        inner.is_crashed = false;
    }

    /// Flips a bit of a file, for good. Does nothing when the file is not there, or shorter.
    pub fn flip(&self, name: &Name, bit: u64) {
        let inner = &mut *self.0.lock();
        if let Some(file) = inner.names.get(name) {
            let file = &mut inner.files[*file];
            for bytes in [&mut file.bytes, &mut file.durable] {
                if let Some(byte) = bytes.get_mut((bit / 8) as usize) {
                    *byte ^= 1 << (bit % 8);
                }
            }
        }
    }

    /// All bytes of a file.
    pub fn bytes(&self, name: &Name) -> Option<Vec<u8>> {
        let inner = self.0.lock();
        inner.names.get(name).map(|file| inner.files[*file].bytes.clone())
    }
}

impl Inner {
    /// Counts one that changes something. It is to be done also when it crashes: that may be lost again.
    fn begin(&mut self) -> io::Result<bool> {
        self.check()?;
        let crashes = self.faults.crash_after.is_some_and(|after| self.operations >= after);
        let fails = self.faults.fail_after == Some(self.operations);
        self.operations += 1;
        if fails { Err(io::Error::other("the disk fails this once")) } else { Ok(crashes) }
    }

    fn check(&self) -> io::Result<()> {
        if self.is_crashed { Err(io::Error::other("the disk has crashed")) } else { Ok(()) }
    }

    fn end(&mut self, crashes: bool) -> io::Result<()> {
        if crashes {
            self.crash();
        }
        self.check()
    }

    fn crash(&mut self) {
        if std::mem::replace(&mut self.is_crashed, true) {
            return;
        }
        self.life += 1;
        let names: BTreeSet<_> = self.names.keys().chain(self.durable_names.keys()).cloned().collect();
        for name in names {
            let kept = if self.coin() { self.names.get(&name) } else { self.durable_names.get(&name) };
            match kept.copied() {
                Some(file) => self.durable_names.insert(name, file),
                None => self.durable_names.remove(&name),
            };
        }
        self.names = self.durable_names.clone();
        for file in 0..self.files.len() {
            self.lose(file);
        }
    }

    /// Keeps some of what was not synced.
    fn lose(&mut self, file: usize) {
        for change in std::mem::take(&mut self.files[file].pending) {
            self.settle(file, change);
        }
        let file = &mut self.files[file];
        file.bytes.clone_from(&file.durable);
    }

    /// Makes some of a change durable.
    fn settle(&mut self, file: usize, change: Change) {
        match change {
            Change::Length(len) if self.coin() => self.files[file].durable.resize(len as usize, 0),
            Change::Length(_) => {}
            Change::Write(mut offset, bytes) => {
                let mut rest = &bytes[..];
                while !rest.is_empty() {
                    let room = SECTOR_BYTES - offset as usize % SECTOR_BYTES;
                    let (sector, more) = rest.split_at(room.min(rest.len()));
                    if self.coin() {
                        write_to(&mut self.files[file].durable, offset, sector);
                    }
                    offset += sector.len() as u64;
                    rest = more;
                }
            }
        }
    }

    fn coin(&mut self) -> bool {
        self.draws += 1;
        // Splitmix64: evenly spread, and the same for the same seed.
        let mut mixed =
            (self.faults.seed ^ 0x6d61_6375_6c61).wrapping_add(self.draws.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) & 1 == 1
    }

    fn used_bytes(&self) -> u64 {
        self.names.values().map(|file| self.files[*file].blocks.len() as u64 * BLOCK_BYTES).sum()
    }

    fn write(&mut self, file: usize, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let blocks = offset / BLOCK_BYTES..(offset + bytes.len() as u64).div_ceil(BLOCK_BYTES);
        let used = if self.faults.capacity_bytes.is_some() { self.used_bytes() } else { 0 };
        let stored = &mut self.files[file];
        let new: Vec<_> = blocks.filter(|block| !stored.blocks.contains(block)).collect();
        if self.faults.capacity_bytes.is_some_and(|capacity| used + new.len() as u64 * BLOCK_BYTES > capacity) {
            return Err(io::ErrorKind::StorageFull.into());
        }
        stored.blocks.extend(new);
        write_to(&mut stored.bytes, offset, bytes);
        stored.pending.push(Change::Write(offset, bytes.to_vec()));
        Ok(())
    }
}

impl Disk for FaultyDisk {
    fn create(&self, name: &Name) -> io::Result<Arc<dyn File>> {
        let mut inner = self.0.lock();
        let crashes = inner.begin()?;
        if inner.names.contains_key(name) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        let file = inner.files.len();
        inner.files.push(Stored::default());
        inner.names.insert(name.clone(), file);
        inner.end(crashes)?;
        Ok(Arc::new(Open { disk: self.clone(), file, life: inner.life }))
    }

    fn open(&self, name: &Name) -> io::Result<Arc<dyn File>> {
        let inner = self.0.lock();
        inner.check()?;
        let file = *inner.names.get(name).ok_or(io::ErrorKind::NotFound)?;
        Ok(Arc::new(Open { disk: self.clone(), file, life: inner.life }))
    }

    fn rename(&self, from: &Name, to: &Name) -> io::Result<()> {
        let mut inner = self.0.lock();
        let crashes = inner.begin()?;
        let file = inner.names.remove(from).ok_or(io::ErrorKind::NotFound)?;
        if !crashes || inner.coin() {
            inner.names.insert(to.clone(), file);
            inner.durable_names.insert(to.clone(), file);
            inner.durable_names.remove(from);
        } else {
            inner.names.insert(from.clone(), file);
        }
        inner.end(crashes)
    }

    fn remove(&self, name: &Name) -> io::Result<()> {
        let mut inner = self.0.lock();
        let crashes = inner.begin()?;
        inner.names.remove(name).ok_or(io::ErrorKind::NotFound)?;
        inner.end(crashes)
    }

    fn list(&self) -> io::Result<Vec<(Name, u64)>> {
        let inner = self.0.lock();
        inner.check()?;
        Ok(inner.names.iter().map(|(name, file)| (name.clone(), inner.files[*file].bytes.len() as u64)).collect())
    }

    fn free_bytes(&self) -> io::Result<u64> {
        let inner = self.0.lock();
        inner.check()?;
        Ok(inner.faults.free_bytes.unwrap_or(u64::MAX))
    }
}

impl Open {
    fn inner(&self) -> io::Result<parking_lot::MutexGuard<'_, Inner>> {
        let inner = self.disk.0.lock();
        if inner.life == self.life { Ok(inner) } else { Err(io::Error::other("the disk has crashed")) }
    }
}

impl File for Open {
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        read_from(&self.inner()?.files[self.file].bytes, offset, buffer)
    }

    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let mut inner = self.inner()?;
        let crashes = match inner.begin() {
            Err(error) if !inner.is_crashed => {
                inner.write(self.file, offset, &bytes[..bytes.len() / 2])?;
                return Err(error);
            }
            crashes => crashes?,
        };
        inner.write(self.file, offset, bytes)?;
        inner.end(crashes)
    }

    fn set_len(&self, bytes: u64) -> io::Result<()> {
        let mut inner = self.inner()?;
        let crashes = inner.begin()?;
        let file = &mut inner.files[self.file];
        file.bytes.resize(bytes as usize, 0);
        file.blocks.retain(|block| block * BLOCK_BYTES < bytes);
        file.pending.push(Change::Length(bytes));
        inner.end(crashes)
    }

    fn len(&self) -> io::Result<u64> {
        Ok(self.inner()?.files[self.file].bytes.len() as u64)
    }

    fn sync(&self) -> io::Result<()> {
        let mut inner = self.inner()?;
        let crashes = match inner.begin() {
            Err(error) if !inner.is_crashed => {
                // As some systems do: what could not be written is not tried again.
                inner.lose(self.file);
                return Err(error);
            }
            crashes => crashes?,
        };
        if !crashes {
            let file = &mut inner.files[self.file];
            for change in std::mem::take(&mut file.pending) {
                match change {
                    Change::Length(len) => file.durable.resize(len as usize, 0),
                    Change::Write(offset, bytes) => write_to(&mut file.durable, offset, &bytes),
                }
            }
        }
        inner.end(crashes)
    }
}
