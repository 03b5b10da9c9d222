//! How the mailbox calls the instances, and how streams call the mailbox.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::Wake,
};

use futures::task::AtomicWaker;

/// Wakes instances: one waker a shard.
#[derive(Debug)]
pub(crate) struct Bell(Vec<AtomicWaker>);

impl Bell {
    pub(super) fn new(shards: u32) -> Arc<Self> {
        Arc::new(Self((0..shards).map(|_| AtomicWaker::new()).collect()))
    }

    /// The waker of one shard, to register oneself with *before* looking for work.
    pub(crate) fn of(&self, shard: usize) -> &AtomicWaker {
        &self.0[shard]
    }

    pub(crate) fn ring(&self, shard: usize) {
        self.0[shard].wake();
    }

    pub(crate) fn ring_all(&self) {
        self.0.iter().for_each(AtomicWaker::wake);
    }
}

/// Raised when a stream may have something, so that of many streams only those that called are asked.
#[derive(Debug)]
pub(super) struct Flag {
    is_raised: AtomicBool,
    bell: Arc<Bell>,
}

impl Flag {
    /// A stream that has never been asked has to be.
    pub(super) fn raised(bell: &Arc<Bell>) -> Arc<Self> {
        Arc::new(Self { is_raised: AtomicBool::new(true), bell: Arc::clone(bell) })
    }

    pub(super) fn raise(&self) {
        self.is_raised.store(true, Ordering::Release);
    }

    /// Whether it was raised.
    pub(super) fn lower(&self) -> bool {
        // Looking first is cheap, and most flags are down most of the time.
        self.is_raised.load(Ordering::Acquire) && self.is_raised.swap(false, Ordering::AcqRel)
    }
}

impl Wake for Flag {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.raise();
        self.bell.ring_all();
    }
}
