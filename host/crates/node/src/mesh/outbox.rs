//! What waits to be sent: frames, encoded where they are published, one buffer for each lane.
//!
//! A buffer outlives links. Frames refer to channels by number; a new link's peer knows none, so a lane begins with the
//! declarations of everything that was sent on it before, and buffered declarations follow in their place. What must
//! not reach another link (answers to its calls, credit) is taken out when a link is lost.

use std::{
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use bytes::{Bytes, BytesMut};
use macula_auth::Permissions;
use macula_wire::{
    CallError, Delivery, Fault, NodeId, Priority,
    frame::{self, Frame, Header, Lane, Outcome},
    limits::BATCH_BYTES_GOAL,
};
use parking_lot::Mutex;
use rustc_hash::FxHashMap;
use tokio::sync::Notify;

pub(super) use self::channels::{ChannelKey, ChannelName};
use self::{
    channels::Channels,
    lane_buffer::{LaneBuffer, Unconfirmed},
    span::Span,
};

mod channels;
mod lane_buffer;
mod span;

/// Size of the blocks that frames are written into.
const BLOCK_BYTES: usize = 2 * BATCH_BYTES_GOAL;

/// The slot under which the one realm of a handle is joined.
pub(super) const REALM_SLOT: u32 = 0;

/// Buffers for all lanes, shared by everything that sends.
#[derive(Debug)]
pub(super) struct Outbox {
    state: Mutex<State>,
    /// Something waits on a lane.
    pub(super) waiting: [Notify; Lane::COUNT],
    /// Room was made on some lane.
    room: Notify,
    bytes_max: usize,
}

#[derive(Debug)]
struct State {
    lanes: [LaneBuffer; Lane::COUNT],
    channels: Channels,
    epoch: u64,
    last_seq: u64,
    last_token: u64,
    /// Counts links; 0 before the first.
    link: u64,
    link_is_up: bool,
    closed: bool,
}

/// Where a sync stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Sync {
    /// What its receipt will carry.
    pub(super) token: u64,
    /// Number of the last message before it.
    pub(super) after: u64,
}

/// What a message carries beside topic and payload.
#[derive(Debug, Clone, Copy)]
pub(super) struct Envelope<'a> {
    pub(super) delivery: Delivery,
    pub(super) priority: Priority,
    pub(super) retain: bool,
    pub(super) cause_depth: u8,
    /// Encoded, or empty.
    pub(super) extras: &'a [u8],
}

/// Why a frame was not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum NoRoom {
    /// Too much waits; see [`Outbox::room`].
    Full,
    /// The handle was closed.
    Closed,
    /// The channel's number names another by now; ask for it again.
    Stale,
    /// This node has no right to send on the channel.
    Denied,
}

impl Envelope<'_> {
    pub(super) fn lane(&self) -> Lane {
        if self.delivery == Delivery::Latest { Lane::Latest } else { self.priority.into() }
    }
}

impl Outbox {
    pub(super) fn new(sender: NodeId, epoch: u64, bytes_max: usize, permissions: Arc<Permissions>) -> Self {
        let channels = Channels { sender, by_name: FxHashMap::default(), slots: Vec::new(), hand: 0, permissions };
        let state = State {
            lanes: Default::default(),
            channels,
            epoch,
            last_seq: 0,
            last_token: 0,
            link: 0,
            link_is_up: false,
            closed: false,
        };
        Self { state: Mutex::new(state), waiting: Default::default(), room: Notify::new(), bytes_max }
    }

    /// The channel of this name, made when it is not there.
    pub(super) fn channel(&self, name: &ChannelName) -> ChannelKey {
        let mut state = self.state.lock();
        let epoch = state.epoch;
        state.channels.key(name, epoch)
    }

    /// Puts new permissions in force, for what is queued from now on.
    pub(super) fn set_permissions(&self, permissions: Arc<Permissions>) {
        self.state.lock().channels.set_permissions(permissions);
    }

    /// Appends a message and gives its sequence number. An `acked` one has a sync behind it, and the two are sent together, so
    /// that the message is kept until the sync is answered.
    #[inline]
    pub(super) fn publish(&self, channel: ChannelKey, envelope: Envelope<'_>, payload: &[u8]) -> Result<u64, NoRoom> {
        if envelope.delivery == Delivery::Acked {
            return self.publish_synced(channel, envelope, payload).map(|(seq, _)| seq);
        }
        let lane = envelope.lane();
        let mut state = self.state.lock();
        let was_empty = state.admit(lane, self.bytes_max)?;
        let seq = state.publish(channel, envelope, payload)?;
        drop(state);
        if was_empty {
            self.waiting[lane.index()].notify_one();
        }
        Ok(seq)
    }

