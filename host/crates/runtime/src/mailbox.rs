//! What waits for a plugin: subscriptions, offers, timers, and messages that are tried again.
//!
//! The mailbox belongs to the plugin and outlives its instances, so that a crash or a new version loses nothing. With
//! several instances, each is a *shard*: topics are divided among them by hash, so that the order of one publisher on one
//! topic holds; calls go to whichever asks first. Nothing here waits: an instance asks [`Mailbox::next`] and is woken
//! through the [`Bell`] when asking again may help. Order of what is given out: ticks, calls (a number in a row), messages
//! to try again, messages, taken from the inboxes in turn.

mod bell;
mod canary;
mod lanes;
mod timers;

use std::{
    collections::VecDeque,
    hash::{BuildHasher, BuildHasherDefault},
    sync::Arc,
    task::{Context, Poll, Waker},
    time::Duration,
};

use macula_wire::{Message, Pattern, Topic};
use rustc_hash::FxHasher;
use tokio::time::Instant;

pub(crate) use self::{
    bell::Bell,
    lanes::Retry,
    timers::{DueTick, TimerError, Timers},
};
use self::{bell::Flag, canary::Canary, lanes::Lanes};
use crate::{
    mesh::{Inbox, IncomingCall, Offer},
    status::SubscriptionStatus,
};

/// Calls answered in a row while messages wait.
const CALLS_IN_A_ROW: u32 = 16;

/// Messages taken for another shard that may wait for it; then nothing is taken until it has caught up.
const READY_MAX: usize = 64;

/// Messages held because of retries, and their bytes; then nothing is taken from the inboxes, whose own rule for a full
/// queue holds from there.
const HELD_MESSAGES_MAX: usize = 1024;
const HELD_BYTES_MAX: usize = 16 << 20;

/// One message on its way to a handler.
#[derive(Debug, Clone)]
pub(crate) struct Delivery {
    pub(crate) message: Message,
    /// 0 for those of the manifest.
    pub(crate) subscription: u32,
    /// From 1.
    pub(crate) attempt: u32,
    /// The dead letter that it was, which is kept until it is done.
    pub(crate) letter: Option<u64>,
}

/// Something for an instance to do.
pub(crate) enum Work {
    Deliver(Delivery),
    Answer {
        call: IncomingCall,
        taken: Instant,
    },
    Tick(DueTick),
    /// Too many wait behind it: it becomes a dead letter.
    Bury(Delivery, String),
}

/// Who opened a subscription or an offer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Claims {
    /// The manifest: it stays as long as the plugin.
    Manifest,
    /// These shards, one bit each.
    Shards(u64),
}

impl Claims {
    fn add(&mut self, shard: usize) {
        if let Self::Shards(bits) = self {
            *bits |= 1 << shard;
        }
    }

    fn remove(&mut self, shard: usize) {
        if let Self::Shards(bits) = self {
            *bits &= !(1 << shard);
        }
    }
}

/// A stream that is asked only after it has called.
struct Source<S: ?Sized> {
    flag: Arc<Flag>,
    waker: Waker,
    claims: Claims,
    /// A version that may take over wants it: until it does or does not, the claims of the running one do not end it.
    is_reserved: bool,
    stream: Box<S>,
}

impl<S: ?Sized> Source<S> {
    fn new(stream: Box<S>, claims: Claims, bell: &Arc<Bell>) -> Self {
        let flag = Flag::raised(bell);
        Self { waker: Waker::from(Arc::clone(&flag)), flag, claims, is_reserved: false, stream }
    }

    fn is_wanted(&self) -> bool {
        self.is_reserved || self.claims != Claims::Shards(0)
    }

    /// Nobody may have it any more.
    fn revoke(&mut self) {
        (self.claims, self.is_reserved) = (Claims::Shards(0), false);
    }

