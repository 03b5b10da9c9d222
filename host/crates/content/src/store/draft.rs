//! Files that have no name of their own yet, and the room that is set aside for them. Both go when they are dropped.

use std::sync::Arc;

use super::{Inner, Owner, StoreError};
use crate::disk::{File, Name};

/// A file under a number.
pub(super) struct Draft {
    inner: Arc<Inner>,
    name: Name,
    pub(super) file: Arc<dyn File>,
    is_kept: bool,
}

impl Draft {
    pub(super) fn new(inner: &Arc<Inner>) -> Result<Self, StoreError> {
        let name = Name::Draft(inner.ledger.lock().next_draft());
        let file = inner.disk.create(&name)?;
        Ok(Self { inner: Arc::clone(inner), name, file, is_kept: false })
    }

    /// Gives it its name, durably; its bytes have to be durable before.
    pub(super) fn keep(&mut self, name: &Name) -> Result<(), StoreError> {
        self.inner.disk.rename(&self.name, name)?;
        self.is_kept = true;
        Ok(())
    }
}

impl Drop for Draft {
    fn drop(&mut self) {
        if !self.is_kept {
            // Tried again at the next start.
            let _ = self.inner.disk.remove(&self.name);
        }
    }
}

/// Room in the quotas of an owner and the node.
pub(super) struct Reservation {
    inner: Arc<Inner>,
    owner: Owner,
    bytes: u64,
}

impl Reservation {
    /// Of nothing.
    pub(super) fn new(inner: &Arc<Inner>, owner: &Owner) -> Self {
        Self { inner: Arc::clone(inner), owner: owner.clone(), bytes: 0 }
    }

    /// Makes it as large as `bytes`, at least.
    pub(super) fn grow(&mut self, bytes: u64) -> Result<(), StoreError> {
        if bytes > self.bytes {
            self.inner.reserve(&self.owner, bytes - self.bytes)?;
            self.bytes = bytes;
        }
        Ok(())
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        self.inner.ledger.lock().release(&self.owner, self.bytes);
    }
}
