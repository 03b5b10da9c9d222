//! [`Mesh`] itself.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use bytes::Bytes;
use ed25519_dalek::SigningKey;
use macula_auth::{
    AuditEvent, Permissions, SignedRecord, Validity,
    ucan::{Command, InvocationFields, Ipld, Revocation, container},
};
use macula_transport::Link;
use macula_wire::{
    CallError, Channel, ChannelKind, ContentType, Delivery, Fault, Message, NodeId, Operation, Pattern, PluginName,
    Priority, RealmName, Receipt, Topic, WhenFull,
    frame::{Extras, Lane, Taken},
    limits::QUEUE_MESSAGES_MAX,
};
use tokio::{sync::watch, task::JoinHandle, time::timeout};

use super::{
    call::{CallOptions, Calls},
    config::{AuthLevel, ConnectError, LinkState, MeshConfig, Outlook},
    content, link_task,
    offer::{Advertise, Incoming, Offer},
    outbox::{ChannelName, Envelope, NoRoom, Outbox, SharedOutbox},
    own_rights::OwnRights,
    publisher::{ConfirmError, Publisher},
    registry::{Hold, OutOfForce, Registry},
    subscription::{self, Subscription, SubscriptionOptions},
};
use crate::{
    Audit,
    clock::unix_now,
    realm_access::{Purpose, nonce},
};

/// Seconds that an invocation is good for: enough for a call, little for whoever gets hold of it.
const INVOCATION_LIFETIME: u64 = 60;

/// What a relay has confirmed on a lane.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Confirmed {
    /// The last token.
    pub(super) last: u64,
    /// The last token before which something was denied.
    pub(super) denied: u64,
}

/// What all parts of a handle share.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) outbox: SharedOutbox,
    pub(super) registry: Registry,
    pub(super) calls: Calls,
    pub(super) incoming: Incoming,
    /// By lane: what a relay has confirmed.
    pub(super) confirmed: [watch::Sender<Confirmed>; Lane::COUNT],
    /// Number of the last message that a flush has come to a conclusion about.
    pub(super) flushed: AtomicU64,
    pub(super) timeout: Duration,
    pub(super) epoch: u64,
    pub(super) auth_min: AuthLevel,
    pub(super) rights: OwnRights,
    pub(super) source: content::Source,
    node: NodeId,
    key: SigningKey,
    state: watch::Sender<LinkState>,
    /// Number of the link that is up; 0 for none.
    link: AtomicU64,
    /// That link, for streams.
    streams: parking_lot::RwLock<Option<Link>>,
    started: Instant,
    /// Milliseconds after `started` at which the relay was last heard.
    heard_ms: AtomicU64,
    undelivered: AtomicU64,
    not_vouched_for: AtomicU64,
    close: watch::Sender<bool>,
    /// Held while it is waited for everything to arrive: what is not known is told once.
    pub(super) flushing: tokio::sync::Mutex<()>,
    /// Held while permissions are put in force.
    applying: parking_lot::Mutex<()>,
}

impl Shared {
    pub(super) fn set_state(&self, state: LinkState) {
        self.state.send_replace(state);
    }

    pub(super) fn set_link(&self, up: Option<(u64, Link)>) {
        let (number, link) = up.map_or((0, None), |(number, link)| (number, Some(link)));
        *self.streams.write() = link;
        self.link.store(number, Ordering::Release);
    }

    /// The link that is up.
    pub(super) fn current_link(&self) -> Option<Link> {
        self.streams.read().clone()
    }

    pub(super) fn link_number(&self) -> u64 {
        self.link.load(Ordering::Acquire)
    }

    pub(super) async fn until_up(&self) {
        // Fails only when the handle itself is gone.
        let _ = self.state.subscribe().wait_for(|state| matches!(state, LinkState::Up(_) | LinkState::Closed)).await;
    }

