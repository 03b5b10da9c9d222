//! Fetching all of some content from many providers at once.
//!
//! Owns the decisions: whom to ask for which groups, when to give up, whom to believe. Leaves to its driver how requests
//! travel, the [`Decoder`](crate::Decoder) of each answer, the disk, and the search for providers.
//!
//! How it works:
//!
//! 1. **Size.** One provider is asked for the last group, a further one when the first is silent for half a second. Until
//!    that group is verified, the size is a claim, and nothing that came by it may be written.
//! 2. **Pieces.** Each provider has two requests open, so that the next is there when the last byte of one has left: with
//!    one, the way there and back would be lost for each piece. A piece is what the provider sends in half a second, and at
//!    most half of its share of what is missing.
//! 3. **Stealing.** When all is given out, a provider with nothing more to do takes so much of what the slowest is still to
//!    send that both end at the same time. A request cannot be shortened; it is cancelled when what was left of it is here.
//! 4. **End-game.** What is too little to be split is asked for twice, if the second is expected to be here first.
//!
//! The driver: call a `handle_…`, then drain [`Fetch::poll_request`], [`Fetch::poll_cancel`] and [`Fetch::poll_event`], in this
//! order, since a request may take over the work of another; then wait for input until [`Fetch::poll_timeout`], and call
//! [`Fetch::handle_timeout`]. For each request that was polled, until it is cancelled or all its groups have come:
//!
//! ```text
//! head of the answer ─► handle_answer    bytes ─► handle_bytes, then the decoder
//!    group verified ─► handle_group ─► write it, or drop it        end, all there ─► handle_done
//!    anything else ─► handle_failed
//! ```
//!
//! Content that is named by SHA-256 is asked for whole, of one provider at a time; after a failure it begins again.
//!
//! Bounds: 32 providers, two requests and 256 ranges each. Specified in `docs/protocol/content.md`, “A fetch”.

mod assign;
mod config;
mod provider;
mod rate;
mod request;
#[cfg(test)]
mod tests;

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use macula_wire::{Digest, Fault, Mcid, NodeId};

use self::{assign::Work, provider::Provider, request::Open};
pub use self::{
    config::FetchConfig,
    request::{Failure, Request, RequestId},
};
use crate::{
    groups::GroupSet,
    head::{Answer, Sending},
    tree::{GROUP_BYTES, Geometry},
    whole::WHOLE_BYTES_MAX,
};

/// Requests that one provider has open: one that it serves, and one that it finds when it is through.
const REQUESTS_EACH: usize = 2;
/// Providers that are remembered as banned; above that, the one that was banned first is forgotten.
const BANNED_MAX: usize = 256;
/// Times that a provider may stall, be lost or have nothing without a group in between, before it is banned. The rests
/// between are 15 times [`FetchConfig::back_off`] together, enough for a process to start again.
const STRIKES_MAX: u32 = 5;

/// What to do with a group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It is new: write it.
    Write,
    /// It is here already.
    Drop,
}

/// Something to know.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum FetchEvent {
    /// The size is certain: the group that was handed in last is the last one. Now things can be written.
    SizeProved {
        /// In bytes.
        size: u64,
    },
    /// The provider is not asked again for this content. Corrupt bytes are worth a line in the log.
    ProviderBanned {
        /// Who.
        provider: NodeId,
        /// Why.
        why: Failure,
    },
    /// Nobody is left to ask. The fetch goes on when [`Fetch::handle_providers`] brings somebody.
    NoProvider,
    /// All is here. Nothing more comes.
    Done,
}

/// How far a fetch is.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Progress {
    /// Bytes that are here. For content named by SHA-256: received in this attempt.
    pub bytes_done: u64,
    /// Size of the content in bytes, once it is proved.
    pub bytes_total: Option<u64>,
    /// Providers with an open request.
    pub providers_sending: usize,
    /// All of them together, in bytes a second, smoothed over half a second or so.
    pub bytes_per_second: f64,
    /// Bytes that came twice.
    pub bytes_duplicate: u64,
}

