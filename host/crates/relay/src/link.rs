//! What a relay knows of one link.

use std::{collections::VecDeque, sync::Arc};

use bytes::BytesMut;
use macula_auth::Permissions;
use macula_wire::{
    Channel, Mcid, NodeId, TopicError,
    control::{Control, ControlError},
    frame::{self, Frame, FrameError, Frames, Lane, Taken},
    hello::Role,
};
use rustc_hash::{FxHashMap, FxHashSet};
use slab::Slab;

use crate::{contents::Pause, procedures::OfferKey, realm::Route, relay::Unreceipted, subscription::SubKey};

/// Names a link within the relay, from `link_opened` to `link_closed`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct LinkKey(pub(crate) u32);

impl LinkKey {
    /// A small number, used again after the link has closed.
    pub fn index(self) -> usize {
        self.0 as usize
    }

    /// The key with this index: of the link that has it now, if any.
    pub fn of_index(index: u32) -> Self {
        Self(index)
    }
}

/// Who is at the other end, as its verified Hello says.
#[derive(Debug, Clone)]
pub struct Peer {
    /// Its id.
    pub node: NodeId,
    /// Its epoch.
    pub epoch: u64,
    /// What it is.
    pub role: Role,
}

/// A realm that a link has joined.
#[derive(Debug)]
pub(crate) struct Membership {
    pub(crate) realm: usize,
    /// What the peer may do there.
    pub(crate) permissions: Arc<Permissions>,
    /// Its rights have expired a moment ago, and may be renewed.
    pub(crate) is_suspended: bool,
}