    pub(super) fn heard(&self) {
        self.heard_ms.store(self.started.elapsed().as_millis() as u64, Ordering::Relaxed);
    }

    pub(super) fn silence(&self) -> Duration {
        self.started.elapsed().saturating_sub(Duration::from_millis(self.heard_ms.load(Ordering::Relaxed)))
    }

    pub(super) fn set_undelivered(&self, total: u64) {
        self.undelivered.store(total, Ordering::Relaxed);
    }

    /// Messages that this realm's rule does not let in have come.
    pub(super) fn not_vouched_for(&self, count: u32) {
        if self.not_vouched_for.fetch_add(count.into(), Ordering::Relaxed) == 0 {
            let realm = self.rights.access().name();
            tracing::warn!(%realm, "messages are vouched for by less than the realm's minimum and are dropped");
        }
    }

    /// Why something was not sent; a denial is written down.
    pub(super) fn refused(&self, name: &ChannelName, reason: NoRoom) -> Fault {
        if reason == NoRoom::Denied {
            self.note_denial(name.operation(), &name.name);
        }
        name.fault(reason)
    }

    fn note_denial(&self, operation: Operation, name: &str) {
        let (node, realm) = (self.node, self.rights.realm());
        self.rights.audit.record(&AuditEvent::Denied { node, realm, operation, name: name.to_owned() });
    }

    /// Whether this node may do something with a whole pattern.
    pub(super) fn check(&self, operation: Operation, pattern: &Pattern) -> Result<(), Fault> {
        if self.rights.permissions().borrow().covers(operation, pattern) {
            return Ok(());
        }
        self.note_denial(operation, pattern);
        Err(Fault::Denied(format!("{operation} {pattern}")))
    }

    /// Puts what this node may do in force.
    pub(super) fn set_permissions(&self) {
        // One after the other: an older table must not come into force after a newer one.
        let _alone = self.applying.lock();
        let permissions = self.rights.permissions().borrow().clone();
        // What has lapsed stands, and waits.
        let kept = permissions.with_lapsed();
        let hold = |is_allowed: &dyn Fn(&Permissions) -> bool| match (is_allowed(&permissions), is_allowed(&kept)) {
            (true, _) => Hold::Allowed,
            (false, true) => Hold::Lapsed,
            (false, false) => Hold::Lost,
        };
        self.registry.hold(
            |pattern| hold(&|table| table.covers(Operation::Subscribe, pattern)),
            |procedure| hold(&|table| self.may_offer(table, procedure)),
        );
        self.outbox.set_permissions(permissions);
    }

    /// A node answers for itself under its own id without any right.
    fn may_offer(&self, permissions: &Permissions, procedure: &Topic) -> bool {
        permissions.allows(Operation::Advertise, procedure) || procedure.is_reserved()
    }

    pub(super) fn receipt(&self, lane: Lane, taken: Taken, token: u64) {
        self.outbox.confirmed(lane, token);
        self.confirmed[lane.index()].send_if_modified(|confirmed| {
            let newer = token > confirmed.last;
            confirmed.last = token.max(confirmed.last);
            if newer && taken == Taken::NotDenied {
                confirmed.denied = token;
            }
            newer
        });
    }
}

/// Ends the link when the last handle goes.
#[derive(Debug)]
struct Owner {
    shared: Arc<Shared>,
    task: parking_lot::Mutex<Option<JoinHandle<()>>>,
}

impl Drop for Owner {
    fn drop(&mut self) {
        let _ = self.shared.close.send(true);
    }
}

/// A node's handle to the mesh. Cheap to clone; the link ends when the last clone is dropped or one is closed.
#[derive(Debug, Clone)]
pub struct Mesh {
    owner: Arc<Owner>,
    plugin: PluginName,
}

