//! A project that is worked on: built, run, and replaced whenever it changes, with its state. What is broken stays out: the
//! last good version serves on.
//!
//! The project's files, and those around it that it is built with, are looked at several times a second; what compilers and
//! editors write is passed over. A change is built when the files have come to rest. What lies around the project is asked
//! anew after each build: there may be more of it, and then it is built once more, because nobody has watched that so far.

mod event_line;
mod files;

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

use macula_build::{BuildError, Built};
use macula_runtime::{
    Ability, Grant, Mcid, PluginHandle, PluginSource, Prepared, ReplaceError, ReplaceOptions, Rights, Runtime,
    StateTransfer, StopReason,
};
use tokio::task::JoinHandle;

use self::{
    event_line::event_line,
    files::{FILES_MAX, Snapshot},
};
use crate::{
    output::{self, readable},
    project,
};

/// How often the files are looked at, and how long they have to be at rest.
const LOOK_INTERVAL: Duration = Duration::from_millis(100);

/// What a plugin gets.
pub(crate) type RightsOf = Arc<dyn Fn(&Mcid) -> Rights + Send + Sync>;

/// A project that is worked on.
pub(crate) struct Project {
    pub(crate) folder: PathBuf,
    /// Where what JavaScript is built with is kept.
    pub(crate) tools: PathBuf,
}

/// Works on a project until it is dropped.
pub(crate) async fn develop(project: Project, runtime: Runtime, rights: RightsOf) {
    let (mut seen, mut plugin): (_, Option<PluginHandle>) = (None, None);
    let mut build: Option<Building> = None;
    let mut around: Vec<PathBuf> = Vec::new();
    let mut asking = Some(ask_around(&project));
    let (mut log_next, mut event_next) = (0, 0);
    let mut look = tokio::time::interval(LOOK_INTERVAL);
    loop {
        tokio::select! {
            lines = happened(plugin.clone(), event_next) => {
                let (texts, next) = lines;
                event_next = next;
                texts.into_iter().for_each(|text| { output::line(text); });
            }
            lines = follow(plugin.clone(), log_next) => {
                let (texts, next) = lines;
                log_next = next;
                texts.into_iter().for_each(|text| { output::line(text); });
            }
            // What changes while it is built is built afterwards.
            _ = look.tick(), if build.is_none() && asking.is_none() => {
                let Some(now) = snapshot(&project, &around).await else { continue };
                if seen.as_ref() == Some(&now) {
                    continue;
                }
                tokio::time::sleep(LOOK_INTERVAL).await;
                let Some(later) = snapshot(&project, &around).await else { continue };
                if later != now {
                    continue;
                }
                if later.is_cut() && !seen.as_ref().is_some_and(Snapshot::is_cut) {
                    output::line(format_args!("build   there are more than {FILES_MAX} files here; changes of the others are not seen"));
                }
                seen = Some(later);
                build = Some(Building::start(&project));
            }
            (begin, built) = finished(&mut build) => {
                build = None;
                let renewed = renew(begin, built, &runtime, &rights, plugin.clone()).await;
                let is_same_log = matches!((&plugin, &renewed), (Some(one), Some(other)) if Arc::ptr_eq(one.log(), other.log()));
                if !is_same_log {
                    (log_next, event_next) = (0, 0);
                }
                plugin = renewed;
                asking = Some(ask_around(&project));
            }
            told = told(&mut asking) => {
                asking = None;
                // Who cannot be asked now, with a project file that is being changed for example, has told before.
                around = told.unwrap_or(around);
            }
        }
    }
}

/// A build under way.
struct Building {
    begin: Instant,
    task: JoinHandle<Result<Built, BuildError>>,
}

impl Building {
    fn start(project: &Project) -> Self {
        let (folder, tools) = (project.folder.clone(), project.tools.clone());
        let task = tokio::task::spawn_blocking(move || project::build(&folder, None, &tools));
        Self { begin: Instant::now(), task }
    }
}

/// Waits for a build, for ever when there is none; when it began, and what came of it: nothing, when the process ends.
async fn finished(build: &mut Option<Building>) -> (Instant, Option<Result<Built, BuildError>>) {
    match build {
        Some(build) => (build.begin, (&mut build.task).await.ok()),
        None => std::future::pending().await,
    }
}

/// Looks at the project's files and what is around it; nothing, when the process ends.
async fn snapshot(project: &Project, around: &[PathBuf]) -> Option<Snapshot> {
    let (folder, around) = (project.folder.clone(), around.to_vec());
    tokio::task::spawn_blocking(move || Snapshot::take(&folder, &around)).await.ok()
}

/// Asks what lies around the project.
fn ask_around(project: &Project) -> JoinHandle<Option<Vec<PathBuf>>> {
    let folder = project.folder.clone();
    tokio::task::spawn_blocking(move || macula_build::surroundings(&folder))
}

