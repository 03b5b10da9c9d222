//! Calls on their way: each reaches at most one provider, and is moved to another only while provably unsent.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use bytes::{Bytes, BytesMut};
use macula_wire::{
    CallError, ChannelKind, Fault, Operation, Topic,
    frame::{self, Frame, Frames, Header, Lane, Outcome},
    limits::{CALL_TIMEOUT_MAX, HOPS_MAX},
};
use rustc_hash::FxHashMap;
use slab::Slab;

use crate::{
    Relay,
    link::{LaneState, LinkKey, Violation},
    procedures::{NoProvider, OfferKey},
    relay::Declared,
};

/// How long after a caller's deadline the relay forgets its call. The caller keeps its own time, to the millisecond.
const DEADLINE_GRACE: Duration = Duration::from_secs(1);

/// One call that waits for its answer.
#[derive(Debug)]
struct Pending {
    caller: LinkKey,
    /// The caller's number for the call.
    number: u64,
    realm: usize,
    /// The caller's channel, to find the procedure again should the call have to be moved.
    channel: (Lane, u64),
    provider: LinkKey,
    /// Gone when the provider has withdrawn the offer.
    offer: Option<OfferKey>,
    sent: Instant,
    deadline: Instant,
    /// Tells this call from earlier ones in the same place.
    generation: u32,
}

/// All calls that wait for an answer.
#[derive(Debug, Default)]
pub(crate) struct Calls {
    pending: Slab<Pending>,
    generation: u32,
    sweep_due: Option<Instant>,
    /// Offers that left a call unanswered, by its number: at most one call for each.
    unanswered: FxHashMap<u64, OfferKey>,
}

impl Calls {
    pub(crate) fn len(&self) -> usize {
        self.pending.len()
    }

    pub(crate) fn sweep_due(&self) -> Option<Instant> {
        self.sweep_due
    }

    /// Calls in flight no longer count for an offer that has ended.
    pub(crate) fn offer_ended(&mut self, offer: OfferKey) {
        for (_, pending) in &mut self.pending {
            if pending.offer == Some(offer) {
                pending.offer = None;
            }
        }
    }

    /// The relay's number for a call: its place, and a generation that makes numbers of earlier calls invalid.
    fn insert(&mut self, mut pending: Pending) -> u64 {
        self.generation = self.generation.wrapping_add(1);
        pending.generation = self.generation;
        let generation = u64::from(self.generation);
        generation << 32 | self.pending.insert(pending) as u64
    }

    fn find(&self, number: u64) -> Option<&Pending> {
        let pending = self.pending.get(number as u32 as usize)?;
        (u64::from(pending.generation) == number >> 32).then_some(pending)
    }

    fn remove(&mut self, number: u64) -> Option<Pending> {
        self.find(number)?;
        Some(self.pending.remove(number as u32 as usize))
    }
}

impl Relay {
    pub(crate) fn handle_call(
        &mut self,
        now: Instant,
        key: LinkKey,
        lane: Lane,
        header: Header,
        bytes: &[u8],
    ) -> Result<(), Violation> {
        let inlet = self.links[key.index()].lane(lane).inlet(header.channel)?;
        if inlet.channel.kind != ChannelKind::Procedure {
            return Err(Violation::WrongLane { frame: "call to a topic", lane });
        }
        let (realm, is_allowed, procedure) = (inlet.realm, inlet.is_allowed, &inlet.channel.name);
        let denied = (!is_allowed).then(|| Fault::Denied(format!("{} {procedure}", Operation::Call)));
        let link = &self.links[key.index()];
        link.check_answer_backlog(self.config.call_bytes_per_link_max)?;
        if link.calls.contains_key(&header.id) {
            return Err(Violation::Number { what: "call", number: header.id });
        }
        self.stats.calls_in += 1;
        let refusal = if denied.is_some() {
            denied
        } else if header.hops >= HOPS_MAX {
            Some(Fault::Other("the call has passed too many relays".into()))
        } else if self.links[key.index()].calls.len() >= self.config.calls_per_link_max {
            Some(Fault::Unavailable("too many calls of this node wait for an answer".into()))
        } else if self.realms[realm].calls >= self.config.calls_per_realm_max {
            Some(Fault::Unavailable("too many calls of this realm wait for an answer".into()))
        } else if self.calls.len() >= self.config.calls_max {
            Some(Fault::Unavailable("too many calls wait for an answer at this relay".into()))
        } else {
            None
        };
        if let Some(fault) = refusal {
            self.refuse_call(key, header.id, fault);
            return Ok(());
        }
        let deadline = now + Duration::from_millis(header.time).min(CALL_TIMEOUT_MAX);
        self.place_call(
            now,
            Placement { caller: key, number: header.id, channel: (lane, header.channel), deadline },
            bytes,
        );
        Ok(())
    }

