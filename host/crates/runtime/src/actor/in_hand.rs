//! A message that is being handled, which is not lost when that is cut short.

use parking_lot::Mutex;
use tokio::time::Instant;

use crate::{
    bindings::message_handler::Disposition,
    instance::{HandlerFault, Instance},
    mailbox::{Delivery, Mailbox},
};

/// Dropped before the handler has returned, by whoever ends the slot, it puts the message back into the mailbox.
pub(super) struct InHand<'a> {
    mailbox: &'a Mutex<Mailbox>,
    shard: usize,
    /// Gone when it was handled.
    delivery: Option<Delivery>,
}

impl<'a> InHand<'a> {
    pub(super) fn new(mailbox: &'a Mutex<Mailbox>, shard: usize, delivery: Delivery) -> Self {
        Self { mailbox, shard, delivery: Some(delivery) }
    }

    /// Has it handled, and gives it back with what the handler says.
    pub(super) async fn handled_by(
        mut self,
        instance: &mut Instance,
        publisher: &str,
    ) -> (Delivery, Result<Disposition, HandlerFault>) {
        let delivery = self.delivery.as_ref().expect("there until it was handled");
        let handled = instance.message(delivery, publisher).await;
        (self.delivery.take().expect("there until it was handled"), handled)
    }
}

impl Drop for InHand<'_> {
    fn drop(&mut self) {
        if let Some(delivery) = self.delivery.take() {
            self.mailbox.lock().put_back(self.shard, delivery, Instant::now());
        }
    }
}
