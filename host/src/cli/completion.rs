//! `macula-host completion SHELL` and `macula-host man DIR`: what shells and `man` know of the command line.
//!
//! The script that a shell is given asks this program for candidates each time. Those that only a running node knows (plugins,
//! topics, procedures, slots) are asked for over a link, for a short time; without a node there are none.

use std::{ffi::OsStr, io, path::PathBuf, time::Duration};

use clap::{Args, CommandFactory, ValueEnum};
use clap_complete::{
    CompleteEnv,
    engine::{ArgValueCandidates, CompletionCandidate},
    env::Shells,
};
use macula_node::{Mesh, Subscribe};
use tokio::time::timeout;

use super::{Arguments, CommonFlags, client, client_runtime, deploy::Rollouts, status::plugins_here};
use crate::{
    config::{ClientSettings, Settings},
    failure::Failure,
    output,
};

/// The environment variable by which a shell's script asks for candidates.
const VARIABLE: &str = "MACULA_COMPLETE";
/// How long whoever pressed the key waits at most.
const PATIENCE: Duration = Duration::from_secs(1);
/// How long stored values are collected after the last one came.
const QUIET: Duration = Duration::from_millis(150);
/// Candidates that are of any help.
const CANDIDATES_MAX: usize = 1000;

#[derive(Debug, Args)]
pub(super) struct Completion {
    /// The shell
    shell: Shell,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Shell {
    Bash,
    Zsh,
    Fish,
}

#[derive(Debug, Args)]
pub(super) struct Man {
    /// Folder for the pages, for example ~/.local/share/man/man1
    #[arg(value_name = "DIR")]
    folder: PathBuf,
}

/// Answers a shell that asks for candidates, and ends the process then.
pub(crate) fn answer_shell() {
    CompleteEnv::with_factory(Arguments::command).var(VARIABLE).complete();
}

impl Completion {
    pub(super) fn run(self) -> Result<(), Failure> {
        let shell = match self.shell {
            Shell::Bash => "bash",
            Shell::Zsh => "zsh",
            Shell::Fish => "fish",
        };
        let shells = Shells::builtins();
        let writer = shells.completer(shell).expect("these shells are among those that are built in");
        let mut script = Vec::new();
        let name = env!("CARGO_PKG_NAME");
        writer.write_registration(VARIABLE, name, name, name, &mut script)?;
        output::bytes(&script);
        Ok(())
    }
}

impl Man {
    pub(super) fn run(self, common: &CommonFlags) -> Result<(), Failure> {
        std::fs::create_dir_all(&self.folder)
            .map_err(|error| Failure::from(error).during(format!("cannot make {}", self.folder.display())))?;
        let mut pages = 0;
        // Subcommands of subcommands have pages of their own.
        let mut waiting = vec![(env!("CARGO_PKG_NAME").to_owned(), built())];
        while let Some((name, command)) = waiting.pop() {
            for sub in command.get_subcommands().filter(|sub| !sub.is_hide_set() && sub.get_name() != "help") {
                waiting.push((format!("{name}-{}", sub.get_name()), sub.clone()));
            }
            let mut page = Vec::new();
            clap_mangen::Man::new(command).render(&mut page)?;
            macula_files::write(&self.folder.join(format!("{name}.1")), &page)?;
            pages += 1;
        }
        if common.json {
            output::json(&serde_json::json!({ "folder": self.folder, "pages": pages }));
        } else {
            output::line(format_args!("{pages} pages in {}", self.folder.display()));
        }
        Ok(())
    }
}

/// The command line, with what subcommands inherit.
fn built() -> clap::Command {
    let mut command = Arguments::command();
    command.build();
    command
}

/// Names of plugins that run here.
pub(super) fn plugins() -> ArgValueCandidates {
    candidates(async |settings, client| {
        plugins_here(&settings, &client).await.into_iter().map(|plugin| plugin.name.to_string()).collect()
    })
}

/// Procedures that plugins here offer.
pub(super) fn procedures() -> ArgValueCandidates {
    candidates(async |settings, client| {
        plugins_here(&settings, &client).await.into_iter().flat_map(|plugin| plugin.procedures).collect()
    })
}

/// Topics with a stored value, and those that plugins here receive.
pub(super) fn topics() -> ArgValueCandidates {
    candidates(async |settings, client| {
        let mut topics = patterns_in_use(&settings, &client).await;
        topics.retain(|pattern| !pattern.contains('*'));
        topics
    })
}

/// The same, and the patterns by which plugins here receive.
pub(super) fn patterns() -> ArgValueCandidates {
    candidates(async |settings, client| patterns_in_use(&settings, &client).await)
}

/// Slots that hosts of the realm follow.
pub(super) fn slots() -> ArgValueCandidates {
    candidates(async |settings, client| {
        let Ok(mesh) = client::connect(&settings, &client).await else { return Vec::new() };
        let known = match Rollouts::watch_all(&mesh).await {
            Ok(mut rollouts) => rollouts.collect().await,
            Err(_) => Default::default(),
        };
        mesh.close().await;
        known.into_keys().map(|(slot, _)| slot).collect()
    })
}

/// By which plugins here receive, and topics with a stored value.
async fn patterns_in_use(settings: &Settings, client: &ClientSettings) -> Vec<String> {
    let subscriptions = plugins_here(settings, client).await.into_iter().flat_map(|plugin| plugin.subscriptions);
    let mut patterns: Vec<String> = subscriptions.map(|subscription| subscription.pattern).collect();
    if let Ok(mesh) = client::connect(settings, client).await {
        patterns.extend(retained(&mesh).await);
        mesh.close().await;
    }
    patterns
}

async fn retained(mesh: &Mesh) -> Vec<String> {
    let everything = "**".parse().expect("a constant of the grammar");
    let Ok(mut subscription) = mesh.subscribe_with(everything, Subscribe::default()).await else { return Vec::new() };
    let mut topics = Vec::new();
    while topics.len() < CANDIDATES_MAX
        && let Ok(Some(message)) = timeout(QUIET, subscription.next()).await
    {
        topics.push(message.topic.to_string());
    }
    topics
}

/// Candidates that a node knows; none when it does not say them soon.
fn candidates(
    ask: impl AsyncFn(Settings, ClientSettings) -> Vec<String> + Send + Sync + 'static,
) -> ArgValueCandidates {
    ArgValueCandidates::new(move || {
        let known = || -> Result<Vec<String>, Failure> {
            let settings = Settings::load(&CommonFlags::default())?;
            let client = ClientSettings { timeout: PATIENCE, ..settings.client(&Default::default())? };
            let runtime = client_runtime()?;
            let asked = runtime.block_on(async { timeout(PATIENCE, ask(settings, client)).await });
            runtime.shutdown_background();
            asked.map_err(|_| Failure::from(io::Error::from(io::ErrorKind::TimedOut)))
        };
        let mut known = known().unwrap_or_default();
        known.sort();
        known.dedup();
        known.truncate(CANDIDATES_MAX);
        known.into_iter().map(|name| CompletionCandidate::new(OsStr::new(&name))).collect()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: no verb or flag contradicts another.
    #[test]
    fn the_command_line_is_in_order() {
        Arguments::command().debug_assert();
    }
}