/// See the module.
#[derive(Debug)]
pub struct Fetch {
    config: FetchConfig,
    named_by: NamedBy,
    /// Known when the size is proved.
    geometry: Option<Geometry>,
    /// What is here.
    have: GroupSet,
    /// What is neither here nor in the `left` of a request.
    missing: GroupSet,
    providers: Vec<Provider>,
    banned: VecDeque<NodeId>,
    /// In the order in which they were made.
    open: Vec<Open>,
    next_id: u64,
    cancels: VecDeque<RequestId>,
    events: VecDeque<FetchEvent>,
    is_done: bool,
    /// Whether [`FetchEvent::NoProvider`] was said since the last provider came.
    is_deserted: bool,
    groups_duplicate: u64,
    /// When there was last nothing to ask. Deadlines before it have been considered.
    idle_at: Option<Instant>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum NamedBy {
    Tree,
    Whole,
}

/// How long a provider is left alone after a failure.
enum Rest {
    /// It is busy, and said so.
    Polite,
    /// As long as this, twice as long the next time, and so on until it is banned.
    Doubling(Duration),
}

impl Fetch {
    /// A fetch of `content`, of which the groups `already` are here. They count only with the size, which was proved when
    /// they were fetched.
    pub fn new(config: FetchConfig, content: &Mcid, already: GroupSet, size: Option<u64>) -> Self {
        let named_by = match content.digest() {
            Digest::Blake3(_) => NamedBy::Tree,
            Digest::Sha256(_) => NamedBy::Whole,
        };
        let mut fetch = Self {
            config,
            named_by,
            geometry: None,
            have: GroupSet::new(),
            missing: GroupSet::new(),
            providers: Vec::new(),
            banned: VecDeque::new(),
            open: Vec::new(),
            next_id: 0,
            cancels: VecDeque::new(),
            events: VecDeque::new(),
            is_done: false,
            is_deserted: false,
            groups_duplicate: 0,
            idle_at: None,
        };
        if let (NamedBy::Tree, Some(size)) = (named_by, size) {
            fetch.have = already;
            fetch.set_size(Geometry::of(size));
        }
        fetch
    }

    /// The size, once it is proved.
    pub fn size(&self) -> Option<u64> {
        self.geometry.map(|geometry| geometry.size())
    }

    /// The groups that are here: those that were from the beginning, and those that were to be written.
    pub fn have(&self) -> &GroupSet {
        &self.have
    }

    /// Whether all is here.
    pub fn is_done(&self) -> bool {
        self.is_done
    }

    /// How far it is.
    pub fn progress(&self, now: Instant) -> Progress {
        let sending = || self.providers.iter().filter(|provider| self.open_of(&provider.id).next().is_some());
        let received = || self.open.iter().map(|open| open.bytes).sum();
        Progress {
            bytes_done: self.geometry.map_or_else(received, |geometry| bytes_of(&self.have, geometry)),
            bytes_total: self.size(),
            providers_sending: sending().count(),
            bytes_per_second: sending().filter_map(|provider| provider.rate.at(now)).sum(),
            bytes_duplicate: self.groups_duplicate * GROUP_BYTES,
        }
    }

    /// These are said to have it. Those that are known, banned, or too many are ignored.
    pub fn handle_providers(&mut self, now: Instant, providers: &[NodeId]) {
        for id in providers {
            let is_known = self.providers.iter().any(|provider| provider.id == *id) || self.banned.contains(id);
            if !is_known && self.providers.len() < self.config.providers_max {
                self.providers.push(Provider::new(*id, now));
                self.is_deserted = false;
            }
        }
        self.say_if_deserted();
    }

    /// The head of an answer. When it is refused, the request is among [`Fetch::poll_cancel`]; otherwise decode what follows
    /// as [`Sending`] says.
    pub fn handle_answer(&mut self, now: Instant, request: RequestId, answer: &Answer) {
        let Some(index) = self.index_of(request) else { return };
        self.note_bytes(now, index, 0);
        let checked = match &answer.outcome {
            Ok(sending) => self.check(&self.open[index], sending).map(|()| sending),
            Err(fault) => Err(Failure::Refused(fault.clone())),
        };
        match checked {
            Ok(sending) => self.accept(now, index, sending),
            Err(failure) => {
                self.cancels.push_back(request);
                self.handle_failed(now, request, failure);
            }
        }
    }