/// How to publish; see [`Mesh::publish_with`].
#[derive(Debug, Clone, Default)]
pub struct Publish {
    /// How hard the mesh tries.
    pub delivery: Delivery,
    /// Which queue it takes.
    pub priority: Priority,
    /// Keep it as the topic's last value; with an empty payload, forget that.
    pub retain: bool,
    /// Media type.
    pub content_type: ContentType,
    /// Handlers that acted because of one another before this.
    pub cause_depth: u8,
    /// Metadata and trace.
    pub extras: Extras,
}

/// How to subscribe; see [`Mesh::subscribe_with`].
#[derive(Debug, Clone)]
pub struct Subscribe {
    /// What happens when the queue is full.
    pub when_full: WhenFull,
    /// Messages that may wait at the relay, and as many on the way and on this node; 1 to 65,536.
    pub queue_messages: u32,
    /// Begin with the stored last value of each matching topic; again after a lost link.
    pub retained: bool,
}

impl Default for Subscribe {
    fn default() -> Self {
        Self { when_full: WhenFull::DropOldest, queue_messages: 16_384, retained: true }
    }
}

impl Mesh {
    /// Starts a handle and waits for its first link, at most the configured timeout.
    ///
    /// # Errors
    /// See [`ConnectError`]; nothing is left running.
    pub async fn connect(config: MeshConfig) -> Result<Self, ConnectError> {
        let limit = config.timeout;
        let mesh = Self::start(config);
        let mut state = mesh.link();
        let settled = |state: &LinkState| !matches!(state, LinkState::Down { outlook: Outlook::Hopeful, .. });
        let outcome = match timeout(limit, state.wait_for(settled)).await {
            Ok(Ok(state)) => match &*state {
                LinkState::Up(_) => Ok(()),
                LinkState::Down { reason, outlook: Outlook::Denied } => Err(ConnectError::Denied(reason.clone())),
                LinkState::Down { reason, .. } => Err(ConnectError::Refused(reason.clone())),
                LinkState::Closed => Err(ConnectError::Unreachable("the handle was closed".into())),
            },
            Ok(Err(_)) => Err(ConnectError::Unreachable("the handle was closed".into())),
            Err(_) => Err(ConnectError::Unreachable(mesh.down_reason())),
        };
        outcome.map(|()| mesh)
    }

    /// Starts a handle that links in the background. Publishing queues until then, requests wait.
    ///
    /// # Panics
    /// When `config.relays` is empty, or outside a tokio runtime.
    pub fn start(config: MeshConfig) -> Self {
        assert!(!config.relays.is_empty(), "a mesh handle needs a relay to dial");
        let node = config.node.id();
        let (close, closing) = watch::channel(false);
        let rights = OwnRights::new(node, config.realm.clone(), config.revocation_log.clone(), &config.revocations);
        let permissions = rights.permissions().borrow().clone();
        let down =
            LinkState::Down { reason: format!("no answer yet from {}", config.relays[0]), outlook: Outlook::Hopeful };
        let shared = Arc::new(Shared {
            outbox: Arc::new(Outbox::new(node, config.node.epoch, config.outbox_bytes_max, permissions)),
            registry: Registry::default(),
            calls: Calls::default(),
            incoming: Incoming::default(),
            flushed: AtomicU64::new(0),
            confirmed: std::array::from_fn(|_| watch::channel(Confirmed::default()).0),
            timeout: config.timeout,
            epoch: config.node.epoch,
            auth_min: config.auth_min,
            rights,
            source: content::Source::default(),
            node,
            key: config.node.key.clone(),
            state: watch::channel(down).0,
            link: AtomicU64::new(0),
            streams: parking_lot::RwLock::default(),
            started: Instant::now(),
            heard_ms: AtomicU64::new(0),
            undelivered: AtomicU64::new(0),
            not_vouched_for: AtomicU64::new(0),
            close,
            applying: parking_lot::Mutex::new(()),
            flushing: tokio::sync::Mutex::new(()),
        });
        let task = tokio::spawn(link_task::run(Arc::clone(&shared), config, closing));
        Self { owner: Arc::new(Owner { shared, task: parking_lot::Mutex::new(Some(task)) }), plugin: PluginName::EMPTY }
    }

