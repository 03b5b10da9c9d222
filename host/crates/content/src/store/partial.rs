//! Content that comes from elsewhere: by groups that were verified, or whole.

use std::{fmt, sync::Arc};

use macula_wire::{Digest, Mcid};
use parking_lot::Mutex;

use super::{
    CONTENT_BYTES_MAX, Inner, Misuse, Owner, StoreError,
    blob::Files,
    draft::{Draft, Reservation},
    ledger::{Changes, Fetching, Need},
    record::{Record, charge},
    scan::rehash,
    writer::{OutboardDraft, Whole, store},
};
use crate::{GROUP_BYTES, Geometry, GroupSet, Parent, WHOLE_BYTES_MAX, WholeHash, disk::Name};

/// See [`Store::partial`](super::Store::partial). May be shared by threads. Dropping it keeps what the last
/// [`Partial::checkpoint`] made durable.
pub struct Partial {
    inner: Arc<Inner>,
    owner: Owner,
    mcid: Mcid,
    place: Mutex<Place>,
}

/// Where the bytes go.
enum Place {
    /// The size is not known.
    Nowhere,
    /// Groups, to where they stay.
    Groups(Files),
    /// A whole, to a draft: it is nothing before it is complete.
    Whole { draft: Draft, size: u64, _room: Reservation },
}

impl Partial {
    pub(super) fn new(inner: Arc<Inner>, owner: Owner, mcid: &Mcid, now: u64) -> Result<Self, StoreError> {
        let digest = mcid.digest();
        let mut index = inner.index.lock();
        if inner.ledger.lock().is_fetched(&digest) {
            return Err(StoreError::Busy);
        }
        let changes = match inner.add_owner(&owner, digest, now) {
            Err(StoreError::NotFound) => Changes::new(),
            changes => changes?,
        };
        inner.commit(&mut index, changes)?;
        let geometry = inner.ledger.lock().record(&digest).and_then(Record::geometry);
        let place = match (digest, geometry) {
            (Digest::Blake3(_), Some(geometry)) => Place::Groups(Files::open(&inner, digest, geometry)?),
            _ => Place::Nowhere,
        };
        inner.ledger.lock().begin_fetch(digest);
        drop(index);
        Ok(Self { inner, owner, mcid: mcid.clone(), place: Mutex::new(place) })
    }

    /// What it is called.
    pub fn mcid(&self) -> &Mcid {
        &self.mcid
    }

    /// In bytes, once it was set, here or by who began.
    pub fn size(&self) -> Option<u64> {
        if let Place::Whole { size, .. } = &*self.place.lock() {
            return Some(*size);
        }
        self.inner.ledger.lock().record(&self.mcid.digest())?.size
    }

    /// Groups that are here: durable, or written.
    pub fn groups(&self) -> GroupSet {
        self.inner.ledger.lock().groups(&self.mcid.digest())
    }

    /// Sets the size, which has to be proved before, or, for SHA-256, is what the provider claims. Room is made for all
    /// of it, and it is entered durably. The same size again is nothing; for SHA-256, another size begins anew.
    ///
    /// # Errors
    /// [`StoreError::TooLarge`], [`StoreError::QuotaExceeded`], [`StoreError::DiskFull`], [`StoreError::Io`],
    /// [`Misuse::OtherSize`].
    pub fn set_size(&self, size: u64, now: u64) -> Result<(), StoreError> {
        let digest = self.mcid.digest();
        let bytes_max = if matches!(digest, Digest::Blake3(_)) { CONTENT_BYTES_MAX } else { WHOLE_BYTES_MAX };
        if size > bytes_max {
            return Err(StoreError::TooLarge { bytes: size, bytes_max });
        }
        let mut place = self.place.lock();
        match digest {
            Digest::Blake3(_) => match self.known_size() {
                Some(known) if known == size => Ok(()),
                Some(_) => Err(Misuse::OtherSize.into()),
                None => {
                    *place = Place::Groups(self.make_files(digest, size, now)?);
                    Ok(())
                }
            },
            Digest::Sha256(_) => self.begin_whole(&mut place, size),
        }
    }

    /// Writes a group that was verified, under its size. It can be read from now on, and is durable after the next
    /// [`Partial::checkpoint`]. The parents on its path have to be written before.
    ///
    /// # Errors
    /// [`Misuse`]; [`StoreError::DiskFull`], [`StoreError::Io`]: the group is not there.
    pub fn write_group(&self, group: u64, bytes: &[u8]) -> Result<(), StoreError> {
        let (files, geometry) = self.files()?;
        if group >= geometry.groups() || geometry.group_bytes(group) != bytes.len() as u64 {
            return Err(Misuse::NoSuchNode.into());
        }
        files.data.write_at(group * GROUP_BYTES, bytes)?;
        let mut ledger = self.inner.ledger.lock();
        let digest = self.mcid.digest();
        if ledger.get(&digest).is_some_and(|content| content.generation == files.generation)
            && let Some(fetching) = ledger.fetching(&digest)
        {
            fetching.written.insert(&(group..group + 1).into());
        }
        Ok(())
    }

