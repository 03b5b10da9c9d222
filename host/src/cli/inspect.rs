//! `macula-host inspect FILE|MCID|NAME`

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
    time::Duration,
};

use bytes::Bytes;
use clap::Args;
use indicatif::HumanBytes;
use macula_node::{auth::ucan::Ipld, wire::Mcid};
use macula_runtime::{Inspection, Limits, Manifest, PluginStatus, Refusal};
use serde::Serialize;

use super::{ClientFlags, CommonFlags, HostFlags, client, client_runtime, content, registry, status};
use crate::{
    admin_rpc::plugins_procedure,
    config::{ClientSettings, Settings},
    failure::{Failure, Kind},
    named_component::Named,
    output,
    registry::Asked,
};

#[derive(Debug, Args)]
pub(super) struct Inspect {
    /// A component, a content id, a package of the registry (io.example.greeter@^1), or the name of a plugin that runs here
    #[arg(value_name = "FILE|MCID|NAME")]
    component: String,
    /// Print its world, as WIT
    #[arg(long)]
    wit: bool,
    #[command(flatten)]
    host: HostFlags,
    #[command(flatten)]
    client: ClientFlags,
}

/// How long one waits for content that lies on this machine if anywhere.
const STORED_HERE: Duration = Duration::from_secs(1);

/// Patterns by operation.
type Patterns = BTreeMap<String, Vec<String>>;

/// What `--json` prints.
#[derive(Serialize)]
struct Report<'a> {
    file: &'a str,
    #[serde(flatten)]
    inspection: &'a Inspection,
    #[serde(skip_serializing_if = "Option::is_none")]
    asks: Option<Patterns>,
    #[serde(skip_serializing_if = "Option::is_none")]
    limits: Option<&'a Limits>,
    /// Where it runs here: what it may do of what it asks for, by plugin.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    granted: BTreeMap<String, Patterns>,
}

impl Inspect {
    pub(super) fn run(self, common: &CommonFlags) -> Result<(), Failure> {
        let named = Named::parse(Path::new(&self.component))?;
        let settings = match (Settings::load(common), &named) {
            (Ok(settings), _) => Some(settings),
            // A file is read without a home.
            (Err(failure), Named::File) if failure.kind() == Kind::Failed => None,
            (Err(failure), _) => return Err(failure),
        };
        let runs_here = settings.as_ref().map(|settings| self.running(settings)).unwrap_or_default();
        let is_name = runs_here.iter().any(|plugin| plugin.name.as_str() == self.component);
        let inspection = if let (Some(settings), true, false) = (&settings, is_name && named != Named::File, self.wit) {
            self.told(settings)?
        } else {
            let bytes = self.bytes(named, settings.as_ref(), &runs_here)?;
            let refused = |refusal: &dyn std::fmt::Display| Failure::failed(refusal).during(&self.component);
            if self.wit {
                // A file that is no component has no world, and says so in the same words.
                if let Err(
                    refusal @ (Refusal::NotWasm | Refusal::CoreModule | Refusal::Damaged(_) | Refusal::NoInstance(_)),
                ) = macula_runtime::inspect(&bytes)
                {
                    return Err(refused(&refusal));
                }
                let world = macula_build::world_of(&bytes).map_err(|why| refused(&why))?;
                output::line(world.trim_end());
                return Ok(());
            }
            macula_runtime::examine(&bytes).map_err(|refusal| refused(&refusal))?
        };
        let stem = Path::new(&self.component).file_stem().map(|stem| stem.to_string_lossy().into_owned());
        let text = inspection.manifest.as_deref();
        let manifest = text.map(|text| Manifest::resolve(Some(text), None, &stem.unwrap_or_default())).transpose();
        let manifest = manifest.map_err(|error| Failure::failed(error).during(&self.component))?;
        let report = Report {
            file: &self.component,
            inspection: &inspection,
            asks: manifest.as_ref().map(|manifest| manifest.asks.by_operation()),
            limits: manifest.as_ref().map(|manifest| &manifest.limits),
            granted: runs_here
                .into_iter()
                .filter(|plugin| plugin.mcid == inspection.mcid)
                .map(|plugin| (plugin.name.to_string(), plugin.granted))
                .collect(),
        };
        if common.json {
            output::json(&report);
        } else {
            output::line(report.describe(manifest.as_ref()));
        }
        Ok(())
    }

    /// Plugins that run on the nodes here; none when they do not answer.
    fn running(&self, settings: &Settings) -> Vec<PluginStatus> {
        let Ok(client) = settings.client(&self.client) else { return Vec::new() };
        let Ok(runtime) = client_runtime() else { return Vec::new() };
        runtime.block_on(status::plugins_here(settings, &client))
    }

    /// What the host says of a plugin that runs there; its component may have come from a file that nobody else has.
    fn told(&self, settings: &Settings) -> Result<Inspection, Failure> {
        let client = settings.client(&self.client)?;
        client_runtime()?.block_on(async {
            let admin = client::Admin::of_plugin(settings, &client, &self.host, &self.component).await?;
            let text = |text: &str| Ipld::String(text.to_owned());
            let arguments =
                BTreeMap::from([("do".to_owned(), text("inspect")), ("plugin".to_owned(), text(&self.component))]);
            let answer = admin.ask(&plugins_procedure(&admin.host), arguments).await;
            admin.mesh.close().await;
            client::read(&answer?)
        })
    }

