//! Messages that a handler wants again, and what waits behind them.
//!
//! A *lane* is one publisher on one topic while its first message is being tried again: later ones wait, so that order
//! holds. A lane gives up its first message after [`ATTEMPTS_MAX`] attempts, after [`LANE_TIME_MAX`], or when more than
//! [`LANE_MESSAGES_MAX`] wait behind it. Pure: time comes in as an argument.

use std::{
    collections::{BTreeSet, HashMap, VecDeque},
    time::Duration,
};

use macula_wire::{Message, NodeId, Topic};
use rustc_hash::FxBuildHasher;
use tokio::time::Instant;

use super::Delivery;

/// Attempts of one message.
pub(crate) const ATTEMPTS_MAX: u32 = 5;
/// How long later messages wait behind one.
pub(crate) const LANE_TIME_MAX: Duration = Duration::from_secs(30);
/// How many wait behind one.
pub(crate) const LANE_MESSAGES_MAX: usize = 256;
/// First delay when the handler names none; doubled with each attempt.
const DELAY_MIN: Duration = Duration::from_millis(200);

type Key = (NodeId, Topic);

/// What becomes of a message that a handler wants again.
#[derive(Debug)]
pub(crate) enum Retry {
    /// It comes again.
    Scheduled,
    /// It has had its chances. Those behind it go on once it is settled.
    GiveUp(Box<Delivery>, String),
}

#[derive(Debug)]
struct Lane {
    /// `None` while it is with the handler.
    head: Option<Delivery>,
    due: Instant,
    /// The first failure.
    since: Instant,
    waiting: VecDeque<Delivery>,
}

/// A lane on its way from one shard to another.
pub(super) struct MovedLane {
    key: Key,
    lane: Lane,
    is_overfull: bool,
}

impl MovedLane {
    pub(super) fn topic(&self) -> &Topic {
        &self.key.1
    }
}

/// All lanes of one shard.
#[derive(Debug, Default)]
pub(crate) struct Lanes {
    lanes: HashMap<Key, Lane, FxBuildHasher>,
    due: BTreeSet<(Instant, Key)>,
    /// Lanes with more behind them than may be.
    overfull: Vec<Key>,
    messages: usize,
    bytes: usize,
}

fn key(message: &Message) -> Key {
    (message.publisher, message.topic.clone())
}

/// What a message costs while it is held: its payload and a guess at the rest.
fn cost(delivery: &Delivery) -> usize {
    delivery.message.payload.len() + 512
}

impl Lanes {
    pub(super) fn is_empty(&self) -> bool {
        self.lanes.is_empty()
    }

    /// Messages and bytes held.
    pub(super) fn held(&self) -> (usize, usize) {
        (self.messages, self.bytes)
    }

    pub(super) fn next_due(&self) -> Option<Instant> {
        self.due.first().map(|(due, _)| *due)
    }

    /// Whether a message has to wait behind another one.
    pub(super) fn blocks(&self, message: &Message) -> bool {
        !self.lanes.is_empty() && self.lanes.contains_key(&key(message))
    }

    /// Holds a message that [`Lanes::blocks`].
    pub(super) fn hold(&mut self, delivery: Delivery) {
        let key = key(&delivery.message);
        let Some(lane) = self.lanes.get_mut(&key) else {
            debug_assert!(false, "only blocked messages are held");
            return;
        };
        self.messages += 1;
        self.bytes += cost(&delivery);
        lane.waiting.push_back(delivery);
        if lane.waiting.len() == LANE_MESSAGES_MAX + 1 {
            self.overfull.push(key);
        }
    }

    /// The first message of a lane whose time has come. It stays first until it is settled or retried.
    pub(super) fn pop_due(&mut self, now: Instant) -> Option<Delivery> {
        while let Some((due, _)) = self.due.first() {
            if *due > now {
                return None;
            }
            let (_, key) = self.due.pop_first()?;
            if let Some(delivery) = self.lanes.get_mut(&key).and_then(|lane| lane.head.take()) {
                self.messages -= 1;
                self.bytes -= cost(&delivery);
                return Some(delivery);
            }
        }
        None
    }