    /// Asks the stream if it has called since it last had nothing.
    fn next<T>(&mut self, poll: impl FnOnce(&mut S, &mut Context<'_>) -> Poll<Option<T>>) -> Option<T> {
        if !self.flag.lower() {
            return None;
        }
        match poll(&mut self.stream, &mut Context::from_waker(&self.waker)) {
            Poll::Ready(Some(item)) => {
                self.flag.raise();
                Some(item)
            }
            // Nothing now, or nothing ever again: in both cases it is not asked until it calls.
            Poll::Ready(None) | Poll::Pending => None,
        }
    }
}

struct Subscription {
    id: u32,
    pattern: Pattern,
    delivered: u64,
    source: Source<dyn Inbox>,
}

struct OfferedProcedure {
    procedure: Topic,
    source: Source<dyn Offer>,
}

/// What is kept for one instance.
struct Shard {
    /// Taken and not yet handled, in order.
    ready: VecDeque<Delivery>,
    lanes: Lanes,
    timers: Timers,
    /// A call that its instance is being resumed for.
    claimed: Option<(IncomingCall, Instant)>,
    calls_in_a_row: u32,
}

/// What happened to a request to join a subscription or an offer that already runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Joined {
    /// It goes on, with this number (0 for offers).
    Yes(u32),
    /// It is the manifest's.
    IsManifests,
    /// There is none.
    No,
}

/// What a mailbox had when it was closed.
pub(crate) struct Leftover {
    /// Taken, and not handled.
    pub(crate) taken: Vec<Delivery>,
    /// Messages that waited to be taken, and are gone.
    pub(crate) untaken: u64,
}

/// See the module.
pub(crate) struct Mailbox {
    bell: Arc<Bell>,
    subscriptions: Vec<Subscription>,
    offers: Vec<OfferedProcedure>,
    shards: Vec<Shard>,
    /// Taken for a shard that has no room.
    stalled: Option<(usize, Delivery)>,
    /// Where the next round over the inboxes begins.
    cursor: usize,
    next_id: u32,
    /// What ended subscriptions had dropped.
    dropped_before: u64,
    is_draining: bool,
    /// Of the running version.
    instances: usize,
    /// Its shard is behind those of the instances.
    canary: Option<Canary>,
    /// Calls that a canary was to answer, and that are everybody's again.
    returned_calls: VecDeque<(IncomingCall, Instant)>,
}

impl Mailbox {
    pub(crate) fn new(shards: u32, timers_max: u32) -> Self {
        let shard = || Shard {
            ready: VecDeque::new(),
            lanes: Lanes::default(),
            timers: Timers::new(timers_max as usize),
            claimed: None,
            calls_in_a_row: 0,
        };
        Self {
            // One more for a canary.
            bell: Bell::new(shards + 1),
            subscriptions: Vec::new(),
            offers: Vec::new(),
            shards: (0..shards).map(|_| shard()).collect(),
            stalled: None,
            cursor: 0,
            next_id: 1,
            dropped_before: 0,
            is_draining: false,
            instances: shards as usize,
            canary: None,
            returned_calls: VecDeque::new(),
        }
    }

    pub(crate) fn bell(&self) -> &Arc<Bell> {
        &self.bell
    }

    // What comes in.

    /// The next thing to do for `shard`; `None` when there is nothing now.
    pub(crate) fn next(&mut self, shard: usize, now: impl FnOnce() -> Instant) -> Option<Work> {
        if self.shards[shard].has_clockwork() {
            let now = now();
            if let Some(overdue) = self.overdue(shard) {
                return Some(overdue);
            }
            if let Some(tick) = self.shards[shard].timers.pop_due(now) {
                return Some(Work::Tick(tick));
            }
            if let Some(delivery) = self.shards[shard].lanes.pop_due(now) {
                return Some(Work::Deliver(delivery));
            }
        }
        if self.shards[shard].calls_in_a_row < CALLS_IN_A_ROW
            && let Some(call) = self.next_call(shard)
        {
            self.shards[shard].calls_in_a_row += 1;
            return Some(call);
        }
        let calls_before = std::mem::take(&mut self.shards[shard].calls_in_a_row);
        if let Some(delivery) = self.next_message(shard) {
            return Some(Work::Deliver(delivery));
        }
        // What was taken just now may have been one too many for a lane.
        self.overdue(shard).or_else(|| if calls_before >= CALLS_IN_A_ROW { self.next_call(shard) } else { None })
    }

