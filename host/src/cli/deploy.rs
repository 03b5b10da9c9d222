//! `macula-host deploy SLOT FILE|DIR|MCID` and `macula-host rollback SLOT`

use std::{
    collections::BTreeMap,
    fs::File,
    path::{Path, PathBuf},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use bytes::Bytes;
use clap::Args;
use data_encoding::BASE64;
use macula_node::{
    CallOptions, Mesh, Subscribe, Subscription,
    auth::{Slot, Validity, ucan::Cid},
    deploy::{CANARY_PERCENT_MAX, Deployment, Held, PackageQuery, Rollout, RolloutState},
    wire::{CallError, Fault, Mcid, NodeId, Operation, limits::CALL_TIMEOUT_MAX},
};
use serde::de::DeserializeOwned;

use super::{ClientFlags, CommonFlags, build, client, client_runtime, content, registry};
use crate::{
    config::{ClientSettings, Settings},
    deployment::{Asked, Current, deploy_procedure},
    failure::{Failure, Kind},
    output,
    registry::{Asked as Asks, Listed},
};

/// How long hosts may say nothing new before they are waited for no longer, beside `--timeout`. A canary takes 30 s, a trial 10 s.
const SILENCE_MAX: Duration = Duration::from_secs(60);
/// What was told longer ago is of a host that follows no more: hosts tell at least every minute.
const ROLLOUT_AGE_MAX: Duration = Duration::from_secs(180);
/// How long stored rollouts are collected after the last one came.
const QUIET: Duration = Duration::from_millis(300);

#[derive(Debug, Args)]
pub(super) struct Deploy {
    /// The slot: a namespace and a label, like io.example.app/alerts
    slot: Slot,
    /// A component (FILE.wasm), a folder with its source, which is built first, a content id, or a package of the registry
    #[arg(value_name = "FILE.wasm|DIR|MCID|NAME@VERSION")]
    component: PathBuf,
    /// Manifest that goes with it, in place of FILE.toml beside the component
    #[arg(long, value_name = "FILE")]
    manifest: Option<PathBuf>,
    /// Give it this share of the work for 30 s first, on each host: 1% to 50%
    #[arg(long, value_name = "PERCENT", value_parser = percent)]
    canary: Option<u8>,
    /// Show how far each host is, and wait until all are done
    #[arg(long)]
    wait: bool,
    #[command(flatten)]
    client: ClientFlags,
}

#[derive(Debug, Args)]
pub(super) struct Rollback {
    /// The slot
    slot: Slot,
    /// Show how far each host is, and wait until all are done
    #[arg(long)]
    wait: bool,
    #[command(flatten)]
    client: ClientFlags,
}

impl Deploy {
    pub(super) fn run(self, common: &CommonFlags) -> Result<(), Failure> {
        let settings = Settings::load(common)?;
        let client = settings.client(&self.client)?;
        let component = Component::of(&self.component, self.manifest.as_deref())?;
        client_runtime()?.block_on(async {
            let desk = Desk::connect(&settings, &client, self.slot).await?;
            let held = Held { mcid: component.offer(&desk.mesh, client.timeout).await?, manifest: component.manifest };
            let outcome = desk.deploy(|_| Ok(held), self.canary, self.wait, common).await;
            desk.mesh.close().await;
            outcome
        })
    }
}

impl Rollback {
    pub(super) fn run(self, common: &CommonFlags) -> Result<(), Failure> {
        let settings = Settings::load(common)?;
        let client = settings.client(&self.client)?;
        client_runtime()?.block_on(async {
            let desk = Desk::connect(&settings, &client, self.slot).await?;
            let before = |slot: &Slot, current: Option<&Current>| {
                let current = current.ok_or_else(|| Failure::not_found(format!("nothing was deployed to {slot}")))?;
                let before = current.before.clone();
                before.ok_or_else(|| Failure::not_found(format!("{slot} held nothing before {}", current.held.mcid)))
            };
            let slot = desk.slot.clone();
            let outcome = desk.deploy(|current| before(&slot, current), None, self.wait, common).await;
            desk.mesh.close().await;
            outcome
        })
    }
}

/// `10%`, or `10`.
fn percent(text: &str) -> Result<u8, String> {
    let percent = text.strip_suffix('%').unwrap_or(text).parse().ok();
    let percent = percent.filter(|percent| (1..=CANARY_PERCENT_MAX).contains(percent));
    percent.ok_or_else(|| format!("expected 1% to {CANARY_PERCENT_MAX}%"))
}

/// What is to be deployed or registered.
pub(super) struct Component {
    from: From,
    manifest: Option<String>,
}

enum From {
    File(File),
    /// Who has it gives it.
    Mesh(Mcid),
    /// What the registry says.
    Package(PackageQuery),
}

impl Component {
    pub(super) fn of(path: &Path, manifest: Option<&Path>) -> Result<Self, Failure> {
        let text = path.to_string_lossy();
        let read =
            |path: &Path| std::fs::read_to_string(path).map_err(|error| Failure::from(error).during(path.display()));
        if !path.exists() && text.starts_with("bafkr") && !text.contains(['/', '.']) {
            let mcid = text.parse().map_err(Failure::usage)?;
            return Ok(Self { from: From::Mesh(mcid), manifest: manifest.map(read).transpose()? });
        }
        if !path.exists() && text.contains('@') && !text.contains('/') && !text.ends_with(".wasm") {
            let query = text.parse().map_err(Failure::usage)?;
            return Ok(Self { from: From::Package(query), manifest: manifest.map(read).transpose()? });
        }
        let file = if path.is_dir() { build::build(path)?.component } else { path.to_owned() };
        let failed = |error: std::io::Error| Failure::from(error).during(file.display());
        let bytes = std::fs::read(&file).map_err(failed)?;
        // What no host would run is refused here and now.
        macula_runtime::inspect(&bytes).map_err(|refusal| Failure::failed(refusal).during(file.display()))?;
        let beside = Some(file.with_extension("toml")).filter(|beside| beside.is_file() && !path.is_dir());
        let manifest = manifest.map(Path::to_owned).or(beside).map(|path| read(&path)).transpose()?;
        Ok(Self { from: From::File(File::open(&file).map_err(failed)?), manifest })
    }

    /// Its id; a file is offered from here, for a host to fetch.
    pub(super) async fn offer(&self, mesh: &Mesh, timeout: Duration) -> Result<Mcid, Failure> {
        match &self.from {
            From::Mesh(mcid) => Ok(mcid.clone()),
            From::File(file) => Ok(content::offer(mesh, file.try_clone()?)?),
            From::Package(query) => {
                let found: Option<Listed> =
                    registry::ask(mesh, &Asks::Find { package: query.to_string() }, timeout).await?;
                Ok(found.ok_or_else(|| Failure::not_found(format!("no version of {} fits", query.name)))?.mcid)
            }
        }
    }
}

/// Where records are handed in.
struct Desk<'a> {
    settings: &'a Settings,
    timeout: Duration,
    mesh: Mesh,
    slot: Slot,
}

