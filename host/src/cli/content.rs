//! `macula-host content add|get|ls|pin|unpin|rm|verify|providers`

mod add;
mod file;
mod get;
mod progress;

use std::{
    fs::File,
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

use clap::{Args, Subcommand};
use macula_node::{
    Mesh,
    wire::{Mcid, limits::CALL_TIMEOUT_MAX},
};
use serde::de::DeserializeOwned;

pub(super) use self::get::fetch_bytes;
use super::{ClientFlags, CommonFlags, client, client_runtime};
use crate::{
    admin_rpc::content_procedure,
    config::{ClientSettings, Settings},
    content_admin::{Action, Listed},
    failure::Failure,
    output,
};

#[derive(Debug, Args)]
pub(super) struct Content {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Store a file on the node that runs here; prints its content id
    Add(Add),
    /// Fetch content from whoever provides it, verified
    Get(Get),
    /// Show what the node that runs here holds
    Ls(Ls),
    /// Keep content from being evicted
    Pin(One),
    /// Let content be evicted again
    Unpin(One),
    /// Remove content
    Rm(One),
    /// Read content on the node that runs here and check it
    Verify(Verify),
    /// Show who provides content
    Providers(One),
}

#[derive(Debug, Args)]
struct Add {
    /// The file; '-' reads standard input
    #[arg(value_name = "FILE|-")]
    file: PathBuf,
    #[command(flatten)]
    client: ClientFlags,
}

#[derive(Debug, Args)]
struct Get {
    /// The content id
    mcid: Mcid,
    /// Where to put it [default: standard output, as is -]
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    #[command(flatten)]
    client: ClientFlags,
}

#[derive(Debug, Args)]
struct Ls {
    #[command(flatten)]
    client: ClientFlags,
}

#[derive(Debug, Args)]
struct One {
    /// The content id
    mcid: Mcid,
    #[command(flatten)]
    client: ClientFlags,
}

#[derive(Debug, Args)]
struct Verify {
    /// The content id [default: all that the node holds]
    mcid: Option<Mcid>,
    #[command(flatten)]
    client: ClientFlags,
}

impl Verb {
    fn client(&self) -> &ClientFlags {
        match self {
            Self::Add(Add { client, .. })
            | Self::Get(Get { client, .. })
            | Self::Ls(Ls { client })
            | Self::Pin(One { client, .. })
            | Self::Unpin(One { client, .. })
            | Self::Rm(One { client, .. })
            | Self::Providers(One { client, .. })
            | Self::Verify(Verify { client, .. }) => client,
        }
    }
}

impl Content {
    pub(super) fn run(self, common: &CommonFlags) -> Result<(), Failure> {
        let settings = Settings::load(common)?;
        let client = settings.client(self.verb.client())?;
        client_runtime()?.block_on(async {
            match &self.verb {
                Verb::Get(Get { mcid, output, .. }) => {
                    let output = output.as_deref().filter(|path| *path != Path::new("-"));
                    get::run(&settings, &client, common, mcid, output).await
                }
                Verb::Providers(One { mcid, .. }) => providers(&settings, &client, common, mcid).await,
                verb => {
                    let node = Node::connect(&settings, &client).await?;
                    let outcome = node.run(verb, common).await;
                    node.admin.mesh.close().await;
                    outcome
                }
            }
        })
    }
}

/// The node whose content is looked after.
struct Node<'a> {
    admin: client::Admin<'a>,
}

impl<'a> Node<'a> {
    async fn connect(settings: &'a Settings, client: &ClientSettings) -> Result<Self, Failure> {
        // A relay keeps nothing.
        Ok(Self { admin: client::Admin::of_host(settings, client).await? })
    }

