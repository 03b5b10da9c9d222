//! `macula-host test [DIR|FILE.wasm]`: runs a plugin's scenarios; with `--record`, writes one from what happens in the mesh.

mod record;

use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use clap::Args;
use macula_files::{Draft, Mode};
use macula_runtime::{Manifest, ManifestText};
use macula_scenario::{Runner, Scenario, ScenarioError, junit};
use serde::Serialize;

use super::{ClientFlags, CommonFlags, HostFlags, build};
use crate::{config, failure::Failure, named_component::Named, output};

/// Where a project's scenarios are.
const SCENARIOS: &str = "scenarios";

#[derive(Debug, Args)]
pub(super) struct Test {
    /// Folder with the plugin's source, which is built first, or a component
    #[arg(default_value = ".", value_name = "DIR|FILE.wasm")]
    plugin: PathBuf,
    /// Scenario to run, or a folder of them (repeat for more) [default: the folder `scenarios` beside the source]
    #[arg(long, value_name = "FILE|DIR")]
    scenario: Vec<PathBuf>,
    /// Write the results to this file, as JUnit has them
    #[arg(long, value_name = "FILE")]
    junit: Option<PathBuf>,
    /// How long one scenario may take, in real time
    #[arg(long, value_name = "DURATION", value_parser = config::duration, default_value = "60s")]
    patience: Duration,
    /// In place of testing: watch the plugin where it runs, and write what it is given and what it does as a scenario
    #[arg(long, value_name = "FILE", conflicts_with_all = ["scenario", "junit"])]
    record: Option<PathBuf>,
    /// How long to record
    #[arg(long, value_name = "DURATION", value_parser = config::duration, default_value = "10s", requires = "record")]
    r#for: Duration,
    #[command(flatten)]
    host: HostFlags,
    #[command(flatten)]
    client: ClientFlags,
}

/// One scenario's result, as `--json` prints it.
#[derive(Serialize)]
struct Played<'a> {
    scenario: &'a str,
    passed: bool,
    failures: &'a [String],
    milliseconds: u128,
}

impl Test {
    pub(super) fn run(self, common: &CommonFlags) -> Result<(), Failure> {
        let (component, folder) = self.component()?;
        let bytes = macula_runtime::read_component(&component)?;
        let inspection =
            macula_runtime::examine(&bytes).map_err(|refusal| Failure::failed(refusal).during(component.display()))?;
        let report = self.junit.as_deref().map(|file| Draft::at(file, Mode::Default)).transpose()?;
        let name = component.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        let beside = component.with_extension("toml");
        let manifest = if beside.exists() { Some(macula_runtime::read_manifest_text(&beside)?) } else { None };
        if let Some(file) = &self.record {
            let origin = beside.display().to_string();
            let beside = manifest.as_deref().map(|text| ManifestText { origin: &origin, text });
            let resolved = Manifest::resolve(inspection.manifest.as_deref(), beside, &name).map_err(Failure::usage)?;
            let record = record::Record { file, time: self.r#for, host: &self.host, client: &self.client };
            return record.run(&resolved, common);
        }
        let cache = super::Cache::named("build/native")?;
        let runner = Runner::new(&name, bytes.into(), manifest, Some(&cache.path)).with_patience(self.patience);
        let cases = self.play(&runner, &self.files(&folder)?, common)?;
        if let Some(report) = report {
            report.fill(junit::document(&name, &cases).as_bytes())?;
        }
        let failed = cases.iter().filter(|case| !case.failures.is_empty()).count();
        if failed > 0 {
            return Err(Failure::failed(format!("{failed} of {} failed", output::counted(cases.len(), "scenario"))));
        }
        if !common.json {
            output::line(format_args!("{} passed", output::counted(cases.len(), "scenario")));
        }
        Ok(())
    }

    /// The component, and the folder that its scenarios are looked for in.
    fn component(&self) -> Result<(PathBuf, PathBuf), Failure> {
        if Named::parse(&self.plugin)? == Named::File {
            let folder = self.plugin.parent().map(Path::to_owned).unwrap_or_default();
            return Ok((self.plugin.clone(), folder));
        }
        Ok((build::build(&self.plugin, None)?.component, self.plugin.clone()))
    }

    /// The files of all scenarios, in order.
    fn files(&self, folder: &Path) -> Result<Vec<PathBuf>, Failure> {
        let named = if self.scenario.is_empty() { vec![folder.join(SCENARIOS)] } else { self.scenario.clone() };
        let places: Vec<String> = named.iter().map(|path| path.display().to_string()).collect();
        let mut files = Vec::new();
        for path in named {
            if !path.is_dir() {
                files.push(path);
                continue;
            }
            let entries = fs::read_dir(&path).map_err(|error| Failure::from(error).during(path.display()))?;
            let mut found = Vec::new();
            for entry in entries {
                let file = entry?.path();
                if file.extension().is_some_and(|extension| extension == "toml") {
                    found.push(file);
                }
            }
            found.sort();
            files.extend(found);
        }
        match files.first() {
            None => Err(Failure::not_found(format!("there are no scenarios in {}", places.join(", ")))),
            Some(first) if self.scenario.is_empty() && !first.is_file() => {
                Err(Failure::not_found(format!("there is no folder {}", first.display())))
            }
            Some(_) => Ok(files),
        }
    }

    fn play(&self, runner: &Runner, files: &[PathBuf], common: &CommonFlags) -> Result<Vec<junit::Case>, Failure> {
        // All are read before the first is run: a mistake in the last one is not found after minutes.
        let scenarios = files.iter().map(|file| Scenario::read(file)).collect::<Result<Vec<_>, ScenarioError>>();
        let mut cases = Vec::new();
        for (file, scenario) in files.iter().zip(scenarios?) {
            let outcome = runner.run(&scenario).map_err(Failure::failed)?;
            let name = file.file_stem().unwrap_or_default().to_string_lossy().into_owned();
            let failures: Vec<String> = outcome.mismatches.iter().map(ToString::to_string).collect();
            show(&name, &scenario, &failures, &outcome.log, outcome.took, common);
            cases.push(junit::Case { name, failures, log: outcome.log, took: outcome.took });
        }
        Ok(cases)
    }
}

fn show(name: &str, scenario: &Scenario, failures: &[String], log: &[String], took: Duration, common: &CommonFlags) {
    let passed = failures.is_empty();
    if common.json {
        output::json(&Played { scenario: name, passed, failures, milliseconds: took.as_millis() });
        return;
    }
    let about = if scenario.description.is_empty() {
        String::new()
    } else {
        format!(": {}", output::readable(&scenario.description))
    };
    let word = if passed { "ok" } else { "FAILED" };
    output::line(format_args!("{word:<7} {name}{about} ({} ms)", took.as_millis()));
    for failure in failures {
        output::line(format_args!("        {}", output::readable(failure)));
    }
    if !passed {
        for line in log {
            output::line(format_args!("        log: {}", output::readable(line)));
        }
    }
}

impl From<ScenarioError> for Failure {
    fn from(error: ScenarioError) -> Self {
        match error {
            ScenarioError::Read(read) => read.into(),
            other => Self::usage(other),
        }
    }
}