    /// Finds a provider and queues the call for it, or tells the caller that it did not run.
    fn place_call(&mut self, now: Instant, call: Placement, bytes: &[u8]) {
        let (lane, number) = call.channel;
        let Ok(inlet) = self.links[call.caller.index()].lane(lane).inlet(number) else {
            return self.refuse_call(call.caller, call.number, Fault::Unavailable("the provider left".into()));
        };
        let (realm, outlet) = (inlet.realm, inlet.outlet.number);
        let procedure = inlet.channel.name.clone();
        let chosen = self.realms[realm].procedures.choose(&procedure, &self.offers, |offer| {
            let provider = &self.links[offer.link.index()];
            provider.call_bytes() < self.config.call_bytes_per_link_max && !provider.is_suspended()
        });
        let offer = match chosen {
            Ok(offer) => offer,
            Err(NoProvider::Unknown) => {
                return self.refuse_call(call.caller, call.number, Fault::nobody_offers(&procedure));
            }
            Err(NoProvider::Busy) => {
                let fault = Fault::Unavailable(format!("all providers of {procedure} are busy"));
                return self.refuse_call(call.caller, call.number, fault);
            }
        };
        let provider = self.offers[offer].link;
        self.offers[offer].in_flight += 1;
        self.declare_call_channel(&call, provider, outlet);
        let relay_number = self.calls.insert(Pending {
            caller: call.caller,
            number: call.number,
            realm,
            channel: call.channel,
            provider,
            offer: Some(offer),
            sent: now,
            deadline: call.deadline,
            generation: 0,
        });
        self.links[call.caller.index()].calls.insert(call.number, relay_number);
        self.realms[realm].calls += 1;
        let state = self.links[provider.index()].lane(lane);
        frame::put_forwarded(bytes, outlet, Some(relay_number), &mut state.outbox);
        state.unsent.push(relay_number);
        self.mark_ready(provider);
        self.calls.sweep_due.get_or_insert(now + self.config.call_sweep_interval);
    }

    /// The provider learns who calls what, the first time that this caller's channel leads to it.
    fn declare_call_channel(&mut self, call: &Placement, provider: LinkKey, outlet: u64) {
        let (lane, number) = call.channel;
        if self.links[provider.index()].lane(lane).declared.contains(&outlet) {
            return;
        }
        let Ok(inlet) = self.links[call.caller.index()].lane(lane).inlet(number) else { return };
        let (channel, realm) = (inlet.channel.clone(), inlet.realm);
        if self.declare(provider, lane, outlet, &channel, realm) == Declared::Now {
            // The inlet was there a moment ago.
            let _ = self.note_told((call.caller, lane, number), provider);
        }
    }

    fn refuse_call(&mut self, caller: LinkKey, number: u64, fault: Fault) {
        self.stats.calls_not_run += 1;
        self.answer_error(caller, number, &CallError::NotRun(fault));
    }

    fn answer_error(&mut self, caller: LinkKey, number: u64, error: &CallError) {
        frame::put_reply_error(number, error, &mut self.links[caller.index()].lane(Lane::Calls).outbox);
        self.mark_ready(caller);
    }

    pub(crate) fn handle_reply(&mut self, now: Instant, key: LinkKey, number: u64, outcome: Outcome<'_>) {
        if self.calls.find(number).is_none_or(|pending| pending.provider != key) {
            return self.note_late_answer(key, number);
        }
        let Some(pending) = self.finish(number) else { return };
        if let Some(offer) = pending.offer {
            if self.offers[offer].unanswered.is_some() {
                self.set_unanswered(offer, None);
            }
            self.offers[offer].answered(now.duration_since(pending.sent));
        }
        let caller = pending.caller;
        if self.links[caller.index()].call_bytes() > self.config.call_bytes_per_link_max {
            self.stats.calls_maybe_run += 1;
            let error = CallError::MaybeRun(Fault::Unavailable("the caller does not take its answers".into()));
            return self.answer_error(caller, pending.number, &error);
        }
        let (Outcome::Answer(body) | Outcome::Error(body)) = outcome;
        let state = self.links[caller.index()].lane(Lane::for_call(body.len()));
        frame::put_reply(pending.number, outcome, &mut state.outbox);
        self.mark_ready(caller);
    }

    /// An answer to a call that was cancelled or timed out comes late, and shows that its provider answers; others are
    /// nobody's.
    fn note_late_answer(&mut self, key: LinkKey, number: u64) {
        let Some(offer) = self.calls.unanswered.get(&number).copied() else { return };
        if self.offers.get(offer).is_some_and(|offer| offer.link == key) {
            self.set_unanswered(offer, None);
        }
    }

