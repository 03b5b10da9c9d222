//! The store: content on a disk, whole or in part, with who wants it.
//!
//! Owns the files, their index, quotas, pins and what has to go when there is no room. Leaves to others who may have
//! what, and what time it is: `now` is Unix time in milliseconds everywhere, and orders uses, nothing else. Everything
//! blocks for as long as the disk does.
//!
//! How it works:
//!
//! 1. All records are in memory (`ledger`), and looked at under a lock that is never held while something is read,
//!    written or hashed.
//! 2. What changes records goes one after the other: it plans, makes files durable under their names, commits the rows
//!    to the index, and only then changes the records in memory. Files of content that goes are removed last.
//! 3. Content comes in by a [`Writer`] (all of it, here) or a [`Partial`] (by groups, from elsewhere), and goes out by
//!    a [`Blob`].
//!
//! What holds: bytes that a [`Blob`] gives belong to the MCID; a group that the index lists was durable before it was
//! listed; what was acknowledged outlives a crash; files that no record wants are removed at the next start. Specified
//! in `docs/protocol/content.md`, “Stored”.
//!
//! ```
//! use macula_content::{Owner, Store, StoreConfig, disk::MemoryDisk};
//!
//! let (store, _) = Store::open(MemoryDisk::new(), StoreConfig::default())?;
//! let mcid = store.put(&Owner::Operator, b"hello", 1)?;
//! let blob = store.open_blob(&Owner::Operator, &mcid, 2)?;
//! assert_eq!(blob.read(1, 3)?, b"ell");
//! # Ok::<(), macula_content::StoreError>(())
//! ```

mod blob;
mod draft;
mod error;
mod index;
mod ledger;
mod opening;
mod partial;
mod record;
mod scan;
mod writer;

use std::{fmt, sync::Arc};

use macula_wire::{Digest, Mcid, PluginName, RealmId};
use parking_lot::{Mutex, MutexGuard};

pub use blob::Blob;
pub use error::{Misuse, Quota, StoreError};
pub use opening::Opened;
pub use partial::Partial;
pub use scan::Verified;
pub use writer::Writer;

use crate::{
    GroupSet,
    disk::{Disk, Name},
};
use index::Index;
use ledger::{Changes, Ledger, Need, without};
use record::{Holder, Record};

/// Bytes of one content: 1 TiB, whose outboard has 4 GiB. More would not fit on the disks that nodes have.
pub const CONTENT_BYTES_MAX: u64 = 1 << 40;

/// Contents of a node: their records take 300 MiB of memory then, and the quota is reached before unless they are tiny.
/// When full, the longest unused goes.
pub const ENTRIES_MAX: usize = 1 << 20;

/// Owners of one content, so that a record stays small: more than a node has plugins. A further one is refused.
pub const OWNERS_MAX: usize = 256;

/// A part that nobody has used for so long is removed by [`Store::gc`]: a week, in milliseconds.
const PARTIAL_UNUSED_MS_MAX: u64 = 7 * 24 * 3600 * 1000;

/// Kept free on the disk, so that the index can still be written, and what else the host has to say: 16 MiB.
const FREE_BYTES_MIN: u64 = 16 << 20;

/// For whom content is kept. [`Owner::Operator`] sees all of it, a plugin what it stored, fetched or adopted.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Owner {
    /// Who runs the node. Has no quota but the node's.
    Operator,
    /// A plugin in a realm.
    Plugin(RealmId, PluginName),
}

impl fmt::Display for Owner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Operator => f.write_str("the operator"),
            Self::Plugin(realm, name) => write!(f, "plugin {name} in realm {}", realm.short()),
        }
    }
}

/// How much may be stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StoreConfig {
    /// Bytes in all, counted in blocks of 4 KiB with outboards, and as a whole from when the size is known. Default 10
    /// GiB. May be lowered: [`Store::gc`] gives up what is too much.
    pub bytes_max: u64,
    /// Bytes of one plugin, counted in the same way; what several own counts for each. Default 256 MiB.
    pub plugin_bytes_max: u64,
}

/// Something that others may have to know.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum StoreEvent {
    /// All of it is here now.
    Stored(Mcid),
    /// Nothing of it is here any longer.
    Gone(Mcid),
    /// It was complete, and is no longer: the disk spoiled a part.
    Damaged(Mcid),
    /// Nobody asked for too long, and events were dropped. [`Store::provided`] says how things are.
    Missed,
}

