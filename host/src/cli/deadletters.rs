//! `macula-host deadletters ls|show|replay`

use std::collections::BTreeMap;

use clap::{Args, Subcommand};
use macula_node::auth::ucan::Ipld;
use macula_runtime::DeadLetter;

use super::{ClientFlags, CommonFlags, client, client_runtime};
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

async fn list(admin: &client::Admin<'_>, plugin: Option<&str>, common: &CommonFlags) -> Result<(), Failure> {
    for letter in &letters(admin, plugin).await? {
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
