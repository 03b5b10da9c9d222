//! One lane of the outbox: what waits, what was sent and is kept until it is confirmed, and what a new link has to be told.

use std::collections::VecDeque;

use bytes::{Bytes, BytesMut};
use macula_wire::frame::{self, Frame, Frames, LatestSlots};
use rustc_hash::FxHashMap;

use super::{
    BLOCK_BYTES,
    span::{self, Span, Spans},
};

/// One lane's frames.
#[derive(Debug, Default)]
pub(super) struct LaneBuffer {
    /// What a new link has to be told first.
    pub(super) beginning: Bytes,
    /// Full blocks, then the one being written.
    pub(super) sealed: Vec<Bytes>,
    pub(super) open: BytesMut,
    pub(super) bytes: usize,
    /// Newest message of each topic; only on the lane for those.
    pub(super) latest: LatestSlots,
    /// By channel number: the generation that was declared in what went before, buffered or sent.
    pub(super) declared: Vec<u32>,
    /// Declarations in the buffer, in order.
    pub(super) buffered_declarations: Vec<(u32, Bytes)>,
    /// What each number stood for before the first of `unconfirmed`.
    pub(super) sent_declarations: FxHashMap<u32, Bytes>,
    /// Tokens of syncs in the buffer.
    pub(super) buffered_sync: Option<u64>,
    /// Messages in the buffer after the last sync there.
    pub(super) buffered_messages: Option<Span>,
    /// Sent but not yet confirmed: to be sent again on a new link.
    pub(super) unconfirmed: VecDeque<Unconfirmed>,
    pub(super) unconfirmed_bytes: usize,
    /// Messages that were sent on this link after the last of `unconfirmed`, and are not sent again.
    pub(super) sent_once: Option<Span>,
    /// Messages of links that were lost before a relay confirmed them, and that are not sent again: nobody knows where
    /// they are.
    pub(super) unknown: Spans,
}

/// Frames that were sent, up to a sync that was not answered yet.
#[derive(Debug)]
pub(super) struct Unconfirmed {
    /// Of the last sync in it.
    pub(super) token: u64,
    pub(super) pieces: Vec<Bytes>,
    /// Declarations in the pieces, in order.
    pub(super) declarations: Vec<(u32, Bytes)>,
    /// Declarations that were sent after them, among frames that are not sent again.
    pub(super) later: Vec<(u32, Bytes)>,
    /// Messages that were sent on this link before them, after those of the one before, and are not sent again.
    pub(super) sent_before: Option<Span>,
    /// Messages among them that come after the last sync.
    pub(super) after_sync: Option<Span>,
}

impl Unconfirmed {
    fn bytes(&self) -> usize {
        self.pieces.iter().map(Bytes::len).sum()
    }
}

impl LaneBuffer {
    pub(super) fn is_empty(&self) -> bool {
        self.bytes == 0 && self.latest.is_empty()
    }

    /// What is still to be sent: frames in order, and newest values.
    #[inline]
    pub(super) fn waiting_bytes(&self) -> usize {
        self.bytes + self.latest.bytes()
    }

    /// What counts against the bound: what waits, and what is kept until it is confirmed.
    #[inline]
    pub(super) fn bytes_held(&self) -> usize {
        self.waiting_bytes() + self.unconfirmed_bytes
    }

    pub(super) fn has_room(&self, bytes_max: usize) -> bool {
        self.bytes_held() < bytes_max && !self.latest.is_full()
    }

    #[inline]
    pub(super) fn append(&mut self, bytes: usize, write: impl FnOnce(&mut BytesMut)) {
        if self.open.capacity() - self.open.len() < bytes {
            self.seal();
            self.open.reserve(bytes.max(BLOCK_BYTES));
        }
        let before = self.open.len();
        write(&mut self.open);
        self.bytes += self.open.len() - before;
    }

    pub(super) fn seal(&mut self) {
        if !self.open.is_empty() {
            self.sealed.push(self.open.split().freeze());
        }
    }