/// What is known of one content.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stat {
    /// What it is called.
    pub mcid: Mcid,
    /// In bytes; `None` when only who wants it is known, after its files were lost.
    pub size: Option<u64>,
    /// Groups that are here.
    pub groups: GroupSet,
    /// Whether that is all of them.
    pub is_complete: bool,
    /// For whom it is kept, and who pinned it.
    pub owners: Vec<(Owner, Pinned)>,
    /// When it was used last, in Unix milliseconds.
    pub last_use: u64,
    /// Whether somebody has it open.
    pub is_open: bool,
}

/// Whether an owner pinned a content.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pinned {
    /// It stays.
    Yes,
    /// It may be evicted.
    No,
}

/// How much room is taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Usage {
    /// Contents, complete or not.
    pub contents: u64,
    /// Bytes of quota that they take; see [`StoreConfig::bytes_max`].
    pub bytes: u64,
    /// Bytes set aside for what is being written.
    pub reserved_bytes: u64,
    /// Contents and bytes of each owner, in no order.
    pub owners: Vec<(Owner, u64, u64)>,
}

/// What [`Store::gc`] did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Collected {
    /// Contents that were removed.
    pub contents: u64,
    /// Bytes of quota that they took.
    pub bytes: u64,
}

/// See the module. A handle: clones are the same store.
#[derive(Clone)]
pub struct Store(Arc<Inner>);

struct Inner {
    disk: Arc<dyn Disk>,
    ledger: Mutex<Ledger>,
    /// Whoever holds it is the one who changes records. Taken before the ledger's lock, never after.
    index: Mutex<Index>,
}

impl Store {
    /// Opens the store on a disk, or makes one there. Removes drafts of processes that were killed; an index that is
    /// damaged is set aside, and made anew from the content (see [`Opened`]), which takes as long as reading all of it.
    ///
    /// Only one may be open on a disk at a time: a [`FolderDisk`](crate::disk::FolderDisk) sees to that by a lock, of other
    /// disks whoever calls has to.
    ///
    /// # Errors
    /// [`StoreError::Io`], [`StoreError::DiskFull`], [`StoreError::Version`]; a later try finds everything as it was.
    pub fn open(disk: impl Disk, config: StoreConfig) -> Result<(Self, Opened), StoreError> {
        let disk: Arc<dyn Disk> = Arc::new(disk);
        let (index, records, opened) = opening::open(&disk)?;
        let ledger = Mutex::new(Ledger::new(config, records));
        Ok((Self(Arc::new(Inner { disk, ledger, index: Mutex::new(index) })), opened))
    }

    /// How much may be stored.
    pub fn config(&self) -> StoreConfig {
        self.0.ledger.lock().config()
    }

    /// Begins content that is here, in pieces, of unknown size.
    ///
    /// # Errors
    /// [`StoreError::DiskFull`], [`StoreError::Io`].
    pub fn writer(&self, owner: &Owner) -> Result<Writer, StoreError> {
        Writer::new(Arc::clone(&self.0), owner.clone())
    }

    /// Stores bytes durably, and gives their id. When they are here already nothing is written; the owner is added.
    ///
    /// # Errors
    /// As [`Writer::write`] and [`Writer::finish`].
    pub fn put(&self, owner: &Owner, bytes: &[u8], now: u64) -> Result<Mcid, StoreError> {
        let mcid = Mcid::of(bytes);
        if self.has(&Owner::Operator, &mcid) {
            match self.adopt(owner, &mcid, now) {
                // It went in between.
                Err(StoreError::NotFound) => {}
                outcome => return outcome.map(|()| mcid),
            }
        }
        let mut writer = self.writer(owner)?;
        writer.write(bytes)?;
        writer.finish(now)
    }

    /// Begins or continues to receive content from elsewhere. What is complete already can be completed at once.
    ///
    /// # Errors
    /// [`StoreError::Busy`] while another [`Partial`] of it is alive; [`StoreError::QuotaExceeded`],
    /// [`StoreError::Io`].
    pub fn partial(&self, owner: &Owner, mcid: &Mcid, now: u64) -> Result<Partial, StoreError> {
        Partial::new(Arc::clone(&self.0), owner.clone(), mcid, now)
    }