    fn bytes(&self, named: Named, settings: Option<&Settings>, running: &[PluginStatus]) -> Result<Bytes, Failure> {
        let path = Path::new(&self.component);
        let plugin = running.iter().find(|plugin| plugin.name.as_str() == self.component);
        let settings = match (&named, plugin, settings) {
            (Named::File, _, _) | (_, _, None) => return Ok(macula_runtime::read_component(path)?),
            (Named::Folder, None, _) => {
                let text = "{0} is a folder; inspect the component in it, which `macula-host build {0}` names";
                return Err(Failure::usage(text.replace("{0}", &self.component)));
            }
            (_, _, Some(settings)) => settings,
        };
        let client = settings.client(&self.client)?;
        client_runtime()?.block_on(async {
            let mcid: Mcid = match (plugin, named) {
                (Some(plugin), _) => plugin.mcid.clone(),
                (None, Named::Package(_)) => {
                    let mesh = client::connect(settings, &client).await?;
                    let asked = Asked::Find { package: self.component.clone() };
                    let found = registry::proved(&mesh, &asked, client.timeout).await;
                    mesh.close().await;
                    let nothing = || Failure::not_found(format!("no version of {} fits", self.component));
                    found?.ok_or_else(nothing)?.mcid
                }
                (None, Named::Content(mcid)) => mcid,
                (None, _) => {
                    return Err(Failure::not_found(format!(
                        "there is no file {0}, and no plugin named {0} runs here",
                        self.component
                    )));
                }
            };
            // What runs here from a file is either stored here, or nowhere.
            let timeout = if plugin.is_some() { client.timeout.min(STORED_HERE) } else { client.timeout };
            let client = ClientSettings { timeout, ..client };
            content::fetch_bytes(settings, &client, &mcid).await.map(Bytes::from).map_err(|failure| match plugin {
                Some(_) if failure.kind() == Kind::NotFound => failure.during(format!(
                    "{} runs here from a file, which nobody has stored; name that file",
                    self.component
                )),
                _ => failure,
            })
        })
    }
}

impl Report<'_> {
    fn describe(&self, manifest: Option<&Manifest>) -> String {
        let inspection = self.inspection;
        let mut lines = vec![
            self.file.to_owned(),
            format!("  content id  {}", inspection.mcid),
            format!(
                "  size        {}, of which code and data {}",
                HumanBytes(inspection.size_bytes),
                HumanBytes(inspection.core_bytes)
            ),
            format!("  handles     {}", list(inspection.abilities.iter().map(|ability| ability.interface()))),
            format!("  may ask for {}", list(inspection.capabilities().into_iter())),
        ];
        let wasi = inspection.wasi_imports();
        if wasi > 0 {
            lines.push(format!(
                "              and {wasi} interfaces of WASI, which lead to clocks and randomness alone"
            ));
        }
        if !inspection.made_with.is_empty() {
            lines.push(format!("  made with   {}", list(inspection.made_with.iter().map(String::as_str))));
        }
        if !inspection.sections.is_empty() {
            let sections: Vec<String> = inspection
                .sections
                .iter()
                .map(|section| format!("{} ({})", section.name, HumanBytes(section.bytes)))
                .collect();
            lines.push(format!("  sections    {}", sections.join(", ")));
        }
        match manifest {
            None => lines.push("  manifest    none: it may log and set timers, and nothing else".into()),
            Some(manifest) => {
                lines.push(format!("  manifest    {} {}", manifest.name, manifest.version));
                for (operation, patterns) in manifest.asks.by_operation() {
                    lines.push(format!("    asks to {operation:<9} {}", patterns.join(", ")));
                }
                let limits = &manifest.limits;
                lines.push(format!(
                    "    limits  {} MiB an instance, {} ms a handler, {} instances",
                    limits.memory_mib, limits.handler_ms, limits.instances
                ));
            }
        }
        for (plugin, granted) in &self.granted {
            lines.push(format!("  runs here   as {plugin}"));
            lines.extend(self.compared(granted));
        }
        lines.join("\n")
    }

    /// What it may do, and what it asks for in vain.
    fn compared(&self, granted: &Patterns) -> Vec<String> {
        let asks = self.asks.clone().unwrap_or_default();
        let operations: BTreeSet<&String> = asks.keys().chain(granted.keys()).collect();
        let mut lines = Vec::new();
        for operation in operations {
            let (asked, got) = (asks.get(operation), granted.get(operation));
            for pattern in got.into_iter().flatten() {
                lines.push(format!("    may {operation:<9} {pattern}"));
            }
            let is_missing = |pattern: &&String| got.is_none_or(|got| !got.contains(pattern));
            for pattern in asked.into_iter().flatten().filter(is_missing) {
                lines.push(format!("    may not {operation} all of {pattern}, which it asks for"));
            }
        }
        lines
    }
}

fn list<'a>(items: impl Iterator<Item = &'a str>) -> String {
    let items: Vec<&str> = items.collect();
    if items.is_empty() { "nothing".into() } else { items.join(", ") }
}
