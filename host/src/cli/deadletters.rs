//! `macula-host deadletters ls|show|replay`

use std::collections::BTreeMap;

use clap::{Args, Subcommand};
use macula_node::auth::ucan::Ipld;
use macula_runtime::DeadLetter;
use serde::Serialize;

use super::{ClientFlags, CommonFlags, HostFlags, client, client_runtime, completion};
use crate::{
    admin_rpc::plugins_procedure,
    config::Settings,
    failure::Failure,
    output,
    plugin_admin::{Letters, Piece, Summary},
};

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
    host: HostFlags,
    #[command(flatten)]
    client: ClientFlags,
}

#[derive(Debug, Args)]
struct One {
    /// The plugin's name
    #[arg(add = completion::plugins())]
    plugin: String,
    /// The letter's number
    id: u64,
    #[command(flatten)]
    host: HostFlags,
    #[command(flatten)]
    client: ClientFlags,
}

#[derive(Debug, Args)]
struct Replay {
    /// The plugin's name
    #[arg(add = completion::plugins())]
    plugin: String,
    /// The letter's number
    #[arg(required_unless_present = "all")]
    id: Option<u64>,
    /// All of them, the oldest first
    #[arg(long, conflicts_with = "id")]
    all: bool,
    #[command(flatten)]
    host: HostFlags,
    #[command(flatten)]
    client: ClientFlags,
}

impl DeadLetters {
    pub(super) fn run(self, common: &CommonFlags) -> Result<(), Failure> {
        let settings = Settings::load(common)?;
        client_runtime()?.block_on(async {
            match &self.verb {
                Verb::Ls(Ls { plugin: None, host, client }) => {
                    let client = settings.client(client)?;
                    let hosts = client::hosts(&settings, &client, host.name.as_deref())?;
                    for host in &hosts {
                        let admin = client::Admin::connect(&settings, &client, host).await?;
                        let letters = letters(&admin, None).await;
                        admin.mesh.close().await;
                        let letters = letters?;
                        if hosts.len() > 1 && !letters.is_empty() && !common.json {
                            output::line(format_args!("on {}:", host.name));
                        }
                        print(&host.name, &letters, common);
                    }
                    Ok(())
                }
                Verb::Ls(Ls { plugin: Some(plugin), host, client }) => {
                    let list = async |admin: &client::Admin<'_>| {
                        print(&admin.name, &letters(admin, Some(plugin)).await?, common);
                        Ok(())
                    };
                    at(&settings, (host, client), plugin, list).await
                }
                Verb::Show(One { plugin, id, host, client }) => {
                    let show = async |admin: &client::Admin<'_>| show(admin, plugin, *id, common).await;
                    at(&settings, (host, client), plugin, show).await
                }
                Verb::Replay(Replay { plugin, id, host, client, .. }) => {
                    let replay = async |admin: &client::Admin<'_>| replay(admin, plugin, *id, common).await;
                    at(&settings, (host, client), plugin, replay).await
                }
            }
        })
    }
}

/// Does something with the host on which a plugin runs.
async fn at(
    settings: &Settings,
    (host, client): (&HostFlags, &ClientFlags),
    plugin: &str,
    work: impl AsyncFnOnce(&client::Admin<'_>) -> Result<(), Failure>,
) -> Result<(), Failure> {
    let admin = client::Admin::of_plugin(settings, &settings.client(client)?, host, plugin).await?;
    let outcome = work(&admin).await;
    admin.mesh.close().await;
    outcome
}

/// Asks the host something about these.
async fn ask<T: serde::de::DeserializeOwned>(
    admin: &client::Admin<'_>,
    what: &str,
    of: impl IntoIterator<Item = (&str, Ipld)>,
) -> Result<T, Failure> {
    let mut arguments = BTreeMap::from([("do".to_owned(), Ipld::String(what.to_owned()))]);
    arguments.extend(of.into_iter().map(|(name, value)| (name.to_owned(), value)));
    client::read(&admin.ask(&plugins_procedure(&admin.host), arguments).await?)
}

/// All letters, page by page.
async fn letters(admin: &client::Admin<'_>, plugin: Option<&str>) -> Result<Vec<Summary>, Failure> {
    let mut all: Vec<Summary> = Vec::new();
    loop {
        let mut of: Vec<(&str, Ipld)> =
            plugin.map(|plugin| ("plugin", Ipld::String(plugin.to_owned()))).into_iter().collect();
        if let Some(last) = all.last() {
            of.push(("after", Ipld::String(last.plugin.clone())));
            of.push(("after-id", Ipld::Integer(last.id.into())));
        }
        let page: Letters = ask(admin, "letters", of).await?;
        let has_more = page.has_more && !page.letters.is_empty();
        all.extend(page.letters);
        if !has_more {
            return Ok(all);
        }
    }
}

/// One letter, piece by piece.
async fn letter(admin: &client::Admin<'_>, plugin: &str, id: u64) -> Result<DeadLetter, Failure> {
    let piece = async |from: usize| {
        let of = [
            ("plugin", Ipld::String(plugin.to_owned())),
            ("id", Ipld::Integer(id.into())),
            ("from", Ipld::Integer(i128::try_from(from).unwrap_or_default())),
        ];
        ask::<Piece>(admin, "letter", of).await
    };
    let Piece { mut letter, bytes } = piece(0).await?;
    while letter.payload.len() < bytes {
        let more = piece(letter.payload.len()).await?.letter.payload;
        if more.is_empty() {
            return Err(Failure::failed("the host has forgotten the letter meanwhile"));
        }
        letter.payload.extend(more);
    }
    Ok(letter)
}

/// A letter as `--json` lists it.
#[derive(Serialize)]
struct Listed<'a> {
    host: &'a str,
    #[serde(flatten)]
    letter: &'a Summary,
}

fn print(host: &str, letters: &[Summary], common: &CommonFlags) {
    if letters.is_empty() && !common.json {
        output::note(format_args!("no dead letters on {host}"));
    }
    for letter in letters {
        if common.json {
            output::json(&Listed { host, letter });
        } else {
            output::line(format_args!(
                "{} {} {} {} ({} bytes, {}): {}",
                letter.plugin,
                letter.id,
                output::time(letter.at_ms),
                letter.topic,
                letter.bytes,
                output::counted(letter.attempts as usize, "attempt"),
                output::readable(&letter.reason)
            ));
        }
    }
}

async fn show(admin: &client::Admin<'_>, plugin: &str, id: u64, common: &CommonFlags) -> Result<(), Failure> {
    let letter = letter(admin, plugin, id).await?;
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
        None => letters(admin, Some(plugin)).await?.iter().map(|one| one.id).collect(),
    };
    for id in &ids {
        let of = [("plugin", Ipld::String(plugin.to_owned())), ("id", Ipld::Integer((*id).into()))];
        let _: bool = ask(admin, "replay", of).await?;
    }
    if common.json {
        output::json(&serde_json::json!({ "plugin": plugin, "replayed": ids }));
    } else {
        output::line(format_args!("{} handed to {plugin} again", ids.len()));
    }
    Ok(())
}
