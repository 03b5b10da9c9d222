//! A walk through the tree in pre-order, past what leads to none of the wanted groups, in which nothing is taken on trust.
//!
//! It says which parent or group comes next, and is given its bytes. What they must hash to is known by then: the root's from
//! the MCID, every other's from its parent. [`Encoder`](crate::Encoder) and [`Decoder`](crate::Decoder) are this walk with
//! bytes out and in; by itself it verifies what is read from a disk.
//!
//! Memory: one entry for each right half that is still ahead, at most 50, since a tree is not deeper.

use std::ops::Range;

use blake3::hazmat::{HasherExt, Mode, merge_subtrees_non_root, merge_subtrees_root};
use smallvec::{SmallVec, smallvec};

use crate::{
    groups::GroupSet,
    tree::{GROUP_BYTES, Geometry, PARENT_BYTES, split},
};

/// What comes next in a walk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Node {
    /// A parent, by its place in the outboard; 64 bytes.
    Parent(u64),
    /// A group, by its number; as many bytes as [`Geometry::group_bytes`] says.
    Group(u64),
}

/// Why a walk stopped. It stays where it is: the right bytes may follow.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum WalkError {
    /// The bytes are not what belongs there: flipped, or of another content.
    #[error("{0} does not belong to the content")]
    Corrupt(Node),
    /// More or fewer bytes than the node has.
    #[error("{bytes} bytes for {node}, which has {expected}")]
    Length {
        /// Which node.
        node: Node,
        /// How many came.
        bytes: usize,
        /// How many it has.
        expected: usize,
    },
    /// All that was wanted has been verified.
    #[error("nothing further is wanted")]
    Done,
}

/// See the module.
#[derive(Debug, Clone)]
pub struct Walk {
    geometry: Geometry,
    groups: GroupSet,
    /// What is ahead, the next one last; each holds a wanted group.
    ahead: SmallVec<[Subtree; 8]>,
}

#[derive(Debug, Clone)]
struct Subtree {
    groups: Range<u64>,
    hash: [u8; 32],
}

impl Walk {
    /// Through the tree with this root, to `groups`. What is not in the tree is ignored.
    pub fn new(root: [u8; 32], geometry: Geometry, groups: GroupSet) -> Self {
        let mut walk = Self { geometry, groups, ahead: smallvec![] };
        walk.add(Subtree { groups: 0..geometry.groups(), hash: root });
        walk
    }

    /// The shape of the tree.
    pub fn geometry(&self) -> Geometry {
        self.geometry
    }

    /// What comes next; `None` at the end.
    pub fn node(&self) -> Option<Node> {
        self.ahead.last().map(Subtree::node)
    }

    /// How many bytes [`Walk::node`] has; 0 at the end.
    pub fn node_bytes(&self) -> usize {
        match self.node() {
            None => 0,
            Some(Node::Parent(_)) => PARENT_BYTES as usize,
            Some(Node::Group(group)) => self.geometry.group_bytes(group) as usize,
        }
    }

    /// Verifies the bytes of [`Walk::node`] and goes on behind it.
    ///
    /// # Errors
    /// See [`WalkError`].
    pub fn accept(&mut self, bytes: &[u8]) -> Result<Node, WalkError> {
        let node = self.node().ok_or(WalkError::Done)?;
        let expected = self.node_bytes();
        if bytes.len() != expected {
            return Err(WalkError::Length { node, bytes: bytes.len(), expected });
        }
        let subtree = self.ahead.last().expect("it has a node");
        let is_root = subtree.groups == (0..self.geometry.groups());
        let Node::Parent(_) = node else {
            let hash = if is_root { *blake3::hash(bytes).as_bytes() } else { group_hash(subtree.groups.start, bytes) };
            return self.pass(node, &hash);
        };
        let (left, right) = halves(bytes.try_into().expect("its length was compared"));
        let hash = if is_root { root_hash(&left, &right) } else { parent_hash(&left, &right) };
        let (groups, middle) = (subtree.groups.clone(), split(&subtree.groups));
        self.pass(node, &hash)?;
        self.add(Subtree { groups: middle..groups.end, hash: right });
        self.add(Subtree { groups: groups.start..middle, hash: left });
        Ok(node)
    }

    /// Leaves the next node behind if `hash` is the one that it must have. No need for constant time: hashes are public.
    fn pass(&mut self, node: Node, hash: &[u8; 32]) -> Result<Node, WalkError> {
        if self.ahead.last().is_none_or(|subtree| subtree.hash != *hash) {
            return Err(WalkError::Corrupt(node));
        }
        self.ahead.pop();
        Ok(node)
    }

    fn add(&mut self, subtree: Subtree) {
        if self.groups.intersects(&subtree.groups) {
            self.ahead.push(subtree);
        }
    }
}

impl Subtree {
    fn node(&self) -> Node {
        if self.groups.end - self.groups.start == 1 {
            Node::Group(self.groups.start)
        } else {
            Node::Parent(split(&self.groups) - 1)
        }
    }
}

impl std::fmt::Display for Node {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Parent(index) => write!(f, "parent {index}"),
            Self::Group(group) => write!(f, "group {group}"),
        }
    }
}

/// Chaining value of a group that is not all of the content.
pub(crate) fn group_hash(group: u64, bytes: &[u8]) -> [u8; 32] {
    let mut hasher = blake3::Hasher::new();
    hasher.set_input_offset(group * GROUP_BYTES).update(bytes);
    hasher.finalize_non_root()
}

/// Chaining value of a parent that is not the root.
pub(crate) fn parent_hash(left: &[u8; 32], right: &[u8; 32]) -> [u8; 32] {
    merge_subtrees_non_root(left, right, Mode::Hash)
}

/// Hash of content of more than one group.
pub(crate) fn root_hash(left: &[u8; 32], right: &[u8; 32]) -> [u8; 32] {
    *merge_subtrees_root(left, right, Mode::Hash).as_bytes()
}

fn halves(pair: &[u8; 64]) -> ([u8; 32], [u8; 32]) {
    let (left, right) = pair.split_at(32);
    (left.try_into().expect("half of 64"), right.try_into().expect("half of 64"))
}