    /// Puts a failed message at the head of its lane.
    pub(super) fn retry(&mut self, mut delivery: Delivery, delay: Option<Duration>, now: Instant) -> Retry {
        if delivery.attempt >= ATTEMPTS_MAX {
            let reason = format!("{} attempts failed", delivery.attempt);
            return Retry::GiveUp(Box::new(delivery), reason);
        }
        let key = key(&delivery.message);
        let since = self.lanes.get(&key).map_or(now, |lane| lane.since);
        let last = since + LANE_TIME_MAX;
        if now >= last {
            let reason = format!("it was tried for {} s", LANE_TIME_MAX.as_secs());
            return Retry::GiveUp(Box::new(delivery), reason);
        }
        let delay = delay.unwrap_or(DELAY_MIN * 2_u32.pow(delivery.attempt - 1));
        let due = now.checked_add(delay).map_or(last, |due| due.min(last));
        delivery.attempt += 1;
        self.messages += 1;
        self.bytes += cost(&delivery);
        self.due.insert((due, key.clone()));
        let lane = self.lanes.entry(key).or_insert_with(|| Lane { head: None, due, since, waiting: VecDeque::new() });
        lane.due = due;
        lane.head = Some(delivery);
        Retry::Scheduled
    }

    /// A message that was with the handler, which has ended: if it is a lane's, it is first there again, and due. Gives it
    /// back otherwise.
    pub(super) fn put_back(&mut self, delivery: Delivery, now: Instant) -> Option<Delivery> {
        let key = key(&delivery.message);
        let Some(lane) = self.lanes.get_mut(&key).filter(|lane| lane.head.is_none()) else { return Some(delivery) };
        self.messages += 1;
        self.bytes += cost(&delivery);
        lane.due = now;
        lane.head = Some(delivery);
        self.due.insert((now, key));
        None
    }

    /// Ends the lane of a settled message and gives what waited in it, in order.
    pub(super) fn release(&mut self, message: &Message) -> VecDeque<Delivery> {
        if self.lanes.is_empty() {
            return VecDeque::new();
        }
        self.remove(&key(message)).map(|lane| lane.waiting).unwrap_or_default()
    }

    /// Whether [`Lanes::pop_overfull`] would give something.
    pub(super) fn is_overfull(&self) -> bool {
        self.overfull.iter().any(|key| self.lanes.get(key).is_some_and(|lane| lane.head.is_some()))
    }

    /// The first message of a lane with too many behind it, and those.
    pub(super) fn pop_overfull(&mut self) -> Option<(Delivery, VecDeque<Delivery>, String)> {
        while let Some(key) = self.overfull.pop() {
            // It may have been released since, or its first message may be with the handler.
            if self.lanes.get(&key).is_some_and(|lane| lane.head.is_some())
                && let Some(mut lane) = self.remove(&key)
                && let Some(head) = lane.head.take()
            {
                let reason = format!("more than {LANE_MESSAGES_MAX} later messages came to wait behind it");
                return Some((head, lane.waiting, reason));
            }
        }
        None
    }

    /// What has lanes.
    pub(super) fn keys(&self) -> impl Iterator<Item = &Key> {
        self.lanes.keys()
    }

    /// All lanes, to be kept elsewhere.
    pub(super) fn into_lanes(self) -> impl Iterator<Item = MovedLane> {
        let is_overfull = self.overfull;
        self.lanes.into_iter().map(move |(key, lane)| MovedLane { is_overfull: is_overfull.contains(&key), key, lane })
    }

    /// Takes a lane from elsewhere; there is none of the same publisher and topic here.
    pub(super) fn adopt(&mut self, moved: MovedLane) {
        let MovedLane { key, lane, is_overfull } = moved;
        for delivery in lane.head.iter().chain(&lane.waiting) {
            self.messages += 1;
            self.bytes += cost(delivery);
        }
        if lane.head.is_some() {
            self.due.insert((lane.due, key.clone()));
        }
        if is_overfull {
            self.overfull.push(key.clone());
        }
        self.lanes.insert(key, lane);
    }

    /// Makes everything due.
    pub(super) fn hurry(&mut self, now: Instant) {
        self.due.clear();
        for (key, lane) in &mut self.lanes {
            if lane.head.is_some() {
                lane.due = now;
                self.due.insert((now, key.clone()));
            }
        }
    }

    /// Ends all lanes and gives what was in them.
    pub(super) fn clear(&mut self) -> Vec<Delivery> {
        let lanes = std::mem::take(self).lanes;
        lanes.into_values().flat_map(|lane| lane.head.into_iter().chain(lane.waiting)).collect()
    }

    fn remove(&mut self, key: &Key) -> Option<Lane> {
        let lane = self.lanes.remove(key)?;
        self.due.remove(&(lane.due, key.clone()));
        let held = lane.head.iter().chain(&lane.waiting);
        let (messages, bytes) = held.fold((0, 0), |(messages, bytes), one| (messages + 1, bytes + cost(one)));
        self.messages -= messages;
        self.bytes -= bytes;
        Some(lane)
    }
}