/// Waits for what lies around the project, for ever when nobody was asked; nothing, when it cannot be told.
async fn told(asking: &mut Option<JoinHandle<Option<Vec<PathBuf>>>>) -> Option<Vec<PathBuf>> {
    match asking {
        Some(asking) => asking.await.ok().flatten(),
        None => std::future::pending().await,
    }
}

/// Lets what was built take over.
async fn renew(
    begin: Instant,
    built: Option<Result<Built, BuildError>>,
    runtime: &Runtime,
    rights: &RightsOf,
    plugin: Option<PluginHandle>,
) -> Option<PluginHandle> {
    let serves_on = if plugin.is_some() { "; the last good version serves on" } else { "" };
    let built: Built = match built {
        Some(Ok(built)) => built,
        Some(Err(error)) => {
            // The compiler has said where.
            let text = if matches!(error, BuildError::Compile(_)) {
                "it does not compile".to_owned()
            } else {
                error.to_string()
            };
            output::line(format_args!("build   {text}{serves_on}"));
            return plugin;
        }
        None => return plugin,
    };
    let prepared = match runtime.prepare(PluginSource::Path(built.component.clone()), None).await {
        Ok(prepared) => prepared,
        Err(error) => {
            output::line(format_args!("build   {error}{serves_on}"));
            return plugin;
        }
    };
    if plugin.as_ref().is_some_and(|plugin| plugin.mcid() == *prepared.mcid()) {
        output::line(format_args!("build   nothing has changed in {}", built.component.display()));
        return plugin;
    }
    match take_over(runtime, rights, plugin.clone(), prepared).await {
        Ok((running, how)) => {
            let name = running.name().to_string();
            output::line(format_args!("build   {name} runs{how}, {} ms after the change", begin.elapsed().as_millis()));
            Some(running)
        }
        Err(error) => {
            output::line(format_args!("build   {error}{serves_on}"));
            plugin
        }
    }
}

/// The version that was prepared runs afterwards, with the state of the one before if that can be.
async fn take_over(
    runtime: &Runtime,
    rights: &RightsOf,
    plugin: Option<PluginHandle>,
    prepared: Prepared,
) -> Result<(PluginHandle, &'static str), String> {
    let rights = Arc::clone(rights);
    let grant = Grant::ByComponent(Arc::new(move |mcid| rights(mcid)));
    let start = async |prepared: Prepared, how| {
        let started = runtime.start_prepared(prepared, &grant).await;
        started.map(|plugin| (plugin, how)).map_err(|error| error.to_string())
    };
    let Some(plugin) = plugin else { return start(prepared, "").await };
    let options = ReplaceOptions { patience: Duration::from_secs(10), ..ReplaceOptions::default() };
    let how = if prepared.inspection().abilities.contains(&Ability::StateHandler) { ", with its state" } else { "" };
    match runtime.replace(&plugin, prepared.clone(), &grant, &options).await {
        Ok(()) => Ok((plugin, how)),
        Err(ReplaceError::Snapshot(why) | ReplaceError::StateLost(why) | ReplaceError::Restore(why)) => {
            output::line(format_args!("build   the state is not kept: {why}"));
            let options = ReplaceOptions { state: StateTransfer::None, ..options };
            let replaced = runtime.replace(&plugin, prepared, &grant, &options).await;
            replaced.map(|()| (plugin, ", without its state")).map_err(|error| error.to_string())
        }
        // Another name or number of instances makes it another plugin; one that has crashed too often is gone.
        Err(ReplaceError::Renamed { .. } | ReplaceError::Instances { .. } | ReplaceError::NotRunning) => {
            plugin.stop(StopReason::Stopped, Duration::from_secs(1)).await;
            start(prepared, ", begun anew").await
        }
        Err(error) => Err(error.to_string()),
    }
}

/// The plugin's next log entries, as they are shown.
async fn follow(plugin: Option<PluginHandle>, from: u64) -> (Vec<String>, u64) {
    let Some(plugin) = plugin else { return std::future::pending().await };
    let (lines, next) = plugin.log().follow(from).await;
    let shown = lines.iter().map(|line| {
        let level = format!("{:?}", line.level).to_lowercase();
        let fields: String =
            line.fields.iter().map(|(name, value)| format!(" {}={}", readable(name), readable(value))).collect();
        format!("{level:<7} {}{fields}", readable(&line.message))
    });
    (shown.collect(), next)
}

/// What happens next at the plugin, as it is shown.
async fn happened(plugin: Option<PluginHandle>, from: u64) -> (Vec<String>, u64) {
    let Some(plugin) = plugin else { return std::future::pending().await };
    let (events, next) = plugin.activity().follow(from).await;
    let lost = events.first().map_or(0, |event| event.number.saturating_sub(from));
    let lost = (lost > 0).then(|| format!("(so much happened that {lost} events are not shown)"));
    (lost.into_iter().chain(events.iter().filter_map(|activity| event_line(&activity.event))).collect(), next)
}

/// Whether the folder holds a project at all; said before anything is started.
pub(crate) fn check(folder: &Path) -> Result<(), BuildError> {
    macula_build::language_of(folder, None).map(drop)
}
