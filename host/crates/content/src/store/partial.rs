//! Content that is being fetched.

use macula_wire::{Digest, Mcid};

use super::{
    CONTENT_BYTES_MAX, CONTENTS_MAX, Owner, Store, StoreError, StoreEvent,
    entry::{Entry, bytes_for},
    files::Files,
};
use crate::{Geometry, GroupSet, OutboardBuilder, Parent, WHOLE_BYTES_MAX, WholeHash};

/// Takes in verified groups in any order, or SHA-256 content from its beginning. What [`Partial::checkpoint`] has made durable is
/// there the next time; the rest is not.
pub struct Partial {
    store: Store,
    owner: Owner,
    content: Mcid,
    /// Known when the size is.
    files: Option<Files>,
    groups: GroupSet,
    /// Reserved, and not yet counted with an entry.
    reserved: u64,
    /// Of SHA-256 content.
    whole: Option<Whole>,
}

struct Whole {
    hash: WholeHash,
    builder: OutboardBuilder,
}

impl std::fmt::Debug for Partial {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Partial({})", self.content.short())
    }
}

impl Partial {
    pub(super) fn new(store: Store, owner: Owner, content: &Mcid) -> Result<Self, StoreError> {
        let known = {
            let mut state = store.0.state.lock();
            if state.writing.contains(content) {
                return Err(StoreError::Busy(content.clone()));
            }
            if state.entries.len() >= CONTENTS_MAX && !state.entries.contains_key(content) {
                return Err(StoreError::TooMany("contents"));
            }
            state.writing.insert(content.clone());
            state.entries.get(content).cloned()
        };
        // From here on, dropping it ends the claim.
        let mut partial = Self {
            store,
            owner,
            content: content.clone(),
            files: None,
            groups: GroupSet::new(),
            reserved: 0,
            whole: None,
        };
        if let Some(entry) = known {
            partial.store.adopt(&partial.owner, content, entry.used)?;
            partial.files = Some(Files::open(&*partial.store.0.disk, content, entry.geometry())?);
            partial.groups = entry.present();
        }
        Ok(partial)
    }

    /// The size in bytes, once it was set.
    pub fn size(&self) -> Option<u64> {
        self.files.as_ref().map(|files| files.geometry.size())
    }

    /// The groups that are here.
    pub fn groups(&self) -> &GroupSet {
        &self.groups
    }

    /// Makes room for content of this size, which is proved; for SHA-256 content it is a claim, and may be set again. The same
    /// again changes nothing.
    ///
    /// # Errors
    /// [`StoreError::TooLarge`], [`StoreError::QuotaExceeded`], [`StoreError::DiskFull`], before anything is written.
    pub fn set_size(&mut self, size: u64) -> Result<(), StoreError> {
        let is_whole = matches!(self.content.digest(), Digest::Sha256(_));
        let bytes_max = if is_whole { WHOLE_BYTES_MAX } else { CONTENT_BYTES_MAX };
        if size > bytes_max {
            return Err(StoreError::TooLarge(bytes_max));
        }
        if self.size() == Some(size) {
            return Ok(());
        }
        self.release();
        let bytes = bytes_for(size);
        self.store.reserve(&self.owner, bytes)?;
        self.reserved = bytes;
        let disk = &self.store.0.disk;
        if disk.free_bytes()? < bytes {
            return Err(StoreError::DiskFull);
        }
        self.files = Some(Files::create(&**disk, &self.content, Geometry::of(size))?);
        self.groups = GroupSet::new();
        Ok(())
    }

    /// Takes a verified group.
    ///
    /// # Errors
    /// As the disk says. The group does not count.
    ///
    /// # Panics
    /// When the size was not set.
    pub fn write_group(&mut self, group: u64, bytes: &[u8]) -> Result<(), StoreError> {
        let files = self.files.as_ref().expect("the size is set before anything is written");
        files.write(files.geometry.bytes(group).start, bytes)?;
        self.groups.insert(&GroupSet::from(group..group + 1));
        Ok(())
    }

    /// Takes a verified pair of the outboard.
    ///
    /// # Errors
    /// As the disk says.
    ///
    /// # Panics
    /// When the size was not set.
    pub fn write_parent(&mut self, parent: &Parent) -> Result<(), StoreError> {
        let files = self.files.as_ref().expect("the size is set before anything is written");
        Ok(files.write_parents(std::slice::from_ref(parent))?)
    }

