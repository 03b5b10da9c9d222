//! Encoding some groups of content, from bytes that are read as they are asked for.
//!
//! Every byte is verified before it is passed on: what a disk has spoiled is found here, and said with its place.

use bytes::BufMut;

use crate::{
    groups::GroupSet,
    tree::Geometry,
    walk::{Node, Walk, WalkError},
};

/// Asks for parents and groups in the order of the encoding. It keeps nothing of what it is given.
#[derive(Debug, Clone)]
pub struct Encoder {
    walk: Walk,
}

impl Encoder {
    /// Of `groups` of the content with this root. What is not in the tree is left out.
    pub fn new(root: [u8; 32], geometry: Geometry, groups: GroupSet) -> Self {
        Self { walk: Walk::new(root, geometry, groups) }
    }

    /// What to read and [supply](Encoder::supply) next; `None` when the encoding is complete.
    pub fn node(&self) -> Option<Node> {
        self.walk.node()
    }

    /// Verifies the bytes of [`Encoder::node`] and appends them to `out`.
    ///
    /// # Errors
    /// See [`WalkError`]; nothing was appended.
    pub fn supply(&mut self, bytes: &[u8], out: &mut impl BufMut) -> Result<(), WalkError> {
        self.walk.accept(bytes)?;
        out.put_slice(bytes);
        Ok(())
    }
}
