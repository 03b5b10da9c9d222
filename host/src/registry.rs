//! The registry: packages by name and version. Every host keeps all records of its realm, takes new ones, and says them again
//! to a relay that was started anew.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::{Duration, Instant},
};

use data_encoding::BASE64;
use macula_node::{
    IncomingCall, LinkState, Mesh, NodeContent, NodeState, PackageFiles, Pinner, Publish, Subscribe, Subscription,
    auth::Validity,
    content::store::Owner,
    deploy::{Catalog, Package, PackageId, PackageQuery, PackageRefused},
    unix_now,
    wire::{Delivery, Fault, Mcid, Message, Operation, Topic},
};
use parking_lot::{Mutex, RwLock};
use serde::{Deserialize, Serialize};
use tokio::{sync::watch, task::JoinHandle, time::timeout};

use crate::{answering, failure::Failure};

/// Before something that a relay has refused is tried again: rights may have come.
const TRY_AGAIN: Duration = Duration::from_secs(5);
/// Stored records have all come when none has for so long.
const QUIET: Duration = Duration::from_millis(300);
/// Between two times that a record is said again because somebody said something else.
const SAY_AGAIN: Duration = Duration::from_secs(1);
/// How old a record may be that is handed in, in seconds: clocks differ, and a record takes no time.
const PUSH_AGE_MAX: u64 = 300;
/// How long a component is looked for.
const FETCH_PATIENCE: Duration = Duration::from_secs(10);

/// The procedure under which hosts take records of packages and tell of them.
pub(crate) fn registry_procedure() -> Topic {
    "_mesh.registry".parse().expect("a constant of the grammar")
}

/// What is asked.
#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "do", rename_all = "kebab-case")]
pub(crate) enum Asked {
    /// Take this record (in base64) of a package: a [`Listed`].
    Push { package: String, record: String },
    /// The record of this version: in base64, or nothing.
    Get { package: String },
    /// The record of the newest version that fits: in base64, or nothing.
    Find { package: String },
    /// Versions whose name contains this, at most [`FOUND_MAX`].
    Search { text: String },
}

/// Versions that a search gives.
const FOUND_MAX: usize = 1000;

/// A version of a package, as it is told.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Listed {
    pub(crate) name: String,
    pub(crate) version: String,
    pub(crate) mcid: Mcid,
    pub(crate) seq: u64,
    pub(crate) yanked: bool,
}

impl Listed {
    pub(crate) fn of(package: &Package) -> Self {
        Self {
            name: package.id.name.to_string(),
            version: package.id.version.to_string(),
            mcid: package.mcid.clone(),
            seq: package.seq,
            yanked: package.is_yanked,
        }
    }
}

/// A host's part of the registry. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Registry(Arc<Inner>);

struct Inner {
    mesh: Mesh,
    content: NodeContent,
    files: PackageFiles,
    catalog: RwLock<Catalog>,
    /// What was said again lately.
    said: Mutex<BTreeMap<PackageId, Instant>>,
    /// Whether the relay's records have come; also changed with each record that is taken.
    changed: watch::Sender<bool>,
}

/// The tasks of a registry.
pub(crate) struct RegistryTasks(Vec<JoinHandle<()>>);

impl RegistryTasks {
    pub(crate) fn stop(&self) {
        self.0.iter().for_each(JoinHandle::abort);
    }
}

impl Registry {
    /// Takes up what is known.
    pub(crate) fn start(
        mesh: &Mesh,
        content: &NodeContent,
        state: &NodeState,
    ) -> Result<(Self, RegistryTasks), Failure> {
        let files = state.package_files()?;
        let registry = Self(Arc::new(Inner {
            mesh: mesh.clone(),
            content: content.clone(),
            files,
            catalog: RwLock::default(),
            said: Mutex::default(),
            changed: watch::Sender::new(false),
        }));
        for record in registry.0.files.read()? {
            if let Err(error) = registry.take(record) {
                tracing::warn!(%error, "the record of a package on the disk is left out");
            }
        }
        let tasks = vec![tokio::spawn(listen(registry.clone())), tokio::spawn(serve(registry.clone()))];
        Ok((registry, RegistryTasks(tasks)))
    }

    /// The newest version that fits; waits for the relay's records, and then for one that fits, for `patience`.
    pub(crate) async fn find(&self, query: &PackageQuery, patience: Duration) -> Option<Package> {
        let mut changed = self.0.changed.subscribe();
        // What is known already will do when there is no relay.
        let _ = timeout(patience, changed.wait_for(|is_complete| *is_complete)).await;
        let found = async {
            loop {
                changed.mark_unchanged();
                if let Some(found) = self.0.catalog.read().find(query) {
                    return Some(found.clone());
                }
                changed.changed().await.ok()?;
            }
        };
        timeout(patience, found).await.ok().flatten()
    }

    /// Whether a version is registered and was not yanked.
    pub(crate) fn wants(&self, id: &str) -> bool {
        let id: Option<PackageId> = id.parse().ok();
        id.is_some_and(|id| self.0.catalog.read().get(&id).is_some_and(|package| !package.is_yanked))
    }

