//! `macula-host slots [grant SLOT]`

use std::collections::BTreeMap;

use clap::{Args, Subcommand};
use macula_node::{
    auth::{Slot, ucan::Ipld},
    deploy::Rollout,
};

use super::{
    ClientFlags, CommonFlags, client, client_runtime, completion,
    deploy::{Rollouts, describe},
};
use crate::{
    admin_rpc::slots_procedure,
    config::{ClientSettings, Settings},
    failure::Failure,
    output,
};

#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(super) struct Slots {
    #[command(subcommand)]
    verb: Option<Verb>,
    #[command(flatten)]
    client: ClientFlags,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Grant a slot's versions what the one that waits asks for, on the host that runs here
    Grant(Grant),
}

#[derive(Debug, Args)]
struct Grant {
    /// The slot
    #[arg(add = completion::slots())]
    slot: Slot,
    #[command(flatten)]
    client: ClientFlags,
}

impl Slots {
    pub(super) fn run(self, common: &CommonFlags) -> Result<(), Failure> {
        let settings = Settings::load(common)?;
        match &self.verb {
            None => {
                let client = settings.client(&self.client)?;
                client_runtime()?.block_on(list(&settings, &client, common))
            }
            Some(Verb::Grant(Grant { slot, client })) => {
                let client = settings.client(client)?;
                client_runtime()?.block_on(grant(&settings, &client, slot, common))
            }
        }
    }
}

/// What all hosts of the realm say.
async fn list(settings: &Settings, client: &ClientSettings, common: &CommonFlags) -> Result<(), Failure> {
    let mesh = client::connect(settings, client).await?;
    let mut rollouts = Rollouts::watch_all(&mesh).await?;
    let known = rollouts.collect().await;
    mesh.close().await;
    let mut slot = None;
    for rollout in known.values() {
        if common.json {
            output::json(rollout);
            continue;
        }
        if slot != Some(&rollout.slot) {
            output::line(&rollout.slot);
            slot = Some(&rollout.slot);
        }
        output::line(format_args!("  {}", describe(rollout, common).replace('\n', "\n  ")));
    }
    Ok(())
}

/// Shows what is asked for, and grants that.
async fn grant(settings: &Settings, client: &ClientSettings, slot: &Slot, common: &CommonFlags) -> Result<(), Failure> {
    let admin = client::Admin::of_host(settings, client).await?;
    let outcome = async {
        let procedure = slots_procedure(&admin.host);
        let text = |text: &str| Ipld::String(text.to_owned());
        let list: BTreeMap<String, Ipld> = [("do".to_owned(), text("list"))].into();
        let rollouts: Vec<Rollout> = client::read(&admin.ask(&procedure, list).await?)?;
        let found = rollouts.into_iter().find(|rollout| rollout.slot == slot.as_str());
        let rollout = found.ok_or_else(|| Failure::not_found(format!("the host here does not follow {slot}")))?;
        if rollout.beyond.is_empty() {
            return Err(Failure::failed(format!("nothing waits for a grant in {slot}")));
        }
        // For what was shown, and nothing that has come since.
        let grant = [
            ("do".to_owned(), text("grant")),
            ("slot".to_owned(), text(slot.as_str())),
            ("seq".to_owned(), Ipld::Integer(rollout.seq.into())),
        ];
        let _: bool = client::read(&admin.ask(&procedure, grant.into()).await?)?;
        if common.json {
            output::json(&serde_json::json!({ "slot": slot.as_str(), "seq": rollout.seq, "granted": rollout.beyond }));
        } else {
            output::line(format_args!("granted to {slot}, from seq {} on:", rollout.seq));
            for line in rollout.beyond.lines() {
                output::line(format_args!("  {line}"));
            }
        }
        Ok(())
    }
    .await;
    admin.mesh.close().await;
    outcome
}