    /// Bytes of a request have come, whatever they are. So it is known that it lives, and how fast it is.
    pub fn handle_bytes(&mut self, now: Instant, request: RequestId, bytes: usize) {
        if let Some(index) = self.index_of(request) {
            self.note_bytes(now, index, bytes as u64);
        }
    }

    /// A verified group of a request.
    pub fn handle_group(&mut self, now: Instant, request: RequestId, group: u64) -> Verdict {
        if let Some(index) = self.index_of(request) {
            let open = &mut self.open[index];
            open.to_come = open.to_come.saturating_sub(1);
            let (provider, work, claimed) = (open.provider, open.work, open.claimed);
            if let Some(provider) = self.provider_mut(&provider) {
                provider.strikes = 0;
            }
            if let (Work::Proof, None, Some(claimed)) = (work, self.geometry, claimed) {
                let geometry = Geometry::of(claimed);
                if group == geometry.last_group() {
                    self.prove_size(now, geometry);
                }
            }
        }
        // What has come for a request that was cancelled a moment ago is as good as any.
        let is_wanted = self.geometry.is_some_and(|geometry| group < geometry.groups()) && !self.have.contains(group);
        if !is_wanted {
            self.groups_duplicate += 1;
            self.close_served();
            return Verdict::Drop;
        }
        let one = GroupSet::from(group..group + 1);
        self.have.insert(&one);
        self.missing.remove(&one);
        for open in self.open.iter_mut().filter(|open| open.left.contains(group)) {
            open.left.remove(&one);
        }
        self.close_served();
        self.finish_if_complete();
        Verdict::Write
    }

    /// The request has ended, and the decoder says that all is there; or the hash of the whole does, of as many bytes as the
    /// answer said.
    pub fn handle_done(&mut self, now: Instant, request: RequestId) {
        let Some(index) = self.index_of(request) else { return };
        match (self.named_by, self.open[index].claimed.map(Geometry::of)) {
            (NamedBy::Whole, Some(geometry)) => {
                self.geometry = Some(geometry);
                self.have = (0..geometry.groups()).into();
                self.finish_if_complete();
            }
            (NamedBy::Tree, Some(_)) if self.open[index].left.is_empty() => {
                self.open.remove(index);
            }
            _ => self.handle_failed(now, request, Failure::Short),
        }
    }

    /// The request has ended otherwise, and its stream is to be closed.
    pub fn handle_failed(&mut self, now: Instant, request: RequestId, failure: Failure) {
        let Some(index) = self.index_of(request) else { return };
        let open = self.open.remove(index);
        self.release(&open.left);
        let id = open.provider;
        let rest = match &failure {
            Failure::Refused(Fault::Unavailable(_) | Fault::Timeout | Fault::Cancelled) => Rest::Polite,
            Failure::Refused(Fault::NotFound(_)) => Rest::Doubling(self.config.ask_again_after),
            Failure::Stalled | Failure::Lost => Rest::Doubling(self.config.back_off),
            _ => return self.ban(&id, failure),
        };
        let back_off = self.config.back_off;
        let Some(provider) = self.provider_mut(&id) else { return };
        match rest {
            Rest::Polite => provider.rest_until = now + back_off,
            // Both requests end when a link does: that counts once.
            Rest::Doubling(_) if provider.rest_until > now => {}
            Rest::Doubling(first) if provider.strikes + 1 < STRIKES_MAX => {
                provider.rest_until = now + first * (1 << provider.strikes);
                provider.strikes += 1;
            }
            Rest::Doubling(_) => self.ban(&id, failure),
        }
    }

    /// Time has passed: gives up what has stalled.
    pub fn handle_timeout(&mut self, now: Instant) {
        let stalled: Vec<_> = self.open.iter().filter(|open| self.stalls_at(open) <= now).map(|open| open.id).collect();
        for id in stalled {
            // A provider that is banned takes all its requests along.
            if self.index_of(id).is_some() {
                self.cancels.push_back(id);
                self.handle_failed(now, id, Failure::Stalled);
            }
        }
    }

    /// A request whose stream is to be closed now: what comes of it is of no more use.
    pub fn poll_cancel(&mut self) -> Option<RequestId> {
        self.cancels.pop_front()
    }

