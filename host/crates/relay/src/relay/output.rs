//! What goes out: control messages, lanes, deadlines, reports of drops.

use std::time::Instant;

use macula_wire::{
    control::{Control, Dropped, Undelivered},
    frame::{self, Lane, Outgoing},
    limits::BATCH_BYTES_GOAL,
};

use super::Relay;
use crate::{
    link::{LaneState, LinkKey},
    recent::Window,
    subscription::SubKey,
};

impl Relay {
    /// A link with something to send; each is named once until it is drained.
    #[inline]
    pub fn poll_ready(&mut self) -> Option<LinkKey> {
        let key = self.ready.pop()?;
        self.links[key.index()].ready = false;
        Some(key)
    }

    /// The next control message for a link.
    pub fn poll_control(&mut self, key: LinkKey) -> Option<Control> {
        self.links.get_mut(key.index())?.take_control()
    }

    /// Whether a lane of a link has something to send.
    #[inline]
    pub fn has_output(&self, key: LinkKey, lane: Lane) -> bool {
        self.links.get(key.index()).is_some_and(|link| {
            let state = &link.lanes[lane.index()];
            !state.outbox.is_empty() || !state.turns.is_empty()
        })
    }

    /// Whether everything has been taken that was to be sent to anybody.
    pub fn is_drained(&self) -> bool {
        let idle = |lane: &LaneState| lane.outbox.is_empty() && lane.turns.is_empty();
        self.queued_bytes == 0 && self.links.iter().all(|(_, link)| link.lanes.iter().all(idle))
    }

    /// Messages that wait for subscriptions, counted once for each.
    pub fn queued_messages(&self) -> u64 {
        self.subscriptions.iter().map(|(_, subscription)| subscription.waiting().1 as u64).sum()
    }

    /// Adds what a lane has to send, about 64 KiB at a time, to `out`; nothing is added when nothing waits.
    pub fn poll_transmit(&mut self, now: Instant, key: LinkKey, lane: Lane, out: &mut Outgoing) {
        let Some(link) = self.links.get_mut(key.index()).filter(|link| !link.is_suspended()) else { return };
        let state = link.lane(lane);
        if !state.outbox.is_empty() {
            out.push(state.outbox.split().freeze());
            state.unsent.clear();
        }
        let mut drained_blocker = false;
        while out.len() < BATCH_BYTES_GOAL {
            let Some(subscription) = self.links[key.index()].lane(lane).turns.pop_front() else { break };
            drained_blocker |= self.serve(subscription, lane, out);
        }
        let state = self.links[key.index()].lane(lane);
        if state.turns.is_empty() && !state.forgets.is_empty() && !self.waits_on(key, lane) {
            for number in std::mem::take(&mut self.links[key.index()].lane(lane).forgets) {
                out.put(|out| frame::put_forget(number, out));
            }
        }
        if drained_blocker {
            self.release_receipts(now);
        }
        if !self.replaying.is_empty() {
            self.replay_more(now, key);
        }
    }

    /// Whether messages wait that lack credit only.
    pub(super) fn waits_on(&self, key: LinkKey, lane: Lane) -> bool {
        lane.carries_messages()
            && self.links[key.index()]
                .subscriptions
                .values()
                .any(|sub| self.subscriptions[*sub as usize].has_waiting(lane))
    }

    /// Sends one chunk of a subscription and puts it back in line; whether it held receipts back and may not any more.
    #[inline]
    pub(super) fn serve(&mut self, key: SubKey, lane: Lane, out: &mut Outgoing) -> bool {
        let subscription = &mut self.subscriptions[key as usize];
        subscription.in_turn[lane.index()] = false;
        let credit = subscription.credit_left();
        if credit == 0 {
            return false;
        }
        let Some(chunk) = subscription.pop(lane, credit) else { return false };
        let number = subscription.number;
        subscription.sent += u64::from(chunk.count);
        let again = subscription.has_waiting(lane);
        let eased = subscription.blocking_since.is_some() && !subscription.wants_pause();
        if subscription.blocked_out && subscription.waiting().1 == 0 {
            subscription.blocked_out = false;
        }
        self.stats.messages_out += u64::from(chunk.count);
        self.shrink(key, chunk.frames.len());
        out.put(|out| frame::put_batch_header(number, chunk.count, chunk.frames.len(), out));
        out.push(chunk.frames);
        if again {
            self.give_turn(key, lane);
        }
        eased
    }

    /// When [`Relay::handle_timeout`] wants to be called.
    pub fn poll_timeout(&self) -> Option<Instant> {
        let block = self.blocking.iter().filter_map(|key| {
            let since = self.subscriptions.get(*key as usize)?.blocking_since?;
            Some(since + self.config.block_max)
        });
        let window = if let Window::Open(until) = self.window { Some(until) } else { None };
        block.chain(self.drop_report_due).chain(self.calls.sweep_due()).chain(window).chain(self.promises_until).min()
    }

    /// A deadline may have passed.
    pub fn handle_timeout(&mut self, now: Instant) {
        if self.drop_report_due.is_some_and(|due| due <= now) {
            self.drop_report_due = None;
            self.report_drops();
        }
        if !self.blocking.is_empty() {
            self.release_receipts(now);
        }
        self.sweep_calls(now);
        self.end_promises(now);
        self.close_window(now);
    }

    pub(super) fn report_drops(&mut self) {
        let mut reports = Vec::new();
        for (_, subscription) in &mut self.subscriptions {
            if subscription.dropped != subscription.dropped_reported {
                subscription.dropped_reported = subscription.dropped;
                let report = Dropped { subscription: subscription.number, total: subscription.dropped };
                reports.push((subscription.link, Control::Dropped(report)));
            }
        }
        for (key, link) in &mut self.links {
            if link.undelivered != link.undelivered_reported {
                link.undelivered_reported = link.undelivered;
                reports.push((LinkKey(key as u32), Control::Undelivered(Undelivered { total: link.undelivered })));
            }
        }
        for (key, report) in reports {
            // Who does not read control messages is not helped by one more.
            let _ = self.send_control(key, report);
        }
    }
}
