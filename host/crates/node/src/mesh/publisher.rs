//! Publishing to one topic again and again, without looking it up.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use macula_wire::{
    Delivery, Fault, Receipt, ReceiptLevel,
    frame::Lane,
    limits::{CAUSE_DEPTH_MAX, PAYLOAD_BYTES_MAX},
};
use tokio::{sync::watch, time::timeout};

use super::{
    handle::{Confirmed, Publish, Shared, envelope},
    outbox::{ChannelKey, ChannelName, Envelope, NoRoom, Sync},
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
    /// Number of the last message that a confirmation was asked for.
    confirming: AtomicU64,
}

impl Publisher {
    pub(super) fn new(shared: Arc<Shared>, name: ChannelName, options: &Publish) -> Self {
        let key = shared.outbox.channel(&name);
        let confirming = AtomicU64::new(shared.outbox.last_seq());
        Self { shared, name, key, options: options.clone(), extras: options.extras.to_bytes(), confirming }
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

    /// Asks a relay to confirm what this node has published at this publisher's priority since the publisher was made or was
    /// last asked to confirm, without waiting: a stream of messages that must not overrun its subscribers keeps a few
    /// confirmations under way.
    ///
    /// # Errors
    /// `unavailable` when the handle was closed.
    pub fn confirm(&self) -> Result<Confirmation, Fault> {
        let mut confirmation = self.shared.ask_confirmation(self.lane())?;
        confirmation.after = self.confirming.fetch_max(confirmation.sync.after, Ordering::Relaxed);
        Ok(confirmation)
    }
}

/// A relay's word, under way, that it has what was published before.
#[derive(Debug)]
#[must_use = "a confirmation says something only when it is awaited"]
pub struct Confirmation {
    shared: Arc<Shared>,
    lane: Lane,
    confirmed: watch::Receiver<Confirmed>,
    /// What was confirmed when it was asked for.
    before: u64,
    /// It speaks of messages with larger numbers, up to that of the sync.
    after: u64,
    sync: Sync,
}

/// Why it is not known that everything published has arrived at a relay.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ConfirmError {
    /// A relay has all but some messages. They were sent on a link that was lost before its relay confirmed them, and were
    /// not sent again: each may have arrived or not. `acked` messages are never among them.
    #[error(
        "{messages} messages were sent on a link that was lost before its relay confirmed them; they may have arrived or not"
    )]
    Unknown {
        /// How many.
        messages: u64,
    },
    /// `denied` when the relay did not forward some of it, because a right has ended that this node still saw; `timeout` when
    /// no relay confirms within the configured time, and what was published may still arrive; `unavailable` when the handle
    /// was closed.
    #[error(transparent)]
    Fault(#[from] Fault),
}

impl Confirmation {
    /// Waits for it.
    ///
    /// # Errors
    /// See [`ConfirmError`]. Messages that are unknown are told once by each of a publisher's confirmations that are about
    /// them, so their numbers can be added.
    pub async fn wait(mut self) -> Result<(), ConfirmError> {
        let token = self.sync.token;
        let reached = timeout(self.shared.timeout, self.confirmed.wait_for(|confirmed| confirmed.last >= token)).await;
        match reached {
            Ok(Ok(confirmed)) if confirmed.denied > self.before && confirmed.denied <= token => {
                return Err(Fault::Denied("the relay has not forwarded it: the right is missing there".into()).into());
            }
            Ok(Ok(_)) => {}
            Ok(Err(_)) => return Err(Fault::from(NoRoom::Closed).into()),
            Err(_) => return Err(Fault::Timeout.into()),
        }
        // What a lost link leaves open is noted before the next link can bring a receipt.
        match self.shared.outbox.unknown(self.lane, self.after, self.sync.after) {
            0 => Ok(()),
            messages => Err(ConfirmError::Unknown { messages }),
        }
    }

