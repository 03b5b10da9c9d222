//! `macula-host inspect FILE`

use std::path::PathBuf;

use clap::Args;
use macula_runtime::{Inspection, Manifest, Operation};
use serde::Serialize;

use super::CommonFlags;
use crate::{failure::Failure, output};

#[derive(Debug, Args)]
pub(super) struct Inspect {
    /// The component
    file: PathBuf,
}

/// What `--json` prints.
#[derive(Serialize)]
struct Report<'a> {
    file: String,
    #[serde(flatten)]
    inspection: &'a Inspection,
    #[serde(skip_serializing_if = "Option::is_none")]
    asks: Option<Asks>,
}

#[derive(Serialize)]
struct Asks {
    subscribe: Vec<String>,
    publish: Vec<String>,
    advertise: Vec<String>,
    call: Vec<String>,
    fetch: Vec<String>,
}

impl Inspect {
    pub(super) fn run(self, common: &CommonFlags) -> Result<(), Failure> {
        let file = self.file.display().to_string();
        let bytes =
            std::fs::read(&self.file).map_err(|error| Failure::from(error).during(format!("cannot read {file}")))?;
        let inspection = macula_runtime::inspect(&bytes).map_err(|refusal| Failure::failed(refusal).during(&file))?;
        let stem = self.file.file_stem().map(|stem| stem.to_string_lossy().into_owned()).unwrap_or_default();
        let manifest =
            inspection.manifest.as_deref().map(|text| Manifest::resolve(Some(text), None, &stem)).transpose();
        let manifest = manifest.map_err(|error| Failure::failed(error).during(&file))?;
        if common.json {
            output::json(&Report { file, inspection: &inspection, asks: manifest.as_ref().map(asks) });
        } else {
            output::line(describe(&file, &inspection, manifest.as_ref()));
        }
        Ok(())
    }
}

fn asks(manifest: &Manifest) -> Asks {
    let patterns = |operation| manifest.asks.patterns(operation).iter().map(ToString::to_string).collect();
    Asks {
        subscribe: patterns(Operation::Subscribe),
        publish: patterns(Operation::Publish),
        advertise: patterns(Operation::Advertise),
        call: patterns(Operation::Call),
        fetch: patterns(Operation::Fetch),
    }
}

fn describe(file: &str, inspection: &Inspection, manifest: Option<&Manifest>) -> String {
    let mut lines = vec![
        file.to_owned(),
        format!("  content id  {}", inspection.mcid),
        format!("  size        {:.1} KiB", inspection.size_bytes as f64 / 1024.0),
        format!("  handles     {}", list(inspection.abilities.iter().map(|ability| ability.interface().to_owned()))),
        format!("  imports     {}", list(inspection.imports.iter().cloned())),
    ];
    match manifest {
        None => lines.push("  manifest    none: it may log and set timers, and nothing else".into()),
        Some(manifest) => {
            lines.push(format!("  manifest    {} {}", manifest.name, manifest.version));
            let asked = asks(manifest);
            for (what, patterns) in [
                ("subscribe", asked.subscribe),
                ("publish", asked.publish),
                ("advertise", asked.advertise),
                ("call", asked.call),
                ("fetch", asked.fetch),
            ] {
                if !patterns.is_empty() {
                    lines.push(format!("    asks to {what:<9} {}", patterns.join(", ")));
                }
            }
        }
    }
    lines.join("\n")
}

fn list(items: impl Iterator<Item = String>) -> String {
    let items: Vec<String> = items.collect();
    if items.is_empty() { "nothing".into() } else { items.join(", ") }
}