    /// The same handle, sending in a plugin's name.
    pub fn for_plugin(&self, name: PluginName) -> Self {
        Self { owner: Arc::clone(&self.owner), plugin: name }
    }

    /// This node's id.
    pub fn node(&self) -> NodeId {
        self.shared().node
    }

    /// The realm that everything happens in.
    pub fn realm(&self) -> &RealmName {
        self.shared().rights.access().name()
    }

    /// By which relays know it.
    pub fn realm_id(&self) -> macula_wire::RealmId {
        self.shared().rights.realm()
    }

    /// What this node may do in the realm, now and as it changes: its own rights, and those of its plugins.
    pub fn permissions(&self) -> watch::Receiver<Arc<Permissions>> {
        self.shared().rights.permissions()
    }

    /// Something was denied on this node by a narrower right than the node's own, such as a plugin's: for the audit.
    pub fn note_denial(&self, operation: Operation, name: &str) {
        self.shared().note_denial(operation, name);
    }

    /// What was denied, and how rights have changed.
    pub fn audit(&self) -> &Arc<Audit> {
        &self.shared().rights.audit
    }

    /// Messages that were dropped because they are vouched for by less than [`MeshConfig::auth_min`].
    pub fn not_vouched_for(&self) -> u64 {
        self.shared().not_vouched_for.load(Ordering::Relaxed)
    }

    /// Tells the mesh that delegations are revoked; when it returns, the relay has it in force and passes it on.
    ///
    /// # Errors
    /// What the relay says; `unavailable` without a link; `timeout`.
    pub async fn revoke(&self, revocations: &[Revocation]) -> Result<(), Fault> {
        for revocation in revocations {
            if self.shared().rights.revoke(revocation.bytes()) {
                self.shared().set_permissions();
            }
        }
        let tokens = revocations.iter().map(|revocation| revocation.bytes().to_vec()).collect();
        let answers = self.shared().registry.revoke(tokens);
        if answers.is_empty() && !revocations.is_empty() {
            return Err(Fault::Unavailable(format!("there is no link to a relay: {}", self.down_reason())));
        }
        for answer in answers {
            self.answered(answer).await?;
        }
        Ok(())
    }

    /// A signed invocation of `operation` on `topic`, for the node `audience`, with its proofs: what administration and
    /// the like have to bring. Good for a minute.
    ///
    /// # Errors
    /// `denied` when this node has no such right.
    pub fn invocation(
        &self,
        operation: Operation,
        topic: &Topic,
        audience: NodeId,
        arguments: BTreeMap<String, Ipld>,
    ) -> Result<Vec<u8>, Fault> {
        let shared = self.shared();
        let denied = || Fault::Denied(format!("{operation} {topic}"));
        let now = unix_now();
        let chains = shared.rights.access().chains(&shared.node, Purpose::Member, now);
        let command: Command = operation.command().parse().expect("a constant");
        let mut arguments = arguments;
        arguments.insert("topic".to_owned(), Ipld::String(topic.to_string()));
        let asked = Ipld::Map(arguments.clone());
        // Of several, one that covers this call: what is granted to a plugin, or on other names, does not. If none does, who
        // is asked says why.
        let is_about = |chain: &&macula_auth::ucan::Chain| chain.command().covers(&command);
        let covers = |chain: &&macula_auth::ucan::Chain| {
            is_about(chain) && chain.links().iter().all(|link| link.policy().matches(&asked))
        };
        let chain = chains.iter().find(covers).or_else(|| chains.iter().find(is_about)).ok_or_else(denied)?;
        let fields = InvocationFields {
            subject: *chain.subject(),
            audience: Some(audience),
            command,
            arguments,
            proofs: chain.links().iter().map(|link| *link.cid()).collect(),
            nonce: nonce(),
            expires: Some(now + INVOCATION_LIFETIME),
            issued_at: None,
            cause: None,
            meta: BTreeMap::new(),
        };
        let invocation = fields.sign(&shared.key).map_err(|error| Fault::Invalid(error.to_string()))?;
        let tokens = chain.links().iter().map(|link| link.bytes()).chain([invocation.bytes()]);
        Ok(container::encode(tokens, container::Encoding::Raw))
    }