    /// Whether a relay has answered, so that [`Confirmation::wait`] returns at once.
    pub fn is_concluded(&self) -> bool {
        self.confirmed.borrow().last >= self.sync.token
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

/// A message that has been queued.
pub(super) struct Published {
    pub(super) receipt: Receipt,
    /// Of an `acked` message: the relay's word for it.
    confirmation: Option<Confirmation>,
}

impl Shared {
    /// Publishes one message whose channel has to be looked up: at once, or [`NoRoom::Full`].
    pub(super) fn publish_now(
        self: &Arc<Self>,
        name: &ChannelName,
        envelope: Envelope<'_>,
        payload: &[u8],
    ) -> Result<Result<Published, Fault>, NoRoom> {
        if let Err(fault) = check_size(payload) {
            return Ok(Err(fault));
        }
        if let Err(fault) = check_depth(envelope.cause_depth) {
            return Ok(Err(fault));
        }
        let channel = self.outbox.channel(name);
        let outcome = if envelope.delivery == Delivery::Acked {
            let (lane, confirmed) = (envelope.lane(), self.listen(envelope.lane()));
            self.outbox.publish_synced(channel, envelope, payload).map(|(seq, sync)| {
                let confirmation = self.confirmation(lane, confirmed, sync);
                (seq, Some(Confirmation { after: seq - 1, ..confirmation }))
            })
        } else {
            self.outbox.publish(channel, envelope, payload).map(|seq| (seq, None))
        };
        match outcome {
            Err(NoRoom::Full | NoRoom::Stale) => Err(NoRoom::Full),
            Err(reason) => Ok(Err(self.refused(name, reason))),
            Ok((seq, confirmation)) => {
                let receipt = Receipt { epoch: self.epoch, seq, level: ReceiptLevel::Host };
                Ok(Ok(Published { receipt, confirmation }))
            }
        }
    }

    /// The same, waiting for room, and with [`Delivery::Acked`] for the relay.
    pub(super) async fn publish(
        self: &Arc<Self>,
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
        let published = timeout(self.timeout, until_room).await.unwrap_or_else(|_| Err(NoRoom::Full.into()))?;
        let Some(confirmation) = published.confirmation else { return Ok(published.receipt) };
        match confirmation.wait().await {
            Ok(()) => Ok(Receipt { level: ReceiptLevel::RelayMemory, ..published.receipt }),
            Err(ConfirmError::Fault(fault)) => Err(fault),
            // Kept until it was confirmed, it is never among those.
            Err(ConfirmError::Unknown { .. }) => Err(Fault::Timeout),
        }
    }

    /// Waits until a relay has everything that was published, and says what is not known of what was published since this
    /// last came to a conclusion.
    pub(super) async fn flush(self: &Arc<Self>) -> Result<(), ConfirmError> {
        let _alone = self.flushing.lock().await;
        let after = self.flushed.load(Ordering::Relaxed);
        let last = self.outbox.last_seq();
        let mut unknown = 0;
        for lane in self.outbox.message_lanes_in_use() {
            let asked = self.ask_confirmation(lane)?;
            let confirmation = Confirmation { after, sync: Sync { after: last, ..asked.sync }, ..asked };
            match confirmation.wait().await {
                Ok(()) => {}
                Err(ConfirmError::Unknown { messages }) => unknown += messages,
                Err(error) => return Err(error),
            }
        }
        self.flushed.fetch_max(last, Ordering::Relaxed);
        if unknown == 0 { Ok(()) } else { Err(ConfirmError::Unknown { messages: unknown }) }
    }

    fn ask_confirmation(self: &Arc<Self>, lane: Lane) -> Result<Confirmation, Fault> {
        // Listening before asking, so that an answer cannot come unnoticed.
        let confirmed = self.listen(lane);
        let sync = self.outbox.sync(lane)?;
        Ok(self.confirmation(lane, confirmed, sync))
    }

    fn listen(&self, lane: Lane) -> watch::Receiver<Confirmed> {
        self.confirmed[lane.index()].subscribe()
    }

    fn confirmation(self: &Arc<Self>, lane: Lane, confirmed: watch::Receiver<Confirmed>, sync: Sync) -> Confirmation {
        let before = confirmed.borrow().last;
        Confirmation { shared: Arc::clone(self), lane, confirmed, before, after: 0, sync }
    }
}