    /// Opens content for reading, be it complete or not. It is not evicted while open, and counts as used.
    ///
    /// # Errors
    /// [`StoreError::NotFound`]; [`StoreError::Incomplete`] when no part of it could be read: its size is not known, or
    /// it is named by SHA-256; [`StoreError::Io`].
    pub fn open_blob(&self, owner: &Owner, mcid: &Mcid, now: u64) -> Result<Blob, StoreError> {
        Blob::open(Arc::clone(&self.0), owner, mcid, now)
    }

    /// Whether all of it is here, and the owner may see it.
    pub fn has(&self, owner: &Owner, mcid: &Mcid) -> bool {
        let ledger = self.0.ledger.lock();
        ledger.record(&mcid.digest()).is_some_and(|record| record.is_visible(owner) && record.is_complete())
    }

    /// What is known of a content; `None` when that is nothing.
    pub fn stat(&self, mcid: &Mcid) -> Option<Stat> {
        let ledger = self.0.ledger.lock();
        ledger.record(&mcid.digest()).map(|record| Stat::new(mcid.digest(), record, &ledger))
    }

    /// All contents, or those of an owner, in no order.
    pub fn list(&self, owner: Option<&Owner>) -> Vec<Stat> {
        let ledger = self.0.ledger.lock();
        let wanted = ledger.iter().filter(|(_, record)| owner.is_none_or(|owner| record.holder(owner).is_some()));
        wanted.map(|(digest, record)| Stat::new(*digest, record, &ledger)).collect()
    }

    /// Everything of which something is here, to tell others.
    pub fn provided(&self) -> impl Iterator<Item = Mcid> + use<> {
        let ledger = self.0.ledger.lock();
        let here = ledger.iter().filter(|(_, record)| !record.groups.is_empty());
        here.map(|(digest, _)| *digest).collect::<Vec<_>>().into_iter().map(Mcid::from)
    }

    /// Keeps complete content from being evicted, on behalf of an owner of it, durably. Twice is once. The operator
    /// need not be an owner before, and is one then.
    ///
    /// # Errors
    /// [`StoreError::NotFound`], [`StoreError::Incomplete`], [`StoreError::Io`], [`StoreError::DiskFull`].
    pub fn pin(&self, owner: &Owner, mcid: &Mcid) -> Result<(), StoreError> {
        self.0.set_pinned(owner, mcid.digest(), Pinned::Yes)
    }

    /// Takes the owner's pin back. Without one nothing happens.
    ///
    /// # Errors
    /// [`StoreError::Io`], [`StoreError::DiskFull`].
    pub fn unpin(&self, owner: &Owner, mcid: &Mcid) -> Result<(), StoreError> {
        match self.0.set_pinned(owner, mcid.digest(), Pinned::No) {
            Err(StoreError::NotFound) => Ok(()),
            outcome => outcome,
        }
    }

    /// Makes somebody an owner of content that is here, complete or not: from now on it sees it, and it counts in its
    /// quota.
    ///
    /// # Errors
    /// [`StoreError::NotFound`], [`StoreError::QuotaExceeded`], [`StoreError::Io`], [`StoreError::DiskFull`].
    pub fn adopt(&self, owner: &Owner, mcid: &Mcid, now: u64) -> Result<(), StoreError> {
        let mut index = self.0.index.lock();
        let changes = self.0.add_owner(owner, mcid.digest(), now)?;
        self.0.commit(&mut index, changes)
    }

    /// Takes content from an owner, with its pin. The last owner gone, the files go too, and who has it open finds
    /// nothing further. The operator takes it from everybody.
    ///
    /// # Errors
    /// [`StoreError::NotFound`] when it is not its own; [`StoreError::Busy`] while it is being fetched;
    /// [`StoreError::Io`], [`StoreError::DiskFull`].
    pub fn remove(&self, owner: &Owner, mcid: &Mcid) -> Result<(), StoreError> {
        let mut index = self.0.index.lock();
        let digest = mcid.digest();
        let left = {
            let ledger = self.0.ledger.lock();
            let record = ledger.record(&digest).filter(|record| record.is_visible(owner));
            let left = without(record.ok_or(StoreError::NotFound)?, owner).filter(|_| *owner != Owner::Operator);
            if left.is_none() && ledger.is_fetched(&digest) {
                return Err(StoreError::Busy);
            }
            left
        };
        self.0.commit(&mut index, Changes::from([(digest, left)]))
    }

