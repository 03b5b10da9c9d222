//! `macula-host deploy SLOT FILE|DIR|MCID` and `macula-host rollback SLOT`

mod component;
mod rollouts;

use std::{path::PathBuf, time::Duration};

use clap::Args;
use data_encoding::BASE64;
use macula_node::{
    Mesh,
    auth::{Slot, Validity},
    deploy::{CANARY_PERCENT_MAX, Deployment, Held, Rollout, RolloutState, SEQ_AHEAD_MAX},
    wire::{CallError, Operation, limits::CALL_TIMEOUT_MAX},
};
use serde::de::DeserializeOwned;

use self::rollouts::Known;
pub(super) use self::{
    component::Component,
    rollouts::{Rollouts, describe},
};
use super::{ClientFlags, CommonFlags, client, client_runtime, completion};
use crate::{
    config::{ClientSettings, Settings},
    deployment::{Asked, Current, deploy_procedure},
    failure::{Failure, Kind},
    output,
};

/// How long hosts may say nothing new before they are waited for no longer, beside `--timeout`. A canary takes 30 s, a trial 10 s.
const SILENCE_MAX: Duration = Duration::from_secs(60);

#[derive(Debug, Args)]
pub(super) struct Deploy {
    /// The slot: a namespace and a label, like io.example.app/alerts
    #[arg(add = completion::slots())]
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
    /// Begin without the state of the version that runs, which is not asked for it: it is lost
    #[arg(long)]
    drop_state: bool,
    /// Show how far each host is, and wait until all are done
    #[arg(long)]
    wait: bool,
    #[command(flatten)]
    client: ClientFlags,
}

#[derive(Debug, Args)]
pub(super) struct Rollback {
    /// The slot
    #[arg(add = completion::slots())]
    slot: Slot,
    /// Go back without the state of the version that runs, which is not asked for it: it is lost
    #[arg(long)]
    drop_state: bool,
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
            let terms = Terms { canary: self.canary, drop_state: self.drop_state, wait: self.wait };
            let outcome = desk.deploy(|_| Ok(held), &terms, common).await;
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
            let terms = Terms { canary: None, drop_state: self.drop_state, wait: self.wait };
            let outcome = desk.deploy(|current| before(&slot, current), &terms, common).await;
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

/// How what the slot is to hold comes to run.
struct Terms {
    /// With this share of the work at first, in percent.
    canary: Option<u8>,
    /// Without the state of what runs.
    drop_state: bool,
    /// This command ends when all hosts are done.
    wait: bool,
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
        let procedure = deploy_procedure();
        let answer = client::call_host(&self.mesh, &procedure, timeout, || Ok(payload.clone())).await?;
        let answer = answer.map_err(|error| match &error {
            CallError::NotRun(fault) if fault.is_nobody_offers(&procedure) => Failure::new(
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
        terms: &Terms,
        common: &CommonFlags,
    ) -> Result<(), Failure> {
        let &Terms { canary, drop_state, wait } = terms;
        let slot = self.slot.to_string();
        let current = self.current().await?;
        let held = held(current.as_ref())?;
        let mut rollouts = Rollouts::watch(&self.mesh, &self.slot).await?;
        let known = rollouts.collect().await;
        // Hosts may know of records that the relay has forgotten. It is only their word, so it counts for little.
        let told = known.values().map(|rollout| rollout.seq).max().unwrap_or_default();
        let proved = current.as_ref().map_or(0, |current| current.seq);
        let newest = current.as_ref().filter(|current| current.seq >= told);
        let seq = proved.max(told.min(proved.saturating_add(SEQ_AHEAD_MAX - 1))) + 1;
        let deployment = Deployment {
            slot: self.slot.clone(),
            realm: self.mesh.realm().clone(),
            seq,
            prev: newest.map(|current| current.id),
            before: current.as_ref().and_then(|current| before(current, &held, &known)),
            held,
            canary,
            drop_state,
        };
        let (mcid, arguments) = (deployment.held.mcid.clone(), deployment.to_arguments().map_err(Failure::usage)?);
        let record = self.mesh.sign_record(Operation::Deploy, &self.slot.topic(), arguments, Validity::Now);
        let record = BASE64.encode(&record.map_err(|fault| self.explained(fault.into()))?);
        // The host that takes it fetches the component first.
        let () = self.ask(&Asked::Deploy { slot: slot.clone(), record }, CALL_TIMEOUT_MAX).await?;
        if common.json {
            output::json(&serde_json::json!({ "slot": slot, "seq": seq, "mcid": mcid }));
        } else {
            output::line(format_args!("{slot} seq {seq} {mcid}"));
        }
        if known.is_empty() {
            output::note(format_args!("no host follows {slot} yet; one does with: macula-host run --follow {slot}"));
        }
        if wait { rollouts.wait(seq, &mcid, known, self.timeout + SILENCE_MAX, common).await } else { Ok(()) }
    }

    /// What the slot holds, by a record that holds here too: a host could say anything.
    async fn current(&self) -> Result<Option<Current>, Failure> {
        let asked = Asked::Current { slot: self.slot.to_string() };
        let told: Option<String> = self.ask(&asked, self.timeout).await?;
        let Some(told) = told else { return Ok(None) };
        let unproved = |what: &dyn std::fmt::Display| {
            Failure::failed(format!("a host tells of a record of {} that does not hold: {what}", self.slot))
        };
        let record = BASE64.decode(told.as_bytes()).map_err(|error| unproved(&error))?;
        let current = Current::read(&self.mesh, &self.slot, record, Validity::AsMade);
        current.map(Some).map_err(|fault| unproved(&fault))
    }
}

/// What to go back to from a new deployment: what the slot holds, or what it held before when no host could run that.
fn before(current: &Current, held: &Held, known: &Known) -> Option<Held> {
    let has_failed = |rollout: &Rollout| rollout.seq == current.seq && rollout.state == RolloutState::Failed;
    let all_failed = !known.is_empty() && known.values().all(has_failed);
    let last = if all_failed { current.before.clone() } else { Some(current.held.clone()) };
    last.filter(|last| last != held).or_else(|| current.before.clone().filter(|before| before != held))
}
