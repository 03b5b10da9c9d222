//! A scenario from what happens at a plugin that runs: its host is asked again and again until the time is over.

use std::{collections::BTreeMap, fs, path::Path, time::Duration};

use macula_node::auth::ucan::Ipld;
use macula_runtime::{Activity, Inspection, Manifest};
use macula_scenario::Recording;
use tokio::time::{Instant, timeout_at};

use crate::{
    admin_rpc::plugins_procedure,
    cli::{ClientFlags, CommonFlags, HostFlags, client, client_runtime},
    compose::stop_signal,
    config::Settings,
    failure::Failure,
    output,
    plugin_admin::Activities,
};

/// More than a scenario can have, and than anybody reads.
const EVENTS_MAX: usize = 100_000;

/// Where and for how long.
pub(super) struct Record<'a> {
    pub(super) file: &'a Path,
    pub(super) time: Duration,
    pub(super) host: &'a HostFlags,
    pub(super) client: &'a ClientFlags,
}

impl Record<'_> {
    /// `name` names the plugin when its manifest does not.
    pub(super) fn run(&self, inspection: &Inspection, name: &str, common: &CommonFlags) -> Result<(), Failure> {
        let manifest = Manifest::resolve(inspection.manifest.as_deref(), None, name).map_err(Failure::failed)?;
        let plugin = manifest.name.as_str();
        let settings = Settings::load(common)?;
        let client = settings.client(self.client)?;
        let recording = client_runtime()?.block_on(async {
            let admin = client::Admin::of_plugin(&settings, &client, self.host, plugin).await?;
            let events = listen(&admin, plugin, self.time).await;
            admin.mesh.close().await;
            Ok::<_, Failure>(Recording::of(&events?))
        })?;
        let count = recording.scenario.steps.len();
        if count == 0 {
            let seconds = self.time.as_secs_f32();
            return Err(Failure::not_found(format!(
                "{plugin} was given nothing within {seconds} s; nothing is written"
            )));
        }
        let text = recording.scenario.to_toml().map_err(Failure::failed)?;
        fs::write(self.file, text).map_err(|error| Failure::from(error).during(self.file.display()))?;
        for what in &recording.left_out {
            output::note(format_args!("not in the scenario: {what}"));
        }
        if common.json {
            output::json(&serde_json::json!({ "steps": count, "left_out": recording.left_out }));
        } else {
            output::line(format_args!("{} in {}", output::counted(count, "step"), self.file.display()));
        }
        Ok(())
    }
}

/// What happens at the plugin, until the time is over or somebody ends it.
async fn listen(admin: &client::Admin<'_>, plugin: &str, time: Duration) -> Result<Vec<Activity>, Failure> {
    let mut events = Vec::new();
    let mut stop = std::pin::pin!(stop_signal()?);
    let Activities { mut next, .. } = ask(admin, plugin, None, Wait::No).await?;
    output::note(format_args!("recording {plugin} for {} s; Ctrl-C ends it earlier", time.as_secs_f32()));
    let deadline = Instant::now() + time;
    while events.len() < EVENTS_MAX {
        let page = tokio::select! {
            page = timeout_at(deadline, ask(admin, plugin, Some(next), Wait::ForEvents)) => page,
            () = &mut stop => break,
        };
        let Ok(page) = page else { break };
        let page = page?;
        next = page.next;
        events.extend(page.events);
    }
    // What came while the last answer was waited for.
    let rest = ask(admin, plugin, Some(next), Wait::No).await;
    events.extend(rest.into_iter().flat_map(|page| page.events));
    Ok(events)
}

/// Whether an answer may take its time.
#[derive(Clone, Copy, PartialEq)]
enum Wait {
    ForEvents,
    No,
}

/// Events from a number on; without one, only the number to begin with.
async fn ask(admin: &client::Admin<'_>, plugin: &str, from: Option<u64>, wait: Wait) -> Result<Activities, Failure> {
    let mut arguments = BTreeMap::from([
        ("do".to_owned(), Ipld::String("watch".to_owned())),
        ("plugin".to_owned(), Ipld::String(plugin.to_owned())),
        ("wait".to_owned(), Ipld::Bool(wait == Wait::ForEvents)),
    ]);
    arguments.extend(from.map(|from| ("from".to_owned(), Ipld::Integer(from.into()))));
    client::read(&admin.ask(&plugins_procedure(&admin.host), arguments).await?)
}