impl<'a> Desk<'a> {
    async fn connect(settings: &'a Settings, client: &ClientSettings, slot: Slot) -> Result<Self, Failure> {
        if slot.record_topic().is_none() {
            return Err(Failure::usage(format!("the slot {slot} has too many labels to be deployed to")));
        }
        let mesh = client::connect(settings, client).await?;
        Ok(Self { settings, timeout: client.timeout, mesh, slot })
    }

    async fn ask<T: DeserializeOwned>(&self, asked: &Asked, timeout: Duration) -> Result<T, Failure> {
        let payload = serde_json::to_vec(asked).expect("plain data");
        let options = CallOptions { timeout, ..CallOptions::default() };
        let answer: Result<Bytes, CallError> = self.mesh.call(&deploy_procedure(), &payload, &options).await;
        let answer = answer.map_err(|error| match &error {
            CallError::NotRun(Fault::NotFound(what)) if what.contains(deploy_procedure().as_str()) => Failure::new(
                Kind::Unreachable,
                "no host is linked that takes deployments; start one with `macula-host run`",
            ),
            CallError::NotRun(fault) => self.explained(Failure::from(fault.clone())),
            _ => Failure::from(error),
        })?;
        serde_json::from_slice(&answer).map_err(|error| Failure::failed(format!("the host's answer: {error}")))
    }

    fn explained(&self, failure: Failure) -> Failure {
        client::with_grantor(failure, self.settings, Operation::Deploy, &self.slot.topic())
    }