    /// Takes a record, if it holds. Whether it is news.
    fn take(&self, record: Vec<u8>) -> Result<Option<Package>, Refused> {
        let package = self.read(&record, None)?;
        let is_new = self.0.catalog.write().insert(package.clone(), record)?;
        if is_new {
            self.0.changed.send_modify(|_| {});
        }
        Ok(is_new.then_some(package))
    }

    /// What a record says, if it holds; `issued` wants it to be made lately.
    fn read(&self, record: &[u8], issued: Option<u64>) -> Result<Package, Refused> {
        read_package(&self.0.mesh, record, issued)
    }

    /// Keeps a record that was taken.
    async fn keep(&self, package: &Package, record: Vec<u8>) {
        tracing::info!(package = %package.id, mcid = %package.mcid, yanked = package.is_yanked, "package registered");
        let (files, id) = (self.0.files.clone(), package.id.clone());
        let kept = tokio::task::spawn_blocking(move || files.write(&id, &record)).await;
        if let Ok(Err(error)) = kept {
            tracing::warn!(package = %package.id, %error, "the record of a package could not be kept over a restart");
        }
    }

    /// Somebody has said what a package is.
    async fn hear(&self, message: &Message) {
        let record = message.payload.to_vec();
        match self.take(record.clone()) {
            Ok(Some(package)) => {
                self.keep(&package, record).await;
            }
            Ok(None) => {}
            Err(Refused::Package(PackageRefused::Older(id))) => self.say_again(&id).await,
            Err(error) => {
                tracing::warn!(topic = %message.topic, "a package is refused: {error}");
                // It is what the relay has stored now, in the place of what the version is.
                let is_other = matches!(error, Refused::Package(_));
                if let Some(id) = PackageId::of_record_topic(&message.topic).filter(|_| !is_other) {
                    self.say_again(&id).await;
                }
            }
        }
    }

    /// Says what a package is, now and then: whoever says something else must not have everybody answer all the time.
    async fn say_again(&self, id: &PackageId) {
        {
            let mut said = self.0.said.lock();
            said.retain(|_, at| at.elapsed() < SAY_AGAIN);
            if said.contains_key(id) {
                return;
            }
            said.insert(id.clone(), Instant::now());
        }
        self.say(id).await;
    }

    /// Says what a package is, to a relay that knows less.
    async fn say(&self, id: &PackageId) {
        if let (Some(topic), Some(record)) = (id.record_topic(), self.record(id))
            && let Err(fault) = self.publish(&topic, &record, Delivery::Ordered).await
        {
            tracing::debug!(package = %id, %fault, "the package could not be said again");
        }
    }

    fn record(&self, id: &PackageId) -> Option<Vec<u8>> {
        self.0.catalog.read().record(id).map(<[u8]>::to_vec)
    }

    async fn publish(&self, topic: &Topic, record: &[u8], delivery: Delivery) -> Result<(), Fault> {
        let options = Publish { retain: true, delivery, ..Publish::default() };
        self.0.mesh.publish_with(topic, record, &options).await.map(drop)
    }

    async fn answer(&self, asked: Asked) -> Result<Vec<u8>, Fault> {
        let malformed = |error: macula_node::deploy::PackageError| Fault::Invalid(error.to_string());
        let parsed = |text: &str| text.parse().map_err(malformed);
        Ok(match asked {
            Asked::Push { package, record } => json(&self.push(&parsed(&package)?, &record).await?),
            Asked::Get { package } => {
                let id: PackageId = parsed(&package)?;
                json(&self.record(&id).map(|record| BASE64.encode(&record)))
            }
            Asked::Find { package } => {
                let query: PackageQuery = package.parse().map_err(malformed)?;
                let found = self.0.catalog.read().find(&query).map(|package| package.id.clone());
                json(&found.and_then(|id| self.record(&id)).map(|record| BASE64.encode(&record)))
            }
            Asked::Search { text } => {
                let catalog = self.0.catalog.read();
                let found = catalog.packages().filter(|package| package.id.name.as_str().contains(&*text));
                json(&found.take(FOUND_MAX).map(Listed::of).collect::<Vec<_>>())
            }
        })
    }

    /// Takes a record that was handed in: its component is fetched first, and kept.
    async fn push(&self, id: &PackageId, record: &str) -> Result<Listed, Fault> {
        let record =
            BASE64.decode(record.as_bytes()).map_err(|_| Fault::Invalid("the record is not in base64".into()))?;
        let package = self.read(&record, Some(unix_now())).map_err(Refused::fault)?;
        let topic = package.id.record_topic().filter(|_| package.id == *id);
        let topic =
            topic.ok_or_else(|| Fault::Invalid(format!("the record is not of {id}, or its name is too long")))?;
        // Before anything is fetched; what comes in between is refused below.
        self.0.catalog.read().check(&package).map_err(|refused| Refused::from(refused).fault())?;
        let content = &self.0.content;
        if !package.is_yanked {
            let obtained = content
                .obtain(Owner::Operator, &package.mcid, FETCH_PATIENCE, macula_runtime::COMPONENT_BYTES_MAX)
                .await;
            obtained.map_err(|error| error.fault())?;
        }
        let is_news = self.take(record.clone()).map_err(Refused::fault)?.is_some();
        let pinner = Pinner::Package(package.id.to_string());
        if package.is_yanked {
            // Who runs it keeps it.
            let _ = content.unpin(pinner, &package.mcid).await;
        } else {
            content.pin(pinner, &package.mcid).await.map_err(|error| error.fault())?;
        }
        if is_news {
            self.keep(&package, record.clone()).await;
        }
        self.publish(&topic, &record, Delivery::Acked).await?;
        Ok(Listed::of(&package))
    }
}