    /// Appends a message with a sync behind it: its sequence number, and where the sync stands.
    pub(super) fn publish_synced(
        &self,
        channel: ChannelKey,
        envelope: Envelope<'_>,
        payload: &[u8],
    ) -> Result<(u64, Sync), NoRoom> {
        let lane = envelope.lane();
        let mut state = self.state.lock();
        let was_empty = state.admit(lane, self.bytes_max)?;
        let seq = state.publish(channel, envelope, payload)?;
        let sync = state.sync(lane);
        drop(state);
        if was_empty {
            self.waiting[lane.index()].notify_one();
        }
        Ok((seq, sync))
    }

    /// Asks the relay to say when it has everything so far on a lane.
    pub(super) fn sync(&self, lane: Lane) -> Result<Sync, NoRoom> {
        let mut state = self.state.lock();
        let was_empty = state.admit(lane, usize::MAX)?;
        let sync = state.sync(lane);
        drop(state);
        if was_empty {
            self.waiting[lane.index()].notify_one();
        }
        Ok(sync)
    }

    /// Number of the last message that was published.
    pub(super) fn last_seq(&self) -> u64 {
        self.state.lock().last_seq
    }

    /// How many messages of a lane, numbered above `after` and up to `last`, were sent on links that were lost before a
    /// relay confirmed them, and were not sent again.
    pub(super) fn unknown(&self, lane: Lane, after: u64, last: u64) -> u64 {
        self.state.lock().lanes[lane.index()].unknown.messages(after, last)
    }

    /// The relay of link number `link` is leaving, and takes what it has been sent: asks it to say so, behind everything
    /// that was sent on a lane, if something was that is not sent again.
    pub(super) fn last_sync(&self, link: u64, lane: Lane) -> Option<Bytes> {
        let mut state = self.state.lock();
        if state.link != link || !state.link_is_up {
            return None;
        }
        let sent_before = Some(state.lanes[lane.index()].sent_once.take()?);
        state.last_token += 1;
        let token = state.last_token;
        let mut frame = BytesMut::new();
        frame::put_sync(token, &mut frame);
        let frame = frame.freeze();
        let buffer = &mut state.lanes[lane.index()];
        buffer.unconfirmed_bytes += frame.len();
        buffer.unconfirmed.push_back(Unconfirmed {
            token,
            pieces: vec![frame.clone()],
            declarations: Vec::new(),
            later: Vec::new(),
            sent_before,
            after_sync: None,
        });
        Some(frame)
    }

    /// The relay has everything up to a token.
    pub(super) fn confirmed(&self, lane: Lane, token: u64) {
        let mut state = self.state.lock();
        let buffer = &mut state.lanes[lane.index()];
        let had_room = buffer.has_room(self.bytes_max);
        buffer.confirmed(token);
        drop(state);
        if !had_room {
            self.room.notify_waiters();
        }
    }

    /// Appends a call under this node's number for it.
    pub(super) fn call(
        &self,
        channel: ChannelKey,
        number: u64,
        time_left: Duration,
        cause_depth: u8,
        extras: &[u8],
        payload: &[u8],
    ) -> Result<(), NoRoom> {
        let lane = Lane::for_call(payload.len());
        let mut state = self.state.lock();
        let was_empty = state.admit(lane, self.bytes_max)?;
        state.declare(lane, channel)?;
        let time = u64::from(u32::try_from(time_left.as_millis()).unwrap_or(u32::MAX));
        let header = Header {
            flags: 0,
            auth: frame::AUTH_ATTESTED,
            cause_depth,
            hops: 0,
            time,
            id: number,
            channel: channel.number.into(),
        };
        let bytes = frame::HEADER_BYTES + 2 + extras.len() + payload.len();
        state.append(lane, bytes, |out| frame::put_call(header, extras, payload, out));
        drop(state);
        if was_empty {
            self.waiting[lane.index()].notify_one();
        }
        Ok(())
    }

