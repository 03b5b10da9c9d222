//! The receiving end of a subscription.

use std::{
    collections::VecDeque,
    sync::{
        Arc,
        atomic::{AtomicU32, AtomicU64, Ordering},
    },
    task::{Context, Poll, Waker},
};

use bytes::Bytes;
use macula_wire::{
    Channel, Message, Pattern, WhenFull,
    frame::{self, Extras, Frame, frame_len},
};
use parking_lot::Mutex;
use smallvec::SmallVec;

use super::handle::Shared;

/// How a subscription is made.
#[derive(Debug, Clone)]
pub(super) struct SubscriptionOptions {
    pub(super) pattern: Pattern,
    pub(super) when_full: WhenFull,
    pub(super) queue_messages: u32,
    pub(super) retained: bool,
}

/// Messages of one batch, not yet decoded.
#[derive(Debug)]
pub(super) struct Batch {
    pub(super) link: u64,
    /// The subscription's number at the relay.
    pub(super) number: u32,
    pub(super) frames: Bytes,
    pub(super) count: u32,
    /// The channels that its frames name.
    pub(super) channels: SmallVec<[(u64, Arc<Channel>); 2]>,
}

/// What the link's tasks and the [`Subscription`] share.
#[derive(Debug)]
pub(super) struct SubscriptionState {
    number: AtomicU32,
    pub(super) options: SubscriptionOptions,
    inbox: Mutex<Inbox>,
    dropped: AtomicU64,
    dropped_before: AtomicU64,
}

#[derive(Debug, Default)]
struct Inbox {
    batches: VecDeque<Batch>,
    messages: u64,
    waker: Option<Waker>,
    closed: bool,
}

impl SubscriptionState {
    pub(super) fn new(number: u32, options: SubscriptionOptions) -> Self {
        Self {
            number: AtomicU32::new(number),
            options,
            inbox: Mutex::default(),
            dropped: AtomicU64::new(0),
            dropped_before: AtomicU64::new(0),
        }
    }

    /// Its number at the relay. It changes under the registry's lock only.
    pub(super) fn number(&self) -> u32 {
        self.number.load(Ordering::Relaxed)
    }

    /// It is asked for again under another number, where the relay counts from 0.
    pub(super) fn renumber(&self, number: u32) {
        self.number.store(number, Ordering::Relaxed);
        self.link_up();
    }

    /// Messages that may be on their way or wait here.
    pub(super) fn window(&self) -> u64 {
        u64::from(self.options.queue_messages)
    }

