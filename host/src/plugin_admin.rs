//! How a node's plugins are looked after over the mesh: what `macula-host logs`, `deadletters`, `inspect` and `test --record`
//! ask, and what the node answers.
//!
//! The question is in the arguments of a signed invocation: `do`, `plugin`, and what goes with them. The answer is JSON.

use std::{cmp::Ordering, collections::BTreeMap, sync::Arc, time::Duration};

use macula_node::{
    auth::ucan::Ipld,
    wire::{Fault, Mcid, Topic},
};
use macula_runtime::{
    Activity, ActivityLog, DeadLetter, DeadLetters, LogLine, Manifest, PluginHandle, ReplayError, Runtime,
};
use serde::{Deserialize, Serialize};

/// How long an answer waits for new log entries, when it is asked to.
pub(crate) const WAIT: Duration = Duration::from_secs(5);

/// What the entries, letters or bytes in one answer may have, as JSON: a piece that crosses it is the last. Far enough below
/// what an answer may have.
const ANSWER_BYTES: usize = 512 << 10;

/// Of a letter's reason in a list.
const REASON_BYTES_MAX: usize = 1024;

/// Log entries, and the number to go on from.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Entries {
    pub(crate) lines: Vec<LogLine>,
    pub(crate) next: u64,
    /// There are more already.
    #[serde(default)]
    pub(crate) has_more: bool,
}

/// What happened at a plugin, and the number to go on from.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Activities {
    pub(crate) events: Vec<Activity>,
    pub(crate) next: u64,
    /// There are more already.
    pub(crate) has_more: bool,
    /// See [`settings_digest`].
    pub(crate) settings: String,
}

/// Tells settings from others, and not what they are.
pub(crate) fn settings_digest(manifest: &Manifest) -> String {
    let pairs = serde_json::to_vec(&manifest.config).expect("plain data");
    Mcid::of(&pairs).to_string()
}

/// Dead letters, by plugin and number.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Letters {
    pub(crate) letters: Vec<Summary>,
    /// There are more, behind the last.
    pub(crate) has_more: bool,
}

/// A piece of a dead letter.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Piece {
    /// Its payload begins where it was asked for.
    pub(crate) letter: DeadLetter,
    /// Of the whole payload.
    pub(crate) bytes: usize,
}

/// A dead letter without its payload.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Summary {
    pub(crate) plugin: String,
    pub(crate) id: u64,
    pub(crate) at_ms: u64,
    pub(crate) topic: Topic,
    pub(crate) bytes: usize,
    pub(crate) attempts: u32,
    pub(crate) reason: String,
}

impl Summary {
    fn of(plugin: &str, letter: &DeadLetter) -> Self {
        Self {
            plugin: plugin.to_owned(),
            id: letter.id,
            at_ms: letter.at_ms,
            topic: letter.topic.clone(),
            bytes: letter.payload.len(),
            attempts: letter.attempts,
            reason: letter.reason[..letter.reason.floor_char_boundary(REASON_BYTES_MAX)].to_owned(),
        }
    }
}

/// Does what an invocation asks for.
pub(crate) async fn answer(runtime: &Runtime, arguments: &BTreeMap<String, Ipld>) -> Result<Vec<u8>, Fault> {
    let text = |name: &str| match arguments.get(name) {
        Some(Ipld::String(text)) => Some(text.as_str()),
        _ => None,
    };
    let number = |name: &str| match arguments.get(name) {
        Some(Ipld::Integer(number)) => u64::try_from(*number).ok(),
        _ => None,
    };
    let plugin = || {
        let name = text("plugin").ok_or_else(|| Fault::Invalid("which plugin is not said".into()))?;
        runtime.plugin(name).ok_or_else(|| Fault::NotFound(format!("no plugin named {name} runs here")))
    };
    match text("do") {
        Some("logs") => {
            let plugin = plugin()?;
            let from = number("from").unwrap_or(0);
            let waits = matches!(arguments.get("wait"), Some(Ipld::Bool(true)));
            Ok(json(&entries(&plugin, from, waits).await))
        }
        Some("plugins") => {
            let names: Vec<String> = runtime.plugins().iter().map(|plugin| plugin.name().to_string()).collect();
            Ok(json(&names))
        }
        Some("watch") => {
            let plugin = plugin()?;
            let activity = plugin.activity();
            let next = activity.watch();
            // Whoever does not say from where begins now.
            let from = number("from").unwrap_or(next);
            let waits = matches!(arguments.get("wait"), Some(Ipld::Bool(true)));
            let settings = settings_digest(&plugin.manifest());
            Ok(json(&Activities { settings, ..activities(activity, from, waits).await }))
        }
        Some("inspect") => Ok(json(&plugin()?.inspection())),
        Some("letters") => {
            let plugins = if text("plugin").is_some() { vec![plugin()?] } else { runtime.plugins() };
            let after = (text("after").unwrap_or_default().to_owned(), number("after-id").unwrap_or(0));
            Ok(json(&list(plugins, after).await?))
        }
        Some("letter") => {
            let (letters, id) = (kept(&plugin()?)?, number("id").unwrap_or(0));
            let from = number("from").unwrap_or(0);
            let piece = off_thread(move || letters.get(id).map(|letter| piece(letter, from))).await?;
            piece.map(|piece| json(&piece)).ok_or_else(|| no_letter(id))
        }
        Some("replay") => {
            let (plugin, id) = (plugin()?, number("id").unwrap_or(0));
            match off_thread(move || plugin.replay(id)).await? {
                Ok(()) => Ok(json(&true)),
                Err(error @ ReplayError::NotThere(_)) => Err(Fault::NotFound(error.to_string())),
                Err(error) => Err(Fault::Unavailable(error.to_string())),
            }
        }
        _ => Err(Fault::Invalid("nothing that a node does".into())),
    }
}