    /// Answers a call that came on link number `link`; nothing happens when that link is gone.
    ///
    /// Answers are not held up by a full buffer: their number is bounded by the calls in flight.
    pub(super) fn reply(&self, link: u64, call: u64, outcome: &Result<Bytes, CallError>) {
        match outcome {
            Ok(answer) => self.append_for(link, Lane::for_call(answer.len()), 16 + answer.len(), |out| {
                frame::put_reply(call, Outcome::Answer(answer), out);
            }),
            Err(error) => self.append_for(link, Lane::Calls, 256, |out| frame::put_reply_error(call, error, out)),
        }
    }

    /// The caller has given up.
    pub(super) fn cancel(&self, link: u64, call: u64) {
        self.append_for(link, Lane::Calls, 16, |out| frame::put_cancel(call, out));
    }

    /// A subscription takes more.
    pub(super) fn credit(&self, link: u64, subscription: u32, total: u64) {
        self.append_for(link, Lane::Calls, 24, |out| frame::put_credit(subscription, total, out));
    }

    fn append_for(&self, link: u64, lane: Lane, bytes: usize, write: impl FnOnce(&mut BytesMut)) {
        let mut state = self.state.lock();
        if state.link != link || !state.link_is_up || state.closed {
            return;
        }
        let was_empty = state.lanes[lane.index()].is_empty();
        state.append(lane, bytes, write);
        drop(state);
        if was_empty {
            self.waiting[lane.index()].notify_one();
        }
    }

    /// Waits until there may be room.
    pub(super) async fn room(&self, lane: Lane) {
        let room = self.room.notified();
        tokio::pin!(room);
        room.as_mut().enable();
        let has_room = {
            let state = self.state.lock();
            state.closed || state.lanes[lane.index()].has_room(self.bytes_max)
        };
        if !has_room {
            room.await;
        }
    }

    /// Takes all that waits on a lane, for link number `link`; empty when nothing does or the link is another by now.
    pub(super) fn take(&self, link: u64, lane: Lane, into: &mut Vec<Bytes>) {
        let mut state = self.state.lock();
        if state.link != link || !state.link_is_up {
            return;
        }
        let had_room = state.lanes[lane.index()].has_room(self.bytes_max);
        state.flush_latest(lane);
        state.lanes[lane.index()].take(into);
        drop(state);
        if !had_room {
            self.room.notify_waiters();
        }
    }

    /// A link is up: its number. Every lane begins with what its peer has to know.
    pub(super) fn link_up(&self) -> u64 {
        let mut state = self.state.lock();
        state.link += 1;
        state.link_is_up = true;
        for lane in &mut state.lanes {
            lane.begin_again();
        }
        let link = state.link;
        drop(state);
        for waiting in &self.waiting {
            waiting.notify_one();
        }
        link
    }

    /// The link is gone: what made sense on it only is taken out. Calls that stay are provably unsent; their numbers.
    pub(super) fn link_down(&self) -> Vec<u64> {
        let mut state = self.state.lock();
        state.link_is_up = false;
        for lane in &mut state.lanes {
            lane.give_up_sent();
        }
        let mut unsent = Vec::new();
        for lane in [Lane::Calls, Lane::Bulk] {
            state.lanes[lane.index()].keep_calls(&mut unsent);
        }
        drop(state);
        // What was taken out has made room.
        self.room.notify_waiters();
        unsent
    }

    /// Nothing is taken any more.
    pub(super) fn close(&self) {
        self.state.lock().closed = true;
        self.room.notify_waiters();
    }

    /// Lanes with messages that were published and not yet confirmed to be anywhere.
    pub(super) fn message_lanes_in_use(&self) -> Vec<Lane> {
        let state = self.state.lock();
        let in_use = |lane: &Lane| {
            let buffer = &state.lanes[lane.index()];
            lane.carries_messages() && (!buffer.declared.is_empty() || !buffer.is_empty())
        };
        Lane::ALL.into_iter().filter(in_use).collect()
    }

    /// Bytes that wait, in all.
    pub(super) fn waiting_bytes(&self) -> usize {
        self.state.lock().lanes.iter().map(LaneBuffer::waiting_bytes).sum()
    }
}

impl State {
    /// Whether a frame may come, and whether the lane was empty before.
    #[inline]
    fn admit(&self, lane: Lane, bytes_max: usize) -> Result<bool, NoRoom> {
        let buffer = &self.lanes[lane.index()];
        if self.closed {
            Err(NoRoom::Closed)
        } else if buffer.bytes_held() >= bytes_max {
            Err(NoRoom::Full)
        } else {
            Ok(buffer.is_empty())
        }
    }

