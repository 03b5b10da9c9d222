//! How a node's plugins are looked after over the mesh: what `macula-host logs` and `deadletters` ask, and what the node
//! answers.
//!
//! The question is in the arguments of a signed invocation: `do`, `plugin`, and what goes with them. The answer is JSON.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use macula_node::{
    auth::ucan::Ipld,
    wire::{Fault, Topic},
};
use macula_runtime::{DeadLetter, DeadLetters, LogLine, PluginHandle, Runtime};
use serde::{Deserialize, Serialize};

/// How long an answer waits for new log entries, when it is asked to.
const WAIT: Duration = Duration::from_secs(5);

/// Log entries, and the number to go on from.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Entries {
    pub(crate) lines: Vec<LogLine>,
    pub(crate) next: u64,
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
            reason: letter.reason.clone(),
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
        Some("inspect") => Ok(json(&plugin()?.inspection())),
        Some("letters") => {
            let plugins = if text("plugin").is_some() { vec![plugin()?] } else { runtime.plugins() };
            Ok(json(&list(plugins).await?))
        }
        Some("letter") => {
            let (letters, id) = (kept(&plugin()?)?, number("id").unwrap_or(0));
            let letter = off_thread(move || letters.get(id)).await?;
            letter.map(|letter| json(&letter)).ok_or_else(|| no_letter(id))
        }
        Some("replay") => {
            let (plugin, id) = (plugin()?, number("id").unwrap_or(0));
            let is_replayed = off_thread(move || plugin.replay(id)).await?;
            if is_replayed { Ok(json(&true)) } else { Err(no_letter(id)) }
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
    Entries { lines: lines.iter().map(|line| LogLine::clone(line)).collect(), next }
}

async fn list(plugins: Vec<PluginHandle>) -> Result<Vec<Summary>, Fault> {
    off_thread(move || {
        let mut all = Vec::new();
        for plugin in plugins {
            let name = plugin.name().to_string();
            let letters = plugin.dead_letters().map(|letters| letters.list()).unwrap_or_default();
            all.extend(letters.iter().map(|letter| Summary::of(&name, letter)));
        }
        all
    })
    .await
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