    /// Whether there is something to do for `shard`, which has no instance now. What had to be taken to know is given out next,
    /// to this shard.
    pub(crate) fn has_work(&mut self, shard: usize, now: Instant) -> bool {
        if self.next_due(shard).is_some_and(|due| due <= now) {
            return true;
        }
        debug_assert!(shard < self.instances, "a canary is not evicted");
        if let Some(Work::Answer { call, taken }) = self.next_call(shard) {
            self.shards[shard].claimed = Some((call, taken));
            return true;
        }
        match self.next_message(shard) {
            Some(delivery) => {
                self.shards[shard].ready.push_front(delivery);
                true
            }
            None => self.shards[shard].lanes.is_overfull(),
        }
    }

    fn next_call(&mut self, shard: usize) -> Option<Work> {
        if let Some((call, taken)) = self.shards[shard].claimed.take() {
            return Some(Work::Answer { call, taken });
        }
        if self.is_draining {
            return None;
        }
        if shard == self.instances {
            let (call, taken) = self.next_canary_call()?;
            return Some(Work::Answer { call, taken });
        }
        if let Some((call, taken)) = self.returned_calls.pop_front() {
            return Some(Work::Answer { call, taken });
        }
        loop {
            let call = self.offers.iter_mut().find_map(|offer| offer.source.next(|stream, cx| stream.poll_next(cx)))?;
            if let Some((call, taken)) = self.offer_to_canary(call, Instant::now()) {
                return Some(Work::Answer { call, taken });
            }
        }
    }

    fn next_message(&mut self, shard: usize) -> Option<Delivery> {
        loop {
            let delivery = match self.shards[shard].ready.pop_front() {
                Some(delivery) => delivery,
                None => self.take(shard)?,
            };
            let lanes = &mut self.shards[shard].lanes;
            if !lanes.blocks(&delivery.message) {
                return Some(delivery);
            }
            lanes.hold(delivery);
        }
    }

    /// Takes messages from the inboxes until there is one for `shard`.
    fn take(&mut self, shard: usize) -> Option<Delivery> {
        loop {
            if let Some((other, delivery)) = self.stalled.take() {
                if other == shard {
                    return Some(delivery);
                }
                let max = if other == self.instances { canary::READY_MAX } else { READY_MAX };
                if self.shards[other].ready.len() >= max {
                    self.stalled = Some((other, delivery));
                    return None;
                }
                self.shards[other].ready.push_back(delivery);
                self.bell.ring(other);
            }
            if self.is_draining || self.holds_too_much() {
                return None;
            }
            let delivery = self.take_any()?;
            let owner = self.owner_of(&delivery.message);
            if owner == shard {
                return Some(delivery);
            }
            self.stalled = Some((owner, delivery));
        }
    }

    fn take_any(&mut self) -> Option<Delivery> {
        let count = self.subscriptions.len();
        for step in 0..count {
            let index = (self.cursor + step) % count;
            let subscription = &mut self.subscriptions[index];
            if let Some(message) = subscription.source.next(|stream, cx| stream.poll_next(cx)) {
                subscription.delivered += 1;
                self.cursor = index + 1;
                return Some(Delivery { message, subscription: subscription.id, attempt: 1, letter: None });
            }
        }
        None
    }

    /// Whose a message is.
    fn owner_of(&self, message: &Message) -> usize {
        if self.is_canarys(message) { self.instances } else { self.shard_of(&message.topic) }
    }

    fn shard_of(&self, topic: &Topic) -> usize {
        match self.instances {
            1 => 0,
            count => {
                let hash = BuildHasherDefault::<FxHasher>::default().hash_one(topic.as_str());
                // The upper half: FxHash mixes upwards.
                (hash >> 32) as usize % count
            }
        }
    }

    fn holds_too_much(&self) -> bool {
        let (messages, bytes) = self.held();
        messages >= HELD_MESSAGES_MAX || bytes >= HELD_BYTES_MAX
    }

    fn held(&self) -> (usize, usize) {
        self.shards.iter().map(|shard| shard.lanes.held()).fold((0, 0), |a, b| (a.0 + b.0, a.1 + b.1))
    }

    /// When `shard` has to ask again without being called.
    pub(crate) fn next_due(&self, shard: usize) -> Option<Instant> {
        let shard = &self.shards[shard];
        [shard.timers.next_due(), shard.lanes.next_due()].into_iter().flatten().min()
    }

