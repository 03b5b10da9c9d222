//! Content that is written here, in pieces.

use std::{fmt, sync::Arc};

use macula_wire::{Digest, Mcid};

use super::{
    CONTENT_BYTES_MAX, Inner, Misuse, Owner, StoreError,
    draft::{Draft, Reservation},
    ledger::{Changes, Need},
    record::{Record, charge},
};
use crate::{Geometry, OutboardBuilder, PARENT_BYTES, Parent, disk::Name};

/// Small pieces are gathered to so many bytes before they are written.
const GATHERED_BYTES_MAX: usize = 64 * 1024;

/// Parents that are gathered before they are written: 64 KiB, the tree over 16 MiB.
const PARENTS_MAX: usize = 1024;

/// See [`Store::writer`](super::Store::writer). Dropping it without [`Writer::finish`] forgets what was written.
pub struct Writer {
    inner: Arc<Inner>,
    owner: Owner,
    room: Reservation,
    data: Draft,
    tree: OutboardDraft,
    builder: OutboardBuilder,
    gathered: Vec<u8>,
    size: u64,
    is_failed: bool,
}

/// An outboard that comes into being.
pub(super) struct OutboardDraft {
    inner: Arc<Inner>,
    /// Content of one group has none.
    draft: Option<Draft>,
    gathered: Vec<Parent>,
}

impl Writer {
    pub(super) fn new(inner: Arc<Inner>, owner: Owner) -> Result<Self, StoreError> {
        let room = Reservation::new(&inner, &owner);
        let data = Draft::new(&inner)?;
        let tree = OutboardDraft::new(&inner);
        let (builder, gathered) = (OutboardBuilder::new(), Vec::new());
        Ok(Self { inner, owner, room, data, tree, builder, gathered, size: 0, is_failed: false })
    }

    /// How many bytes it was given.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Adds a piece of any size.
    ///
    /// # Errors
    /// [`StoreError::TooLarge`], [`StoreError::QuotaExceeded`], [`StoreError::DiskFull`], [`StoreError::Io`]. The
    /// writer is of no use then: all that it does further is [`Misuse::Failed`].
    pub fn write(&mut self, piece: &[u8]) -> Result<(), StoreError> {
        if std::mem::replace(&mut self.is_failed, true) {
            return Err(Misuse::Failed.into());
        }
        let size = self.size.saturating_add(piece.len() as u64);
        if size > CONTENT_BYTES_MAX {
            return Err(StoreError::TooLarge { bytes: size, bytes_max: CONTENT_BYTES_MAX });
        }
        self.room.grow(charge(size))?;
        if self.gathered.len() + piece.len() > GATHERED_BYTES_MAX {
            self.write_gathered()?;
        }
        if piece.len() > GATHERED_BYTES_MAX {
            self.data.file.write_at(self.size, piece)?;
        } else {
            self.gathered.extend_from_slice(piece);
        }
        self.size = size;
        self.builder.push(piece);
        self.tree.add(self.builder.take_parents())?;
        self.is_failed = false;
        Ok(())
    }

    /// Makes it durable and gives its id. When it is here already, the owner is added, and nothing else.
    ///
    /// # Errors
    /// As [`Writer::write`]; nothing is left behind.
    pub fn finish(mut self, now: u64) -> Result<Mcid, StoreError> {
        if self.is_failed {
            return Err(Misuse::Failed.into());
        }
        self.room.grow(charge(self.size))?;
        self.write_gathered()?;
        let finished = std::mem::take(&mut self.builder).finish();
        let mcid = finished.mcid();
        self.tree.finish(finished.parents)?;
        // Should it go before it is entered, this is made up for.
        if !self.is_here(&mcid) {
            self.data.file.sync()?;
            self.tree.sync()?;
        }
        let Self { inner, owner, room, mut data, mut tree, size, .. } = self;
        store(&inner, &owner, &mcid, Whole { size, root: finished.root }, &mut data, &mut tree, now)?;
        // Not before it is counted as stored: so nobody takes the room in between.
        drop(room);
        Ok(mcid)
    }

    fn is_here(&self, mcid: &Mcid) -> bool {
        self.inner.ledger.lock().record(&mcid.digest()).is_some_and(Record::is_complete)
    }

    fn write_gathered(&mut self) -> Result<(), StoreError> {
        let begin = self.size - self.gathered.len() as u64;
        self.data.file.write_at(begin, &self.gathered)?;
        self.gathered.clear();
        Ok(())
    }
}