    /// A request to send now.
    pub fn poll_request(&mut self, now: Instant) -> Option<Request> {
        if self.is_done {
            return None;
        }
        let Some(assignment) = self.assign(now) else {
            self.idle_at = Some(now);
            return None;
        };
        self.next_id += 1;
        let id = RequestId(self.next_id);
        let assign::Assignment { provider, work, groups } = assignment;
        let is_idle = self.open_of(&provider).next().is_none();
        let known = self.provider_mut(&provider).expect("work is given to those who are known");
        known.requested(now);
        if is_idle {
            known.rate.resume(now);
        }
        self.missing.remove(&groups);
        self.open.push(Open {
            id,
            provider,
            work,
            asked: groups.clone(),
            left: groups.clone(),
            to_come: 0,
            claimed: None,
            since: now,
            has_begun: false,
            bytes: 0,
        });
        let groups = if work == Work::Whole { (0..u64::MAX).into() } else { groups };
        Some(Request { id, provider, groups, prove_size: work == Work::Proof })
    }

    /// Something to know.
    pub fn poll_event(&mut self) -> Option<FetchEvent> {
        self.events.pop_front()
    }

    /// When to call [`Fetch::handle_timeout`], if nothing else is called before.
    pub fn poll_timeout(&self) -> Option<Instant> {
        if self.is_done {
            return None;
        }
        let stalls = self.open.iter().map(|open| self.stalls_at(open));
        stalls.chain(self.next_look()).min()
    }

    /// Whether an answer is one to the request.
    fn check(&self, open: &Open, sending: &Sending) -> Result<(), Failure> {
        let claimed = sending.size;
        if self.named_by == NamedBy::Whole {
            return if claimed > WHOLE_BYTES_MAX { Err(Failure::TooLarge(claimed)) } else { Ok(()) };
        }
        if let Some(proved) = self.size().filter(|proved| *proved != claimed) {
            return Err(Failure::OtherSize { claimed, proved });
        }
        let geometry = Geometry::of(claimed);
        let is_asked = match open.work {
            Work::Proof => GroupSet::from(geometry.last_group()..geometry.groups()).includes(&sending.groups),
            Work::Piece => open.asked.includes(&sending.groups),
            Work::Whole => true,
        };
        if is_asked { Ok(()) } else { Err(Failure::Unasked) }
    }

    /// Expects what an answer promises, and gives the rest to others.
    fn accept(&mut self, now: Instant, index: usize, sending: &Sending) {
        let open = &mut self.open[index];
        open.claimed = Some(sending.size);
        open.to_come = sending.groups.count();
        if self.named_by == NamedBy::Whole {
            return;
        }
        let refused = open.left.difference(&sending.groups);
        open.left.remove(&refused);
        let (id, provider, is_empty) = (open.id, open.provider, sending.groups.is_empty());
        let lacks_proof = open.work == Work::Proof && is_empty;
        self.release(&refused);
        let again = now + self.config.ask_again_after;
        if let Some(provider) = self.provider_mut(&provider) {
            let contradicts =
                !sending.has.as_ref().map_or(refused.is_empty(), |has| has.intersection(&refused).is_empty());
            if contradicts {
                // It says to have what it does not send: then nothing that it says is a reason to ask.
                provider.rest_until = again;
            }
            provider.lacks_since = (sending.has.is_some() || lacks_proof).then_some(now);
            provider.lacks_last = lacks_proof;
            provider.has = sending.has.clone();
        }
        // Nothing follows an answer without groups, nor is there anything to wait for when all was stolen.
        if is_empty {
            self.open.retain(|open| open.id != id);
        } else {
            self.close_served();
        }
    }

    fn prove_size(&mut self, now: Instant, geometry: Geometry) {
        self.events.push_back(FetchEvent::SizeProved { size: geometry.size() });
        self.set_size(geometry);
        let others: Vec<_> = self
            .open
            .iter()
            .filter_map(|open| open.claimed.filter(|claimed| *claimed != geometry.size()).map(|it| (open.id, it)))
            .collect();
        for (id, claimed) in others {
            if self.index_of(id).is_some() {
                self.cancels.push_back(id);
                self.handle_failed(now, id, Failure::OtherSize { claimed, proved: geometry.size() });
            }
        }
        // Those that have not answered yet are not waited for.
        let (proofs, pieces) = std::mem::take(&mut self.open).into_iter().partition(|open| open.work == Work::Proof);
        self.open = pieces;
        let proofs: Vec<Open> = proofs;
        self.cancels
            .extend(proofs.iter().filter(|open| open.to_come > 0 || open.claimed.is_none()).map(|open| open.id));
    }

