//! `macula-host registry push|search|yank|unyank`

use std::path::PathBuf;

use clap::{Args, Subcommand};
use data_encoding::BASE64;
use macula_node::{
    Mesh,
    auth::Validity,
    deploy::{Package, PackageId},
    wire::{CallError, Fault, Operation, limits::CALL_TIMEOUT_MAX},
};
use serde::de::DeserializeOwned;

use super::{ClientFlags, CommonFlags, client, client_runtime, deploy::Component};
use crate::{
    config::{ClientSettings, Settings},
    failure::{Failure, Kind},
    output,
    registry::{Asked, Listed, read_package, registry_procedure},
};

#[derive(Debug, Args)]
pub(super) struct Registry {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Register a component under a name and a version, for good
    Push(Push),
    /// Show versions whose name contains a text
    Search(Search),
    /// Let nobody begin to use a version; who uses it goes on
    Yank(One),
    /// Take a yank back
    Unyank(One),
}

#[derive(Debug, Args)]
struct Push {
    /// For example io.example.greeter@1.2.0
    #[arg(value_name = "NAME@VERSION")]
    package: PackageId,
    /// A component (FILE.wasm), a folder with its source, which is built first, or a content id
    #[arg(value_name = "FILE.wasm|DIR|MCID")]
    component: PathBuf,
    #[command(flatten)]
    client: ClientFlags,
}

#[derive(Debug, Args)]
struct Search {
    /// A part of names [default: all]
    #[arg(default_value = "")]
    text: String,
    #[command(flatten)]
    client: ClientFlags,
}

#[derive(Debug, Args)]
struct One {
    /// For example io.example.greeter@1.2.0
    #[arg(value_name = "NAME@VERSION")]
    package: PackageId,
    #[command(flatten)]
    client: ClientFlags,
}

impl Registry {
    pub(super) fn run(self, common: &CommonFlags) -> Result<(), Failure> {
        let settings = Settings::load(common)?;
        let flags = match &self.verb {
            Verb::Push(Push { client, .. }) | Verb::Search(Search { client, .. }) => client,
            Verb::Yank(One { client, .. }) | Verb::Unyank(One { client, .. }) => client,
        };
        let client = settings.client(flags)?;
        // Before there is a link: it may have to be built.
        let component = match &self.verb {
            Verb::Push(push) => Some(Component::of(&push.component, None)?),
            _ => None,
        };
        client_runtime()?.block_on(async {
            let desk = Desk::connect(&settings, &client).await?;
            let outcome = match &self.verb {
                Verb::Search(search) => desk.search(&search.text, common).await,
                Verb::Push(push) => match component {
                    Some(component) => desk.push(&push.package, &component, common).await,
                    None => Ok(()),
                },
                Verb::Yank(one) => desk.set_yanked(&one.package, true, common).await,
                Verb::Unyank(one) => desk.set_yanked(&one.package, false, common).await,
            };
            desk.mesh.close().await;
            outcome
        })
    }
}

/// Hosts that keep the registry.
pub(super) struct Desk<'a> {
    settings: &'a Settings,
    client: &'a ClientSettings,
    mesh: Mesh,
}

impl<'a> Desk<'a> {
    async fn connect(settings: &'a Settings, client: &'a ClientSettings) -> Result<Self, Failure> {
        let mesh = client::connect(settings, client).await?;
        Ok(Self { settings, client, mesh })
    }

    async fn search(&self, text: &str, common: &CommonFlags) -> Result<(), Failure> {
        let found: Vec<Listed> = ask(&self.mesh, &Asked::Search { text: text.to_owned() }, self.client.timeout).await?;
        for package in &found {
            show(package, common);
        }
        Ok(())
    }

    async fn push(&self, id: &PackageId, component: &Component, common: &CommonFlags) -> Result<(), Failure> {
        let mcid = component.offer(&self.mesh, self.client.timeout).await?;
        self.hand_in(Package { id: id.clone(), mcid, seq: 0, is_yanked: false }, common).await
    }

    async fn set_yanked(&self, id: &PackageId, is_yanked: bool, common: &CommonFlags) -> Result<(), Failure> {
        let asked = Asked::Get { package: id.to_string() };
        let known = proved(&self.mesh, &asked, self.client.timeout).await?.filter(|known| known.id == *id);
        let known = known.ok_or_else(|| Failure::not_found(format!("{id} is not in the registry")))?;
        if known.is_yanked == is_yanked {
            show(&Listed::of(&known), common);
            return Ok(());
        }
        self.hand_in(Package { id: id.clone(), mcid: known.mcid, seq: known.seq + 1, is_yanked }, common).await
    }

    async fn hand_in(&self, package: Package, common: &CommonFlags) -> Result<(), Failure> {
        let explained =
            |fault: Fault| client::with_grantor(fault.into(), self.settings, Operation::Deploy, &package.id.topic());
        let (topic, arguments) = (package.id.topic(), package.to_arguments(self.mesh.realm()));
        let record =
            self.mesh.sign_record(Operation::Deploy, &topic, arguments, Validity::Lasting).map_err(explained)?;
        let asked = Asked::Push { package: package.id.to_string(), record: BASE64.encode(&record) };
        let taken: Listed = ask(&self.mesh, &asked, CALL_TIMEOUT_MAX).await?;
        show(&taken, common);
        Ok(())
    }
}

/// Asks a host that keeps the registry.
pub(super) async fn ask<T: DeserializeOwned>(
    mesh: &Mesh,
    asked: &Asked,
    timeout: std::time::Duration,
) -> Result<T, Failure> {
    let payload = serde_json::to_vec(asked).expect("plain data");
    let procedure = registry_procedure();
    let answer = client::call_host(mesh, &procedure, timeout, || Ok(payload.clone())).await?;
    let answer = answer.map_err(|error| match &error {
        CallError::NotRun(fault) if fault.is_nobody_offers(&procedure) => {
            Failure::new(Kind::Unreachable, "no host is linked that keeps a registry; start one with `macula-host run`")
        }
        CallError::NotRun(fault) => Failure::from(fault.clone()),
        _ => Failure::from(error),
    })?;
    serde_json::from_slice(&answer).map_err(|error| Failure::failed(format!("the host's answer: {error}")))
}

/// The package that a host tells of, by a record that holds here too: a host could say anything.
pub(super) async fn proved(
    mesh: &Mesh,
    asked: &Asked,
    timeout: std::time::Duration,
) -> Result<Option<Package>, Failure> {
    let told: Option<String> = ask(mesh, asked, timeout).await?;
    let Some(told) = told else { return Ok(None) };
    let unproved = |what: &dyn std::fmt::Display| {
        Failure::failed(format!("a host tells of a record of a package that does not hold: {what}"))
    };
    let record = BASE64.decode(told.as_bytes()).map_err(|error| unproved(&error))?;
    read_package(mesh, &record, None).map(Some).map_err(|refused| unproved(&refused))
}

fn show(package: &Listed, common: &CommonFlags) {
    if common.json {
        output::json(package);
    } else {
        let yanked = if package.yanked { " (yanked)" } else { "" };
        output::line(format_args!("{}@{} {}{yanked}", package.name, package.version, package.mcid));
    }
}