    /// Which call an offer has left unanswered.
    pub(crate) fn set_unanswered(&mut self, key: OfferKey, call: Option<u64>) {
        let Some(offer) = self.offers.get_mut(key) else { return };
        if let Some(before) = std::mem::replace(&mut offer.unanswered, call) {
            self.calls.unanswered.remove(&before);
        }
        self.calls.unanswered.extend(call.map(|call| (call, key)));
    }

    pub(crate) fn handle_cancel(&mut self, now: Instant, key: LinkKey, number: u64) {
        // The answer may have crossed the cancellation.
        let Some(relay_number) = self.links[key.index()].calls.get(&number).copied() else { return };
        self.abandon(now, relay_number);
    }

    /// Takes a call out of all tables.
    fn finish(&mut self, number: u64) -> Option<Pending> {
        let pending = self.calls.remove(number)?;
        self.realms[pending.realm].calls -= 1;
        if let Some(caller) = self.links.get_mut(pending.caller.index()) {
            caller.calls.remove(&pending.number);
        }
        if let Some(offer) = pending.offer.and_then(|offer| self.offers.get_mut(offer)) {
            offer.in_flight -= 1;
        }
        Some(pending)
    }

    /// Takes a call out of all tables and tells its provider to stop, which has not answered in this time.
    fn abandon(&mut self, now: Instant, number: u64) -> Option<Pending> {
        let pending = self.finish(number)?;
        let waited = now.saturating_duration_since(pending.sent);
        let is_unanswered =
            |offer: &OfferKey| self.offers.get(*offer).is_some_and(|offer| offer.is_silent_after(waited));
        if let Some(offer) = pending.offer.filter(is_unanswered) {
            self.set_unanswered(offer, Some(number));
        }
        frame::put_cancel(number, &mut self.links[pending.provider.index()].lane(Lane::Calls).outbox);
        self.mark_ready(pending.provider);
        Some(pending)
    }

    /// A link is gone, and so are its offers: `lanes` is what it had not been sent.
    pub(crate) fn end_calls_of(&mut self, now: Instant, key: LinkKey, lanes: &[LaneState]) {
        let calls_of = |side: fn(&Pending) -> LinkKey, pending: &Slab<Pending>| -> Vec<u64> {
            let of_link = pending.iter().filter(|(_, pending)| side(pending) == key);
            of_link.map(|(place, pending)| u64::from(pending.generation) << 32 | place as u64).collect()
        };
        for number in calls_of(|pending| pending.caller, &self.calls.pending) {
            self.abandon(now, number);
        }
        for lane in lanes.iter().filter(|lane| !lane.unsent.is_empty()) {
            let is_unsent = |bytes: &&[u8]| matches!(Frame::parse(bytes), Ok(Frame::Call { header, .. }) if lane.unsent.contains(&header.id));
            for bytes in Frames::new(&lane.outbox).flatten().filter(is_unsent) {
                self.move_unsent(now, bytes);
            }
        }
        for number in calls_of(|pending| pending.provider, &self.calls.pending) {
            let Some(pending) = self.finish(number) else { continue };
            self.stats.calls_maybe_run += 1;
            let error = CallError::MaybeRun(Fault::Unavailable("the link to the provider was lost".into()));
            self.answer_error(pending.caller, pending.number, &error);
        }
    }

    /// A link offers something no longer: calls that it has not been sent go elsewhere.
    pub(crate) fn take_back_offer(&mut self, now: Instant, offer: OfferKey) {
        let provider = self.offers[offer].link;
        let unsent = self.take_unsent(provider, |pending| pending.offer == Some(offer));
        self.end_offer(offer);
        for call in unsent {
            self.move_unsent(now, &call);
        }
    }

    /// Calls of a link that has lost the right to them end, as far as they have not been sent.
    pub(crate) fn take_back_denied_calls(&mut self, caller: LinkKey) {
        let lanes = &self.links[caller.index()].lanes;
        let denied_procedure = |(lane, number): (Lane, u64)| {
            let inlet = lanes[lane.index()].inlets.get(number as usize)?.as_deref()?;
            (!inlet.is_allowed).then(|| inlet.channel.name.clone())
        };
        let own = self.calls.pending.iter().map(|(_, pending)| pending).filter(|pending| pending.caller == caller);
        let denied: BTreeMap<(LinkKey, (Lane, u64)), Topic> = own
            .filter_map(|pending| Some(((pending.provider, pending.channel), denied_procedure(pending.channel)?)))
            .collect();
        for ((provider, channel), procedure) in denied {
            for call in self.take_unsent(provider, |pending| pending.caller == caller && pending.channel == channel) {
                let Ok(Frame::Call { header, .. }) = Frame::parse(&call) else { continue };
                let Some(pending) = self.finish(header.id) else { continue };
                let fault = Fault::Denied(format!("{} {procedure}", Operation::Call));
                self.refuse_call(caller, pending.number, fault);
            }
        }
    }