/// A peer broke the protocol; its link is to be closed with this text. State of other links is untouched.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Violation {
    /// Not a frame.
    #[error(transparent)]
    Frame(#[from] FrameError),
    /// Not a control message.
    #[error(transparent)]
    Control(#[from] ControlError),
    /// A frame that has no business on its lane.
    #[error("a {frame} frame on lane {lane:?}")]
    WrongLane {
        /// What it is.
        frame: &'static str,
        /// Where it came.
        lane: Lane,
    },
    /// A message or call with a channel number that was not declared on its lane.
    #[error("channel {0} was not declared on this lane")]
    UnknownChannel(u64),
    /// A channel declaration that is malformed, or breaks a rule that the peer knows.
    #[error("channel {number} refused: {reason}")]
    Channel {
        /// Its number.
        number: u64,
        /// Which rule.
        reason: String,
    },
    /// A number that is in use already, or out of range.
    #[error("{what} number {number} is in use or out of range")]
    Number {
        /// Of what.
        what: &'static str,
        /// The number.
        number: u64,
    },
    /// The peer asks much and reads no answers.
    #[error("the peer does not read its control messages")]
    ControlBacklog,
    /// The peer calls, or asks for receipts, and reads neither.
    #[error("the peer does not read its answers and receipts")]
    AnswerBacklog,
    /// A control message that only a relay may send.
    #[error("unexpected control message")]
    Unexpected,
    /// A name that is none.
    #[error(transparent)]
    Topic(#[from] TopicError),
}

/// A channel number of this relay's, and who was told what it stands for.
#[derive(Debug, Default)]
pub(crate) struct Outlet {
    pub(crate) number: u64,
    told: Vec<(LinkKey, Lane)>,
}

impl Outlet {
    pub(crate) fn new(number: u64) -> Self {
        Self { number, told: Vec::new() }
    }

    /// Notes that a link was told. Links that have closed are forgotten when the list would have to grow.
    pub(crate) fn note_told(&mut self, key: LinkKey, lane: Lane, links: &Slab<Link>) {
        if self.told.len() == self.told.capacity() && !self.told.is_empty() {
            let knows = |(key, lane): &(LinkKey, Lane)| {
                links.get(key.index()).is_some_and(|link| link.lanes[lane.index()].declared.contains(&self.number))
            };
            self.told.sort_unstable();
            self.told.dedup();
            self.told.retain(knows);
            self.told.reserve(self.told.len().max(4));
        }
        self.told.push((key, lane));
    }

    /// Who was told. A key may name another link by now, which then does not know this number.
    pub(crate) fn told(self) -> Vec<(LinkKey, Lane)> {
        self.told
    }

    #[cfg(test)]
    pub(crate) fn told_entries(&self) -> usize {
        self.told.len()
    }
}

/// Where a peer's channel leads.
#[derive(Debug)]
pub(crate) struct Inlet {
    pub(crate) channel: Channel,
    pub(crate) realm: usize,
    pub(crate) publisher: usize,
    pub(crate) outlet: Outlet,
    /// Whether the peer has the right to send on it, as of its permissions now.
    pub(crate) is_allowed: bool,
    /// Tells topics apart where only the newest message of each counts.
    pub(crate) topic_key: u64,
    /// Who gets its messages, as interest was at `route_version`; 0 is before any.
    pub(crate) route: Route,
    pub(crate) route_version: u64,
}

/// One lane of a link, both directions.
#[derive(Debug, Default)]
pub(crate) struct LaneState {
    /// By the peer's channel number, which is small.
    pub(crate) inlets: Vec<Option<Box<Inlet>>>,
    /// Channel numbers of this relay's that the peer knows on this lane.
    pub(crate) declared: FxHashSet<u64>,
    /// Goes out before anything that waits in queues: declarations, and on the call lanes everything.
    pub(crate) outbox: BytesMut,
    /// Calls in the outbox: provably unsent until it is taken.
    pub(crate) unsent: Vec<u64>,
    /// Channel numbers to take back once nothing waits here that uses them.
    pub(crate) forgets: Vec<u64>,
    /// How many of them there may be before [`LaneState::tidy`] is worth its while again.
    pub(crate) tidy_at: usize,
    /// Subscriptions with something to send, each once.
    pub(crate) turns: VecDeque<SubKey>,
    /// Whether all of the peer's messages since its last sync were taken.
    pub(crate) taken: Taken,
    /// What has come since its last sync and is kept for who is not back yet.
    pub(crate) unreceipted: Unreceipted,
}

#[derive(Debug)]
pub(crate) struct Link {
    pub(crate) peer: Peer,
    /// By the peer's slot number.
    pub(crate) realms: FxHashMap<u32, Membership>,
    pub(crate) lanes: [LaneState; Lane::COUNT],
    pub(crate) control: VecDeque<Control>,
    /// What those carry.
    pub(crate) control_bytes: usize,
    /// Content that the peer has, each in the realm of a slot.
    pub(crate) provided: FxHashSet<(u32, Mcid)>,
    /// Requests for content that it has open, and that are open to it.
    pub(crate) asking: usize,
    pub(crate) serving: usize,
    /// Of those that it serves: whose askers take nothing.
    pub(crate) stalled: usize,
    /// Whether it may ask for content now.
    pub(crate) pause: Pause,
    /// By the peer's numbers.
    pub(crate) subscriptions: FxHashMap<u32, SubKey>,
    pub(crate) offers: FxHashMap<u32, OfferKey>,
    /// Calls that this link made and waits for, by its number: this relay's number.
    pub(crate) calls: FxHashMap<u64, u64>,
    pub(crate) queued_bytes: usize,
    /// Realms in which its rights have expired a moment ago.
    pub(crate) suspended: usize,
    /// Standing in the relay's list of links with something to send.
    pub(crate) ready: bool,
    pub(crate) undelivered: u64,
    pub(crate) undelivered_reported: u64,
    /// Receipts held back, and the full subscriptions that hold them.
    pub(crate) held: VecDeque<(Lane, Taken, u64)>,
    pub(crate) held_by: Vec<SubKey>,
    /// They are held until the relay's first seconds are over.
    pub(crate) is_held_by_window: bool,
}

/// Channels to take back that may wait on a lane before it is looked which of them nothing uses any more.
const TIDY_MIN: usize = 1024;

/// Declarations that may wait on a lane of a peer that does not read; messages on further channels are dropped for it.
/// Ten times what one publisher with the most channels it may have needs at usual lengths.
const DECLARATION_BYTES_MAX: usize = 16 << 20;

/// Control messages that may wait for a peer. Far more than an honest one leaves unread.
const CONTROL_BACKLOG_MAX: usize = 8192;
/// What they may carry: a realm's revocations, twice over.
const CONTROL_BACKLOG_BYTES_MAX: usize = 32 << 20;

impl Link {
    pub(crate) fn new(peer: Peer) -> Self {
        Self {
            peer,
            realms: FxHashMap::default(),
            lanes: Default::default(),
            control: VecDeque::new(),
            control_bytes: 0,
            provided: FxHashSet::default(),
            asking: 0,
            serving: 0,
            stalled: 0,
            pause: Pause::default(),
            subscriptions: FxHashMap::default(),
            offers: FxHashMap::default(),
            calls: FxHashMap::default(),
            queued_bytes: 0,
            suspended: 0,
            ready: false,
            undelivered: 0,
            undelivered_reported: 0,
            held: VecDeque::new(),
            held_by: Vec::new(),
            is_held_by_window: false,
        }
    }

    /// Whether nothing is to be taken from the peer or given to it at the moment.
    #[inline]
    pub(crate) fn is_suspended(&self) -> bool {
        self.suspended > 0
    }

    /// Whether receipts wait behind those that are held back.
    pub(crate) fn holds_receipts(&self) -> bool {
        self.is_held_by_window || !self.held_by.is_empty()
    }

    /// The peer's number for a realm.
    pub(crate) fn slot_of(&self, realm: usize) -> Option<u32> {
        self.realms.iter().find(|(_, joined)| joined.realm == realm).map(|(slot, _)| *slot)
    }

    #[inline]
    pub(crate) fn lane(&mut self, lane: Lane) -> &mut LaneState {
        &mut self.lanes[lane.index()]
    }

    /// Bytes of calls and answers that wait.
    pub(crate) fn call_bytes(&self) -> usize {
        self.lanes[Lane::Calls.index()].outbox.len() + self.lanes[Lane::Bulk.index()].outbox.len()
    }

    /// Refuses to owe more answers to a peer that does not take them.
    pub(crate) fn check_answer_backlog(&self, call_bytes_max: usize) -> Result<(), Violation> {
        let held = self.held.len() * RECEIPT_BYTES;
        if self.call_bytes() + held > call_bytes_max.saturating_mul(2) {
            return Err(Violation::AnswerBacklog);
        }
        Ok(())
    }

    pub(crate) fn send_control(&mut self, message: Control) -> Result<(), Violation> {
        let bytes = message.bytes_carried();
        if self.control.len() >= CONTROL_BACKLOG_MAX || self.control_bytes + bytes > CONTROL_BACKLOG_BYTES_MAX {
            return Err(Violation::ControlBacklog);
        }
        self.control_bytes += bytes;
        self.control.push_back(message);
        Ok(())
    }

    pub(crate) fn take_control(&mut self) -> Option<Control> {
        let message = self.control.pop_front()?;
        self.control_bytes -= message.bytes_carried();
        Some(message)
    }
}

/// Bytes of a receipt frame.
const RECEIPT_BYTES: usize = 16;

impl LaneState {
    /// Whether there is room to tell the peer of one more channel.
    pub(crate) fn takes_declarations(&self) -> bool {
        self.outbox.len() < DECLARATION_BYTES_MAX
    }

    /// Whether many channels wait to be taken back.
    pub(crate) fn wants_tidying(&self) -> bool {
        self.forgets.len() >= self.tidy_at.max(TIDY_MIN)
    }

    /// Takes back the channels that nothing waits for any more, `used` being those of the messages in the lane's queues.
    /// Of a declaration that the peer has not been sent nothing remains. Only for lanes of messages.
    pub(crate) fn tidy(&mut self, used: &FxHashSet<u64>) {
        let mut unused: FxHashSet<u64> = self.forgets.iter().copied().filter(|number| !used.contains(number)).collect();
        let outbox = self.outbox.split();
        for bytes in Frames::new(&outbox).flatten() {
            match Frame::parse(bytes) {
                Ok(Frame::Channel { number, .. }) if unused.remove(&number) => {}
                _ => self.outbox.extend_from_slice(bytes),
            }
        }
        for number in unused {
            frame::put_forget(number, &mut self.outbox);
        }
        self.forgets.retain(|number| used.contains(number));
        self.tidy_at = self.forgets.len() * 2;
    }

    #[inline]
    pub(crate) fn inlet(&mut self, number: u64) -> Result<&mut Inlet, Violation> {
        usize::try_from(number)
            .ok()
            .and_then(|index| self.inlets.get_mut(index))
            .and_then(|inlet| inlet.as_deref_mut())
            .ok_or(Violation::UnknownChannel(number))
    }
}
