//! Accepts links and keeps the core's time.

use std::{
    cell::{Cell, RefCell},
    rc::Rc,
    sync::Arc,
    time::Duration,
};

use macula_auth::AuditEvent;
use macula_relay::{Denial, LinkKey, Relay, Stats};
use macula_transport::{Handshake, Link, LinkError, Listener, LocalNode};
use macula_wire::frame::Lane;
use parking_lot::Mutex;
use rustc_hash::FxHashMap;
use tokio::{
    sync::{Notify, watch},
    task::spawn_local,
    time::{Instant, sleep_until, timeout},
};

use super::{
    RelayConfig,
    admission::{Admission, Now, RealmRights},
    link_tasks,
};
use crate::Audit;

/// How often counters are copied for readers in other threads.
const STATS_INTERVAL: Duration = Duration::from_millis(250);
/// How often deadlines of rights are looked at; they are in whole seconds.
const RIGHTS_INTERVAL: Duration = Duration::from_secs(1);
/// How long peers get to hear the goodbye.
const GOODBYE_TIMEOUT: Duration = Duration::from_secs(1);

/// The core and, for each link, how to wake its writers. Lives on the relay's thread only.
pub(super) struct Shared {
    pub(super) relay: RefCell<Relay>,
    /// By link index.
    pub(super) wakers: RefCell<Vec<Option<Rc<LinkWakers>>>>,
    /// The core's deadline may have moved.
    deadline_moved: Notify,
    node: LocalNode,
    pub(super) ending: Ending,
    pub(super) admission: RefCell<Admission>,
    /// Links that were suspended may go on.
    pub(super) resumed: Notify,
    audit: Arc<Audit>,
    /// Tells requests for content that are being passed on to stop, by the passage's id.
    pub(super) passages: RefCell<FxHashMap<u64, Rc<Notify>>>,
}

/// Who looks on from other threads.
pub(super) struct Observers {
    pub(super) stats: Arc<Mutex<Stats>>,
    pub(super) audit: Arc<Audit>,
}

/// How an orderly end gets on: peers finish what they send, writers what they have, and then links are closed.
#[derive(Default)]
pub(super) struct Ending {
    /// Writers finish their streams as soon as they have nothing more.
    pub(super) writers_finish: Cell<bool>,
    /// Lanes of messages that peers have open.
    pub(super) reading: Cell<usize>,
    /// Lanes that writers have open.
    pub(super) writing: Cell<usize>,
    /// One of the above, or what waits in the core, may have become less.
    pub(super) progress: Notify,
}

/// Counts something as long as it lives.
pub(super) struct Counted<F: Fn(&Ending) -> &Cell<usize>>(Rc<Shared>, F);

impl<F: Fn(&Ending) -> &Cell<usize>> Counted<F> {
    pub(super) fn new(shared: &Rc<Shared>, counter: F) -> Self {
        let count = counter(&shared.ending);
        count.set(count.get() + 1);
        Self(Rc::clone(shared), counter)
    }
}

impl<F: Fn(&Ending) -> &Cell<usize>> Drop for Counted<F> {
    fn drop(&mut self) {
        let count = (self.1)(&self.0.ending);
        count.set(count.get() - 1);
        self.0.ending.progress.notify_one();
    }
}

/// A link, and what wakes its writers.
pub(super) struct LinkWakers {
    pub(super) link: Link,
    pub(super) control: Notify,
    pub(super) lanes: [Notify; Lane::COUNT],
    /// Lanes whose writer runs.
    pub(super) started: RefCell<[bool; Lane::COUNT]>,
    /// Starts the writer of a lane.
    pub(super) start: Box<dyn Fn(Lane)>,
}

impl Shared {
    /// Wakes the writers of all links for which the core has something. To be called after every input to the core.
    pub(super) fn pump(&self) {
        let mut relay = self.relay.borrow_mut();
        let wakers = self.wakers.borrow();
        while let Some(key) = relay.poll_ready() {
            let Some(link) = wakers.get(key.index()).and_then(Option::as_ref) else { continue };
            link.control.notify_one();
            for lane in Lane::ALL.into_iter().filter(|lane| relay.has_output(key, *lane)) {
                link.wake(lane);
            }
        }
        if relay.poll_timeout().is_some() {
            self.deadline_moved.notify_one();
        }
    }
}

impl Shared {
    /// Puts changed rights in force, and writes down what the audit wants to know. To be called after every input to the
    /// admission, and now and then for denials.
    pub(super) fn settle_rights(&self) {
        let mut relay = self.relay.borrow_mut();
        let mut admission = self.admission.borrow_mut();
        if admission.settle(&mut relay, std::time::Instant::now()) {
            self.resumed.notify_waiters();
        }
        while let Some(denial) = relay.poll_denial() {
            let Denial { node, realm, operation, name } = denial;
            self.audit.record(&AuditEvent::Denied { node, realm, operation, name });
        }
        while let Some(event) = admission.poll_audit() {
            self.audit.record(&event);
        }
        drop((relay, admission));
        self.end_passages();
        self.pump();
    }