    /// Appends a message and gives its number.
    #[inline]
    fn publish(&mut self, channel: ChannelKey, envelope: Envelope<'_>, payload: &[u8]) -> Result<u64, NoRoom> {
        let lane = envelope.lane();
        let latest = &self.lanes[lane.index()].latest;
        if lane == Lane::Latest && latest.is_full() && !latest.holds(channel.number.into()) {
            // One more would push out the newest value of another topic.
            return Err(NoRoom::Full);
        }
        self.declare(lane, channel)?;
        self.last_seq += 1;
        let seq = self.last_seq;
        let header = Header {
            flags: if envelope.retain { frame::FLAG_RETAIN } else { 0 },
            auth: frame::AUTH_ATTESTED,
            cause_depth: envelope.cause_depth,
            hops: 0,
            time: now_ms(),
            id: seq,
            channel: channel.number.into(),
        };
        if lane == Lane::Latest {
            let mut copy = BytesMut::with_capacity(frame::HEADER_BYTES + 2 + envelope.extras.len() + payload.len());
            frame::put_message(header, envelope.extras, payload, &mut copy);
            self.lanes[lane.index()].latest.push(channel.number.into(), copy.freeze());
        } else {
            let bytes = frame::HEADER_BYTES + 2 + envelope.extras.len() + payload.len();
            self.append(lane, bytes, |out| frame::put_message(header, envelope.extras, payload, out));
            span::extend(&mut self.lanes[lane.index()].buffered_messages, Some(Span::one(seq)));
        }
        Ok(seq)
    }

    /// Appends a sync.
    fn sync(&mut self, lane: Lane) -> Sync {
        self.flush_latest(lane);
        self.last_token += 1;
        let token = self.last_token;
        self.append(lane, 16, |out| frame::put_sync(token, out));
        let buffer = &mut self.lanes[lane.index()];
        (buffer.buffered_sync, buffer.buffered_messages) = (Some(token), None);
        Sync { token, after: self.last_seq }
    }

    /// Says on a lane what a channel stands for, unless that has been said.
    #[inline]
    fn declare(&mut self, lane: Lane, channel: ChannelKey) -> Result<(), NoRoom> {
        let index = channel.number as usize;
        if !self.channels.is_current(channel) {
            return Err(NoRoom::Stale);
        }
        if !self.channels.slots[index].is_allowed {
            return Err(NoRoom::Denied);
        }
        let declared = &mut self.lanes[lane.index()].declared;
        if declared.get(index) == Some(&channel.generation) {
            return Ok(());
        }
        if declared.len() <= index {
            declared.resize(index + 1, 0);
        }
        declared[index] = channel.generation;
        let declaration = self.channels.slots[index].declaration.clone();
        let bytes = 16 + declaration.len();
        self.append(lane, bytes, |out| frame::put_channel(channel.number.into(), &declaration, out));
        self.lanes[lane.index()].buffered_declarations.push((channel.number, declaration));
        Ok(())
    }

    #[inline]
    fn append(&mut self, lane: Lane, bytes: usize, write: impl FnOnce(&mut BytesMut)) {
        self.lanes[lane.index()].append(bytes, write);
    }

    /// Moves the newest values to where they are sent from.
    fn flush_latest(&mut self, lane: Lane) {
        let buffer = &mut self.lanes[lane.index()];
        while let Some(message) = buffer.latest.pop() {
            buffer.append(message.len(), |out| out.extend_from_slice(&message));
            if let Ok(Frame::Message { header, .. }) = Frame::parse(&message) {
                span::extend(&mut buffer.buffered_messages, Some(Span::one(header.id)));
            }
        }
    }
}

/// Milliseconds since 1970-01-01 UTC.
fn now_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64)
}

impl From<NoRoom> for Fault {
    fn from(reason: NoRoom) -> Self {
        match reason {
            NoRoom::Full | NoRoom::Stale => Self::Unavailable("the queue of this node is full".into()),
            NoRoom::Closed => Self::Unavailable("the node is shutting down".into()),
            NoRoom::Denied => Self::Denied("this node has no right to send that".into()),
        }
    }
}

/// Shared by everything that sends.
pub(super) type SharedOutbox = Arc<Outbox>;

#[cfg(test)]
mod tests;
