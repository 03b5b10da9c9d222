//! Content that is written before its id is known.

use std::sync::Arc;

use macula_wire::Mcid;

use super::{
    CONTENT_BYTES_MAX, CONTENTS_MAX, Owner, Store, StoreError, StoreEvent,
    entry::{Entry, bytes_for, data_name, tree_name},
};
use crate::{Finished, Geometry, OutboardBuilder, disk::File};

/// Bytes that are reserved at a time: so that a quota is not asked for each small piece.
const RESERVE_BYTES: u64 = 1 << 20;

/// Writes a draft, and gives it its name when it is whole. Dropping it removes the draft.
pub struct Writer {
    store: Store,
    owner: Owner,
    draft: u64,
    data: Arc<dyn File>,
    /// Made when the first parent is known.
    tree: Option<Arc<dyn File>>,
    builder: OutboardBuilder,
    size: u64,
    reserved: u64,
}

impl std::fmt::Debug for Writer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Writer(draft {}, {} bytes)", self.draft, self.size)
    }
}

impl Writer {
    pub(super) fn new(store: Store, owner: Owner) -> Result<Self, StoreError> {
        let draft = {
            let mut state = store.0.state.lock();
            state.drafts += 1;
            state.drafts
        };
        let data = store.0.disk.create(&name(draft, "data"))?;
        let builder = OutboardBuilder::new();
        Ok(Self { store, owner, draft, data, tree: None, builder, size: 0, reserved: 0 })
    }

    /// Bytes written so far.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Adds a piece of any size.
    ///
    /// # Errors
    /// [`StoreError::QuotaExceeded`], [`StoreError::DiskFull`], [`StoreError::TooLarge`], [`StoreError::Io`]. The draft can only be
    /// dropped then.
    pub fn write(&mut self, piece: &[u8]) -> Result<(), StoreError> {
        let size = self.size + piece.len() as u64;
        if size > CONTENT_BYTES_MAX {
            return Err(StoreError::TooLarge(CONTENT_BYTES_MAX));
        }
        self.reserve(bytes_for(size))?;
        self.data.write_at(self.size, piece)?;
        self.size = size;
        self.builder.push(piece);
        let parents = self.builder.take_parents();
        self.write_parents(&parents)
    }

    fn reserve(&mut self, bytes: u64) -> Result<(), StoreError> {
        if bytes <= self.reserved {
            return Ok(());
        }
        let exact = bytes - self.reserved;
        // A small quota is to be used to its last byte.
        let more = match self.store.reserve(&self.owner, exact.max(RESERVE_BYTES)) {
            Ok(()) => exact.max(RESERVE_BYTES),
            Err(StoreError::QuotaExceeded { .. }) => {
                self.store.reserve(&self.owner, exact)?;
                exact
            }
            Err(error) => return Err(error),
        };
        self.reserved += more;
        Ok(())
    }

    fn write_parents(&mut self, parents: &[crate::Parent]) -> Result<(), StoreError> {
        for parent in parents {
            let tree = match &self.tree {
                Some(tree) => tree,
                None => self.tree.insert(self.store.0.disk.create(&name(self.draft, "tree"))?),
            };
            tree.write_at(Geometry::parent_offset(parent.index), &parent.pair)?;
        }
        Ok(())
    }

    /// Gives the content its name, as of `now` in ms since 1970; when this returns, no crash undoes it. What is here already
    /// is not written again.
    ///
    /// # Errors
    /// [`StoreError::Busy`] while the same content is being fetched; [`StoreError::TooMany`]; as the disk says. Nothing is kept.
    pub fn finish(mut self, now: u64) -> Result<Mcid, StoreError> {
        let finished = std::mem::take(&mut self.builder).finish();
        self.write_parents(&finished.parents)?;
        let content = finished.mcid();
        if self.adopt_known(&content, now)? {
            return Ok(content);
        }
        self.data.sync()?;
        if let Some(tree) = &self.tree {
            tree.sync()?;
        }
        let kept = self.keep(&content, &finished, now);
        self.store.0.state.lock().writing.remove(&content);
        kept.map(|()| content)
    }

    /// Whether all of it is here; then it is this owner's too. If not, nobody else writes it from now on.
    fn adopt_known(&mut self, content: &Mcid, now: u64) -> Result<bool, StoreError> {
        {
            let mut state = self.store.0.state.lock();
            if !state.entries.get(content).is_some_and(Entry::is_complete) {
                if state.entries.len() >= CONTENTS_MAX {
                    return Err(StoreError::TooMany("contents"));
                }
                if state.writing.contains(content) || state.open.contains_key(content) {
                    return Err(StoreError::Busy(content.clone()));
                }
                state.writing.insert(content.clone());
                return Ok(false);
            }
        }
        // What the draft has taken of the quota is given back first: it is the same bytes.
        self.release();
        self.store.adopt(&self.owner, content, now)?;
        Ok(true)
    }

    fn keep(&mut self, content: &Mcid, finished: &Finished, now: u64) -> Result<(), StoreError> {
        let disk = &self.store.0.disk;
        if self.tree.is_some() {
            disk.rename(&name(self.draft, "tree"), &tree_name(content))?;
        }
        disk.rename(&name(self.draft, "data"), &data_name(content))?;
        self.release();
        {
            let mut state = self.store.0.state.lock();
            // Of what was here in part, its owners stay.
            let mut owners = state.entries.get(content).map(|entry| entry.owners.clone()).unwrap_or_default();
            state.forget(content);
            owners.insert(self.owner.clone());
            let entry = Entry {
                size: finished.size,
                root: finished.root,
                groups: None,
                owners,
                pins: Default::default(),
                used: now,
            };
            state.add(content, entry);
        }
        if let Err(error) = self.store.commit([content.clone()]) {
            self.store.0.state.lock().forget(content);
            // Whether the index knows it is not known; without its files it does not count.
            let _ = self.store.remove_files(content);
            return Err(error);
        }
        self.store.0.state.lock().say(StoreEvent::Complete(content.clone()));
        Ok(())
    }

    fn release(&mut self) {
        self.store.release(&self.owner, std::mem::take(&mut self.reserved));
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.release();
        // What cannot be removed now is at the next start.
        let _ = self.store.0.disk.remove(&name(self.draft, "data"));
        if self.tree.is_some() {
            let _ = self.store.0.disk.remove(&name(self.draft, "tree"));
        }
    }
}

fn name(draft: u64, suffix: &str) -> String {
    format!("draft/{draft}.{suffix}")
}
