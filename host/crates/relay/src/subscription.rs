//! One link's subscription to one pattern: its queues, and how much its subscriber takes.

use std::time::Instant;

use macula_wire::{
    Pattern, WhenFull,
    frame::{Lane, LatestSlots},
};
use rustc_hash::FxHashSet;

use crate::{
    link::LinkKey,
    queue::{self, Chunk, Queue},
};

/// Names a subscription within the relay.
pub(crate) type SubKey = u32;

/// Lanes with a queue of their own: high, normal, low.
const QUEUES: usize = 3;

#[derive(Debug)]
pub(crate) struct Subscription {
    pub(crate) link: LinkKey,
    pub(crate) realm: usize,
    /// The subscriber's number for the realm.
    pub(crate) slot: u32,
    /// The subscriber's number for it.
    pub(crate) number: u32,
    pub(crate) pattern: Pattern,
    pub(crate) when_full: WhenFull,
    pub(crate) queue_messages: usize,
    queues: [Queue; QUEUES],
    pub(crate) latest: LatestSlots,
    /// Whether it stands in its link's turns, by lane.
    pub(crate) in_turn: [bool; Lane::COUNT],
    /// Messages sent, and messages that its subscriber takes, since it began.
    pub(crate) sent: u64,
    pub(crate) credit: u64,
    pub(crate) dropped: u64,
    pub(crate) dropped_reported: u64,
    /// From where on it is to be given what the relay keeps in its first seconds.
    pub(crate) replay: Option<u64>,
    /// Since when it holds back receipts.
    pub(crate) blocking_since: Option<Instant>,
    /// It held receipts back for as long as it may; until it has drained, it drops like the rest.
    pub(crate) blocked_out: bool,
}

impl Subscription {
    pub(crate) fn new(link: LinkKey, realm: usize, request: &macula_wire::control::Subscribe) -> Self {
        let queue_messages = request.queue_messages as usize;
        Self {
            link,
            realm,
            slot: request.slot,
            number: request.subscription,
            pattern: request.pattern.clone(),
            when_full: request.when_full,
            queue_messages,
            queues: std::array::from_fn(|_| Queue::new(request.when_full, queue_messages)),
            latest: LatestSlots::default(),
            in_turn: [false; Lane::COUNT],
            sent: 0,
            credit: request.credit,
            dropped: 0,
            dropped_reported: 0,
            replay: None,
            blocking_since: None,
            blocked_out: false,
        }
    }

    /// The queue of a message lane other than `Latest`.
    #[inline]
    pub(crate) fn queue(&mut self, lane: Lane) -> &mut Queue {
        debug_assert!(lane.index() < QUEUES);
        &mut self.queues[lane.index()]
    }

    /// Bytes and messages waiting.
    pub(crate) fn waiting(&self) -> (usize, usize) {
        let bytes = self.queues.iter().map(Queue::bytes).sum::<usize>() + self.latest.bytes();
        let messages = self.queues.iter().map(Queue::messages).sum::<usize>() + self.latest.messages();
        (bytes, messages)
    }

    /// Messages for which each queue has room.
    pub(crate) fn room(&self) -> usize {
        let fullest = self.queues.iter().map(Queue::messages).max().unwrap_or(0);
        self.queue_messages.saturating_sub(fullest)
    }

    /// Whether there is something that it has missed, and half of its queues is empty.
    #[inline]
    pub(crate) fn wants_replay(&self) -> bool {
        self.replay.is_some() && self.room() * 2 >= self.queue_messages
    }

    /// Takes the next that a lane has, at most `messages` messages.
    #[inline]
    pub(crate) fn pop(&mut self, lane: Lane, messages: u64) -> Option<Chunk> {
        match lane {
            Lane::Latest => self.latest.pop().map(Chunk::single),
            lane => self.queue(lane).pop(messages),
        }
    }

    /// Adds the channel numbers of the messages that wait on a lane to `used`.
    pub(crate) fn collect_channels(&self, lane: Lane, used: &mut FxHashSet<u64>) {
        if lane == Lane::Latest {
            self.latest.iter().for_each(|frame| queue::collect_channels(frame, used));
        } else {
            self.queues[lane.index()].collect_channels(used);
        }
    }

    /// Messages that may be sent now.
    #[inline]
    pub(crate) fn credit_left(&self) -> u64 {
        self.credit.saturating_sub(self.sent)
    }

    /// Whether anything waits on a lane.
    #[inline]
    pub(crate) fn has_waiting(&self, lane: Lane) -> bool {
        if lane == Lane::Latest { !self.latest.is_empty() } else { !self.queues[lane.index()].is_empty() }
    }

    /// Whether a `block` subscription is so full that publishers should wait. Half the queue is kept for what they
    /// have sent before they notice.
    #[inline]
    pub(crate) fn wants_pause(&self) -> bool {
        self.when_full == WhenFull::Block
            && !self.blocked_out
            && self.queues.iter().any(|queue| queue.messages() * 2 > self.queue_messages)
    }
}
