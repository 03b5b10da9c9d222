//! Publishing to one topic again and again, without looking it up.

use std::sync::Arc;

use macula_wire::{
    Delivery, Fault, Receipt, ReceiptLevel,
    frame::Lane,
    limits::{CAUSE_DEPTH_MAX, PAYLOAD_BYTES_MAX},
};
use tokio::time::timeout;

use super::{
    handle::Shared,
    outbox::{ChannelKey, ChannelName, Envelope, NoRoom},
};

/// Publishes to one topic. Made by [`Mesh::publisher`](super::Mesh::publisher).
#[derive(Debug)]
pub struct Publisher {
    shared: Arc<Shared>,
    name: ChannelName,
    key: ChannelKey,
}

impl Publisher {
    pub(super) fn new(shared: Arc<Shared>, name: ChannelName) -> Self {
        let key = shared.outbox.channel(&name);
        Self { shared, name, key }
    }

    /// Publishes `ordered`, at normal priority. Waits for room in this node's queue; what has been queued is sent even
    /// when the future is dropped.
    ///
    /// # Errors
    /// `too-large`; `unavailable` when there is no room within the configured timeout.
    pub async fn publish(&mut self, payload: &[u8]) -> Result<Receipt, Fault> {
        let envelope = Envelope::default();
        match self.try_publish(envelope, payload) {
            Err(NoRoom::Full) => self.publish_when_room(envelope, payload).await,
            outcome => receipt_of(&self.shared, outcome),
        }
    }

    #[inline]
    fn try_publish(&mut self, envelope: Envelope<'_>, payload: &[u8]) -> Result<u64, NoRoom> {
        match self.shared.outbox.publish(self.key, envelope, payload) {
            Err(NoRoom::Stale) => {
                self.key = self.shared.outbox.channel(&self.name);
                self.shared.outbox.publish(self.key, envelope, payload)
            }
            outcome => outcome,
        }
    }

    #[cold]
    async fn publish_when_room(&mut self, envelope: Envelope<'_>, payload: &[u8]) -> Result<Receipt, Fault> {
        check_size(payload)?;
        let shared = Arc::clone(&self.shared);
        let until_room = async {
            loop {
                match self.try_publish(envelope, payload) {
                    Err(NoRoom::Full) => self.shared.outbox.room(envelope.lane()).await,
                    outcome => return outcome,
                }
            }
        };
        let outcome = timeout(shared.timeout, until_room).await.unwrap_or(Err(NoRoom::Full));
        receipt_of(&shared, outcome)
    }

    /// Waits until a relay has everything published so far through this handle's node at normal priority.
    ///
    /// # Errors
    /// `timeout` when no relay confirms within the configured time; what was published may still arrive.
    pub async fn confirm(&self) -> Result<(), Fault> {
        self.shared.confirm(Lane::Normal).await
    }
}

impl Default for Envelope<'_> {
    fn default() -> Self {
        Self { delivery: Delivery::Ordered, priority: macula_wire::Priority::Normal, retain: false, cause_depth: 0, extras: &[] }
    }
}

fn receipt_of(shared: &Shared, outcome: Result<u64, NoRoom>) -> Result<Receipt, Fault> {
    outcome.map(|seq| Receipt { epoch: shared.epoch, seq, level: ReceiptLevel::Host }).map_err(Fault::from)
}

fn check_size(payload: &[u8]) -> Result<(), Fault> {
    if payload.len() > PAYLOAD_BYTES_MAX { Err(Fault::TooLarge(PAYLOAD_BYTES_MAX as u32)) } else { Ok(()) }
}

impl Shared {
    /// Publishes one message whose channel has to be looked up: at once, or [`NoRoom::Full`].
    pub(super) fn publish_now(&self, name: &ChannelName, envelope: Envelope<'_>, payload: &[u8]) -> Result<Result<Receipt, Fault>, NoRoom> {
        if let Err(fault) = check_size(payload) {
            return Ok(Err(fault));
        }
        if envelope.cause_depth > CAUSE_DEPTH_MAX {
            return Ok(Err(Fault::Invalid(format!(
                "{CAUSE_DEPTH_MAX} handlers have published because of one another; this looks like feedback"
            ))));
        }
        match self.outbox.publish(self.outbox.channel(name), envelope, payload) {
            Err(NoRoom::Full | NoRoom::Stale) => Err(NoRoom::Full),
            outcome => Ok(receipt_of(self, outcome)),
        }
    }

    /// The same, waiting for room.
    pub(super) async fn publish(&self, name: &ChannelName, envelope: Envelope<'_>, payload: &[u8]) -> Result<Receipt, Fault> {
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
        // Listening before asking, so that an answer cannot come unnoticed.
        let mut confirmed = self.confirmed[lane.index()].subscribe();
        let token = self.outbox.sync(lane)?;
        let reached = timeout(self.timeout, confirmed.wait_for(|last| *last >= token)).await;
        match reached {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(_)) => Err(NoRoom::Closed.into()),
            Err(_) => Err(Fault::Timeout),
        }
    }
}
