//! The outboard and the hash of content, while it comes in.
//!
//! A parent is finished as soon as its right half is, and its place in the outboard depends on nothing that is still to come
//! (see [`Geometry`](crate::Geometry)). So each parent goes to its place on the disk once, and content of any size needs no
//! second pass and no more memory than the hashes of one path, at most 50, and one group.

use macula_wire::{Digest, Mcid};
use smallvec::SmallVec;

use crate::{
    tree::GROUP_BYTES,
    walk::{group_hash, parent_hash, root_hash},
};

/// A parent, finished or verified.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Parent {
    /// Its place in the outboard: byte `64 × index`.
    pub index: u64,
    /// Chaining value of the left half and of the right.
    pub pair: [u8; 64],
}

/// What content turned out to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finished {
    /// BLAKE3 of all of it.
    pub root: [u8; 32],
    /// Its size in bytes.
    pub size: u64,
    /// The parents that had not been taken yet.
    pub parents: Vec<Parent>,
}

/// See the module. Content is pushed in pieces of any size; large ones are hashed without being copied.
#[derive(Debug, Clone, Default)]
pub struct OutboardBuilder {
    /// Bytes of the group that is not finished. The last group stays here: whether it is the last decides how it is hashed.
    open: Vec<u8>,
    /// Groups that are hashed.
    groups: u64,
    /// Complete subtrees from the left that wait for their right halves, the smallest last.
    left: SmallVec<[Left; 8]>,
    parents: Vec<Parent>,
}

#[derive(Debug, Clone)]
struct Left {
    hash: [u8; 32],
    /// The group behind it.
    end: u64,
}

impl OutboardBuilder {
    /// Of no content so far.
    pub fn new() -> Self {
        Self::default()
    }

    /// The next bytes. Take [`OutboardBuilder::take_parents`] after each piece: they are 1/256 of it.
    pub fn push(&mut self, mut piece: &[u8]) {
        let group_bytes = GROUP_BYTES as usize;
        while self.open.len() + piece.len() > group_bytes {
            let (more, rest) = piece.split_at(group_bytes - self.open.len());
            if self.open.is_empty() {
                self.close_group(more);
            } else {
                self.open.extend_from_slice(more);
                let mut open = std::mem::take(&mut self.open);
                self.close_group(&open);
                open.clear();
                self.open = open;
            }
            piece = rest;
        }
        self.open.extend_from_slice(piece);
    }

    /// The parents that were finished since the last time.
    pub fn take_parents(&mut self) -> Vec<Parent> {
        std::mem::take(&mut self.parents)
    }

    /// No more bytes.
    pub fn finish(mut self) -> Finished {
        let size = self.groups * GROUP_BYTES + self.open.len() as u64;
        let root = if self.left.is_empty() { *blake3::hash(&self.open).as_bytes() } else { self.close_path() };
        Finished { root, size, parents: self.parents }
    }

    /// A group that is not the last.
    fn close_group(&mut self, bytes: &[u8]) {
        let hash = group_hash(self.groups, bytes);
        // What waits is merged as late as can be: not before something follows is it known that no merge makes the root.
        self.settle();
        let end = self.groups + 1;
        self.left.push(Left { hash, end });
        self.groups = end;
    }

    /// Merges complete subtrees of the same size, knowing that something follows. One is left for each bit of the number of
    /// groups.
    fn settle(&mut self) {
        let settled = self.groups.count_ones() as usize;
        while self.left.len() > settled {
            let right = self.left.pop().expect("more than the settled");
            let left = self.left.pop().expect("a number with a bit less has one less subtree");
            self.note(&left, &right.hash);
            self.left.push(Left { hash: parent_hash(&left.hash, &right.hash), end: right.end });
        }
    }

    /// Hashes the last group and merges all, the last merge being the root.
    fn close_path(&mut self) -> [u8; 32] {
        self.settle();
        let mut right = group_hash(self.groups, &self.open);
        while let Some(left) = self.left.pop() {
            self.note(&left, &right);
            right = if self.left.is_empty() { root_hash(&left.hash, &right) } else { parent_hash(&left.hash, &right) };
        }
        right
    }

    fn note(&mut self, left: &Left, right: &[u8; 32]) {
        let mut pair = [0; 64];
        pair[..32].copy_from_slice(&left.hash);
        pair[32..].copy_from_slice(right);
        self.parents.push(Parent { index: left.end - 1, pair });
    }
}

impl Finished {
    /// What the content is called.
    pub fn mcid(&self) -> Mcid {
        Digest::Blake3(self.root).into()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::{Geometry, tests::content};

    proptest! {
        /// Whatever the pieces: the hash is BLAKE3's, and every parent is there once, in its place.
        #[test]
        fn hashes_as_blake3_in_pieces_of_any_size(
            groups in 0..40_u64, extra in prop::sample::select(&[0_u64, 1, 1023, 1024, 16_383][..]), cut in 1..70_000_usize
        ) {
            let content = content(groups * GROUP_BYTES + extra);
            let mut builder = OutboardBuilder::new();
            let mut parents = Vec::new();
            for piece in content.chunks(cut) {
                builder.push(piece);
                parents.extend(builder.take_parents());
            }
            let finished = builder.finish();
            parents.extend_from_slice(&finished.parents);
            prop_assert_eq!(finished.root, *blake3::hash(&content).as_bytes());
            prop_assert_eq!(finished.size, content.len() as u64);
            parents.sort_by_key(|parent| parent.index);
            let indices = parents.iter().map(|parent| parent.index).collect::<Vec<_>>();
            prop_assert_eq!(indices, (0..Geometry::of(finished.size).parents()).collect::<Vec<_>>());
        }
    }
}