    fn set_size(&mut self, geometry: Geometry) {
        let all = GroupSet::from(0..geometry.groups());
        self.geometry = Some(geometry);
        self.have = self.have.intersection(&all);
        self.missing = all.difference(&self.have);
        self.finish_if_complete();
    }

    /// Ends the requests of which nothing is expected any more.
    fn close_served(&mut self) {
        let cancels = &mut self.cancels;
        self.open.retain(|open| {
            let is_served = open.work == Work::Piece && open.left.is_empty();
            if is_served && (open.to_come > 0 || open.claimed.is_none()) {
                cancels.push_back(open.id);
            }
            !is_served
        });
    }

    fn finish_if_complete(&mut self) {
        let is_complete = self.geometry.is_some_and(|geometry| self.have.count() == geometry.groups());
        if is_complete && !self.is_done {
            self.is_done = true;
            self.cancels.extend(self.open.drain(..).map(|open| open.id));
            self.events.push_back(FetchEvent::Done);
        }
    }

    /// Groups of which a request is no longer expected to bring them are missing, unless another is.
    fn release(&mut self, groups: &GroupSet) {
        let mut missing = groups.difference(&self.have);
        for open in &self.open {
            missing.remove(&open.left);
        }
        self.missing.insert(&missing);
    }

    fn ban(&mut self, id: &NodeId, why: Failure) {
        self.providers.retain(|provider| provider.id != *id);
        if self.banned.len() == BANNED_MAX {
            self.banned.pop_front();
        }
        self.banned.push_back(*id);
        let (theirs, others) = std::mem::take(&mut self.open).into_iter().partition(|open| open.provider == *id);
        self.open = others;
        let theirs: Vec<Open> = theirs;
        for open in theirs {
            self.cancels.push_back(open.id);
            self.release(&open.left);
        }
        self.events.push_back(FetchEvent::ProviderBanned { provider: *id, why });
        self.say_if_deserted();
    }

    fn say_if_deserted(&mut self) {
        if self.providers.is_empty() && !self.is_done && !self.is_deserted {
            self.is_deserted = true;
            self.events.push_back(FetchEvent::NoProvider);
        }
    }

    fn note_bytes(&mut self, now: Instant, index: usize, bytes: u64) {
        let open = &mut self.open[index];
        let (id, since, is_first) = (open.provider, open.since, !open.has_begun);
        open.has_begun = true;
        open.bytes += bytes;
        let is_alone = self.open_of(&id).count() == 1;
        let Some(provider) = self.provider_mut(&id) else { return };
        provider.last_byte = now;
        provider.was_robbed = false;
        provider.rate.add(now, bytes);
        // Behind another request, it would be told how long that one took.
        if is_first && (is_alone || provider.latency.is_none()) {
            provider.latency = Some(now.saturating_duration_since(since));
        }
    }

    /// While a provider sends anything, its other requests wait for their turn.
    fn stalls_at(&self, open: &Open) -> Instant {
        let last = self.provider(&open.provider).map_or(open.since, |provider| provider.last_byte);
        last.max(open.since) + self.config.stall_after
    }

    fn index_of(&self, request: RequestId) -> Option<usize> {
        self.open.iter().position(|open| open.id == request)
    }

    fn open_of(&self, provider: &NodeId) -> impl DoubleEndedIterator<Item = &Open> {
        self.open.iter().filter(move |open| open.provider == *provider)
    }

    fn provider(&self, id: &NodeId) -> Option<&Provider> {
        self.providers.iter().find(|provider| provider.id == *id)
    }

    fn provider_mut(&mut self, id: &NodeId) -> Option<&mut Provider> {
        self.providers.iter_mut().find(|provider| provider.id == *id)
    }
}

/// How many bytes some groups have.
fn bytes_of(groups: &GroupSet, geometry: Geometry) -> u64 {
    let last = geometry.last_group();
    let lacking = if groups.contains(last) { GROUP_BYTES - geometry.group_bytes(last) } else { 0 };
    groups.count() * GROUP_BYTES - lacking
}