    /// Checks what [`Mesh::invocation`] has made on another node: that it is for this one, was signed by `sender`, asks for
    /// `operation` on `topic`, rests on rights that hold, and was not used before. Gives its arguments.
    ///
    /// # Errors
    /// `denied`, with the name of what is wrong; the details go to the audit.
    pub fn accept_invocation(
        &self,
        bytes: &[u8],
        sender: &NodeId,
        operation: Operation,
        topic: &Topic,
    ) -> Result<BTreeMap<String, Ipld>, Fault> {
        let denied = |name: &str| Fault::Denied(format!("{operation} {topic}: {name}"));
        let tokens = container::decode(bytes).map_err(|error| denied(error.name()))?;
        let accepted = self.shared().rights.accept_invocation(&tokens, sender, operation, topic);
        accepted.map_err(|refused| denied(refused.name()))
    }

    /// Signs a record: what everybody in the realm may read and check, for as long as it lasts. It is signed by the realm's
    /// root key or by one that was granted the right, and not by this node's. `validity` says whether it expires.
    ///
    /// # Errors
    /// `denied` when there is no right to `operation` on `topic` here; `invalid` when it is too large.
    pub fn sign_record(
        &self,
        operation: Operation,
        topic: &Topic,
        arguments: BTreeMap<String, Ipld>,
        validity: Validity,
    ) -> Result<Vec<u8>, Fault> {
        let access = self.shared().rights.access();
        let signed = access.sign_record(operation, topic, arguments, validity, unix_now());
        let signed = signed.ok_or_else(|| Fault::Denied(format!("{operation} {topic}")))?;
        signed.map_err(|error| Fault::Invalid(error.to_string()))
    }

    /// Checks what [`Mesh::sign_record`] has made, anywhere.
    ///
    /// # Errors
    /// `denied`, with the name of what is wrong.
    pub fn check_record(
        &self,
        bytes: &[u8],
        operation: Operation,
        topic: &Topic,
        validity: Validity,
    ) -> Result<SignedRecord, Fault> {
        let denied = |name: &str| Fault::Denied(format!("{operation} {topic}: {name}"));
        let tokens = container::decode(bytes).map_err(|error| denied(error.name()))?;
        let checked = self.shared().rights.check_record(&tokens, operation, topic, validity);
        checked.map_err(|refused| denied(refused.name()))
    }

    /// Whether there is a link, now and as it changes.
    pub fn link(&self) -> watch::Receiver<LinkState> {
        self.shared().state.subscribe()
    }

    /// When a relay was last heard: by now it may be gone, and nobody has noticed yet.
    pub fn last_heard(&self) -> Instant {
        let shared = self.shared();
        shared.started + Duration::from_millis(shared.heard_ms.load(Ordering::Relaxed))
    }

    /// Messages of this node that some subscriber did not get because its queue was full, since the link began.
    pub fn undelivered(&self) -> u64 {
        self.shared().undelivered.load(Ordering::Relaxed)
    }

    /// Subscriptions and offers that no relay has, because their right has lapsed or it refuses them. They go on when that
    /// changes. Those that only wait for a link are not counted.
    pub fn out_of_force(&self) -> OutOfForce {
        self.shared().registry.out_of_force()
    }

    /// Bytes that wait to be sent.
    pub fn waiting_bytes(&self) -> usize {
        self.shared().outbox.waiting_bytes()
    }

