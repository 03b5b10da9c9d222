//! `macula-host deadletters ls|show|replay`

use std::collections::BTreeMap;

use clap::{Args, Subcommand};
use macula_node::auth::ucan::Ipld;
use macula_runtime::DeadLetter;

use super::{ClientFlags, CommonFlags, client, client_runtime};
use crate::{admin_rpc::plugins_procedure, config::Settings, failure::Failure, output, plugin_admin::Summary};

#[derive(Debug, Args)]
pub(super) struct DeadLetters {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// List messages that no handler could deal with
    Ls(Ls),
    /// Show one, with its payload
    Show(One),
    /// Let one be handled again, or all
    Replay(Replay),
}

#[derive(Debug, Args)]
struct Ls {
    /// Of this plugin only
    plugin: Option<String>,
    #[command(flatten)]
    client: ClientFlags,
}

#[derive(Debug, Args)]
struct One {
    /// The plugin's name
    plugin: String,
    /// The letter's number
    id: u64,
    #[command(flatten)]
    client: ClientFlags,
}

#[derive(Debug, Args)]
struct Replay {
    /// The plugin's name
    plugin: String,
    /// The letter's number
    #[arg(required_unless_present = "all")]
    id: Option<u64>,
    /// All of them, the oldest first
    #[arg(long, conflicts_with = "id")]
    all: bool,
    #[command(flatten)]
    client: ClientFlags,
}

impl DeadLetters {
    pub(super) fn run(self, common: &CommonFlags) -> Result<(), Failure> {
        let settings = Settings::load(common)?;
        let (Verb::Ls(Ls { client, .. }) | Verb::Show(One { client, .. }) | Verb::Replay(Replay { client, .. })) =
            &self.verb;
        let client = settings.client(client)?;
        client_runtime()?.block_on(async {
            let admin = client::Admin::of_host(&settings, &client).await?;
            let outcome = match &self.verb {
                Verb::Ls(ls) => list(&admin, ls.plugin.as_deref(), common).await,
                Verb::Show(one) => show(&admin, &one.plugin, one.id, common).await,
                Verb::Replay(replay) => self::replay(&admin, &replay.plugin, replay.id, common).await,
            };
            admin.mesh.close().await;
            outcome
        })
    }
}

async fn ask<T: serde::de::DeserializeOwned>(
    admin: &client::Admin<'_>,
    what: &str,
    plugin: Option<&str>,
    id: Option<u64>,
) -> Result<T, Failure> {
    let mut arguments = BTreeMap::from([("do".to_owned(), Ipld::String(what.to_owned()))]);
    arguments.extend(plugin.map(|plugin| ("plugin".to_owned(), Ipld::String(plugin.to_owned()))));
    arguments.extend(id.map(|id| ("id".to_owned(), Ipld::Integer(id.into()))));
    client::read(&admin.ask(&plugins_procedure(&admin.host), arguments).await?)
}

async fn list(admin: &client::Admin<'_>, plugin: Option<&str>, common: &CommonFlags) -> Result<(), Failure> {
    let letters: Vec<Summary> = ask(admin, "letters", plugin, None).await?;
    for letter in &letters {
        if common.json {
            output::json(letter);
        } else {
            output::line(format_args!(
                "{} {} {} {} ({} bytes, {} attempts): {}",
                letter.plugin,
                letter.id,
                output::time(letter.at_ms),
                letter.topic,
                letter.bytes,
                letter.attempts,
                output::readable(&letter.reason)
            ));
        }
    }
    Ok(())
}

async fn show(admin: &client::Admin<'_>, plugin: &str, id: u64, common: &CommonFlags) -> Result<(), Failure> {
    let letter: DeadLetter = ask(admin, "letter", Some(plugin), Some(id)).await?;
    if common.json {
        output::json(&letter);
        return Ok(());
    }
    let metadata: String =
        letter.metadata.iter().map(|(name, value)| format!("\n  {name:<10} {}", output::readable(value))).collect();
    output::line(format_args!(
        "{}\n  reason     {}\n  attempts   {}\n  put aside  {}\n  publisher  {} ({}.{}){metadata}\n",
        letter.topic,
        output::readable(&letter.reason),
        letter.attempts,
        output::time(letter.at_ms),
        letter.publisher,
        letter.epoch,
        letter.seq
    ));
    output::bytes(&letter.payload);
    Ok(())
}

async fn replay(admin: &client::Admin<'_>, plugin: &str, id: Option<u64>, common: &CommonFlags) -> Result<(), Failure> {
    let ids = match id {
        Some(id) => vec![id],
        None => ask::<Vec<Summary>>(admin, "letters", Some(plugin), None).await?.iter().map(|one| one.id).collect(),
    };
    for id in &ids {
        let _: bool = ask(admin, "replay", Some(plugin), Some(*id)).await?;
    }
    if common.json {
        output::json(&serde_json::json!({ "plugin": plugin, "replayed": ids }));
    } else {
        output::line(format_args!("{} handed to {plugin} again", ids.len()));
    }
    Ok(())
}