/// What all of a content turned out to be.
#[derive(Debug, Clone, Copy)]
pub(super) struct Whole {
    pub(super) size: u64,
    /// By BLAKE3.
    pub(super) root: [u8; 32],
}

/// Makes drafts of all of a content durable, gives them their names, and enters it. Their room is set aside already.
pub(super) fn store(
    inner: &Arc<Inner>,
    owner: &Owner,
    mcid: &Mcid,
    whole: Whole,
    data: &mut Draft,
    tree: &mut OutboardDraft,
    now: u64,
) -> Result<(), StoreError> {
    let digest = mcid.digest();
    let mut index = inner.index.lock();
    let before = inner.ledger.lock().record(&digest).cloned();
    if before.as_ref().is_some_and(Record::is_complete) {
        let changes = inner.add_owner(owner, digest, now)?;
        return inner.commit(&mut index, changes);
    }
    // Usually done before, without the lock; then it takes no time.
    data.file.sync()?;
    tree.sync()?;
    let mut record = before.clone().unwrap_or_else(|| Record::new(digest, None, now));
    record.add_holder(owner)?;
    let geometry = Geometry::of(whole.size);
    record.size = Some(whole.size);
    record.groups = (0..geometry.groups()).into();
    record.root = whole.root;
    record.last_use = now;
    let need = Need { contents: usize::from(before.is_none()), ..Need::default() };
    let mut changes: Changes = inner.ledger.lock().make_room(owner, need, &digest)?;
    let named = tree.keep(&Name::Tree(digest)).and_then(|()| data.keep(&Name::Data(digest)));
    changes.insert(digest, Some(record));
    // Before it is complete: who has the old files open would not find in them what is said to be there.
    inner.ledger.lock().replaced(&digest);
    if let Err(error) = named {
        inner.ledger.lock().spare(&changes);
        inner.forget_unnamed(digest, before.is_none());
        return Err(error);
    }
    let committed = inner.commit(&mut index, changes);
    if committed.is_err() {
        inner.forget_unnamed(digest, before.is_none());
    }
    committed
}

impl Inner {
    /// Removes files that no record knows. Those of a content that was here in part are as good as those before.
    fn forget_unnamed(&self, digest: Digest, is_new: bool) {
        if is_new {
            self.remove_files(digest);
        }
    }
}

impl OutboardDraft {
    pub(super) fn new(inner: &Arc<Inner>) -> Self {
        Self { inner: Arc::clone(inner), draft: None, gathered: Vec::new() }
    }

    /// Parents that are finished.
    pub(super) fn add(&mut self, parents: Vec<Parent>) -> Result<(), StoreError> {
        self.gathered.extend(parents);
        if self.gathered.len() >= PARENTS_MAX { self.write_gathered() } else { Ok(()) }
    }

    /// The last parents; all are written then.
    pub(super) fn finish(&mut self, parents: Vec<Parent>) -> Result<(), StoreError> {
        self.gathered.extend(parents);
        self.write_gathered()
    }

    pub(super) fn sync(&self) -> Result<(), StoreError> {
        self.draft.as_ref().map_or(Ok(()), |draft| Ok(draft.file.sync()?))
    }

    pub(super) fn keep(&mut self, name: &Name) -> Result<(), StoreError> {
        self.draft.as_mut().map_or(Ok(()), |draft| draft.keep(name))
    }

    fn write_gathered(&mut self) -> Result<(), StoreError> {
        let mut parents = std::mem::take(&mut self.gathered);
        if parents.is_empty() {
            return Ok(());
        }
        let draft = match self.draft.take() {
            Some(draft) => draft,
            None => Draft::new(&self.inner)?,
        };
        let draft = self.draft.insert(draft);
        // Most stand one beside the other.
        parents.sort_unstable_by_key(|parent| parent.index);
        for run in parents.chunk_by(|one, next| one.index + 1 == next.index) {
            let bytes: Vec<u8> = run.iter().flat_map(|parent| parent.pair).collect();
            draft.file.write_at(run[0].index * PARENT_BYTES, &bytes)?;
        }
        Ok(())
    }
}

impl fmt::Debug for Writer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Writer").field("owner", &self.owner).field("size", &self.size).finish_non_exhaustive()
    }
}
