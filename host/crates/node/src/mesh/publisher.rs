//! Publishing to one topic again and again, without looking it up.

use std::{sync::Arc, time::Duration};

use macula_wire::{
    Delivery, Fault, Receipt, ReceiptLevel,
    frame::Lane,
    limits::{CAUSE_DEPTH_MAX, PAYLOAD_BYTES_MAX},
};
use tokio::{sync::watch, time::timeout};

use super::{
    handle::{Confirmed, Publish, Shared, envelope},
    outbox::{ChannelKey, ChannelName, Envelope, NoRoom},
};

/// Publishes to one topic. Made by [`Mesh::publisher`](super::Mesh::publisher).
#[derive(Debug)]
pub struct Publisher {
    shared: Arc<Shared>,
    name: ChannelName,
    key: ChannelKey,
    options: Publish,
    /// The options' extras, as every message carries them.
    extras: Vec<u8>,
}

impl Publisher {
    pub(super) fn new(shared: Arc<Shared>, name: ChannelName, options: &Publish) -> Self {
        let key = shared.outbox.channel(&name);
        Self { shared, name, key, options: options.clone(), extras: options.extras.to_bytes() }
    }

    /// Publishes with this publisher's options. Waits for room in this node's queue; what has been queued is sent even
    /// when the future is dropped. Also with [`Delivery::Acked`] it does not wait for a relay; [`confirm`](Self::confirm) does,
    /// for many at once.
    ///
    /// # Errors
    /// `denied`; `invalid` (cause depth); `too-large`; `unavailable` when there is no room within the configured timeout.
    pub async fn publish(&mut self, payload: &[u8]) -> Result<Receipt, Fault> {
        check_size(payload)?;
        check_depth(self.options.cause_depth)?;
        match self.try_publish(payload) {
            Err(NoRoom::Full) => self.publish_when_room(payload).await,
            outcome => receipt_of(&self.shared, &self.name, outcome),
        }
    }

    #[inline]
    fn try_publish(&mut self, payload: &[u8]) -> Result<u64, NoRoom> {
        let envelope = envelope(&self.options, &self.extras);
        match self.shared.outbox.publish(self.key, envelope, payload) {
            Err(NoRoom::Stale) => {
                self.key = self.shared.outbox.channel(&self.name);
                self.shared.outbox.publish(self.key, envelope, payload)
            }
            outcome => outcome,
        }
    }

    fn lane(&self) -> Lane {
        envelope(&self.options, &[]).lane()
    }

    #[cold]
    async fn publish_when_room(&mut self, payload: &[u8]) -> Result<Receipt, Fault> {
        let shared = Arc::clone(&self.shared);
        let lane = self.lane();
        let until_room = async {
            loop {
                match self.try_publish(payload) {
                    Err(NoRoom::Full) => shared.outbox.room(lane).await,
                    outcome => return outcome,
                }
            }
        };
        let outcome = timeout(shared.timeout, until_room).await.unwrap_or(Err(NoRoom::Full));
        receipt_of(&shared, &self.name, outcome)
    }

    /// Asks a relay to confirm everything published so far by this node at this publisher's priority, without waiting: a
    /// stream of messages that must not overrun its subscribers keeps a few confirmations under way.
    ///
    /// # Errors
    /// `unavailable` when the handle was closed.
    pub fn confirm(&self) -> Result<Confirmation, Fault> {
        self.shared.ask_confirmation(self.lane())
    }
}

/// A relay's word, under way, that it has what was published before.
#[derive(Debug)]
#[must_use = "a confirmation says something only when it is awaited"]
pub struct Confirmation {
    confirmed: watch::Receiver<Confirmed>,
    /// What was confirmed when it was asked for.
    before: u64,
    token: u64,
    limit: Duration,
}