    /// Gives up what is above the quotas, and parts that nobody used for a week; writes down when contents were used.
    ///
    /// # Errors
    /// [`StoreError::Io`], [`StoreError::DiskFull`].
    pub fn gc(&self, now: u64) -> Result<Collected, StoreError> {
        let mut index = self.0.index.lock();
        let before = self.0.ledger.lock().total();
        let changes = self.0.ledger.lock().collect(now.saturating_sub(PARTIAL_UNUSED_MS_MAX));
        self.0.commit(&mut index, changes)?;
        let after = self.0.ledger.lock().total();
        Ok(Collected {
            contents: before.contents.saturating_sub(after.contents),
            bytes: before.bytes.saturating_sub(after.bytes),
        })
    }

    /// Reads all that is here of a content and verifies it. What is corrupt is struck from the list of what is here; an
    /// outboard that is corrupt while the content is not is made anew. `progress` is told groups that were looked at,
    /// and how many there are.
    ///
    /// # Errors
    /// [`StoreError::NotFound`], [`StoreError::Incomplete`] (see [`Store::open_blob`]), [`StoreError::Io`],
    /// [`StoreError::DiskFull`].
    pub fn verify(&self, mcid: &Mcid, now: u64, progress: impl FnMut(u64, u64)) -> Result<Verified, StoreError> {
        scan::verify(&self.open_blob(&Owner::Operator, mcid, now)?, &self.0, progress)
    }

    /// How much room is taken, and by whom.
    pub fn usage(&self) -> Usage {
        let ledger = self.0.ledger.lock();
        let total = ledger.total();
        let owners = ledger.accounts().map(|(owner, account)| (owner.clone(), account.contents, account.bytes));
        Usage { contents: total.contents, bytes: total.bytes, reserved_bytes: total.reserved, owners: owners.collect() }
    }

    /// What happened next; `None` when nothing more did.
    pub fn poll_event(&self) -> Option<StoreEvent> {
        self.0.ledger.lock().poll_event()
    }
}

impl Inner {
    /// Writes changes to the index, then to the ledger, then removes files. With what was used, and what the index may
    /// have wrong.
    fn commit(&self, index: &mut MutexGuard<'_, Index>, changes: Changes) -> Result<(), StoreError> {
        let rows = {
            let mut ledger = self.ledger.lock();
            let mut also = ledger.take_touched();
            also.extend(&index.unsure);
            let mut rows: Vec<_> = changes.iter().map(|(digest, record)| (*digest, record.as_ref())).collect();
            also.retain(|digest| !changes.contains_key(digest));
            rows.extend(also.iter().map(|digest| (*digest, ledger.record(digest))));
            rows.into_iter().map(|(digest, record)| (digest, record.map(Record::to_bytes))).collect::<Vec<_>>()
        };
        let written = index.write(&rows);
        let mut ledger = self.ledger.lock();
        if let Err(error) = written {
            ledger.spare(&changes);
            return Err(error);
        }
        let gone: Vec<_> = changes.iter().filter(|(_, record)| record.is_none()).map(|(digest, _)| *digest).collect();
        for (digest, record) in changes {
            ledger.apply(digest, record);
        }
        drop(ledger);
        for digest in gone {
            self.remove_files(digest);
        }
        Ok(())
    }

    /// What cannot be removed now is removed at the next start.
    fn remove_files(&self, digest: Digest) {
        let _ = self.disk.remove(&Name::Data(digest));
        let _ = self.disk.remove(&Name::Tree(digest));
    }

    /// Plans to make `owner` one of the owners of what is here.
    fn add_owner(&self, owner: &Owner, digest: Digest, now: u64) -> Result<Changes, StoreError> {
        let mut ledger = self.ledger.lock();
        let mut record = ledger.record(&digest).ok_or(StoreError::NotFound)?.clone();
        ledger.touch(&digest, now);
        if record.holder(owner).is_some() {
            return Ok(Changes::new());
        }
        record.add_holder(owner)?;
        let need = Need { owner_bytes: record.charge(), ..Need::default() };
        let mut changes = ledger.make_room(owner, need, &digest)?;
        changes.insert(digest, Some(record));
        Ok(changes)
    }