    /// Signs and hands in what the slot is to hold, given what it holds.
    async fn deploy(
        &self,
        held: impl FnOnce(Option<&Current>) -> Result<Held, Failure>,
        canary: Option<u8>,
        wait: bool,
        common: &CommonFlags,
    ) -> Result<(), Failure> {
        let slot = self.slot.to_string();
        let current: Option<Current> = self.ask(&Asked::Current { slot: slot.clone() }, self.timeout).await?;
        let held = held(current.as_ref())?;
        let mut rollouts = Rollouts::watch(&self.mesh, &self.slot).await?;
        let known = rollouts.collect().await;
        // Hosts may know of records that the relay has forgotten.
        let told = known.values().map(|rollout| rollout.seq).max().unwrap_or_default();
        let newest = current.as_ref().filter(|current| current.seq >= told);
        let deployment = Deployment {
            slot: self.slot.clone(),
            realm: self.mesh.realm().clone(),
            seq: newest.map_or(told, |current| current.seq) + 1,
            prev: newest.and_then(|current| Cid::try_from(current.id.as_str()).ok()),
            before: current.as_ref().and_then(|current| before(current, &held, &known)),
            held,
            canary,
        };
        let arguments = deployment.to_arguments().map_err(Failure::usage)?;
        let record = self.mesh.sign_record(Operation::Deploy, &self.slot.topic(), arguments, Validity::Now);
        let record = BASE64.encode(&record.map_err(|fault| self.explained(fault.into()))?);
        // The host that takes it fetches the component first.
        let taken: Current = self.ask(&Asked::Deploy { slot: slot.clone(), record }, CALL_TIMEOUT_MAX).await?;
        if common.json {
            output::json(&serde_json::json!({ "slot": slot, "seq": taken.seq, "mcid": taken.held.mcid }));
        } else {
            output::line(format_args!("{slot} seq {} {}", taken.seq, taken.held.mcid));
        }
        if known.is_empty() {
            output::note(format_args!("no host follows {slot} yet; one does with: macula-host run --follow {slot}"));
        }
        if wait { rollouts.wait(taken.seq, known, self.timeout + SILENCE_MAX, common).await } else { Ok(()) }
    }
}

/// What to go back to from a new deployment: what the slot holds, or what it held before when no host could run that.
fn before(current: &Current, held: &Held, known: &BTreeMap<(String, NodeId), Rollout>) -> Option<Held> {
    let has_failed = |rollout: &Rollout| rollout.seq == current.seq && rollout.state == RolloutState::Failed;
    let all_failed = !known.is_empty() && known.values().all(has_failed);
    let last = if all_failed { current.before.clone() } else { Some(current.held.clone()) };
    last.filter(|last| last != held).or_else(|| current.before.clone().filter(|before| before != held))
}

/// How far hosts are, by host.
pub(super) struct Rollouts(Subscription);

impl Rollouts {
    /// What is told of a slot from now on, after what was told last.
    pub(super) async fn watch(mesh: &Mesh, slot: &Slot) -> Result<Self, Failure> {
        let pattern = slot.rollout_pattern().ok_or_else(|| Failure::usage(format!("{slot} has too many labels")))?;
        Ok(Self(mesh.subscribe_with(pattern, Subscribe::default()).await?))
    }

    /// The same of all slots.
    pub(super) async fn watch_all(mesh: &Mesh) -> Result<Self, Failure> {
        let pattern = "_mesh.rollouts.**".parse().expect("a constant of the grammar");
        Ok(Self(mesh.subscribe_with(pattern, Subscribe::default()).await?))
    }

    /// What was told last, as far as it is of hosts that follow still; by host and slot.
    pub(super) async fn collect(&mut self) -> BTreeMap<(String, NodeId), Rollout> {
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

    /// Shows how far hosts are with record `seq` until all are done.
    async fn wait(
        mut self,
        seq: u64,
        mut known: BTreeMap<(String, NodeId), Rollout>,
        patience: Duration,
        common: &CommonFlags,
    ) -> Result<(), Failure> {
        loop {
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
                Err(_) => return Err(still_waiting(seq, &known, patience)),
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

fn still_waiting(seq: u64, known: &BTreeMap<(String, NodeId), Rollout>, patience: Duration) -> Failure {
    let waiting: Vec<&Rollout> =
        known.values().filter(|rollout| rollout.seq < seq || !rollout.state.is_final()).collect();
    let first = waiting.first().map(|rollout| describe(rollout)).unwrap_or_default();
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
        output::line(describe(rollout));
    }
}

/// One line for people, with more below when something is to be done.
pub(super) fn describe(rollout: &Rollout) -> String {
    let state = serde_json::to_value(rollout.state).ok();
    let state = state.as_ref().and_then(|state| state.as_str()).unwrap_or_default();
    let mut text = format!("{} seq {} {state}", rollout.node, rollout.seq);
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
