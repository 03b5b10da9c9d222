//! Content that is read: every byte is verified on its way out.

use std::{fmt, sync::Arc};

use macula_wire::{Digest, Mcid};
use parking_lot::Mutex;

use super::{Inner, Misuse, Owner, StoreError};
use crate::{
    GROUP_BYTES, Geometry, GroupSet, Node, PARENT_BYTES, Walk,
    disk::{Disk, File, Name},
};

/// Bytes of one read: as much as a piece of a fetch.
const READ_BYTES_MAX: usize = 16 << 20;

/// See [`Store::open_blob`](super::Store::open_blob). Shared by several threads, they read one after the other; open it
/// several times to read at once.
pub struct Blob {
    inner: Arc<Inner>,
    digest: Digest,
    geometry: Geometry,
    root: [u8; 32],
    reader: Mutex<Reader>,
}

struct Reader {
    files: Files,
    /// Leads on from what was verified last: who reads on from there needs nothing of the path again.
    walk: Option<Walk>,
    /// The group behind what was verified last.
    next: u64,
    /// The group that was verified last, when a part of it was left.
    last: Option<(u64, Vec<u8>)>,
}

#[derive(Clone)]
pub(super) struct Files {
    pub(super) data: Arc<dyn File>,
    pub(super) tree: Option<Arc<dyn File>>,
    pub(super) generation: u64,
}

impl Blob {
    pub(super) fn open(inner: Arc<Inner>, owner: &Owner, mcid: &Mcid, now: u64) -> Result<Self, StoreError> {
        let digest = mcid.digest();
        let (geometry, root) = {
            let mut ledger = inner.ledger.lock();
            let record = ledger.record(&digest).filter(|record| record.is_visible(owner));
            let record = record.ok_or(StoreError::NotFound)?;
            let geometry = record.geometry().ok_or(StoreError::Incomplete)?;
            let is_whole_only = matches!(digest, Digest::Sha256(_));
            if is_whole_only && !record.is_complete() {
                return Err(StoreError::Incomplete);
            }
            let root = record.root;
            ledger.touch(&digest, now);
            // From here on it is not evicted, so its files stay.
            ledger.opened(digest);
            (geometry, root)
        };
        let files = Files::open(&inner, digest, geometry).inspect_err(|_| inner.ledger.lock().closed(&digest))?;
        let reader = Mutex::new(Reader { files, walk: None, next: 0, last: None });
        Ok(Self { inner, digest, geometry, root, reader })
    }

    /// What it is called.
    pub fn mcid(&self) -> Mcid {
        self.digest.into()
    }

    /// In bytes.
    pub fn size(&self) -> u64 {
        self.geometry.size()
    }

    /// BLAKE3 of it, which is also what its outboard belongs to when it is named by SHA-256.
    pub fn root(&self) -> [u8; 32] {
        self.root
    }

    /// Groups that can be read now. More may come while it is being fetched.
    pub fn groups(&self) -> GroupSet {
        self.inner.ledger.lock().groups(&self.digest)
    }

    /// Reads `len` bytes, at most 16 MiB, from `offset`; fewer only at the end, none beyond it.
    ///
    /// # Errors
    /// [`StoreError::TooLarge`]; [`StoreError::Missing`]; [`StoreError::Corrupt`], after which the group is missing;
    /// [`StoreError::NotFound`] when it was removed; [`StoreError::Io`].
    pub fn read(&self, offset: u64, len: usize) -> Result<Vec<u8>, StoreError> {
        if len > READ_BYTES_MAX {
            return Err(StoreError::TooLarge { bytes: len as u64, bytes_max: READ_BYTES_MAX as u64 });
        }
        let end = offset.saturating_add(len as u64).min(self.size());
        let groups = self.geometry.groups_of(offset..end);
        if groups.is_empty() {
            return Ok(Vec::new());
        }
        self.check(&groups.clone().into())?;
        let mut reader = self.reader.lock();
        if let Some((group, bytes)) = &reader.last
            && groups == (*group..*group + 1)
        {
            let begin = group * GROUP_BYTES;
            return Ok(bytes[(offset - begin) as usize..(end - begin) as usize].to_vec());
        }
        let begin = groups.start * GROUP_BYTES;
        let behind = self.geometry.bytes(groups.end - 1).end;
        let mut bytes = vec![0; (behind - begin) as usize];
        self.read_verified(&mut reader, groups.start, begin, &mut bytes)?;
        if end < behind {
            let last = groups.end - 1;
            reader.last = Some((last, bytes[(last * GROUP_BYTES - begin) as usize..].to_vec()));
        }
        bytes.truncate((end - begin) as usize);
        bytes.drain(..(offset - begin) as usize);
        Ok(bytes)
    }

    /// A group as the disk has it, **not verified**: for an [`Encoder`](crate::Encoder), which does that.
    ///
    /// # Errors
    /// [`Misuse::NoSuchNode`]; [`StoreError::Missing`], [`StoreError::NotFound`], [`StoreError::Io`].
    pub fn read_raw(&self, group: u64) -> Result<Vec<u8>, StoreError> {
        if group >= self.geometry.groups() {
            return Err(Misuse::NoSuchNode.into());
        }
        self.check(&(group..group + 1).into())?;
        let files = self.files()?;
        let mut bytes = vec![0; self.geometry.group_bytes(group) as usize];
        read_or_spoil(&*files.data, group * GROUP_BYTES, &mut bytes)?;
        Ok(bytes)
    }

