//! A run: consecutive messages with one route, copied once for all who get them.

use bytes::{Bytes, BytesMut};
use macula_wire::{
    frame::{self, Lane},
    limits::BATCH_BYTES_GOAL,
};

use crate::{link::LinkKey, queue::Chunk, realm::Route};

/// Size of the blocks that runs are written into: two full batches, so that one large batch does not end a block early.
const BLOCK_BYTES: usize = 2 * BATCH_BYTES_GOAL;

/// The run being written.
#[derive(Debug)]
pub(crate) struct Run {
    buffer: BytesMut,
    current: Option<Current>,
}

/// What all messages of a run have in common.
#[derive(Debug)]
pub(crate) struct Current {
    pub(crate) from: LinkKey,
    pub(crate) lane: Lane,
    pub(crate) route: Route,
    count: u32,
}

impl Default for Run {
    fn default() -> Self {
        Self { buffer: BytesMut::new(), current: None }
    }
}

impl Run {
    /// Whether a message can join the run; when not, the run has to be ended first.
    #[inline]
    pub(crate) fn takes(&self, from: LinkKey, lane: Lane, route: &Route) -> bool {
        self.current.as_ref().is_some_and(|current| {
            current.from == from
                && current.lane == lane
                && std::ptr::eq(current.route.as_ptr(), route.as_ptr())
                && self.buffer.len() < BATCH_BYTES_GOAL
        })
    }

    pub(crate) fn begin(&mut self, from: LinkKey, lane: Lane, route: Route) {
        debug_assert!(self.current.is_none() && self.buffer.is_empty());
        self.current = Some(Current { from, lane, route, count: 0 });
    }

    /// Adds a message as it leaves the relay.
    #[inline]
    pub(crate) fn push(&mut self, message: &[u8], channel: u64) {
        self.make_room(message.len());
        frame::put_forwarded(message, channel, None, &mut self.buffer);
        if let Some(current) = &mut self.current {
            current.count += 1;
        }
    }

    #[cfg(test)]
    pub(crate) fn is_empty(&self) -> bool {
        self.current.is_none() && self.buffer.is_empty()
    }

    /// Ends the run: its messages and where they go.
    pub(crate) fn end(&mut self) -> Option<(Current, Chunk)> {
        let current = self.current.take()?;
        let chunk = Chunk { frames: self.buffer.split().freeze(), count: current.count };
        Some((current, chunk))
    }

    /// A copy of one message outside any run.
    pub(crate) fn single(&mut self, message: &[u8], channel: u64) -> Bytes {
        debug_assert!(self.current.is_none() && self.buffer.is_empty());
        self.make_room(message.len());
        frame::put_forwarded(message, channel, None, &mut self.buffer);
        self.buffer.split().freeze()
    }

    #[inline]
    fn make_room(&mut self, bytes: usize) {
        if self.buffer.capacity() - self.buffer.len() < bytes {
            // Takes the block back when nobody holds it any more, allocates a new one otherwise.
            self.buffer.reserve(bytes.max(BLOCK_BYTES));
        }
    }
}