/// What the record of a package says, if it holds; `issued` wants it to be made lately.
pub(crate) fn read_package(mesh: &Mesh, record: &[u8], issued: Option<u64>) -> Result<Package, Refused> {
    let tokens =
        macula_node::auth::ucan::container::decode(record).map_err(|error| Refused::Form(error.to_string()))?;
    let topic = record_name(&tokens).ok_or_else(|| Refused::Form("no record of a package".to_owned()))?;
    let signed = mesh.check_record(record, Operation::Deploy, &topic, Validity::Lasting).map_err(Refused::Unproved)?;
    if issued.is_some_and(|now| signed.issued.abs_diff(now) > PUSH_AGE_MAX) {
        return Err(Refused::Form(format!("the record was not made within the last {PUSH_AGE_MAX} s")));
    }
    Ok(Package::read(&signed, mesh.realm())?)
}

/// Why a record is not taken.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Refused {
    #[error("{0}")]
    Form(String),
    #[error("{0}")]
    Unproved(Fault),
    #[error(transparent)]
    Package(#[from] PackageRefused),
}

impl Refused {
    fn fault(self) -> Fault {
        match self {
            Self::Form(text) => Fault::Invalid(text),
            Self::Unproved(fault) => fault,
            Self::Package(refused @ (PackageRefused::Immutable { .. } | PackageRefused::Older(_))) => {
                Fault::Conflict(refused.to_string())
            }
            Self::Package(PackageRefused::Full) => Fault::QuotaExceeded(PackageRefused::Full.to_string()),
            Self::Package(refused) => Fault::Invalid(refused.to_string()),
        }
    }
}

/// What a record is about, by its own word: its proofs are held against that.
fn record_name(tokens: &[Vec<u8>]) -> Option<Topic> {
    use macula_node::auth::ucan::{Invocation, Ipld};
    let record = tokens.iter().find_map(|token| Invocation::decode(token).ok())?;
    match record.arguments().get("topic") {
        Some(Ipld::String(name)) => name.parse().ok(),
        _ => None,
    }
}

fn json(answer: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec(answer).expect("an answer is plain data")
}

/// Takes what is said of packages, and says what a relay has forgotten.
async fn listen(registry: Registry) {
    let mesh = registry.0.mesh.clone();
    let mut link = mesh.link();
    loop {
        let subscribed = mesh.subscribe_with(PackageId::record_pattern(), Subscribe::default()).await;
        let mut records = match subscribed {
            Ok(records) => records,
            Err(fault) => {
                tracing::debug!(%fault, "cannot hear of packages yet");
                tokio::time::sleep(TRY_AGAIN).await;
                continue;
            }
        };
        // Until the right to it ends, for now perhaps.
        while catch_up(&registry, &mut records).await {
            registry.0.changed.send_replace(true);
            loop {
                tokio::select! {
                    message = records.next() => match message {
                        Some(message) => registry.hear(&message).await,
                        None => break,
                    },
                    Ok(()) = link.changed() => {
                        // A relay that was started anew: it tells what it has, and is told what it lacks.
                        if matches!(*link.borrow_and_update(), LinkState::Up(_)) {
                            break;
                        }
                    }
                }
            }
        }
        if matches!(*link.borrow(), LinkState::Closed) {
            return;
        }
        tokio::time::sleep(TRY_AGAIN).await;
    }
}

/// Hears what the relay has stored, and says what it lacks. False when the subscription has ended.
async fn catch_up(registry: &Registry, records: &mut Subscription) -> bool {
    let mut stored = BTreeSet::new();
    while let Ok(message) = timeout(QUIET, records.next()).await {
        let Some(message) = message else { return false };
        stored.extend(PackageId::of_record_topic(&message.topic));
        registry.hear(&message).await;
    }
    let missing: Vec<PackageId> = {
        let catalog = registry.0.catalog.read();
        catalog.records().map(|(id, _)| id.clone()).filter(|id| !stored.contains(id)).collect()
    };
    for id in missing {
        registry.say(&id).await;
    }
    true
}

/// Takes records, and tells of them, for as long as the node runs.
async fn serve(registry: Registry) {
    let mesh = registry.0.mesh.clone();
    answering::serve(mesh, registry_procedure(), move |call| answer(registry.clone(), call)).await;
}

async fn answer(registry: Registry, call: IncomingCall) {
    let answered = match serde_json::from_slice(&call.request.payload) {
        Ok(asked) => registry.answer(asked).await,
        Err(error) => Err(Fault::Invalid(format!("nothing that is asked here: {error}"))),
    };
    answering::give(call, answered);
}