    /// Publishes `ordered`, at normal priority.
    ///
    /// # Errors
    /// As [`Mesh::publish_with`].
    pub async fn publish(&self, topic: &Topic, payload: &[u8]) -> Result<Receipt, Fault> {
        self.publish_with(topic, payload, &Publish::default()).await
    }

    /// Publishes. Waits for room in this node's queue, and with [`Delivery::Acked`] for the relay. A message that has
    /// been queued is sent even when the future is dropped; the receipt says where it was known to be.
    ///
    /// # Errors
    /// `denied`, `invalid` (cause depth), `too-large`, `unavailable` (no room in time; it was not sent), `timeout` (no relay
    /// confirmed in time; it may still be delivered).
    pub async fn publish_with(&self, topic: &Topic, payload: &[u8], options: &Publish) -> Result<Receipt, Fault> {
        let (name, extras) = (self.topic_channel(topic, &options.content_type), options.extras.to_bytes());
        self.shared().publish(&name, envelope(options, &extras), payload).await
    }

    /// Publishes if there is room at once; `None` when there is not. Never waits for a relay.
    pub fn try_publish(&self, topic: &Topic, payload: &[u8], options: &Publish) -> Option<Result<Receipt, Fault>> {
        let (name, extras) = (self.topic_channel(topic, &options.content_type), options.extras.to_bytes());
        self.shared()
            .publish_now(&name, envelope(options, &extras), payload)
            .ok()
            .map(|outcome| outcome.map(|published| published.receipt))
    }

    /// For publishing to one topic again and again: `ordered`, at normal priority.
    pub fn publisher(&self, topic: &Topic, content_type: &ContentType) -> Publisher {
        self.publisher_with(topic, &Publish { content_type: content_type.clone(), ..Publish::default() })
    }

    /// For publishing to one topic again and again, each message with these options.
    pub fn publisher_with(&self, topic: &Topic, options: &Publish) -> Publisher {
        let name = self.topic_channel(topic, &options.content_type);
        Publisher::new(Arc::clone(&self.owner.shared), name, options)
    }

    /// Waits until a relay has everything that was published so far.
    ///
    /// # Errors
    /// See [`ConfirmError`]. Messages that are unknown are told by one call; the next speaks of what was published since.
    pub async fn flush(&self) -> Result<(), ConfirmError> {
        self.shared().flush().await
    }

    /// Subscribes with [`Subscribe::default`].
    ///
    /// # Errors
    /// As [`Mesh::subscribe_with`].
    pub async fn subscribe(&self, pattern: Pattern) -> Result<Subscription, Fault> {
        self.subscribe_with(pattern, Subscribe::default()).await
    }

    /// Subscribes; when it returns, the relay has the subscription. Dropping the future takes it back.
    ///
    /// # Errors
    /// What the relay says; `denied`; `unavailable` when there is no link in time; `invalid` (queue length); `quota-exceeded` above
    /// 8,192 subscriptions and offers of one handle.
    pub async fn subscribe_with(&self, pattern: Pattern, options: Subscribe) -> Result<Subscription, Fault> {
        if !(1..=QUEUE_MESSAGES_MAX).contains(&options.queue_messages) {
            return Err(Fault::Invalid(format!(
                "a queue of {} messages (1 to {QUEUE_MESSAGES_MAX})",
                options.queue_messages
            )));
        }
        self.shared().check(Operation::Subscribe, &pattern)?;
        self.shared().registry.check_room()?;
        let options = SubscriptionOptions {
            pattern,
            when_full: options.when_full,
            queue_messages: options.queue_messages,
            retained: options.retained,
        };
        let (state, first) = self.shared().registry.subscribe(options);
        // Unsubscribes when it is dropped before the answer.
        let subscription = Subscription::new(Arc::clone(&self.owner.shared), state);
        self.answered(first).await?;
        Ok(subscription)
    }

    /// Offers a procedure with [`Advertise::default`].
    ///
    /// # Errors
    /// As [`Mesh::advertise_with`].
    pub async fn advertise(&self, procedure: Topic) -> Result<Offer, Fault> {
        self.advertise_with(procedure, Advertise::default()).await
    }

