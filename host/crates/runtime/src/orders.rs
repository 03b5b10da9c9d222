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

use crate::settings::ChangeSettings;

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
    /// Take new settings, or refuse them.
    ChangeSettings(ChangeSettings),
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

impl GivePlace {
    /// Whether nobody waits any more for what is handed over, or another instance has said no already.
    pub(crate) fn is_called_off(&mut self) -> bool {
        // The verdict on an order for a state is given once the state is there, so none is taken away by looking.
        self.wants_state
            && (self.handed.is_closed() || matches!(self.verdict.try_recv(), Err(oneshot::error::TryRecvError::Closed)))
    }
}

/// One place for an order to each instance slot.
pub(crate) struct Orders {
    places: Mutex<Vec<Place>>,
    /// Orders that wait, so that instances need not look behind the lock.
    waiting: AtomicUsize,
    notify: Notify,
}

#[derive(Default)]
struct Place {
    order: Option<Order>,
    /// The slot has ended: nobody is left to follow an order.
    is_closed: bool,
}

impl Orders {
    pub(crate) fn new(shards: u32) -> Self {
        let places = (0..shards).map(|_| Place::default()).collect();
        Self { places: Mutex::new(places), waiting: AtomicUsize::new(0), notify: Notify::new() }
    }

    /// Gives an order, in the place of one that was not taken yet; the slot has to be woken. It is dropped when the slot has
    /// ended.
    pub(crate) fn give(&self, shard: usize, order: Order) {
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
        self.remove(shard, |_| true)
    }

    /// The same without an instance: settings are taken by the next one.
    pub(crate) fn take_give_place(&self, shard: usize) -> Option<GivePlace> {
        match self.remove(shard, |order| matches!(order, Order::GivePlace(_)))? {
            Order::GivePlace(order) => Some(order),
            Order::ChangeSettings(_) => None,
        }
    }

    /// Whether there is one.
    #[inline]
    pub(crate) fn is_waiting(&self, shard: usize) -> bool {
        self.waiting.load(Ordering::Acquire) > 0 && self.places.lock()[shard].order.is_some()
    }

    fn remove(&self, shard: usize, is_it: impl Fn(&Order) -> bool) -> Option<Order> {
        let order = self.places.lock()[shard].order.take_if(|order| is_it(order));
        if order.is_some() {
            self.waiting.fetch_sub(1, Ordering::Release);
        }
        order
    }

    /// Waits for the order to give the place, where there is no instance.
    pub(crate) async fn next_give_place(&self, shard: usize) -> GivePlace {
        loop {
            let mut notified = std::pin::pin!(self.notify.notified());
            notified.as_mut().enable();
            if let Some(order) = self.take_give_place(shard) {
                return order;
            }
            notified.await;
        }
    }

    /// The slot has ended; who waits for it learns that.
    pub(crate) fn close(&self, shard: usize) {
        self.places.lock()[shard].is_closed = true;
        self.remove(shard, |_| true);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    fn order() -> (Order, oneshot::Receiver<Handed>) {
        let (handed, taken) = oneshot::channel();
        let (_, verdict) = oneshot::channel();
        (Order::GivePlace(GivePlace { handed, verdict, wants_state: true }), taken)
    }

    #[tokio::test]
    async fn an_order_reaches_its_slot_and_no_other() {
        let orders = Orders::new(2);
        let (given, taken) = order();
        orders.give(1, given);
        assert!(orders.take(0).is_none());
        orders.next_give_place(1).await.handed.send(Ok(None)).unwrap();
        assert_eq!(taken.await, Ok(Ok(None)));
        assert!(orders.take(1).is_none());
    }

    #[test]
    fn an_order_that_nobody_waits_for_is_called_off() {
        let new = || {
            let ((handed, taken), (verdict, told)) = (oneshot::channel(), oneshot::channel());
            (GivePlace { handed, verdict: told, wants_state: true }, taken, verdict)
        };
        let (mut order, taken, verdict) = new();
        assert!(!order.is_called_off());
        drop(verdict);
        assert!(order.is_called_off(), "another instance has said no");
        drop(taken);
        let (mut order, taken, _verdict) = new();
        drop(taken);
        assert!(order.is_called_off(), "it took too long");
        // A canary goes, and nobody waits for what it leaves.
        let (mut order, taken, verdict) = new();
        order.wants_state = false;
        verdict.send(Duration::ZERO).unwrap();
        drop(taken);
        assert!(!order.is_called_off() && order.verdict.try_recv().is_ok());
    }

    #[test]
    fn settings_wait_for_an_instance() {
        let orders = Orders::new(1);
        let (told, _answer) = oneshot::channel();
        let change = ChangeSettings { settings: Default::default(), keys: Arc::from([]), told };
        orders.give(0, Order::ChangeSettings(change));
        assert!(orders.take_give_place(0).is_none() && orders.is_waiting(0));
        assert!(matches!(orders.take(0), Some(Order::ChangeSettings(_))));
    }

    #[tokio::test]
    async fn a_slot_that_has_ended_drops_its_orders() {
        let orders = Orders::new(1);
        let (before, before_taken) = order();
        orders.give(0, before);
        orders.close(0);
        let (after, after_taken) = order();
        orders.give(0, after);
        assert!(before_taken.await.is_err() && after_taken.await.is_err());
        assert!(orders.take(0).is_none());
    }
}
