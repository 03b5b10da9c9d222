//! Deployment on this host: a task for each slot that it follows, and a desk where records are handed in.
//!
//! What is decided is decided in `macula-deploy`; here it is carried out.

mod desk;
mod follow;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use macula_node::{
    Mesh, NodeContent, NodeState, Pinner,
    auth::Slot,
    deploy::Rollout,
    wire::{Fault, Mcid, Topic},
};
use macula_runtime::Runtime;
use parking_lot::RwLock;
use tokio::{
    sync::{mpsc, oneshot, watch},
    task::JoinHandle,
};

pub(crate) use self::desk::{Asked, Current};
use crate::{failure::Failure, registry::Registry};

/// The procedure under which hosts take records.
pub(crate) fn deploy_procedure() -> Topic {
    "_mesh.deploy".parse().expect("a constant of the grammar")
}

/// What deployment needs of a node.
#[derive(Clone)]
pub(crate) struct Parts {
    pub(crate) mesh: Mesh,
    pub(crate) content: NodeContent,
    pub(crate) runtime: Runtime,
    /// What people call this host.
    pub(crate) host_name: String,
    pub(crate) records: Records,
    /// Held by whoever gives a record to the relay.
    pub(crate) handing_in: Arc<tokio::sync::Mutex<()>>,
}

/// The newest records of the slots that a host follows, by slot.
pub(crate) type Records = Arc<RwLock<BTreeMap<Slot, Vec<u8>>>>;

/// The slots that a host follows. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Deployments(Arc<Inner>);

struct Inner {
    followed: Vec<Followed>,
    desk: JoinHandle<()>,
}

struct Followed {
    slot: Slot,
    orders: mpsc::Sender<Order>,
    rollout: watch::Receiver<Rollout>,
    task: JoinHandle<()>,
}

/// To the task of a slot.
enum Order {
    /// This host's operator grants what record `seq` asks for.
    Grant { seq: u64, done: oneshot::Sender<Result<(), Fault>> },
}

/// Orders that may wait.
const ORDERS_MAX: usize = 16;

impl Deployments {
    /// Follows these slots from now on.
    pub(crate) async fn start(
        parts: &Parts,
        state: &NodeState,
        slots: &[Slot],
        registry: &Registry,
    ) -> Result<Self, Failure> {
        let mut follows = Vec::new();
        // One that is named twice is followed once.
        for slot in slots.iter().collect::<BTreeSet<_>>() {
            let (follow, rollout) = follow::Follow::new(parts.clone(), state.slot_file(slot)?, slot)?;
            follows.push((slot.clone(), follow, rollout));
        }
        settle_pins(&parts.content, &follows, registry).await;
        let followed = follows.into_iter().map(|(slot, follow, rollout)| {
            let (orders, taken) = mpsc::channel(ORDERS_MAX);
            Followed { slot, orders, rollout, task: tokio::spawn(follow.run(taken)) }
        });
        let followed = followed.collect();
        let desk = tokio::spawn(desk::serve(parts.clone()));
        Ok(Self(Arc::new(Inner { followed, desk })))
    }

    /// How far this host is with each.
    pub(crate) fn rollouts(&self) -> Vec<Rollout> {
        self.0.followed.iter().map(|followed| followed.rollout.borrow().clone()).collect()
    }

    /// Grants what a record asks for.
    pub(crate) async fn grant(&self, slot: &str, seq: u64) -> Result<(), Fault> {
        let found = self.0.followed.iter().find(|followed| followed.slot.as_str() == slot);
        let followed = found.ok_or_else(|| Fault::NotFound(format!("this host does not follow {slot}")))?;
        let (done, outcome) = oneshot::channel();
        let stopped = |_| Fault::Unavailable("the host is stopping".to_owned());
        followed.orders.send(Order::Grant { seq, done }).await.map_err(|_| stopped(()))?;
        outcome.await.map_err(|_| stopped(()))?
    }

    /// Begins nothing any more. What runs goes on until the runtime is stopped.
    pub(crate) fn stop(&self) {
        self.0.desk.abort();
        for followed in &self.0.followed {
            followed.task.abort();
        }
    }
}

/// What the slots and the registry want kept is kept, and what they wanted before is not. Without it everything works, and
/// perhaps too much is kept.
async fn settle_pins(
    content: &NodeContent,
    follows: &[(Slot, follow::Follow, watch::Receiver<Rollout>)],
    registry: &Registry,
) {
    let pinned = |follow: &follow::Follow| follow.pinned().iter().cloned().collect::<BTreeSet<_>>();
    let wanted: BTreeMap<String, BTreeSet<Mcid>> =
        follows.iter().map(|(slot, follow, _)| (slot.to_string(), pinned(follow))).collect();
    for (slot, mcids) in &wanted {
        for mcid in mcids {
            // What is not here is fetched, and pinned then.
            let _ = content.pin(Pinner::Slot(slot.clone()), mcid).await;
        }
    }
    let registry = registry.clone();
    let settled = content.settle_pins(move |pinner, mcid| match pinner {
        Pinner::Operator => true,
        Pinner::Slot(slot) => wanted.get(slot).is_some_and(|mcids| mcids.contains(mcid)),
        Pinner::Package(id) => registry.wants(id),
    });
    if let Err(error) = settled.await {
        tracing::warn!(%error, "content that nobody wants may stay pinned");
    }
}