    /// Takes bytes of SHA-256 content, in order; offset 0 begins again.
    ///
    /// # Errors
    /// [`StoreError::TooLarge`]; as the disk says.
    ///
    /// # Panics
    /// When the size was not set.
    pub fn write_whole(&mut self, offset: u64, bytes: &[u8]) -> Result<(), StoreError> {
        let files = self.files.as_ref().expect("the size is set before anything is written");
        if offset == 0 {
            self.whole = Some(Whole { hash: WholeHash::new(), builder: OutboardBuilder::new() });
        }
        let Some(whole) = &mut self.whole else { return Err(StoreError::Incomplete(self.content.clone())) };
        if offset != whole.hash.size() || offset + bytes.len() as u64 > files.geometry.size() {
            return Err(StoreError::Incomplete(self.content.clone()));
        }
        whole.hash.push(bytes).map_err(|_| StoreError::TooLarge(WHOLE_BYTES_MAX))?;
        files.write(offset, bytes)?;
        whole.builder.push(bytes);
        Ok(files.write_parents(&whole.builder.take_parents())?)
    }

    /// Makes durable what was written, as of `now` in ms since 1970. Of SHA-256 content nothing is before it is complete.
    ///
    /// # Errors
    /// As the disk says; what was durable before still is.
    pub fn checkpoint(&mut self, now: u64) -> Result<(), StoreError> {
        let Digest::Blake3(root) = self.content.digest() else { return Ok(()) };
        if self.files.is_none() {
            return Ok(());
        }
        self.enter(root, Some(self.groups.clone()), now)
    }

    /// All of it is here: from now on it is for everybody who may see it. For SHA-256 content, when it is what the id names.
    ///
    /// # Errors
    /// [`StoreError::Incomplete`]; [`StoreError::Corrupt`] for SHA-256; as the disk says.
    pub fn complete(mut self, now: u64) -> Result<(), StoreError> {
        let incomplete = || StoreError::Incomplete(self.content.clone());
        let files = self.files.as_ref().ok_or_else(incomplete)?;
        let root = match self.content.digest() {
            Digest::Blake3(root) => {
                if self.groups.count() != files.geometry.groups() {
                    return Err(incomplete());
                }
                root
            }
            Digest::Sha256(digest) => {
                // No content at all has no first byte that could begin it.
                let whole = self
                    .whole
                    .take()
                    .unwrap_or_else(|| Whole { hash: WholeHash::new(), builder: OutboardBuilder::new() });
                if whole.hash.size() != files.geometry.size() {
                    return Err(incomplete());
                }
                whole.hash.verify(&digest).map_err(|_| StoreError::Corrupt(self.content.clone()))?;
                let finished = whole.builder.finish();
                files.write_parents(&finished.parents)?;
                finished.root
            }
        };
        self.enter(root, None, now)?;
        self.store.0.state.lock().say(StoreEvent::Complete(self.content.clone()));
        Ok(())
    }

    /// The bytes first, then the index.
    fn enter(&mut self, root: [u8; 32], groups: Option<GroupSet>, now: u64) -> Result<(), StoreError> {
        let Some(files) = &self.files else { return Ok(()) };
        files.sync()?;
        let (size, all) = (files.geometry.size(), files.geometry.groups());
        // Of complete content that is written again, nothing is missing.
        let groups = groups.filter(|groups| groups.count() < all);
        {
            let mut state = self.store.0.state.lock();
            match state.entries.get_mut(&self.content) {
                Some(entry) => {
                    entry.groups = groups;
                    entry.used = now;
                }
                None => {
                    // What was reserved is counted with the entry.
                    state.bytes -= self.reserved;
                    state.give_back(&self.owner, self.reserved);
                    self.reserved = 0;
                    let owners = [self.owner.clone()].into();
                    state.add(&self.content, Entry { size, root, groups, owners, pins: Default::default(), used: now });
                }
            }
        }
        self.store.commit([self.content.clone()])
    }

    fn release(&mut self) {
        self.store.release(&self.owner, std::mem::take(&mut self.reserved));
    }
}

impl Drop for Partial {
    fn drop(&mut self) {
        self.release();
        let is_known = {
            let mut state = self.store.0.state.lock();
            state.writing.remove(&self.content);
            state.entries.contains_key(&self.content)
        };
        // Nothing of it was made durable: it is nobody's. What cannot be removed now is at the next start.
        if !is_known && self.files.is_some() {
            let _ = self.store.remove_files(&self.content);
        }
    }
}