    /// Offers a procedure; when it returns, the relay knows. Dropping the future takes it back.
    ///
    /// # Errors
    /// What the relay says; `conflict` when this node offers it already; `unavailable` when there is no link in time.
    pub async fn advertise_with(&self, procedure: Topic, options: Advertise) -> Result<Offer, Fault> {
        let shared = self.shared();
        if !shared.may_offer(&shared.rights.permissions().borrow(), &procedure) {
            shared.check(Operation::Advertise, &procedure.clone().into())?;
        }
        shared.registry.check_room()?;
        let (state, calls, first) = shared.registry.advertise(procedure, options)?;
        let offer = Offer::new(Arc::clone(&self.owner.shared), state, calls);
        self.answered(first).await?;
        Ok(offer)
    }

    /// Calls a procedure and waits for the answer. Dropping the future cancels.
    ///
    /// # Errors
    /// Sorted by whether the handler may have run: see [`CallError`].
    pub async fn call(&self, procedure: &Topic, payload: &[u8], options: &CallOptions) -> Result<Bytes, CallError> {
        self.shared().call(&self.plugin, procedure, payload, options).await
    }

    /// The stored last value of one topic.
    ///
    /// # Errors
    /// What the relay says; `unavailable` without a link; `timeout`.
    pub async fn retained(&self, topic: &Topic) -> Result<Option<Message>, Fault> {
        self.shared().check(Operation::Subscribe, &topic.clone().into())?;
        let stored = self.answered(self.shared().registry.retained(topic.clone())?).await?;
        Ok(stored.and_then(|stored| {
            let channel = Arc::new(Channel::from_bytes(&stored.channel).ok()?);
            let frame = Bytes::from(stored.frame);
            let macula_wire::frame::Frame::Message { header, .. } = macula_wire::frame::Frame::parse(&frame).ok()?
            else {
                return None;
            };
            subscription::decode(&frame, &[(header.channel, channel)])
        }))
    }

    /// Sends what waits, ends the link and everything that hangs on it.
    pub async fn close(&self) {
        let _ = self.shared().close.send(true);
        let task = self.owner.task.lock().take();
        if let Some(task) = task {
            // Panics have been reported by the runtime.
            let _ = task.await;
        }
        if let Some(log) = self.shared().rights.log().cloned() {
            let _ = tokio::task::spawn_blocking(move || log.flush()).await;
        }
    }

    pub(super) fn shared(&self) -> &Arc<Shared> {
        &self.owner.shared
    }

    fn topic_channel(&self, topic: &Topic, content_type: &ContentType) -> ChannelName {
        ChannelName {
            kind: ChannelKind::Topic,
            name: topic.clone(),
            plugin: self.plugin.clone(),
            content_type: content_type.clone(),
        }
    }

    fn down_reason(&self) -> String {
        match &*self.shared().state.borrow() {
            LinkState::Down { reason, .. } => reason.clone(),
            _ => "no answer".into(),
        }
    }

    async fn answered<T>(&self, answer: tokio::sync::oneshot::Receiver<Result<T, Fault>>) -> Result<T, Fault> {
        match timeout(self.shared().timeout, answer).await {
            Ok(Ok(outcome)) => outcome,
            Ok(Err(_)) => Err(Fault::Unavailable("the link was lost".into())),
            Err(_) if self.shared().link_number() == 0 => {
                Err(Fault::Unavailable(format!("there is no link to a relay: {}", self.down_reason())))
            }
            Err(_) => Err(Fault::Timeout),
        }
    }
}

pub(super) fn envelope<'a>(options: &Publish, extras: &'a [u8]) -> Envelope<'a> {
    Envelope {
        delivery: options.delivery,
        priority: options.priority,
        retain: options.retain,
        cause_depth: options.cause_depth,
        extras,
    }
}
