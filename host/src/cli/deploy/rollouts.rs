//! How far hosts are with what was deployed, as they tell it.

use std::{
    collections::BTreeMap,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use macula_node::{
    Mesh, Subscribe, Subscription,
    auth::Slot,
    deploy::{Rollout, RolloutState},
    wire::{Mcid, NodeId},
};

use crate::{
    cli::CommonFlags,
    failure::{Failure, Kind},
    output,
};

/// What was told longer ago is of a host that follows no more: hosts tell at least every minute.
const ROLLOUT_AGE_MAX: Duration = Duration::from_secs(180);
/// How long stored rollouts are collected after the last one came.
const QUIET: Duration = Duration::from_millis(300);

/// By slot and host.
pub(in crate::cli) type Known = BTreeMap<(String, NodeId), Rollout>;

/// How far hosts are, by host.
pub(in crate::cli) struct Rollouts(Subscription);

impl Rollouts {
    /// What is told of a slot from now on, after what was told last.
    pub(in crate::cli) async fn watch(mesh: &Mesh, slot: &Slot) -> Result<Self, Failure> {
        let pattern = slot.rollout_pattern().ok_or_else(|| Failure::usage(format!("{slot} has too many labels")))?;
        Ok(Self(mesh.subscribe_with(pattern, Subscribe::default()).await?))
    }

    /// The same of all slots.
    pub(in crate::cli) async fn watch_all(mesh: &Mesh) -> Result<Self, Failure> {
        let pattern = "_mesh.rollouts.**".parse().expect("a constant of the grammar");
        Ok(Self(mesh.subscribe_with(pattern, Subscribe::default()).await?))
    }

    /// What was told last, as far as it is of hosts that follow still; by host and slot.
    pub(in crate::cli) async fn collect(&mut self) -> Known {
        let mut known = BTreeMap::new();
        while let Ok(Some(rollout)) = tokio::time::timeout(QUIET, self.next()).await {
            if is_fresh(&rollout) {
                known.insert((rollout.slot.clone(), rollout.node), rollout);
            }
        }
        known
    }

    /// What is told next; what is none is passed over.
    async fn next(&mut self) -> Option<Rollout> {
        loop {
            let message = self.0.next().await?;
            match serde_json::from_slice::<Rollout>(&message.payload) {
                Ok(rollout) if rollout.node == message.publisher => return Some(rollout),
                _ => {}
            }
        }
    }

    /// Shows how far hosts are with record `seq`, which holds `mcid`, until all are done.
    pub(super) async fn wait(
        mut self,
        seq: u64,
        mcid: &Mcid,
        mut known: Known,
        patience: Duration,
        common: &CommonFlags,
    ) -> Result<(), Failure> {
        loop {
            // Somebody else may deploy as well, and be the one whose record was taken.
            let is_other = |rollout: &&Rollout| rollout.seq >= seq && rollout.mcid.as_ref() != Some(mcid);
            if let Some(other) = known.values().find(is_other) {
                return Err(Failure::failed(format!(
                    "somebody else deploys to {} as well: hosts hold record {} now",
                    other.slot, other.seq
                )));
            }
            let is_done = |rollout: &Rollout| rollout.seq >= seq && rollout.state.is_final();
            if !known.is_empty() && known.values().all(is_done) {
                break;
            }
            match tokio::time::timeout(patience, self.next()).await {
                Ok(Some(rollout)) => {
                    if rollout.seq >= seq {
                        show(&rollout, common);
                    }
                    known.insert((rollout.slot.clone(), rollout.node), rollout);
                }
                Ok(None) => return Err(Failure::new(Kind::Unreachable, "the link was closed")),
                Err(_) if known.is_empty() => {
                    return Err(Failure::new(
                        Kind::Unreachable,
                        "no host follows the slot; start one with `--follow SLOT`",
                    ));
                }
                Err(_) => return Err(still_waiting(seq, &known, patience, common)),
            }
        }
        let failed: Vec<&Rollout> =
            known.values().filter(|rollout| rollout.seq == seq && rollout.state == RolloutState::Failed).collect();
        match failed.first() {
            None => Ok(()),
            Some(first) => Err(Failure::failed(format!(
                "{} of {} hosts gave it up, and run on what they ran: {}",
                failed.len(),
                known.len(),
                first.reason.as_deref().unwrap_or("no reason was told")
            ))),
        }
    }
}

fn still_waiting(seq: u64, known: &Known, patience: Duration, common: &CommonFlags) -> Failure {
    let waiting: Vec<&Rollout> =
        known.values().filter(|rollout| rollout.seq < seq || !rollout.state.is_final()).collect();
    let first = waiting.first().map(|rollout| describe(rollout, common)).unwrap_or_default();
    Failure::new(
        Kind::Unreachable,
        format!(
            "{} of {} hosts are not done, and told nothing new for {} s: {first}",
            waiting.len(),
            known.len(),
            patience.as_secs()
        ),
    )
}

fn is_fresh(rollout: &Rollout) -> bool {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    now.saturating_sub(Duration::from_millis(rollout.at)) < ROLLOUT_AGE_MAX
}

fn show(rollout: &Rollout, common: &CommonFlags) {
    if common.json {
        output::json(rollout);
    } else {
        output::line(describe(rollout, common));
    }
}

/// What a host is called: its name, and the end of its id, as there may be several of one name.
fn host(rollout: &Rollout, common: &CommonFlags) -> String {
    let id = common.id(&rollout.node);
    match &rollout.host {
        Some(name) => format!("{} ({id})", output::readable(name)),
        None => id,
    }
}

/// One line for people, with more below when something is to be done.
pub(in crate::cli) fn describe(rollout: &Rollout, common: &CommonFlags) -> String {
    let state = serde_json::to_value(rollout.state).ok();
    let state = state.as_ref().and_then(|state| state.as_str()).unwrap_or_default();
    let plugin = rollout.plugin.as_deref().map(|plugin| format!(" {}", output::readable(plugin))).unwrap_or_default();
    let mut text = format!("{}{plugin} seq {} {state}", host(rollout, common), rollout.seq);
    if let Some(reason) = &rollout.reason {
        text.push_str(&format!(": {}", output::readable(reason)));
    }
    if rollout.stale {
        text.push_str(" (stale: the deployment has expired; deploy it again for new hosts to take it)");
    }
    if !rollout.beyond.is_empty() {
        text.push_str("\n  asks for more than was granted there:");
        for line in rollout.beyond.lines() {
            text.push_str(&format!("\n    {line}"));
        }
        text.push_str(&format!("\n  to grant it, on that host: macula-host slots grant {}", rollout.slot));
    }
    text
}
