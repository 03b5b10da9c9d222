//! Receipts for `acked` publishers, and the `block` subscriptions that hold them back.

use std::time::Instant;

use macula_wire::frame::{self, Lane};

use super::Relay;
use crate::{
    link::{LinkKey, Violation},
    recent::Window,
    subscription::SubKey,
};

impl Relay {
    pub(super) fn handle_sync(&mut self, key: LinkKey, lane: Lane, token: u64) -> Result<(), Violation> {
        let link = &mut self.links[key.index()];
        link.check_answer_backlog(self.config.call_bytes_per_link_max)?;
        let taken = std::mem::take(&mut link.lane(lane).taken);
        if self.window != Window::Closed && !self.promise(key, lane) && self.promises_until.is_some() {
            self.hold_for_window(key, (lane, taken, token));
            return Ok(());
        }
        let link = &mut self.links[key.index()];
        if link.holds_receipts() {
            link.held.push_back((lane, taken, token));
        } else {
            frame::put_receipt(lane, taken, token, &mut link.lane(Lane::Calls).outbox);
            self.mark_ready(key);
        }
        Ok(())
    }

    /// A full `block` subscription makes the publisher wait for its receipts.
    pub(super) fn hold_back(&mut self, now: Instant, key: SubKey, from: LinkKey) {
        let link = &mut self.links[from.index()];
        if !link.holds_receipts() {
            self.holding.push(from);
        }
        let held_by = &mut link.held_by;
        if !held_by.contains(&key) {
            held_by.push(key);
        }
        let subscription = &mut self.subscriptions[key as usize];
        if subscription.blocking_since.is_none() {
            subscription.blocking_since = Some(now);
            self.blocking.push(key);
        }
    }

    /// Looks again which subscriptions hold receipts back, and lets go of what nobody holds.
    pub(super) fn release_receipts(&mut self, now: Instant) {
        let Self { subscriptions, blocking, config, .. } = self;
        blocking.retain(|key| {
            let Some(subscription) = subscriptions.get_mut(*key as usize) else { return false };
            let since = subscription.blocking_since.unwrap_or(now);
            if now.duration_since(since) >= config.block_max {
                subscription.blocked_out = true;
            }
            let holds = subscription.wants_pause();
            if !holds {
                subscription.blocking_since = None;
            }
            holds
        });
        for key in std::mem::take(&mut self.holding) {
            let Some(link) = self.links.get_mut(key.index()) else { continue };
            link.held_by.retain(|subscription| self.blocking.contains(subscription));
            if link.holds_receipts() {
                self.holding.push(key);
                continue;
            }
            while let Some((lane, taken, token)) = link.held.pop_front() {
                frame::put_receipt(lane, taken, token, &mut link.lane(Lane::Calls).outbox);
            }
            self.mark_ready(key);
        }
    }
}