    // What becomes of messages.

    /// The handler is done with it, for better or worse: those behind it go on.
    pub(crate) fn settle(&mut self, delivery: &Delivery) {
        let owner = self.owner_of(&delivery.message);
        let shard = &mut self.shards[owner];
        for waiting in shard.lanes.release(&delivery.message).into_iter().rev() {
            shard.ready.push_front(waiting);
        }
    }

    /// The handler wants it again, after `delay` or a growing one.
    pub(crate) fn retry(&mut self, delivery: Delivery, delay: Option<Duration>, now: Instant) -> Retry {
        if self.is_draining {
            return Retry::GiveUp(
                Box::new(delivery),
                "the plugin was stopped before it could be tried again".to_owned(),
            );
        }
        let owner = self.owner_of(&delivery.message);
        self.shards[owner].lanes.retry(delivery, delay, now)
    }

    /// The instance of this slot has ended before it was done with it: it is next, as often tried as before.
    pub(crate) fn put_back(&mut self, shard: usize, delivery: Delivery, now: Instant) {
        if let Some(delivery) = self.shards[shard].lanes.put_back(delivery, now) {
            self.shards[shard].ready.push_front(delivery);
        }
    }

    /// A dead letter is to be handled again, behind what was taken already. False when nothing is taken any more.
    pub(crate) fn replay(&mut self, delivery: Delivery) -> bool {
        if self.is_draining {
            return false;
        }
        let owner = self.owner_of(&delivery.message);
        self.shards[owner].ready.push_back(delivery);
        self.bell.ring(owner);
        true
    }

    /// A message that too many others have come to wait behind, if there is one. It has left its lane.
    fn overdue(&mut self, shard: usize) -> Option<Work> {
        let shard = &mut self.shards[shard];
        let (head, waiting, reason) = shard.lanes.pop_overfull()?;
        for delivery in waiting.into_iter().rev() {
            shard.ready.push_front(delivery);
        }
        Some(Work::Bury(head, reason))
    }

    // Subscriptions and offers.

    /// A number for a subscription to come.
    pub(crate) fn reserve_id(&mut self) -> u32 {
        let id = self.next_id;
        // After 4 billion subscriptions numbers begin anew, but 0 stays the manifest's.
        self.next_id = self.next_id.wrapping_add(1).max(1);
        id
    }

    pub(crate) fn add_manifest_subscription(&mut self, pattern: Pattern, inbox: Box<dyn Inbox>) {
        let source = Source::new(inbox, Claims::Manifest, &self.bell);
        self.subscriptions.push(Subscription { id: 0, pattern, delivered: 0, source });
    }

    pub(crate) fn add_manifest_offer(&mut self, procedure: Topic, offer: Box<dyn Offer>) {
        let source = Source::new(offer, Claims::Manifest, &self.bell);
        self.offers.push(OfferedProcedure { procedure, source });
    }

    /// Adds what an instance has opened. When another instance was faster, that one's is kept.
    pub(crate) fn add_subscription(&mut self, shard: usize, id: u32, pattern: Pattern, inbox: Box<dyn Inbox>) {
        if self.join_subscription(shard, &pattern) == Joined::No {
            let source = Source::new(inbox, Claims::Shards(1 << shard), &self.bell);
            self.subscriptions.push(Subscription { id, pattern, delivered: 0, source });
            self.bell.ring(shard);
        }
    }

    pub(crate) fn add_offer(&mut self, shard: usize, procedure: Topic, offer: Box<dyn Offer>) {
        if self.join_offer(shard, &procedure) == Joined::No {
            let source = Source::new(offer, Claims::Shards(1 << shard), &self.bell);
            self.offers.push(OfferedProcedure { procedure, source });
            self.bell.ring(shard);
        }
    }

    /// Joins a subscription that runs already: of an instance before, or of another one.
    pub(crate) fn join_subscription(&mut self, shard: usize, pattern: &Pattern) -> Joined {
        let Some(found) = self.subscriptions.iter_mut().find(|one| one.pattern == *pattern) else { return Joined::No };
        if found.source.claims == Claims::Manifest {
            return Joined::IsManifests;
        }
        found.source.claims.add(shard);
        Joined::Yes(found.id)
    }