    /// Writes a parent that was verified. One that is there already is the same.
    ///
    /// # Errors
    /// As [`Partial::write_group`].
    pub fn write_parent(&self, parent: &Parent) -> Result<(), StoreError> {
        let (files, geometry) = self.files()?;
        if parent.index >= geometry.parents() {
            return Err(Misuse::NoSuchNode.into());
        }
        let tree = files.tree.as_ref().expect("content with parents has an outboard");
        Ok(tree.write_at(Geometry::parent_offset(parent.index), &parent.pair)?)
    }

    /// Writes bytes of content that is named by SHA-256; nothing of it is verified before [`Partial::complete`].
    ///
    /// # Errors
    /// [`Misuse`], also for bytes beyond the size; [`StoreError::DiskFull`], [`StoreError::Io`].
    pub fn write_whole(&self, offset: u64, bytes: &[u8]) -> Result<(), StoreError> {
        let place = self.place.lock();
        match (&*place, self.mcid.digest()) {
            (_, Digest::Blake3(_)) => Err(Misuse::OtherHash.into()),
            (Place::Whole { draft, size, .. }, _) => {
                if offset.checked_add(bytes.len() as u64).is_none_or(|end| end > *size) {
                    return Err(Misuse::NoSuchNode.into());
                }
                Ok(draft.file.write_at(offset, bytes)?)
            }
            _ => Err(Misuse::SizeUnknown.into()),
        }
    }

    /// Makes what was written durable, first the bytes, then the list of groups. Does nothing for SHA-256.
    ///
    /// # Errors
    /// [`StoreError::DiskFull`], [`StoreError::Io`]: what was durable before still is. What was written since may have
    /// to be written again: [`Partial::groups`] says.
    pub fn checkpoint(&self, now: u64) -> Result<(), StoreError> {
        let digest = self.mcid.digest();
        // Others may write meanwhile.
        let files = match &*self.place.lock() {
            Place::Groups(files) => files.clone(),
            _ => return Ok(()),
        };
        let begin = |fetching: &mut Fetching| {
            fetching.struck = GroupSet::new();
            fetching.written.clone()
        };
        let mut written = self.inner.ledger.lock().fetching(&digest).map(begin).unwrap_or_default();
        if written.is_empty() {
            return Ok(());
        }
        self.sync(&files, &written)?;
        let mut index = self.inner.index.lock();
        let record = {
            let mut ledger = self.inner.ledger.lock();
            if let Some(fetching) = ledger.fetching(&digest) {
                written.remove(&fetching.struck);
            }
            let current = ledger.get(&digest).filter(|content| content.generation == files.generation);
            let Some(content) = current else { return Ok(()) };
            let mut record = content.record.clone();
            record.groups.insert(&written);
            record.last_use = record.last_use.max(now);
            record
        };
        self.inner.commit(&mut index, Changes::from([(digest, Some(record))]))?;
        if let Some(fetching) = self.inner.ledger.lock().fetching(&digest) {
            fetching.written.remove(&written);
        }
        Ok(())
    }

    /// Says that all is written. It is complete then, durably; a whole is verified first.
    ///
    /// # Errors
    /// [`StoreError::Incomplete`] when groups are missing; [`StoreError::CorruptWhole`]: the draft is gone, and
    /// [`Partial::set_size`] begins anew; [`Misuse::SizeUnknown`]; [`StoreError::DiskFull`], [`StoreError::Io`]: it may
    /// be tried again.
    pub fn complete(&self, now: u64) -> Result<(), StoreError> {
        let digest = self.mcid.digest();
        if self.is_complete() {
            return Ok(());
        }
        if let Digest::Sha256(expected) = digest {
            return self.complete_whole(&expected, now);
        }
        self.checkpoint(now)?;
        if self.known_size().is_none() {
            return Err(Misuse::SizeUnknown.into());
        }
        if self.is_complete() { Ok(()) } else { Err(StoreError::Incomplete) }
    }

    fn is_complete(&self) -> bool {
        self.inner.ledger.lock().record(&self.mcid.digest()).is_some_and(Record::is_complete)
    }

    fn known_size(&self) -> Option<u64> {
        self.inner.ledger.lock().record(&self.mcid.digest())?.size
    }

    fn files(&self) -> Result<(Files, Geometry), StoreError> {
        if matches!(self.mcid.digest(), Digest::Sha256(_)) {
            return Err(Misuse::OtherHash.into());
        }
        let mut place = self.place.lock();
        let Place::Groups(files) = &mut *place else { return Err(Misuse::SizeUnknown.into()) };
        let (digest, size) = (self.mcid.digest(), self.known_size().ok_or(StoreError::NotFound)?);
        let generation = self.inner.ledger.lock().get(&digest).map(|content| content.generation);
        if generation != Some(files.generation) {
            // Somebody has stored all of it meanwhile. What is written once more is the same.
            *files = Files::open(&self.inner, digest, Geometry::of(size))?;
        }
        Ok((files.clone(), Geometry::of(size)))
    }