    async fn ask<T: DeserializeOwned>(&self, action: Action, content: Option<&Mcid>) -> Result<T, Failure> {
        let procedure = content_procedure(&self.admin.host);
        // It reads all of it from the disk.
        let timeout = if action == Action::Verify { CALL_TIMEOUT_MAX } else { self.admin.timeout };
        let answer = self.admin.ask_within(timeout, &procedure, action.arguments(content)).await?;
        serde_json::from_slice(&answer).map_err(|error| Failure::failed(format!("the node's answer: {error}")))
    }

    async fn run(&self, verb: &Verb, common: &CommonFlags) -> Result<(), Failure> {
        match verb {
            Verb::Add(Add { file, .. }) => add::run(self, common, file).await,
            Verb::Ls(_) => self.list(common).await,
            Verb::Pin(One { mcid, .. }) => self.change(Action::Pin, mcid, "pinned", common).await,
            Verb::Unpin(One { mcid, .. }) => self.change(Action::Unpin, mcid, "unpinned", common).await,
            Verb::Rm(One { mcid, .. }) => self.change(Action::Remove, mcid, "removed", common).await,
            Verb::Verify(Verify { mcid: Some(mcid), .. }) => {
                self.change(Action::Verify, mcid, "verified", common).await
            }
            Verb::Verify(Verify { mcid: None, .. }) => self.verify_all(common).await,
            Verb::Get(_) | Verb::Providers(_) => unreachable!("need no node of their own"),
        }
    }

    async fn change(&self, action: Action, mcid: &Mcid, done: &str, common: &CommonFlags) -> Result<(), Failure> {
        let _: bool = self.ask(action, Some(mcid)).await?;
        say(mcid, done, common);
        Ok(())
    }

    async fn list(&self, common: &CommonFlags) -> Result<(), Failure> {
        let list: Vec<Listed> = self.ask(Action::List, None).await?;
        for content in &list {
            if common.json {
                output::json(content);
            } else {
                let state = if content.complete { "complete" } else { "in part" };
                let pinned = if content.pinned { ", pinned" } else { "" };
                output::line(format_args!("{} {} {state}{pinned}", content.mcid, progress::bytes(content.bytes)));
            }
        }
        Ok(())
    }

    async fn verify_all(&self, common: &CommonFlags) -> Result<(), Failure> {
        let list: Vec<Listed> = self.ask(Action::List, None).await?;
        let mut damaged = 0;
        for content in list {
            match self.change(Action::Verify, &content.mcid, "verified", common).await {
                Ok(()) => {}
                Err(failure) => {
                    damaged += 1;
                    output::note(format!("{}: {failure}", content.mcid));
                }
            }
        }
        if damaged > 0 { Err(Failure::failed(format!("{damaged} contents are damaged"))) } else { Ok(()) }
    }
}

/// Offers a file to those who fetch it; gives its id.
pub(super) fn offer(mesh: &Mesh, file: File) -> io::Result<Arc<file::Offered>> {
    let offered = Arc::new(file::Offered::new(file)?);
    mesh.set_content_source(Arc::new(file::Source(Arc::clone(&offered))));
    mesh.provide(std::slice::from_ref(&offered.mcid));
    Ok(offered)
}

fn say(mcid: &Mcid, done: &str, common: &CommonFlags) {
    if common.json {
        output::json(&serde_json::json!({ "mcid": mcid, "state": done }));
    } else {
        output::line(format_args!("{mcid} {done}"));
    }
}

async fn providers(
    settings: &Settings,
    client: &ClientSettings,
    common: &CommonFlags,
    mcid: &Mcid,
) -> Result<(), Failure> {
    let mesh = client::connect(settings, client).await?;
    let found = mesh.providers(mcid).await;
    mesh.close().await;
    let found = found?;
    for node in &found {
        if common.json {
            output::json(&serde_json::json!({ "mcid": mcid, "provider": node }));
        } else {
            output::line(node);
        }
    }
    if found.is_empty() { Err(Failure::not_found(format!("nobody provides {mcid}"))) } else { Ok(()) }
}
