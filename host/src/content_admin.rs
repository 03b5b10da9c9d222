//! How a node's content is looked after over the mesh: what `macula-host content` asks, and what the node answers.
//!
//! The question is in the arguments of a signed invocation: `do`, and mostly `content`. The answer is JSON.

use std::{collections::BTreeMap, time::Duration};

use macula_node::{
    FetchState, NodeContent, Pinner,
    auth::ucan::Ipld,
    content::store::{Owner, Pinned, Stat},
    wire::{Fault, Mcid},
};
use serde::{Deserialize, Serialize};

/// What can be asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Action {
    /// Begin to fetch content.
    Fetch,
    /// Tell how its fetch is getting on.
    State,
    /// Tell what is here.
    List,
    /// Keep content from being evicted, or not any more.
    Pin,
    Unpin,
    /// Remove it for all.
    Remove,
    /// Read all of it and check it.
    Verify,
}

impl Action {
    const ALL: [Self; 7] = [Self::Fetch, Self::State, Self::List, Self::Pin, Self::Unpin, Self::Remove, Self::Verify];

    fn name(self) -> &'static str {
        match self {
            Self::Fetch => "fetch",
            Self::State => "state",
            Self::List => "list",
            Self::Pin => "pin",
            Self::Unpin => "unpin",
            Self::Remove => "remove",
            Self::Verify => "verify",
        }
    }

    /// The arguments of an invocation that asks for it.
    pub(crate) fn arguments(self, content: Option<&Mcid>) -> BTreeMap<String, Ipld> {
        let content = content.map(|content| ("content".to_owned(), Ipld::String(content.to_string())));
        [("do".to_owned(), Ipld::String(self.name().to_owned()))].into_iter().chain(content).collect()
    }

    fn asked(arguments: &BTreeMap<String, Ipld>) -> Option<Self> {
        let Some(Ipld::String(name)) = arguments.get("do") else { return None };
        Self::ALL.into_iter().find(|action| action.name() == name)
    }
}

/// How a fetch is getting on, as it is told.
#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "kebab-case")]
pub(crate) enum FetchReport {
    Running { bytes: u64, total: Option<u64>, providers: usize, rate: f64 },
    Done,
    Failed { fault: Fault },
}

/// One content, as it is listed.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Listed {
    pub(crate) mcid: Mcid,
    /// 0 when its files were lost, and only who wants it is known.
    pub(crate) bytes: u64,
    pub(crate) complete: bool,
    pub(crate) pinned: bool,
    /// In unix milliseconds.
    pub(crate) used: u64,
    pub(crate) owners: Vec<String>,
}

/// How long a node looks for somebody who has what it is to fetch.
const PATIENCE: Duration = Duration::from_secs(10);

/// Does what an invocation asks for.
pub(crate) async fn answer(content: &NodeContent, arguments: &BTreeMap<String, Ipld>) -> Result<Vec<u8>, Fault> {
    let action = Action::asked(arguments).ok_or_else(|| Fault::Invalid("nothing that a node does".into()))?;
    if action == Action::List {
        let list: Vec<Listed> = content.list().into_iter().map(listed).collect();
        return Ok(json(&list));
    }
    let mcid: Mcid = match arguments.get("content") {
        Some(Ipld::String(text)) => text.parse().map_err(|error| Fault::Invalid(format!("{error}")))?,
        _ => return Err(Fault::Invalid("which content is not said".into())),
    };
    let done = match action {
        Action::Fetch => {
            drop(content.fetch(Owner::Operator, &mcid, PATIENCE));
            Ok(())
        }
        Action::State => return Ok(json(&report(content, &mcid)?)),
        Action::Pin => content.pin(Pinner::Operator, &mcid).await,
        Action::Unpin => content.unpin(Pinner::Operator, &mcid).await,
        Action::Remove => content.remove(&mcid).await,
        Action::Verify => content.verify(&mcid).await,
        Action::List => Ok(()),
    };
    done.map(|()| json(&true)).map_err(|error| error.fault())
}

fn report(content: &NodeContent, mcid: &Mcid) -> Result<FetchReport, Fault> {
    Ok(match content.fetching(mcid) {
        None => return Err(Fault::NotFound(format!("{mcid} is not being fetched"))),
        Some(FetchState::Running(progress)) => FetchReport::Running {
            bytes: progress.bytes_done,
            total: progress.bytes_total,
            providers: progress.providers_sending,
            rate: progress.bytes_per_second,
        },
        Some(FetchState::Done) => FetchReport::Done,
        Some(FetchState::Failed(error)) => FetchReport::Failed { fault: error.fault() },
    })
}

fn listed(stat: Stat) -> Listed {
    Listed {
        mcid: stat.mcid,
        bytes: stat.size.unwrap_or(0),
        complete: stat.is_complete,
        pinned: stat.owners.iter().any(|(_, pinned)| *pinned == Pinned::Yes),
        used: stat.last_use,
        owners: stat.owners.iter().map(|(owner, _)| owner.to_string()).collect(),
    }
}

fn json(answer: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec(answer).expect("an answer is plain data")
}