    /// Makes groups durable that were written. When that fails, nobody knows what of them is on the disk, also should
    /// it succeed the next time: they are not here any longer.
    fn sync(&self, files: &Files, written: &GroupSet) -> Result<(), StoreError> {
        let synced = files.data.sync().and_then(|()| files.tree.as_ref().map_or(Ok(()), |tree| tree.sync()));
        if synced.is_err()
            && let Some(fetching) = self.inner.ledger.lock().fetching(&self.mcid.digest())
        {
            fetching.written.remove(written);
        }
        Ok(synced?)
    }

    /// Makes room, makes files that are as long as they will be, and enters the content.
    fn make_files(&self, digest: Digest, size: u64, now: u64) -> Result<Files, StoreError> {
        let inner = &self.inner;
        let geometry = Geometry::of(size);
        inner.check_free(charge(size))?;
        let mut data = Draft::new(inner)?;
        data.file.set_len(size)?;
        data.file.sync()?;
        let mut tree = (geometry.parents() > 0).then(|| Draft::new(inner)).transpose()?;
        if let Some(tree) = &tree {
            tree.file.set_len(geometry.outboard_bytes())?;
            tree.file.sync()?;
        }
        let mut index = inner.index.lock();
        let (changes, is_new) = {
            let mut ledger = inner.ledger.lock();
            let before = ledger.record(&digest).cloned();
            if let Some(known) = before.as_ref().and_then(|record| record.size) {
                // Somebody stored it a moment ago.
                drop(ledger);
                let files = Files::open(inner, digest, Geometry::of(known))?;
                return if known == size { Ok(files) } else { Err(Misuse::OtherSize.into()) };
            }
            let mut record = before.clone().unwrap_or_else(|| Record::new(digest, None, now));
            record.add_holder(&self.owner)?;
            // Of a content whose files were lost, a block is counted already.
            let more = charge(size) - before.as_ref().map_or(0, Record::charge);
            let need = Need { owner_bytes: more, node_bytes: more, contents: usize::from(before.is_none()) };
            let mut changes = ledger.make_room(&self.owner, need, &digest)?;
            record.size = Some(size);
            record.last_use = record.last_use.max(now);
            changes.insert(digest, Some(record));
            (changes, before.is_none())
        };
        let named = tree.as_mut().map_or(Ok(()), |tree| tree.keep(&Name::Tree(digest)));
        if let Err(error) = named.and_then(|()| data.keep(&Name::Data(digest))) {
            inner.ledger.lock().spare(&changes);
            inner.remove_files(digest);
            return Err(error);
        }
        inner.commit(&mut index, changes).inspect_err(|_| inner.remove_files(digest))?;
        if !is_new {
            inner.ledger.lock().replaced(&digest);
        }
        Files::open(inner, digest, geometry)
    }

    fn begin_whole(&self, place: &mut Place, size: u64) -> Result<(), StoreError> {
        if matches!(place, Place::Whole { size: known, .. } if *known == size) || self.is_complete() {
            return Ok(());
        }
        *place = Place::Nowhere;
        let mut room = Reservation::new(&self.inner, &self.owner);
        room.grow(charge(size))?;
        *place = Place::Whole { draft: Draft::new(&self.inner)?, size, _room: room };
        Ok(())
    }

    fn complete_whole(&self, expected: &[u8; 32], now: u64) -> Result<(), StoreError> {
        let mut place = self.place.lock();
        let Place::Whole { draft, size, .. } = &mut *place else { return Err(Misuse::SizeUnknown.into()) };
        let size = *size;
        if draft.file.len()? != size {
            return Err(StoreError::Incomplete);
        }
        let mut hash = WholeHash::new();
        let mut tree = OutboardDraft::new(&self.inner);
        let push = |piece: &[u8]| hash.push(piece).expect("the size was bounded when it was set");
        let root = rehash(size, &*draft.file, push, |parents| tree.add(parents))?;
        if hash.verify(expected).is_err() {
            *place = Place::Nowhere;
            return Err(StoreError::CorruptWhole);
        }
        tree.finish(Vec::new())?;
        draft.file.sync()?;
        tree.sync()?;
        let whole = Whole { size, root };
        store(&self.inner, &self.owner, &self.mcid, whole, draft, &mut tree, now)?;
        *place = Place::Nowhere;
        Ok(())
    }
}

impl Drop for Partial {
    fn drop(&mut self) {
        self.inner.ledger.lock().end_fetch(&self.mcid.digest());
    }
}

impl fmt::Debug for Partial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Partial").field("mcid", &self.mcid).field("owner", &self.owner).finish_non_exhaustive()
    }
}