    pub(super) fn deliver(&self, batch: Batch) {
        let mut inbox = self.inbox.lock();
        inbox.messages += u64::from(batch.count);
        inbox.batches.push_back(batch);
        let waker = inbox.waker.take();
        drop(inbox);
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    /// The relay's count of drops on the current link.
    pub(super) fn set_dropped(&self, on_this_link: u64) {
        let before = self.dropped_before.load(Ordering::Relaxed);
        self.dropped.store(before + on_this_link, Ordering::Relaxed);
    }

    /// A new link counts from 0.
    pub(super) fn link_up(&self) {
        self.dropped_before.store(self.dropped.load(Ordering::Relaxed), Ordering::Relaxed);
    }

    pub(super) fn close(&self) {
        let mut inbox = self.inbox.lock();
        inbox.closed = true;
        let waker = inbox.waker.take();
        drop(inbox);
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

/// Counts since a subscription began.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SubscriptionStats {
    /// Messages that a relay dropped because the queue was full.
    pub dropped: u64,
    /// Messages that wait on this node.
    pub queued: u64,
}

/// Messages of one subscription, in order for each publisher and priority. Dropping it unsubscribes.
///
/// It outlives links: when one is lost, it goes on with the next. It outlives a right that expires, too: it waits until that is
/// renewed, and ends when it is revoked. What a relay could not keep meanwhile is lost, as its
/// [`WhenFull`] says.
#[derive(Debug)]
pub struct Subscription {
    shared: Arc<Shared>,
    state: Arc<SubscriptionState>,
    /// What is being decoded.
    current: Option<Batch>,
    taken: Taken,
}

/// Messages taken, and credit given.
#[derive(Debug, Default)]
struct Taken {
    /// On this link, under this number: the relay counts anew for each.
    link: u64,
    number: u32,
    messages: u64,
    credit: u64,
}

impl Subscription {
    pub(super) fn new(shared: Arc<Shared>, state: Arc<SubscriptionState>) -> Self {
        Self { shared, state, current: None, taken: Taken::default() }
    }

    /// The pattern as given.
    pub fn pattern(&self) -> &Pattern {
        &self.state.options.pattern
    }

    /// Counts so far.
    pub fn stats(&self) -> SubscriptionStats {
        let waiting = self.state.inbox.lock().messages;
        let decoding = self.current.as_ref().map_or(0, |batch| u64::from(batch.count));
        SubscriptionStats { dropped: self.state.dropped.load(Ordering::Relaxed), queued: waiting + decoding }
    }

    /// The next message; `None` once the handle was closed, or the right to subscribe was revoked, and everything has been
    /// taken. Dropping the future loses
    /// nothing.
    pub async fn next(&mut self) -> Option<Message> {
        std::future::poll_fn(|cx| self.poll_next(cx)).await
    }

    /// As [`Subscription::next`], for hand-written futures.
    #[inline]
    pub fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Message>> {
        loop {
            if let Some(message) = self.decode_next() {
                return Poll::Ready(Some(message));
            }
            match self.poll_batch(cx) {
                Poll::Ready(true) => {}
                Poll::Ready(false) => return Poll::Ready(None),
                Poll::Pending => return Poll::Pending,
            }
        }
    }

    /// The next message if one is at hand.
    pub fn try_next(&mut self) -> Option<Message> {
        let mut cx = Context::from_waker(Waker::noop());
        match self.poll_next(&mut cx) {
            Poll::Ready(message) => message,
            Poll::Pending => None,
        }
    }

    #[inline]
    fn decode_next(&mut self) -> Option<Message> {
        let batch = self.current.as_mut()?;
        // Checked when the batch arrived.
        while let Some(len) = frame_len(&batch.frames).filter(|len| *len <= batch.frames.len()) {
            let bytes = batch.frames.split_to(len);
            batch.count = batch.count.saturating_sub(1);
            if let Some(message) = decode(&bytes, &batch.channels) {
                return Some(message);
            }
        }
        self.current = None;
        None
    }

    /// Moves on to the next batch; false when there will be none.
    fn poll_batch(&mut self, cx: &mut Context<'_>) -> Poll<bool> {
        let mut inbox = self.state.inbox.lock();
        let Some(batch) = inbox.batches.pop_front() else {
            if inbox.closed {
                return Poll::Ready(false);
            }
            inbox.waker = Some(cx.waker().clone());
            return Poll::Pending;
        };
        inbox.messages -= u64::from(batch.count);
        drop(inbox);
        self.give_credit(&batch);
        self.current = Some(batch);
        Poll::Ready(true)
    }

    /// Lets the relay send as much again, in steps of half the window.
    fn give_credit(&mut self, batch: &Batch) {
        let window = self.state.window();
        let taken = &mut self.taken;
        if (taken.link, taken.number) != (batch.link, batch.number) {
            *taken = Taken { link: batch.link, number: batch.number, messages: 0, credit: window };
        }
        taken.messages += u64::from(batch.count);
        let total = taken.messages + window;
        if total - taken.credit >= window.div_ceil(2) {
            taken.credit = total;
            self.shared.outbox.credit(taken.link, taken.number, total);
        }
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        self.shared.registry.unsubscribe(&self.state);
    }
}

impl futures::Stream for Subscription {
    type Item = Message;

    fn poll_next(mut self: std::pin::Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Message>> {
        Subscription::poll_next(&mut self, cx)
    }
}

/// A message frame as its subscriber sees it; `None` for one that names no known channel or is malformed.
#[inline]
pub(super) fn decode(bytes: &Bytes, channels: &[(u64, Arc<Channel>)]) -> Option<Message> {
    let Ok(Frame::Message { header, extras, payload }) = Frame::parse(bytes) else { return None };
    let (_, channel) = channels.iter().find(|(number, _)| *number == header.channel)?;
    let extras = if extras.is_empty() { Extras::default() } else { Extras::from_bytes(extras).ok()? };
    Some(Message {
        topic: channel.name.clone(),
        payload: bytes.slice_ref(payload),
        content_type: channel.content_type.clone(),
        publisher: channel.sender,
        plugin: channel.plugin.clone(),
        epoch: channel.epoch,
        seq: header.id,
        timestamp_ms: header.time,
        retained: header.flags & frame::FLAG_RETAINED != 0,
        cause_depth: header.cause_depth,
        metadata: extras.metadata,
        traceparent: extras.traceparent,
        tracestate: extras.tracestate,
    })
}