    /// Waits while a link is suspended.
    pub(super) async fn until_active(&self, key: LinkKey) {
        loop {
            let resumed = self.resumed.notified();
            if !self.relay.borrow().is_suspended(key) {
                return;
            }
            resumed.await;
        }
    }
}

impl Shared {
    /// After the goodbye: waits until peers have finished what they were sending, and have all that was sent to them. Who
    /// is slow, or does not heed the goodbye, is not waited for: the caller sets a limit.
    async fn everything_delivered(&self) {
        let ending = &self.ending;
        while ending.reading.get() > 0 || !self.relay.borrow().is_drained() {
            ending.progress.notified().await;
        }
        ending.writers_finish.set(true);
        for link in self.wakers.borrow().iter().flatten() {
            link.lanes.iter().for_each(Notify::notify_one);
        }
        while ending.writing.get() > 0 {
            ending.progress.notified().await;
        }
    }
}

impl LinkWakers {
    fn wake(&self, lane: Lane) {
        let started = std::mem::replace(&mut self.started.borrow_mut()[lane.index()], true);
        if !started {
            (self.start)(lane);
        }
        self.lanes[lane.index()].notify_one();
    }
}

/// Runs until told to stop.
pub(super) async fn run(
    config: RelayConfig,
    listener: Listener,
    observers: Observers,
    mut stop: watch::Receiver<bool>,
) {
    let rights = RealmRights {
        config: config.rights,
        realms: config.realms,
        revocations: config.revocations,
        log: config.revocation_log,
    };
    let shared = Rc::new(Shared {
        relay: RefCell::new(Relay::new(config.limits)),
        wakers: RefCell::default(),
        deadline_moved: Notify::new(),
        admission: RefCell::new(Admission::new(Now::read(), config.node.id(), rights)),
        resumed: Notify::new(),
        audit: observers.audit,
        node: config.node,
        ending: Ending::default(),
        passages: RefCell::default(),
    });
    spawn_local(keep_time(Rc::clone(&shared)));
    spawn_local(keep_rights(Rc::clone(&shared)));
    spawn_local(publish_stats(Rc::clone(&shared), observers.stats));
    loop {
        tokio::select! {
            handshake = listener.accept() => match handshake {
                Some(handshake) => drop(spawn_local(serve(Rc::clone(&shared), handshake))),
                None => return,
            },
            _ = stop.changed() => break,
        }
    }
    shared.relay.borrow_mut().say_goodbye("the relay is shutting down");
    shared.pump();
    if timeout(GOODBYE_TIMEOUT, shared.everything_delivered()).await.is_err() {
        let messages = shared.relay.borrow().queued_messages();
        if messages > 0 {
            tracing::warn!(
                messages,
                "subscribers did not take everything in the second that they had; the rest is lost"
            );
        }
    }
    listener.close("the relay is shutting down");
    let _ = timeout(GOODBYE_TIMEOUT, listener.drained()).await;
}

async fn serve(shared: Rc<Shared>, handshake: Handshake) {
    let from = handshake.remote_address();
    match handshake.complete(&shared.node).await {
        Ok(link) => link_tasks::run(shared, link).await,
        // Anybody can send packets, under any address: what has not completed TLS is not worth a line of a log.
        Err(error @ LinkError::Connection(_)) => tracing::debug!(%from, %error, "a connection did not come about"),
        Err(error) => tracing::warn!(%from, %error, "a connection was refused"),
    }
}

async fn keep_time(shared: Rc<Shared>) {
    loop {
        let deadline = shared.relay.borrow().poll_timeout();
        let moved = shared.deadline_moved.notified();
        match deadline {
            None => moved.await,
            Some(deadline) => {
                tokio::select! {
                    () = sleep_until(deadline.into()) => {
                        shared.relay.borrow_mut().handle_timeout(Instant::now().into());
                        shared.pump();
                    }
                    () = moved => {}
                }
            }
        }
    }
}

/// Looks at the deadlines of rights once a second.
async fn keep_rights(shared: Rc<Shared>) {
    let mut ticks = tokio::time::interval(RIGHTS_INTERVAL);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        shared.admission.borrow_mut().tick(Now::read());
        shared.settle_rights();
    }
}

async fn publish_stats(shared: Rc<Shared>, stats: Arc<Mutex<Stats>>) {
    let mut interval = tokio::time::interval(STATS_INTERVAL);
    loop {
        interval.tick().await;
        *stats.lock() = shared.relay.borrow().stats();
    }
}

/// Forgets how to wake a link that has closed.
pub(super) fn forget(shared: &Shared, key: LinkKey) {
    if let Some(slot) = shared.wakers.borrow_mut().get_mut(key.index()) {
        *slot = None;
    }
}
