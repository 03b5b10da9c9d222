//! A scenario from what happens at a plugin that runs: its host is asked again and again until the time is over.

use std::{collections::BTreeMap, path::Path, time::Duration};

use macula_files::{Draft, Mode};
use macula_node::auth::ucan::Ipld;
use macula_runtime::{Activity, Manifest};
use macula_scenario::{Recording, SCENARIO_BYTES_MAX};
use tokio::time::{Instant, timeout_at};

use crate::{
    admin_rpc::plugins_procedure,
    cli::{ClientFlags, CommonFlags, HostFlags, client, client_runtime},
    compose::stop_signal,
    config::Settings,
    failure::Failure,
    output,
    plugin_admin::{Activities, WAIT, settings_digest},
};

/// Events as they come, in JSON, which takes more room than the scenario that is made of them.
const BYTES_MAX: usize = SCENARIO_BYTES_MAX as usize;

/// What an answer may take longer than the host waits for events.
const MARGIN: Duration = Duration::from_secs(5);

/// Where and for how long.
pub(super) struct Record<'a> {
    pub(super) file: &'a Path,
    pub(super) time: Duration,
    pub(super) host: &'a HostFlags,
    pub(super) client: &'a ClientFlags,
}

/// What was heard, and what was not.
#[derive(Default)]
struct Heard {
    events: Vec<Activity>,
    bytes: usize,
    missed: Vec<String>,
}

impl Record<'_> {
    pub(super) fn run(&self, manifest: &Manifest, common: &CommonFlags) -> Result<(), Failure> {
        let plugin = manifest.name.as_str();
        let file = Draft::at(self.file, Mode::Default)?;
        let settings = Settings::load(common)?;
        let client = settings.client(self.client)?;
        let heard = client_runtime()?.block_on(async {
            let admin = client::Admin::of_plugin(&settings, &client, self.host, plugin).await?;
            let heard = listen(&admin, manifest, self.time).await;
            admin.mesh.close().await;
            heard
        })?;
        let mut recording = Recording::of(&heard.events);
        recording.left_out.extend(heard.missed);
        let count = recording.scenario.steps.len();
        for what in &recording.left_out {
            output::note(format_args!("not in the scenario: {what}"));
        }
        if count == 0 {
            return Err(Failure::not_found(format!("{plugin} was given nothing meanwhile; nothing is written")));
        }
        let text = recording.scenario.to_toml().map_err(Failure::failed)?;
        file.fill(text.as_bytes())?;
        if common.json {
            output::json(&serde_json::json!({ "steps": count, "left_out": recording.left_out }));
        } else {
            output::line(format_args!("{} in {}", output::counted(count, "step"), self.file.display()));
        }
        Ok(())
    }
}

/// What happens at the plugin, until the time is over or somebody ends it. When the host goes away, what it has told so far.
async fn listen(admin: &client::Admin<'_>, manifest: &Manifest, time: Duration) -> Result<Heard, Failure> {
    let plugin = manifest.name.as_str();
    let mut heard = Heard::default();
    let mut stop = std::pin::pin!(stop_signal()?);
    let begun = ask(admin, plugin, None, Wait::No).await?;
    if begun.settings != settings_digest(manifest) {
        let what = "settings that it has on its host alone; add them as [config]";
        heard.missed.push(what.to_owned());
    }
    let mut next = begun.next;
    output::note(format_args!("recording {plugin} for {} s; Ctrl-C ends it earlier", time.as_secs_f32()));
    let deadline = Instant::now() + time;
    loop {
        let page = tokio::select! {
            page = timeout_at(deadline, ask(admin, plugin, Some(next), Wait::ForEvents)) => page,
            () = &mut stop => break,
        };
        let Ok(page) = page else { break };
        if !heard.take(page, &mut next) {
            return Ok(heard);
        }
    }
    // What came while the last answer was waited for.
    loop {
        let page = ask(admin, plugin, Some(next), Wait::No).await;
        let has_more = page.as_ref().is_ok_and(|page| page.has_more);
        if !heard.take(page, &mut next) || !has_more {
            return Ok(heard);
        }
    }
}

impl Heard {
    /// Takes what the host has told; false when that was the last of it.
    fn take(&mut self, page: Result<Activities, Failure>, next: &mut u64) -> bool {
        let page = match page {
            Ok(page) => page,
            Err(failure) => {
                self.missed.push(format!("what happened after the host did not answer any more ({failure})"));
                return false;
            }
        };
        if page.next < *next {
            // It counts from the beginning again.
            self.missed.push("what happened while the plugin was started anew".to_owned());
            *next = 0;
            return true;
        }
        *next = page.next;
        for event in page.events {
            self.bytes += serde_json::to_vec(&event).map_or(0, |json| json.len());
            if self.bytes > BYTES_MAX {
                self.missed.push(format!("what came after {BYTES_MAX} bytes, which is as much as a scenario may have"));
                return false;
            }
            self.events.push(event);
        }
        true
    }
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
    let patience = admin.timeout.max(WAIT + MARGIN);
    client::read(&admin.ask_within(patience, &plugins_procedure(&admin.host), arguments).await?)
}

#[cfg(test)]
mod tests {
    use macula_runtime::ActivityEvent;

    use super::*;

    fn page(numbers: std::ops::Range<u64>, bytes: usize) -> Activities {
        let event = |number| Activity {
            number,
            at_ms: 1,
            instance: 0,
            event: ActivityEvent::Tick { timer: "x".repeat(bytes) },
        };
        Activities { next: numbers.end, events: numbers.map(event).collect(), has_more: false, settings: String::new() }
    }

    #[test]
    fn what_was_heard_is_kept_when_the_host_goes_away_or_begins_anew() {
        let (mut heard, mut next) = (Heard::default(), 5);
        assert!(heard.take(Ok(page(5..7, 1)), &mut next));
        assert!(heard.take(Ok(page(0..2, 1)), &mut next) && next == 0);
        assert!(heard.take(Ok(page(0..3, 1)), &mut next) && next == 3);
        assert!(!heard.take(Err(Failure::failed("gone")), &mut next));
        assert_eq!((heard.events.len(), heard.missed.len()), (5, 2));
        assert!(heard.missed[1].contains("(gone)"), "{:?}", heard.missed);
    }

    #[test]
    fn no_more_is_heard_than_a_scenario_may_have() {
        let (mut heard, mut next) = (Heard::default(), 0);
        assert!(heard.take(Ok(page(0..3, BYTES_MAX / 4)), &mut next));
        assert!(!heard.take(Ok(page(3..6, BYTES_MAX / 4)), &mut next));
        assert_eq!(heard.events.len(), 3);
    }
}