    fn set_pinned(&self, owner: &Owner, digest: Digest, pinned: Pinned) -> Result<(), StoreError> {
        let mut index = self.index.lock();
        let mut record = {
            let ledger = self.ledger.lock();
            let record = ledger.record(&digest).filter(|record| record.is_visible(owner));
            record.ok_or(StoreError::NotFound)?.clone()
        };
        let is_pinned = pinned == Pinned::Yes;
        if is_pinned && !record.is_complete() {
            return Err(StoreError::Incomplete);
        }
        if is_pinned {
            // Only the operator may see it without being an owner.
            record.add_holder(owner)?;
        }
        match record.holders.iter_mut().find(|holder| holder.owner == *owner) {
            Some(holder) if holder.is_pinned != is_pinned => holder.is_pinned = is_pinned,
            _ => return Ok(()),
        }
        self.commit(&mut index, Changes::from([(digest, Some(record))]))
    }

    /// Groups turned out not to be what they were. Whatever the index says: they are not given out any more.
    fn strike(&self, digest: Digest, struck: &GroupSet) {
        let mut index = self.index.lock();
        let record = {
            let mut ledger = self.ledger.lock();
            if let Some(fetching) = ledger.fetching(&digest) {
                fetching.written.remove(struck);
                fetching.struck.insert(struck);
            }
            let Some(mut record) = ledger.record(&digest).cloned() else { return };
            if record.groups.intersection(struck).is_empty() {
                return;
            }
            match digest {
                Digest::Blake3(_) => record.groups.remove(struck),
                // It is only ever received whole.
                Digest::Sha256(_) => record.groups = GroupSet::new(),
            }
            record
        };
        let changes = Changes::from([(digest, Some(record.clone()))]);
        if self.commit(&mut index, changes).is_err() {
            self.ledger.lock().apply(digest, Some(record));
        }
    }

    /// Sets room aside for what is being written; gives up something else for it, if need be.
    fn reserve(&self, owner: &Owner, bytes: u64) -> Result<(), StoreError> {
        self.check_free(bytes)?;
        if self.ledger.lock().try_reserve(owner, bytes) {
            return Ok(());
        }
        let mut index = self.index.lock();
        let changes = {
            let mut ledger = self.ledger.lock();
            let need = Need { owner_bytes: bytes, node_bytes: bytes, contents: 0 };
            let nothing = Digest::Blake3([0; 32]);
            let changes = ledger.make_room(owner, need, &nothing)?;
            // At once, so that nobody else takes it.
            ledger.reserve(owner, bytes);
            changes
        };
        self.commit(&mut index, changes).inspect_err(|_| self.ledger.lock().release(owner, bytes))
    }

    fn check_free(&self, bytes: u64) -> Result<(), StoreError> {
        if self.disk.free_bytes()? < bytes.saturating_add(FREE_BYTES_MIN) { Err(StoreError::DiskFull) } else { Ok(()) }
    }
}

impl Record {
    fn add_holder(&mut self, owner: &Owner) -> Result<(), StoreError> {
        if self.holder(owner).is_none() {
            if self.holders.len() >= OWNERS_MAX {
                return Err(StoreError::QuotaExceeded { whose: Quota::Owners });
            }
            self.holders.push(Holder::new(owner.clone()));
        }
        Ok(())
    }
}

impl Stat {
    fn new(digest: Digest, record: &Record, ledger: &Ledger) -> Self {
        let pinned = |holder: &Holder| if holder.is_pinned { Pinned::Yes } else { Pinned::No };
        Self {
            mcid: digest.into(),
            size: record.size,
            groups: ledger.groups(&digest),
            is_complete: record.is_complete(),
            owners: record.holders.iter().map(|holder| (holder.owner.clone(), pinned(holder))).collect(),
            last_use: record.last_use,
            is_open: ledger.is_open(&digest),
        }
    }
}

impl Default for StoreConfig {
    fn default() -> Self {
        Self { bytes_max: 10 << 30, plugin_bytes_max: 256 << 20 }
    }
}

impl fmt::Debug for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let total = self.0.ledger.lock().total();
        f.debug_struct("Store").field("contents", &total.contents).field("bytes", &total.bytes).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