async fn entries(plugin: &PluginHandle, from: u64, waits: bool) -> Entries {
    let log = plugin.log();
    let (lines, next) = if waits {
        tokio::time::timeout(WAIT, log.follow(from)).await.unwrap_or_else(|_| log.lines_from(from))
    } else {
        log.lines_from(from)
    };
    let (lines, more) = first_page(&lines, |line| line.number);
    Entries { lines, next: more.unwrap_or(next), has_more: more.is_some() }
}

async fn activities(activity: &ActivityLog, from: u64, waits: bool) -> Activities {
    let (events, next) = if waits {
        tokio::time::timeout(WAIT, activity.follow(from)).await.unwrap_or_else(|_| activity.events_from(from))
    } else {
        activity.events_from(from)
    };
    let (events, more) = first_page(&events, |event| event.number);
    Activities { events, next: more.unwrap_or(next), has_more: more.is_some(), settings: String::new() }
}

/// As many as go into one answer, and the number of the first that does not.
fn first_page<T: Clone + Serialize>(items: &[Arc<T>], number: impl Fn(&T) -> u64) -> (Vec<T>, Option<u64>) {
    let mut page = Vec::new();
    let mut bytes = 0;
    for item in items {
        if bytes > ANSWER_BYTES {
            return (page, Some(number(item)));
        }
        bytes += json(&**item).len();
        page.push(T::clone(item));
    }
    (page, None)
}

/// Those behind `after`: a plugin's name, and a letter's number.
async fn list(mut plugins: Vec<PluginHandle>, after: (String, u64)) -> Result<Letters, Fault> {
    off_thread(move || {
        plugins.sort_by(|a, b| a.name().as_str().cmp(b.name().as_str()));
        let mut page = Letters { letters: Vec::new(), has_more: false };
        let mut bytes = 0;
        for plugin in plugins {
            let name = plugin.name().as_str();
            let after = match name.cmp(&after.0) {
                Ordering::Less => continue,
                Ordering::Equal => after.1,
                Ordering::Greater => 0,
            };
            let Some(letters) = plugin.dead_letters() else { continue };
            for letter in letters.after(after) {
                if bytes > ANSWER_BYTES {
                    page.has_more = true;
                    return page;
                }
                let summary = Summary::of(name, &letter);
                bytes += json(&summary).len();
                page.letters.push(summary);
            }
        }
        page
    })
    .await
}

fn piece(mut letter: DeadLetter, from: u64) -> Piece {
    let bytes = letter.payload.len();
    let from = usize::try_from(from).unwrap_or(usize::MAX).min(bytes);
    letter.payload.drain(..from);
    letter.payload.truncate(ANSWER_BYTES);
    Piece { letter, bytes }
}

fn kept(plugin: &PluginHandle) -> Result<Arc<DeadLetters>, Fault> {
    plugin.dead_letters().ok_or_else(|| Fault::Unavailable("this node keeps no dead letters".into()))
}

fn no_letter(id: u64) -> Fault {
    Fault::NotFound(format!("there is no dead letter {id}"))
}

/// Files are read where waiting holds nobody up.
async fn off_thread<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, Fault> {
    tokio::task::spawn_blocking(work).await.map_err(|_| Fault::Unavailable("the node is stopping".into()))
}

fn json(answer: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec(answer).expect("an answer is plain data")
}