    pub(crate) fn join_offer(&mut self, shard: usize, procedure: &Topic) -> Joined {
        let Some(found) = self.offers.iter_mut().find(|one| one.procedure == *procedure) else { return Joined::No };
        if found.source.claims == Claims::Manifest {
            return Joined::IsManifests;
        }
        found.source.claims.add(shard);
        Joined::Yes(0)
    }

    /// The shard wants a subscription no more; it ends when no other does.
    pub(crate) fn leave_subscription(&mut self, shard: usize, id: u32) {
        self.subscriptions.iter_mut().filter(|one| one.id == id).for_each(|one| one.source.claims.remove(shard));
        self.drop_unclaimed();
    }

    pub(crate) fn leave_offer(&mut self, shard: usize, procedure: &Topic) {
        let own = self.offers.iter_mut().filter(|one| one.procedure == *procedure);
        own.for_each(|one| one.source.claims.remove(shard));
        self.drop_unclaimed();
    }

    /// A new instance has said what it wants: what the one before had and it does not, ends.
    pub(crate) fn keep_only(
        &mut self,
        shard: usize,
        wants_subscription: impl Fn(&Pattern) -> bool,
        wants_offer: impl Fn(&Topic) -> bool,
    ) {
        for one in self.subscriptions.iter_mut().filter(|one| !wants_subscription(&one.pattern)) {
            one.source.claims.remove(shard);
        }
        for one in self.offers.iter_mut().filter(|one| !wants_offer(&one.procedure)) {
            one.source.claims.remove(shard);
        }
        self.drop_unclaimed();
    }

    /// Rights have changed: what is no longer allowed ends, the manifest's too.
    pub(crate) fn retain_allowed(
        &mut self,
        subscription_allowed: impl Fn(&Pattern) -> bool,
        offer_allowed: impl Fn(&Topic) -> bool,
    ) {
        for one in self.subscriptions.iter_mut().filter(|one| !subscription_allowed(&one.pattern)) {
            one.source.revoke();
        }
        for one in self.offers.iter_mut().filter(|one| !offer_allowed(&one.procedure)) {
            one.source.revoke();
        }
        self.drop_unclaimed();
    }

    fn drop_unclaimed(&mut self) {
        let gone = |one: &Subscription| !one.source.is_wanted();
        let lost = |one: &Subscription| one.source.stream.dropped() + u64::from(one.source.stream.queued());
        self.dropped_before += self.subscriptions.iter().filter(|one| gone(one)).map(lost).sum::<u64>();
        self.subscriptions.retain(|one| !gone(one));
        self.offers.retain(|one| one.source.is_wanted());
    }

    // One version after another.

    /// Keeps a subscription for a version that may take over; its number, which is 0 for one of the manifest's.
    pub(crate) fn reserve_subscription(&mut self, pattern: &Pattern) -> Option<u32> {
        let found = self.subscriptions.iter_mut().find(|one| one.pattern == *pattern)?;
        found.source.is_reserved = true;
        Some(found.id)
    }

    /// The same for an offer; whether there is one.
    pub(crate) fn reserve_offer(&mut self, procedure: &Topic) -> bool {
        let found = self.offers.iter_mut().find(|one| one.procedure == *procedure);
        found.is_some_and(|found| {
            found.source.is_reserved = true;
            true
        })
    }

    /// No version takes over: everything is as it was.
    pub(crate) fn cancel_reservations(&mut self) {
        self.subscriptions.iter_mut().for_each(|one| one.source.is_reserved = false);
        self.offers.iter_mut().for_each(|one| one.source.is_reserved = false);
        self.drop_unclaimed();
    }

    /// A new version takes over: claims begin anew with its manifest's. What is to go on has to be claimed before
    /// [`Mailbox::end_take_over`].
    pub(crate) fn begin_take_over(&mut self, subscribes: impl Fn(&Pattern) -> bool, offers: impl Fn(&Topic) -> bool) {
        for one in &mut self.subscriptions {
            let is_manifests = subscribes(&one.pattern);
            one.source.claims = if is_manifests { Claims::Manifest } else { Claims::Shards(0) };
            one.id = if is_manifests { 0 } else { one.id };
        }
        for one in &mut self.offers {
            one.source.claims = if offers(&one.procedure) { Claims::Manifest } else { Claims::Shards(0) };
        }
    }

