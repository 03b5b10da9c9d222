//! Decoding an encoding as it arrives, in pieces of any size.
//!
//! Pieces go in by [`Decoder::push`], and [`Decoder::poll_item`] gives what of them is verified. A group that lies whole in one
//! piece is hashed where it is and given out as a part of that piece; only what two pieces share is copied. After an error
//! nothing more comes: the sender has lost its credit.
//!
//! Memory: the pieces that were pushed and not polled, one node, and the path of a [`Walk`].

use std::collections::VecDeque;

use bytes::{Buf, Bytes, BytesMut};

use crate::{
    groups::GroupSet,
    outboard::Parent,
    tree::Geometry,
    walk::{Node, Walk, WalkError},
};

/// Something that belongs to the content.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Item {
    /// For the outboard. A parent may come that one has already: it is the same.
    Parent(Parent),
    /// For the content.
    Group {
        /// Its number.
        group: u64,
        /// All its bytes.
        bytes: Bytes,
    },
}

/// Why decoding stopped. What was polled before is good.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DecodeError {
    /// What came does not belong to the content, or the size is another.
    #[error("{0} does not belong to the content")]
    Corrupt(Node),
    /// More bytes than the groups have.
    #[error("something follows the last group")]
    Trailing,
    /// The encoding ended before this node was there.
    #[error("ended before {0}")]
    Short(Node),
}

/// See the module.
#[derive(Debug, Clone)]
pub struct Decoder {
    walk: Walk,
    pieces: VecDeque<Bytes>,
    /// Bytes in `pieces`.
    waiting: usize,
    failed: Option<DecodeError>,
}

impl Decoder {
    /// Of the encoding of `groups` of the content with this root and, as was said, this size.
    pub fn new(root: [u8; 32], geometry: Geometry, groups: GroupSet) -> Self {
        Self { walk: Walk::new(root, geometry, groups), pieces: VecDeque::new(), waiting: 0, failed: None }
    }

    /// The next bytes of the encoding.
    pub fn push(&mut self, piece: Bytes) {
        if !piece.is_empty() {
            self.waiting += piece.len();
            self.pieces.push_back(piece);
        }
    }

    /// The next node that is there whole and verified; `None` when more bytes are needed, or nothing more comes.
    ///
    /// # Errors
    /// [`DecodeError::Corrupt`], [`DecodeError::Trailing`]; the same again from then on.
    pub fn poll_item(&mut self) -> Result<Option<Item>, DecodeError> {
        match self.failed {
            Some(error) => Err(error),
            None => self.next_item().inspect_err(|error| self.failed = Some(*error)),
        }
    }

    /// The encoding has ended.
    ///
    /// # Errors
    /// [`DecodeError::Short`] when something is missing, or the error that came before.
    pub fn finish(&self) -> Result<(), DecodeError> {
        match (self.failed, self.walk.node()) {
            (Some(error), _) => Err(error),
            (None, Some(node)) => Err(DecodeError::Short(node)),
            (None, None) if self.waiting > 0 => Err(DecodeError::Trailing),
            (None, None) => Ok(()),
        }
    }

    /// Whether all groups have come out.
    pub fn is_done(&self) -> bool {
        self.failed.is_none() && self.walk.node().is_none()
    }

    fn next_item(&mut self) -> Result<Option<Item>, DecodeError> {
        let Some(node) = self.walk.node() else {
            return if self.waiting > 0 { Err(DecodeError::Trailing) } else { Ok(None) };
        };
        let Some(bytes) = self.take(self.walk.node_bytes()) else { return Ok(None) };
        match self.walk.accept(&bytes) {
            Ok(Node::Group(group)) => Ok(Some(Item::Group { group, bytes })),
            Ok(Node::Parent(index)) => {
                let pair = bytes[..].try_into().expect("as long as the walk has wanted");
                Ok(Some(Item::Parent(Parent { index, pair })))
            }
            Err(WalkError::Corrupt(_) | WalkError::Length { .. } | WalkError::Done) => Err(DecodeError::Corrupt(node)),
        }
    }

    /// The next `len` bytes when they are there.
    fn take(&mut self, len: usize) -> Option<Bytes> {
        if self.waiting < len {
            return None;
        }
        self.waiting -= len;
        match self.pieces.front_mut() {
            Some(first) if first.len() > len => Some(first.split_to(len)),
            Some(first) if first.len() == len => self.pieces.pop_front(),
            _ => Some(self.gather(len)),
        }
    }

    fn gather(&mut self, len: usize) -> Bytes {
        let mut bytes = BytesMut::with_capacity(len);
        while bytes.len() < len {
            let piece = self.pieces.front_mut().expect("as many bytes wait as were counted");
            let part = piece.len().min(len - bytes.len());
            bytes.extend_from_slice(&piece[..part]);
            piece.advance(part);
            if piece.is_empty() {
                self.pieces.pop_front();
            }
        }
        bytes.freeze()
    }
}