impl Confirmation {
    /// Waits for it.
    ///
    /// # Errors
    /// `denied` when the relay did not forward some of it, because a right has ended that this node still saw; `timeout` when
    /// no relay confirms within the configured time; what was published may still arrive.
    pub async fn wait(mut self) -> Result<(), Fault> {
        let reached = timeout(self.limit, self.confirmed.wait_for(|confirmed| confirmed.last >= self.token)).await;
        match reached {
            Ok(Ok(confirmed)) if confirmed.denied > self.before && confirmed.denied <= self.token => {
                Err(Fault::Denied("the relay has not forwarded it: the right is missing there".into()))
            }
            Ok(Ok(_)) => Ok(()),
            Ok(Err(_)) => Err(NoRoom::Closed.into()),
            Err(_) => Err(Fault::Timeout),
        }
    }
}

impl Default for Envelope<'_> {
    fn default() -> Self {
        Self {
            delivery: Delivery::Ordered,
            priority: macula_wire::Priority::Normal,
            retain: false,
            cause_depth: 0,
            extras: &[],
        }
    }
}

fn receipt_of(shared: &Shared, name: &ChannelName, outcome: Result<u64, NoRoom>) -> Result<Receipt, Fault> {
    outcome
        .map(|seq| Receipt { epoch: shared.epoch, seq, level: ReceiptLevel::Host })
        .map_err(|reason| shared.refused(name, reason))
}

#[inline]
fn check_size(payload: &[u8]) -> Result<(), Fault> {
    if payload.len() > PAYLOAD_BYTES_MAX { Err(Fault::TooLarge(PAYLOAD_BYTES_MAX as u32)) } else { Ok(()) }
}

#[inline]
fn check_depth(cause_depth: u8) -> Result<(), Fault> {
    if cause_depth <= CAUSE_DEPTH_MAX {
        return Ok(());
    }
    Err(Fault::Invalid(format!(
        "{CAUSE_DEPTH_MAX} handlers have published because of one another; this looks like feedback"
    )))
}

impl Shared {
    /// Publishes one message whose channel has to be looked up: at once, or [`NoRoom::Full`].
    pub(super) fn publish_now(
        &self,
        name: &ChannelName,
        envelope: Envelope<'_>,
        payload: &[u8],
    ) -> Result<Result<Receipt, Fault>, NoRoom> {
        if let Err(fault) = check_size(payload) {
            return Ok(Err(fault));
        }
        if let Err(fault) = check_depth(envelope.cause_depth) {
            return Ok(Err(fault));
        }
        match self.outbox.publish(self.outbox.channel(name), envelope, payload) {
            Err(NoRoom::Full | NoRoom::Stale) => Err(NoRoom::Full),
            outcome => Ok(receipt_of(self, name, outcome)),
        }
    }

    /// The same, waiting for room.
    pub(super) async fn publish(
        &self,
        name: &ChannelName,
        envelope: Envelope<'_>,
        payload: &[u8],
    ) -> Result<Receipt, Fault> {
        let until_room = async {
            loop {
                match self.publish_now(name, envelope, payload) {
                    Err(_) => self.outbox.room(envelope.lane()).await,
                    Ok(outcome) => return outcome,
                }
            }
        };
        let receipt = timeout(self.timeout, until_room).await.unwrap_or_else(|_| Err(NoRoom::Full.into()))?;
        if envelope.delivery != Delivery::Acked {
            return Ok(receipt);
        }
        self.confirm(envelope.lane()).await?;
        Ok(Receipt { level: ReceiptLevel::RelayMemory, ..receipt })
    }

    /// Waits until a relay has everything on a lane.
    pub(super) async fn confirm(&self, lane: Lane) -> Result<(), Fault> {
        self.ask_confirmation(lane)?.wait().await
    }

    fn ask_confirmation(&self, lane: Lane) -> Result<Confirmation, Fault> {
        // Listening before asking, so that an answer cannot come unnoticed.
        let confirmed = self.confirmed[lane.index()].subscribe();
        let before = confirmed.borrow().last;
        let token = self.outbox.sync(lane)?;
        Ok(Confirmation { confirmed, before, token, limit: self.timeout })
    }
}