    pub(super) fn take(&mut self, into: &mut Vec<Bytes>) {
        if self.bytes == 0 {
            return;
        }
        if !self.beginning.is_empty() {
            into.push(std::mem::take(&mut self.beginning));
        }
        self.seal();
        self.bytes = 0;
        let declarations = std::mem::take(&mut self.buffered_declarations);
        if let Some(token) = self.buffered_sync.take() {
            // The same bytes, not a copy; kept until the relay has confirmed them.
            let pieces = self.sealed.clone();
            let sent_before = self.sent_once.take();
            let after_sync = self.buffered_messages.take();
            let later = Vec::new();
            let unconfirmed = Unconfirmed { token, pieces, declarations, later, sent_before, after_sync };
            self.unconfirmed_bytes += unconfirmed.bytes();
            self.unconfirmed.push_back(unconfirmed);
        } else {
            span::extend(&mut self.sent_once, self.buffered_messages.take());
            match self.unconfirmed.back_mut() {
                Some(last) => last.later.extend(declarations),
                None => self.sent_declarations.extend(declarations),
            }
        }
        into.append(&mut self.sealed);
    }

    /// The relay has everything up to a token.
    pub(super) fn confirmed(&mut self, token: u64) {
        let mut after_sync = None;
        while let Some(confirmed) = self.unconfirmed.pop_front_if(|first| first.token <= token) {
            self.unconfirmed_bytes -= confirmed.bytes();
            self.sent_declarations.extend(confirmed.declarations.into_iter().chain(confirmed.later));
            after_sync = confirmed.after_sync;
        }
        // Sent, and spoken of by the next receipt only; until now they were kept because of what came before.
        let next = match self.unconfirmed.front_mut() {
            Some(next) => &mut next.sent_before,
            None => &mut self.sent_once,
        };
        span::extend(&mut after_sync, next.take());
        *next = after_sync;
    }

    /// The link is gone: where that is what was sent on it and is not sent again, nobody knows.
    pub(super) fn give_up_sent(&mut self) {
        let before = self.unconfirmed.iter_mut().filter_map(|unconfirmed| unconfirmed.sent_before.take());
        for span in before.chain(self.sent_once.take()) {
            self.unknown.push(span);
        }
    }

    /// For a new link: everything declared before, then what was not confirmed, then what waits. Numbers stand for
    /// something else from time to time, so each declaration is said again in its place.
    pub(super) fn begin_again(&mut self) {
        self.beginning = declaring(&self.sent_declarations).unwrap_or_default();
        let unconfirmed = std::mem::take(&mut self.unconfirmed);
        self.unconfirmed_bytes = 0;
        let last_token = unconfirmed.back().map(|last| last.token);
        if self.buffered_sync.is_none()
            && let Some(mut after_sync) = unconfirmed.back().and_then(|last| last.after_sync)
        {
            self.buffered_messages.inspect(|waiting| after_sync.extend(*waiting));
            self.buffered_messages = Some(after_sync);
        }
        self.seal();
        let waiting = std::mem::take(&mut self.sealed);
        let buffered = std::mem::take(&mut self.buffered_declarations);
        for Unconfirmed { pieces, declarations, later, .. } in unconfirmed {
            self.sealed.extend(pieces);
            self.sealed.extend(declaring(later.iter().map(|(number, declaration)| (number, declaration))));
            self.buffered_declarations.extend(declarations.into_iter().chain(later));
        }
        self.buffered_declarations.extend(buffered);
        self.sealed.extend(waiting);
        self.bytes = self.sealed.iter().map(Bytes::len).sum();
        self.buffered_sync = self.buffered_sync.or(last_token);
    }

    /// Keeps calls and declarations; everything else was for the link that is gone.
    pub(super) fn keep_calls(&mut self, unsent: &mut Vec<u64>) {
        self.seal();
        let mut kept = BytesMut::new();
        for block in std::mem::take(&mut self.sealed) {
            for bytes in Frames::new(&block).flatten() {
                match Frame::parse(bytes) {
                    Ok(Frame::Call { header, .. }) => unsent.push(header.id),
                    Ok(Frame::Channel { .. }) => {}
                    _ => continue,
                }
                kept.extend_from_slice(bytes);
            }
        }
        self.bytes = kept.len();
        self.open = kept;
    }
}

/// Frames that declare channels; none for none.
fn declaring<'a>(declarations: impl IntoIterator<Item = (&'a u32, &'a Bytes)>) -> Option<Bytes> {
    let mut frames = BytesMut::new();
    for (number, declaration) in declarations {
        frame::put_channel(u64::from(*number), declaration, &mut frames);
    }
    (!frames.is_empty()).then(|| frames.freeze())
}
