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
    Mesh, NodeContent, NodeState,
    auth::Slot,
    deploy::Rollout,
    wire::{Fault, Topic},
};
use macula_runtime::Runtime;
use parking_lot::RwLock;
use tokio::{
    sync::{mpsc, oneshot, watch},
    task::JoinHandle,
};

pub(crate) use self::desk::{Asked, Current};
use crate::failure::Failure;

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
    pub(crate) records: Records,
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
    pub(crate) fn start(parts: &Parts, state: &NodeState, slots: &[Slot]) -> Result<Self, Failure> {
        let mut followed = Vec::new();
        // One that is named twice is followed once.
        for slot in slots.iter().collect::<BTreeSet<_>>() {
            let (orders, taken) = mpsc::channel(ORDERS_MAX);
            let (follow, rollout) = follow::Follow::new(parts.clone(), state.slot_file(slot)?, slot)?;
            let task = tokio::spawn(follow.run(taken));
            followed.push(Followed { slot: slot.clone(), orders, rollout, task });
        }
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
