//! Orders to instances, which they take between two handlers: to give their places to those of a new version, or to take new
//! settings.
//!
//! The new version asks every instance slot of the old one. An instance answers between two handlers, with its state, and
//! waits for the verdict: told to go, it says good-bye and ends; when the swap is called off, which dropping the verdict
//! does, it works on as if nothing had happened.

use std::{
    sync::atomic::{AtomicUsize, Ordering},
    time::Duration,
};

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::sync::{Notify, oneshot};

use crate::settings::Change;

/// What an instance hands over: its state, `None` when it keeps none, or why it cannot.
pub(crate) type Handed = Result<Option<Bytes>, NotHanded>;

/// Why there is no state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum NotHanded {
    /// The instance said no, and works on.
    Refused(String),
    /// It came to its end over that; the state is gone.
    Ended(String),
}

/// To one instance slot.
pub(crate) enum Order {
    /// Hand over, and go if told to.
    GivePlace(GivePlace),
    /// Take new settings.
    Change(Change),
}

/// To one instance slot: hand over.
pub(crate) struct GivePlace {
    /// Takes what is handed over.
    pub(crate) handed: oneshot::Sender<Handed>,
    /// Whether the instance is asked for its state.
    pub(crate) wants_state: bool,
    /// Go, with so long to say good-bye. When its other end is dropped, go on.
    pub(crate) verdict: oneshot::Receiver<Duration>,
}

/// One place for an order to each instance slot.
pub(crate) struct Handover {
    places: Mutex<Vec<Place>>,
    /// Orders that wait, so that instances need not look behind the lock.
    waiting: AtomicUsize,
    notify: Notify,
}

#[derive(Default)]
struct Place {
    order: Option<Order>,
    /// The slot has ended: nobody is left to hand anything over.
    is_closed: bool,
}

impl Handover {
    pub(crate) fn new(shards: u32) -> Self {
        let places = (0..shards).map(|_| Place::default()).collect();
        Self { places: Mutex::new(places), waiting: AtomicUsize::new(0), notify: Notify::new() }
    }

    /// Gives an order; the slot has to be woken. It is dropped when the slot has ended.
    pub(crate) fn order(&self, shard: usize, order: Order) {
        let mut places = self.places.lock();
        let place = &mut places[shard];
        if !place.is_closed && place.order.replace(order).is_none() {
            self.waiting.fetch_add(1, Ordering::Release);
        }
        drop(places);
        self.notify.notify_waiters();
    }

    /// The order to one slot, if there is one. Costs a load when there is none.
    #[inline]
    pub(crate) fn take(&self, shard: usize) -> Option<Order> {
        if self.waiting.load(Ordering::Acquire) == 0 {
            return None;
        }
        self.remove(shard)
    }

    /// Whether there is one.
    #[inline]
    pub(crate) fn is_waiting(&self, shard: usize) -> bool {
        self.waiting.load(Ordering::Acquire) > 0 && self.places.lock()[shard].order.is_some()
    }

    fn remove(&self, shard: usize) -> Option<Order> {
        let order = self.places.lock()[shard].order.take();
        if order.is_some() {
            self.waiting.fetch_sub(1, Ordering::Release);
        }
        order
    }

    /// Waits for an order.
    pub(crate) async fn next(&self, shard: usize) -> Order {
        loop {
            let mut notified = std::pin::pin!(self.notify.notified());
            notified.as_mut().enable();
            if let Some(order) = self.take(shard) {
                return order;
            }
            notified.await;
        }
    }

    /// The slot has ended; who waits for it learns that.
    pub(crate) fn close(&self, shard: usize) {
        self.places.lock()[shard].is_closed = true;
        self.remove(shard);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn order() -> (Order, oneshot::Receiver<Handed>) {
        let (handed, taken) = oneshot::channel();
        let (_, verdict) = oneshot::channel();
        (Order::GivePlace(GivePlace { handed, verdict, wants_state: true }), taken)
    }

    #[tokio::test]
    async fn an_order_reaches_its_slot_and_no_other() {
        let handover = Handover::new(2);
        let (given, taken) = order();
        handover.order(1, given);
        assert!(handover.take(0).is_none());
        let Order::GivePlace(given) = handover.next(1).await else { panic!("another order") };
        given.handed.send(Ok(None)).unwrap();
        assert_eq!(taken.await, Ok(Ok(None)));
        assert!(handover.take(1).is_none());
    }

    #[tokio::test]
    async fn a_slot_that_has_ended_drops_its_orders() {
        let handover = Handover::new(1);
        let (before, before_taken) = order();
        handover.order(0, before);
        handover.close(0);
        let (after, after_taken) = order();
        handover.order(0, after);
        assert!(before_taken.await.is_err() && after_taken.await.is_err());
        assert!(handover.take(0).is_none());
    }
}