    /// Takes calls out of what waits for a provider: their frames, in order. They are still in all tables.
    fn take_unsent(&mut self, provider: LinkKey, is_wanted: impl Fn(&Pending) -> bool) -> Vec<Bytes> {
        let mut taken = Vec::new();
        let Self { links, calls, .. } = self;
        for state in &mut links[provider.index()].lanes {
            if !state.unsent.iter().any(|number| calls.find(*number).is_some_and(&is_wanted)) {
                continue;
            }
            let waiting = state.outbox.split().freeze();
            for bytes in Frames::new(&waiting).flatten() {
                match Frame::parse(bytes) {
                    Ok(Frame::Call { header, .. }) if calls.find(header.id).is_some_and(&is_wanted) => {
                        state.unsent.retain(|number| *number != header.id);
                        taken.push(waiting.slice_ref(bytes));
                    }
                    _ => state.outbox.extend_from_slice(bytes),
                }
            }
        }
        taken
    }

    /// Gives a call that was not sent to another provider.
    fn move_unsent(&mut self, now: Instant, bytes: &[u8]) {
        let Ok(Frame::Call { header, extras, payload }) = Frame::parse(bytes) else { return };
        let Some(pending) = self.finish(header.id) else { return };
        let Pending { caller, number, channel: (lane, channel), deadline, .. } = pending;
        // The caller may have used the channel's number for another procedure since.
        let inlet = self.links[caller.index()].lane(lane).inlet(channel);
        if inlet.is_ok_and(|inlet| inlet.outlet.number != header.channel) {
            return self.refuse_call(caller, number, Fault::Unavailable("the provider left".into()));
        }
        let time = u64::try_from(deadline.saturating_duration_since(now).as_millis()).unwrap_or(u64::MAX);
        if time == 0 {
            return self.refuse_call(caller, number, Fault::Timeout);
        }
        // As it came from the caller, but for the time that has passed.
        let mut again = BytesMut::new();
        frame::put_call(Header { time, hops: header.hops.saturating_sub(1), ..header }, extras, payload, &mut again);
        self.place_call(now, Placement { caller, number, channel: (lane, channel), deadline }, &again);
    }

    /// Forgets calls that their callers have left behind.
    pub(crate) fn sweep_calls(&mut self, now: Instant) {
        if self.calls.sweep_due.is_none_or(|due| due > now) {
            return;
        }
        let over = |pending: &Pending| now.saturating_duration_since(pending.deadline) > DEADLINE_GRACE;
        let numbers: Vec<u64> = self
            .calls
            .pending
            .iter()
            .filter(|(_, pending)| over(pending))
            .map(|(place, pending)| u64::from(pending.generation) << 32 | place as u64)
            .collect();
        for number in numbers {
            let Some(pending) = self.abandon(now, number) else { continue };
            self.stats.calls_maybe_run += 1;
            self.answer_error(pending.caller, pending.number, &CallError::MaybeRun(Fault::Timeout));
        }
        self.calls.sweep_due = (self.calls.len() > 0).then(|| now + self.config.call_sweep_interval);
    }
}

#[cfg(test)]
impl Relay {
    /// Checks the books on calls against each other.
    pub(crate) fn assert_calls_consistent(&self) {
        let pending: Vec<&Pending> = self.calls.pending.iter().map(|(_, pending)| pending).collect();
        for (key, link) in &self.links {
            assert_eq!(link.calls.len(), pending.iter().filter(|pending| pending.caller.index() == key).count());
            for lane in &link.lanes {
                let is_call = |bytes: &&[u8]| matches!(Frame::parse(bytes), Ok(Frame::Call { .. }));
                assert_eq!(lane.unsent.len(), Frames::new(&lane.outbox).flatten().filter(is_call).count());
            }
        }
        for (key, offer) in &self.offers {
            let in_flight = pending.iter().filter(|pending| pending.offer == Some(key)).count();
            assert_eq!(offer.in_flight as usize, in_flight);
        }
        for (key, realm) in &self.realms {
            assert_eq!(realm.calls, pending.iter().filter(|pending| pending.realm == key).count());
        }
        assert!(pending.iter().all(|pending| self.links.contains(pending.caller.index())));
        assert!(pending.iter().all(|pending| self.links.contains(pending.provider.index())));
    }
}

/// A call in search of a provider.
#[derive(Debug, Clone, Copy)]
struct Placement {
    caller: LinkKey,
    number: u64,
    channel: (Lane, u64),
    deadline: Instant,
}
