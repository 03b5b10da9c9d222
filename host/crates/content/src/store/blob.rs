//! Content that is open for reading.

use macula_wire::Mcid;

use super::{Store, StoreError, entry::Entry, files::Files};
use crate::{Geometry, GroupSet, Node, Walk};

/// Open content, or what is here of it. What [`Blob::read`] gives is verified.
pub struct Blob {
    store: Store,
    content: Mcid,
    root: [u8; 32],
    groups: GroupSet,
    files: Files,
}

impl std::fmt::Debug for Blob {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Blob({})", self.content.short())
    }
}

impl Blob {
    /// The caller has counted it as open.
    pub(super) fn new(store: Store, content: Mcid, entry: &Entry) -> Result<Self, StoreError> {
        match Files::open(&*store.0.disk, &content, entry.geometry()) {
            Ok(files) => Ok(Self { store, content, root: entry.root, groups: entry.present(), files }),
            Err(error) => {
                store.0.state.lock().closed(&content);
                Err(error.into())
            }
        }
    }

    /// In bytes.
    pub fn size(&self) -> u64 {
        self.files.geometry.size()
    }

    /// Its shape.
    pub fn geometry(&self) -> Geometry {
        self.files.geometry
    }

    /// Root of the BLAKE3 tree over it.
    pub fn root(&self) -> [u8; 32] {
        self.root
    }

    /// The groups that were here when it was opened.
    pub fn groups(&self) -> &GroupSet {
        &self.groups
    }

    /// Reads `len` bytes from `offset` on; fewer only at the end. Costs a hash of each group that it touches.
    ///
    /// # Errors
    /// [`StoreError::Incomplete`] when one of them is not here; [`StoreError::Corrupt`], and what is damaged is struck; as the disk
    /// says.
    pub fn read(&self, offset: u64, len: usize) -> Result<Vec<u8>, StoreError> {
        let end = self.size().min(offset.saturating_add(len as u64));
        if offset >= end {
            return Ok(Vec::new());
        }
        let touched = self.files.geometry.groups_of(offset..end);
        let wanted = GroupSet::from(touched.clone());
        if !self.groups.includes(&wanted) {
            return Err(StoreError::Incomplete(self.content.clone()));
        }
        let first = self.files.geometry.bytes(touched.start).start;
        let mut bytes = Vec::with_capacity((end - first) as usize);
        let mut walk = Walk::new(self.root, self.geometry(), wanted);
        while let Some(node) = walk.node() {
            let read = self.node(node)?;
            if walk.accept(&read).is_err() {
                self.store.strike(&self.content, node)?;
                return Err(StoreError::Corrupt(self.content.clone()));
            }
            if matches!(node, Node::Group(_)) {
                bytes.extend_from_slice(&read);
            }
        }
        bytes.truncate((end - first) as usize);
        bytes.drain(..(offset - first) as usize);
        Ok(bytes)
    }

    /// Reads a group or a pair of the outboard as it is on the disk, for whoever verifies it.
    ///
    /// # Errors
    /// As the disk says.
    pub fn node(&self, node: Node) -> Result<Vec<u8>, StoreError> {
        Ok(self.files.read(node)?)
    }

    pub(super) fn files(&self) -> &Files {
        &self.files
    }

    /// What was read does not belong to the content.
    ///
    /// # Errors
    /// As [`Store::strike`].
    pub fn strike(&self, node: Node) -> Result<(), StoreError> {
        self.store.strike(&self.content, node)
    }
}

impl Drop for Blob {
    fn drop(&mut self) {
        self.store.0.state.lock().closed(&self.content);
    }
}