    /// A parent as the disk has it, **not verified**.
    ///
    /// # Errors
    /// [`Misuse::NoSuchNode`]; [`StoreError::NotFound`], [`StoreError::Io`].
    pub fn parent_raw(&self, index: u64) -> Result<[u8; 64], StoreError> {
        if index >= self.geometry.parents() {
            return Err(Misuse::NoSuchNode.into());
        }
        self.files()?.parent(index)
    }

    /// Says that an [`Encoder`](crate::Encoder) did not take what the disk has. The group is missing from now on; of a
    /// parent, the first group of its right half: whoever fetches that is sent the parent too, and the others below it
    /// are well again.
    pub fn strike(&self, node: Node) {
        let group = match node {
            Node::Group(group) => group,
            Node::Parent(index) => index + 1,
        };
        self.inner.strike(self.digest, &(group..group + 1).into());
    }

    pub(super) fn geometry(&self) -> Geometry {
        self.geometry
    }

    pub(super) fn files(&self) -> Result<Files, StoreError> {
        let mut reader = self.reader.lock();
        self.refresh(&mut reader)?;
        Ok(reader.files.clone())
    }

    fn check(&self, groups: &GroupSet) -> Result<(), StoreError> {
        let ledger = self.inner.ledger.lock();
        if ledger.record(&self.digest).is_none() {
            return Err(StoreError::NotFound);
        }
        ledger.missing(&self.digest, groups).map_or(Ok(()), |group| Err(StoreError::Missing { group }))
    }

    /// Opens the files again if others have taken their place.
    fn refresh(&self, reader: &mut Reader) -> Result<(), StoreError> {
        let generation = self.inner.ledger.lock().get(&self.digest).ok_or(StoreError::NotFound)?.generation;
        if generation != reader.files.generation {
            reader.files = Files::open(&self.inner, self.digest, self.geometry)?;
        }
        Ok(())
    }

    /// Reads whole groups from `group` on, which begins at byte `begin`.
    fn read_verified(&self, reader: &mut Reader, group: u64, begin: u64, bytes: &mut [u8]) -> Result<(), StoreError> {
        reader.last = None;
        loop {
            self.refresh(reader)?;
            read_or_spoil(&*reader.files.data, begin, bytes)?;
            let Some(group) = self.first_corrupt(reader, group, bytes)? else { return Ok(()) };
            reader.walk = None;
            let generation = self.inner.ledger.lock().get(&self.digest).map(|content| content.generation);
            // Unless they were the files of before: then once more.
            if generation == Some(reader.files.generation) {
                self.inner.strike(self.digest, &(group..group + 1).into());
                return Err(StoreError::Corrupt { group });
            }
        }
    }

    fn first_corrupt(&self, reader: &mut Reader, group: u64, bytes: &[u8]) -> Result<Option<u64>, StoreError> {
        for (group, bytes) in (group..).zip(bytes.chunks(GROUP_BYTES as usize)) {
            if !self.is_verified(reader, group, bytes)? {
                return Ok(Some(group));
            }
        }
        Ok(None)
    }

    fn is_verified(&self, reader: &mut Reader, group: u64, bytes: &[u8]) -> Result<bool, StoreError> {
        if reader.next != group {
            reader.walk = None;
        }
        let rest = || Walk::new(self.root, self.geometry, (group..self.geometry.groups()).into());
        let walk = reader.walk.get_or_insert_with(rest);
        while let Some(Node::Parent(index)) = walk.node() {
            if walk.accept(&reader.files.parent(index)?).is_err() {
                return Ok(false);
            }
        }
        reader.next = group + 1;
        Ok(walk.accept(bytes) == Ok(Node::Group(group)))
    }
}

impl Files {
    pub(super) fn open(inner: &Inner, digest: Digest, geometry: Geometry) -> Result<Self, StoreError> {
        loop {
            let now = || inner.ledger.lock().get(&digest).map(|content| content.generation);
            let generation = now().ok_or(StoreError::NotFound)?;
            let files = Self::open_named(&*inner.disk, digest, geometry, generation);
            // Somebody may have removed it in between, and somebody stored it again.
            if files.is_ok() || now() == Some(generation) {
                return files;
            }
        }
    }

    pub(super) fn open_named(
        disk: &dyn Disk,
        digest: Digest,
        geometry: Geometry,
        generation: u64,
    ) -> Result<Self, StoreError> {
        let data = disk.open(&Name::Data(digest))?;
        let tree = (geometry.parents() > 0).then(|| disk.open(&Name::Tree(digest))).transpose()?;
        Ok(Self { data, tree, generation })
    }

    pub(super) fn parent(&self, index: u64) -> Result<[u8; 64], StoreError> {
        let mut pair = [0; PARENT_BYTES as usize];
        if let Some(tree) = &self.tree {
            read_or_spoil(&**tree, Geometry::parent_offset(index), &mut pair)?;
        }
        Ok(pair)
    }
}

/// Reads; what was cut off reads as zeros, which nothing verifies.
pub(super) fn read_or_spoil(file: &dyn File, offset: u64, bytes: &mut [u8]) -> Result<(), StoreError> {
    match file.read_at(offset, bytes) {
        Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => {
            let there = file.len()?.saturating_sub(offset).min(bytes.len() as u64) as usize;
            bytes[there..].fill(0);
            Ok(file.read_at(offset, &mut bytes[..there])?)
        }
        outcome => Ok(outcome?),
    }
}

impl Drop for Blob {
    fn drop(&mut self) {
        self.inner.ledger.lock().closed(&self.digest);
    }
}

impl fmt::Debug for Blob {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Blob").field("mcid", &self.mcid()).field("size", &self.size()).finish_non_exhaustive()
    }
}