    /// Claims what runs already for an instance of the version that takes over.
    pub(crate) fn claim<'a>(
        &mut self,
        shard: usize,
        subscriptions: impl Iterator<Item = (&'a Pattern, &'a u32)>,
        procedures: impl Iterator<Item = &'a Topic>,
    ) {
        for (pattern, id) in subscriptions {
            if let Some(found) = self.subscriptions.iter_mut().find(|one| one.pattern == *pattern) {
                found.source.claims.add(shard);
                found.id = *id;
            }
        }
        for procedure in procedures {
            self.join_offer(shard, procedure);
        }
    }

    /// What the new version has not claimed, ends.
    pub(crate) fn end_take_over(&mut self, timers_max: u32) {
        self.shards.iter_mut().for_each(|shard| shard.timers.set_max(timers_max as usize));
        self.cancel_reservations();
    }

    /// Whether this plugin answers calls of `procedure`.
    pub(crate) fn offers(&self, procedure: &Topic) -> bool {
        self.offers.iter().any(|offer| offer.procedure == *procedure)
    }

    pub(crate) fn subscription_count(&self) -> usize {
        self.subscriptions.len()
    }

    pub(crate) fn offer_count(&self) -> usize {
        self.offers.len()
    }

    pub(crate) fn timers(&mut self, shard: usize) -> &mut Timers {
        &mut self.shards[shard].timers
    }

    // The end.

    /// Nothing new is taken from now on; what waits for a retry is due now, for a last time.
    pub(crate) fn drain(&mut self, now: Instant) {
        self.is_draining = true;
        for shard in &mut self.shards {
            shard.timers.clear();
            shard.lanes.hurry(now);
        }
        self.bell.ring_all();
    }

    /// Ends everything and gives what is left.
    pub(crate) fn close(&mut self) -> Leftover {
        self.is_draining = true;
        let untaken = self.subscriptions.iter().map(|one| u64::from(one.source.stream.queued())).sum();
        self.dropped_before = self.dropped() + untaken;
        self.subscriptions.clear();
        self.offers.clear();
        self.returned_calls.clear();
        self.shards.iter_mut().for_each(|shard| shard.claimed = None);
        let mut left: Vec<Delivery> = self.stalled.take().map(|(_, delivery)| delivery).into_iter().collect();
        for shard in &mut self.shards {
            shard.timers.clear();
            left.extend(shard.lanes.clear());
            left.extend(shard.ready.drain(..));
        }
        Leftover { taken: left, untaken }
    }

    // What can be told.

    pub(crate) fn subscription_statuses(&self) -> Vec<SubscriptionStatus> {
        self.subscriptions.iter().map(Subscription::status).collect()
    }

    pub(crate) fn subscription_status(&self, id: u32) -> Option<SubscriptionStatus> {
        self.subscriptions.iter().find(|one| one.id == id).map(Subscription::status)
    }

    pub(crate) fn procedures(&self) -> Vec<String> {
        self.offers.iter().map(|offer| offer.procedure.to_string()).collect()
    }

    pub(crate) fn dropped(&self) -> u64 {
        self.dropped_before + self.subscriptions.iter().map(|one| one.source.stream.dropped()).sum::<u64>()
    }

    pub(crate) fn timer_count(&self) -> usize {
        self.shards.iter().map(|shard| shard.timers.len()).sum()
    }

    pub(crate) fn held_messages(&self) -> usize {
        self.held().0 + self.shards.iter().map(|shard| shard.ready.len()).sum::<usize>()
    }
}

impl Shard {
    fn has_clockwork(&self) -> bool {
        !self.timers.is_empty() || !self.lanes.is_empty()
    }
}

impl Subscription {
    fn status(&self) -> SubscriptionStatus {
        SubscriptionStatus {
            id: self.id,
            pattern: self.pattern.to_string(),
            delivered: self.delivered,
            dropped: self.source.stream.dropped(),
            queued: self.source.stream.queued(),
        }
    }
}

#[cfg(test)]
mod tests;
