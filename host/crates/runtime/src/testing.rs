//! A mesh in memory, for tests of plugins and of this crate.
//!
//! One [`LocalMesh`] stands for one node in one realm. What is published reaches every matching subscription at once; a
//! queue that is full forgets its oldest message; calls go to the first who offers the procedure. There is no clock and
//! no thread: everything happens in the calls themselves.

use std::{
    collections::{HashMap, HashSet, VecDeque},
    future,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll, Waker},
    time::Duration,
};

use bytes::Bytes;
use macula_wire::{
    CallError, ContentType, Fault, HandlerError, Mcid, Message, NodeId, Operation, Pattern, PluginName, RealmName,
    Receipt, ReceiptLevel, Request, Topic,
};
use parking_lot::Mutex;
use tokio::sync::{Notify, oneshot};

use crate::mesh::{
    Answer, Call, Content, ContentBlob, ContentFetch, ContentWriter, FetchState, Inbox, IncomingCall, Mesh,
    MeshProvider, Offer, Pending, Publication, Publishing, SubscribeOptions,
};

/// A mesh of one node. Cheap to clone.
#[derive(Clone)]
pub struct LocalMesh(Arc<Shared>);

struct Shared {
    node: NodeId,
    realm: RealmName,
    seq: AtomicU64,
    state: Mutex<State>,
    contents: Mutex<Contents>,
    published: Notify,
}

#[derive(Default)]
struct State {
    subscriptions: Vec<(Pattern, Arc<Mutex<Queue<Message>>>)>,
    offers: Vec<(Topic, Arc<Mutex<Queue<IncomingCall>>>)>,
    retained: HashMap<Topic, Message>,
    record: Option<Vec<Message>>,
    /// What `publish` answers with until this many more have been asked.
    failures: VecDeque<Fault>,
    /// When set, acked messages wait for [`LocalMesh::release_acks`].
    held_acks: Option<Vec<oneshot::Sender<()>>>,
    denied: Vec<(Operation, String)>,
    /// What others answer, and how long they take.
    answers: HashMap<Topic, (Result<Bytes, CallError>, Duration)>,
    /// Calls that plugins made.
    calls: Vec<(Topic, Bytes)>,
    /// What plugins publish there gets lost.
    lost: Vec<Pattern>,
}

struct Queue<T> {
    items: VecDeque<T>,
    waker: Option<Waker>,
    max: usize,
    dropped: u64,
    is_closed: bool,
}

impl<T> Queue<T> {
    fn new(max: usize) -> Arc<Mutex<Self>> {
        Arc::new(Mutex::new(Self { items: VecDeque::new(), waker: None, max, dropped: 0, is_closed: false }))
    }

    fn push(&mut self, item: T) {
        if self.items.len() >= self.max {
            self.items.pop_front();
            self.dropped += 1;
        }
        self.items.push_back(item);
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }

    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<T>> {
        match self.items.pop_front() {
            Some(item) => Poll::Ready(Some(item)),
            None => {
                if !self.waker.as_ref().is_some_and(|waker| waker.will_wake(cx.waker())) {
                    self.waker = Some(cx.waker().clone());
                }
                Poll::Pending
            }
        }
    }
}

impl Default for LocalMesh {
    fn default() -> Self {
        Self::new()
    }
}

impl LocalMesh {
    /// An empty mesh in the realm `local.dev`, with a record of all that is published.
    pub fn new() -> Self {
        let state = State { record: Some(Vec::new()), ..State::default() };
        Self(Arc::new(Shared {
            node: "did:key:z6MkhaXgBZDvotDkL5257faiztiGiC2QtKLGpbnnEGta2doK".parse().expect("a well-known key"),
            realm: "local.dev".parse().expect("a constant of the grammar"),
            seq: AtomicU64::new(1),
            state: Mutex::new(state),
            contents: Mutex::default(),
            published: Notify::new(),
        }))
    }

    /// Keeps no record any more: for measurements.
    pub fn forget(&self) {
        self.0.state.lock().record = None;
    }

    /// A message of somebody outside.
    pub fn message(&self, topic: &str, payload: impl Into<Bytes>) -> Message {
        Message {
            topic: topic.parse().expect("a topic"),
            payload: payload.into(),
            content_type: ContentType::EMPTY,
            publisher: self.0.node,
            plugin: PluginName::EMPTY,
            epoch: 1,
            seq: self.0.seq.fetch_add(1, Ordering::Relaxed),
            timestamp_ms: 1_000,
            retained: false,
            cause_depth: 0,
            metadata: None,
            traceparent: None,
            tracestate: None,
        }
    }

    /// Delivers a message as if it had come from outside.
    pub fn send(&self, message: &Message) {
        let queues: Vec<_> = {
            let state = self.0.state.lock();
            let matching = state.subscriptions.iter().filter(|(pattern, _)| pattern.matches(&message.topic));
            matching.map(|(_, queue)| Arc::clone(queue)).collect()
        };
        for queue in queues {
            queue.lock().push(message.clone());
        }
    }

    /// Publishes from outside.
    pub fn publish(&self, topic: &str, payload: impl Into<Bytes>) {
        self.send(&self.message(topic, payload));
    }

    /// Calls from outside. Gives `not-run(not-found)` when nobody offers the procedure.
    pub fn call(&self, procedure: &str, payload: impl Into<Bytes>) -> Pending<Result<Bytes, CallError>> {
        self.call_as(procedure.parse().expect("a procedure"), payload.into(), Duration::from_secs(5), 0)
    }

    /// The same with all there is to say.
    pub fn call_as(
        &self,
        procedure: Topic,
        payload: Bytes,
        time_left: Duration,
        cause_depth: u8,
    ) -> Pending<Result<Bytes, CallError>> {
        self.ask(Request {
            procedure,
            payload,
            content_type: ContentType::EMPTY,
            caller: self.0.node,
            plugin: PluginName::EMPTY,
            time_left,
            cause_depth,
            idempotency_key: "".into(),
            metadata: None,
            traceparent: None,
            tracestate: None,
        })
    }

    fn ask(&self, request: Request) -> Pending<Result<Bytes, CallError>> {
        let time_left = request.time_left;
        let (answer, answered) = oneshot::channel();
        let offer = {
            let state = self.0.state.lock();
            state.offers.iter().find(|(offered, _)| *offered == request.procedure).map(|(_, queue)| Arc::clone(queue))
        };
        let Some(offer) = offer else {
            let name = request.procedure.to_string();
            return Box::pin(future::ready(Err(CallError::NotRun(Fault::NotFound(name)))));
        };
        offer.lock().push(IncomingCall { request, answer: Box::new(LocalAnswer(Some(answer))) });
        Box::pin(async move {
            match tokio::time::timeout(time_left, answered).await {
                Ok(Ok(outcome)) => outcome,
                Ok(Err(_)) => Err(CallError::MaybeRun(Fault::Cancelled)),
                Err(_) => Err(CallError::MaybeRun(Fault::Timeout)),
            }
        })
    }

    /// What has been published to `topic` so far, by plugins; `retained` when it was to be kept as the last value.
    pub fn published(&self, topic: &str) -> Vec<Message> {
        let state = self.0.state.lock();
        state.record.iter().flatten().filter(|message| message.topic.as_str() == topic).cloned().collect()
    }

    /// How many there are.
    pub fn published_count(&self, topic: &str) -> usize {
        let state = self.0.state.lock();
        state.record.iter().flatten().filter(|message| message.topic.as_str() == topic).count()
    }

    /// The same as text.
    pub fn published_texts(&self, topic: &str) -> Vec<String> {
        let text = |message: Message| String::from_utf8_lossy(&message.payload).into_owned();
        self.published(topic).into_iter().map(text).collect()
    }

    /// Waits until there are `count` messages on `topic`, and gives them as text.
    pub async fn wait_for(&self, topic: &str, count: usize) -> Vec<String> {
        loop {
            let published = self.0.published.notified();
            tokio::pin!(published);
            published.as_mut().enable();
            let texts = self.published_texts(topic);
            if texts.len() >= count {
                return texts;
            }
            published.await;
        }
    }

    /// Patterns subscribed to now.
    pub fn patterns(&self) -> Vec<String> {
        let mut state = self.0.state.lock();
        state.subscriptions.retain(|(_, queue)| !queue.lock().is_closed);
        state.subscriptions.iter().map(|(pattern, _)| pattern.to_string()).collect()
    }

    /// Procedures on offer now.
    pub fn procedures(&self) -> Vec<String> {
        let mut state = self.0.state.lock();
        state.offers.retain(|(_, queue)| !queue.lock().is_closed);
        state.offers.iter().map(|(procedure, _)| procedure.to_string()).collect()
    }

    /// The next messages that plugins publish fail like this, in order.
    pub fn fail_next(&self, fault: Fault) {
        self.0.state.lock().failures.push_back(fault);
    }

    /// From now on acked messages wait.
    pub fn hold_acks(&self) {
        self.0.state.lock().held_acks = Some(Vec::new());
    }

    /// What the runtime has denied plugins, in order.
    pub fn denied(&self) -> Vec<(Operation, String)> {
        self.0.state.lock().denied.clone()
    }

    /// Acknowledges what waits, and all that comes.
    pub fn release_acks(&self) {
        for held in self.0.state.lock().held_acks.take().into_iter().flatten() {
            // Whoever waited may be gone.
            let _ = held.send(());
        }
    }

    /// Content that somebody else in the mesh has; gives its id.
    pub fn provide(&self, bytes: impl Into<Bytes>) -> Mcid {
        let bytes = bytes.into();
        let mcid = Mcid::of(&bytes);
        self.0.contents.lock().elsewhere.insert(mcid.clone(), bytes);
        mcid
    }

    /// From now on fetches bring nothing.
    pub fn hold_fetches(&self) {
        self.0.contents.lock().is_held = true;
    }

    /// Fetches that wait go on.
    pub fn release_fetches(&self) {
        self.0.contents.lock().is_held = false;
        self.0.published.notify_waiters();
    }

    /// Bytes that one plugin may store.
    pub fn set_content_quota(&self, bytes: usize) {
        self.0.contents.lock().quota = Some(bytes);
    }

    /// Whether a plugin has pinned content.
    pub fn is_pinned(&self, plugin: &PluginName, mcid: &Mcid) -> bool {
        self.0.contents.lock().pinned.contains(&(plugin.clone(), mcid.clone()))
    }

    /// Somebody else answers calls of `procedure` from now on, after `delay`.
    pub fn answer(&self, procedure: Topic, outcome: Result<Bytes, CallError>, delay: Duration) {
        self.0.state.lock().answers.insert(procedure, (outcome, delay));
    }

    /// All others take longer by this, from now on.
    pub fn delay_answers(&self, by: Duration) {
        self.0.state.lock().answers.values_mut().for_each(|(_, delay)| *delay += by);
    }

    /// From now on what plugins publish there reaches nobody.
    pub fn lose(&self, pattern: Pattern) {
        self.0.state.lock().lost.push(pattern);
    }

    /// Stores a topic's last value, as if it had been published before.
    pub fn retain(&self, message: Message) {
        let message = Message { retained: true, ..message };
        self.0.state.lock().retained.insert(message.topic.clone(), message);
    }

    /// What plugins have published since this was last asked, in order.
    pub fn take_published(&self) -> Vec<Message> {
        self.0.state.lock().record.as_mut().map(std::mem::take).unwrap_or_default()
    }

    /// What plugins have called since this was last asked, in order.
    pub fn take_calls(&self) -> Vec<(Topic, Bytes)> {
        std::mem::take(&mut self.0.state.lock().calls)
    }

    /// What the runtime has denied plugins since this was last asked, in order.
    pub fn take_denied(&self) -> Vec<(Operation, String)> {
        std::mem::take(&mut self.0.state.lock().denied)
    }

    /// How many acked messages wait.
    pub fn held_acks(&self) -> usize {
        self.0.state.lock().held_acks.as_ref().map_or(0, Vec::len)
    }

    fn publish_as(&self, plugin: &PluginName, publication: Publication<'_>) -> Publishing {
        let seq = self.0.seq.fetch_add(1, Ordering::Relaxed);
        let receipt = Receipt { epoch: 1, seq, level: ReceiptLevel::Host };
        let mut state = self.0.state.lock();
        if let Some(fault) = state.failures.pop_front() {
            return Publishing::Now(Err(fault));
        }
        let is_wanted = state.subscriptions.iter().any(|(pattern, _)| pattern.matches(publication.topic));
        if is_wanted || publication.retain || state.record.is_some() {
            let message = Message {
                topic: publication.topic.clone(),
                payload: Bytes::copy_from_slice(publication.payload),
                content_type: publication.content_type.clone(),
                publisher: self.0.node,
                plugin: plugin.clone(),
                epoch: 1,
                seq,
                timestamp_ms: 1_000,
                retained: false,
                cause_depth: publication.cause_depth,
                metadata: publication.extras.and_then(|extras| extras.metadata.clone()),
                traceparent: publication.extras.and_then(|extras| extras.traceparent.clone()),
                tracestate: publication.extras.and_then(|extras| extras.tracestate.clone()),
            };
            let is_lost = state.lost.iter().any(|pattern| pattern.matches(&message.topic));
            let wanted = state.subscriptions.iter().filter(|(pattern, _)| pattern.matches(&message.topic) && !is_lost);
            wanted.for_each(|(_, queue)| queue.lock().push(message.clone()));
            if publication.retain && !is_lost {
                let stored = Message { retained: true, ..message.clone() };
                state.retained.insert(message.topic.clone(), stored);
            }
            if let Some(record) = &mut state.record {
                record.push(Message { retained: publication.retain, ..message });
                self.0.published.notify_waiters();
            }
        }
        match (&mut state.held_acks, publication.delivery) {
            (Some(held), macula_wire::Delivery::Acked) => {
                let (release, released) = oneshot::channel();
                held.push(release);
                Publishing::Later(Box::pin(async move {
                    match released.await {
                        Ok(()) => Ok(Receipt { level: ReceiptLevel::RelayMemory, ..receipt }),
                        Err(_) => Err(Fault::Cancelled),
                    }
                }))
            }
            _ => Publishing::Now(Ok(receipt)),
        }
    }
}

impl MeshProvider for LocalMesh {
    fn for_plugin(&self, name: &PluginName) -> Arc<dyn Mesh> {
        Arc::new(PluginMesh { mesh: self.clone(), plugin: name.clone() })
    }
}

/// The mesh as one plugin uses it.
struct PluginMesh {
    mesh: LocalMesh,
    plugin: PluginName,
}

impl Mesh for PluginMesh {
    fn denied(&self, operation: Operation, target: &str) {
        self.mesh.0.state.lock().denied.push((operation, target.to_owned()));
    }

    fn publish(&self, publication: Publication<'_>) -> Publishing {
        self.mesh.publish_as(&self.plugin, publication)
    }

    fn subscribe(&self, pattern: &Pattern, options: SubscribeOptions) -> Pending<Result<Box<dyn Inbox>, Fault>> {
        let queue = Queue::new(options.queue_messages as usize);
        let mut state = self.mesh.0.state.lock();
        if options.retained {
            let stored = state.retained.values().filter(|message| pattern.matches(&message.topic));
            stored.for_each(|message| queue.lock().push(message.clone()));
        }
        state.subscriptions.retain(|(_, queue)| !queue.lock().is_closed);
        state.subscriptions.push((pattern.clone(), Arc::clone(&queue)));
        Box::pin(future::ready(Ok(Box::new(LocalInbox(queue)) as Box<dyn Inbox>)))
    }

    fn advertise(&self, procedure: &Topic, in_flight_max: u32) -> Pending<Result<Box<dyn Offer>, Fault>> {
        let queue = Queue::new(in_flight_max as usize);
        let mut state = self.mesh.0.state.lock();
        state.offers.retain(|(_, queue)| !queue.lock().is_closed);
        state.offers.push((procedure.clone(), Arc::clone(&queue)));
        Box::pin(future::ready(Ok(Box::new(LocalOffer(queue)) as Box<dyn Offer>)))
    }

    fn call(&self, call: Call) -> Pending<Result<Bytes, CallError>> {
        let answer = {
            let mut state = self.mesh.0.state.lock();
            state.calls.push((call.procedure.clone(), call.payload.clone()));
            state.answers.get(&call.procedure).cloned()
        };
        match answer {
            None => self.mesh.ask(Request {
                procedure: call.procedure,
                payload: call.payload,
                content_type: call.content_type,
                caller: self.mesh.0.node,
                plugin: self.plugin.clone(),
                time_left: call.timeout,
                cause_depth: call.cause_depth,
                idempotency_key: call.extras.idempotency_key.unwrap_or_default(),
                metadata: call.extras.metadata,
                traceparent: call.extras.traceparent,
                tracestate: call.extras.tracestate,
            }),
            Some((outcome, delay)) => Box::pin(async move {
                let answering = async {
                    tokio::time::sleep(delay).await;
                    outcome
                };
                let answered = tokio::time::timeout(call.timeout, answering).await;
                answered.unwrap_or(Err(CallError::MaybeRun(Fault::Timeout)))
            }),
        }
    }

    fn retained(&self, topic: &Topic) -> Pending<Result<Option<Message>, Fault>> {
        Box::pin(future::ready(Ok(self.mesh.0.state.lock().retained.get(topic).cloned())))
    }

    fn content(&self) -> Option<Arc<dyn Content>> {
        Some(Arc::new(PluginContent { mesh: self.mesh.clone(), plugin: self.plugin.clone() }))
    }

    fn node(&self) -> NodeId {
        self.mesh.0.node
    }

    fn realm(&self) -> &RealmName {
        &self.mesh.0.realm
    }
}

/// Content in memory: whole or not at all, with an owner or several.
#[derive(Default)]
struct Contents {
    here: HashMap<Mcid, (Bytes, HashSet<PluginName>)>,
    /// What others in the mesh have.
    elsewhere: HashMap<Mcid, Bytes>,
    /// Fetches bring nothing until they are released.
    is_held: bool,
    pinned: HashSet<(PluginName, Mcid)>,
    /// Bytes that one plugin may store.
    quota: Option<usize>,
}

impl Contents {
    fn holds(&self, plugin: &PluginName, mcid: &Mcid) -> bool {
        self.here.get(mcid).is_some_and(|(_, owners)| owners.contains(plugin))
    }

    fn put(&mut self, plugin: &PluginName, bytes: Bytes) -> Result<Mcid, Fault> {
        let mcid = Mcid::of(&bytes);
        if self.holds(plugin, &mcid) {
            return Ok(mcid);
        }
        let own = self.here.values().filter(|(_, owners)| owners.contains(plugin));
        let used = own.map(|(bytes, _)| bytes.len()).sum::<usize>();
        if self.quota.is_some_and(|quota| used + bytes.len() > quota) {
            return Err(Fault::QuotaExceeded("content of this plugin".to_owned()));
        }
        self.here.entry(mcid.clone()).or_insert_with(|| (bytes, HashSet::new())).1.insert(plugin.clone());
        Ok(mcid)
    }

    /// Brings what is elsewhere; `None` while fetches are held.
    fn fetch(&mut self, plugin: &PluginName, mcid: &Mcid) -> Option<Result<(), Fault>> {
        let bytes = match (self.here.get(mcid), self.elsewhere.get(mcid)) {
            (Some((bytes, _)), _) => bytes.clone(),
            (None, _) if self.is_held => return None,
            (None, Some(bytes)) => bytes.clone(),
            (None, None) => return Some(Err(Fault::NotFound(format!("nobody provides {mcid}")))),
        };
        Some(self.put(plugin, bytes).map(drop))
    }
}

/// Content as one plugin has it.
struct PluginContent {
    mesh: LocalMesh,
    plugin: PluginName,
}

impl PluginContent {
    fn with<T>(&self, work: impl FnOnce(&mut Contents) -> T) -> T {
        work(&mut self.mesh.0.contents.lock())
    }
}

impl Content for PluginContent {
    fn holds(&self, mcid: &Mcid) -> bool {
        self.with(|contents| contents.holds(&self.plugin, mcid))
    }

    fn is_here(&self, mcid: &Mcid) -> bool {
        self.with(|contents| contents.here.contains_key(mcid))
    }

    fn put(&self, bytes: Vec<u8>) -> Pending<Result<Mcid, Fault>> {
        Box::pin(future::ready(self.with(|contents| contents.put(&self.plugin, bytes.into()))))
    }

    fn create(&self) -> Pending<Result<Box<dyn ContentWriter>, Fault>> {
        let writer = LocalWriter {
            content: PluginContent { mesh: self.mesh.clone(), plugin: self.plugin.clone() },
            written: Mutex::default(),
        };
        Box::pin(future::ready(Ok(Box::new(writer) as Box<dyn ContentWriter>)))
    }

    fn open(&self, mcid: &Mcid) -> Pending<Result<Arc<dyn ContentBlob>, Fault>> {
        let (mesh, plugin, mcid) = (self.mesh.clone(), self.plugin.clone(), mcid.clone());
        Box::pin(async move {
            loop {
                let released = mesh.0.published.notified();
                tokio::pin!(released);
                released.as_mut().enable();
                {
                    let mut contents = mesh.0.contents.lock();
                    if let Some(fetched) = contents.fetch(&plugin, &mcid) {
                        fetched?;
                        return Ok(Arc::new(LocalBlob(contents.here[&mcid].0.clone())) as Arc<dyn ContentBlob>);
                    }
                }
                released.await;
            }
        })
    }

    fn fetch(&self, mcid: &Mcid) -> Box<dyn ContentFetch> {
        let content = PluginContent { mesh: self.mesh.clone(), plugin: self.plugin.clone() };
        Box::new(LocalFetch { content, mcid: mcid.clone() })
    }

    fn set_pinned(&self, mcid: &Mcid, is_pinned: bool) -> Pending<Result<(), Fault>> {
        let key = (self.plugin.clone(), mcid.clone());
        let done = self.with(|contents| match (is_pinned, contents.here.get(mcid).map(|(bytes, _)| bytes.clone())) {
            (true, None) => Err(Fault::NotFound(format!("{mcid} is not complete on this host"))),
            (true, Some(bytes)) => {
                contents.put(&self.plugin, bytes)?;
                contents.pinned.insert(key);
                Ok(())
            }
            (false, _) => {
                contents.pinned.remove(&key);
                Ok(())
            }
        });
        Box::pin(future::ready(done))
    }
}

struct LocalWriter {
    content: PluginContent,
    written: Mutex<Vec<u8>>,
}

impl ContentWriter for LocalWriter {
    fn write(&self, piece: Vec<u8>) -> Pending<Result<(), Fault>> {
        self.written.lock().extend(piece);
        Box::pin(future::ready(Ok(())))
    }

    fn finish(&self) -> Pending<Result<Mcid, Fault>> {
        self.content.put(std::mem::take(&mut *self.written.lock()))
    }
}

struct LocalBlob(Bytes);

impl ContentBlob for LocalBlob {
    fn size(&self) -> u64 {
        self.0.len() as u64
    }

    fn read(self: Arc<Self>, offset: u64, len: usize) -> Pending<Result<Vec<u8>, Fault>> {
        let begin = usize::try_from(offset).unwrap_or(usize::MAX).min(self.0.len());
        let end = begin.saturating_add(len).min(self.0.len());
        Box::pin(future::ready(Ok(self.0[begin..end].to_vec())))
    }
}

/// It is looked at when its state is asked for.
struct LocalFetch {
    content: PluginContent,
    mcid: Mcid,
}

impl ContentFetch for LocalFetch {
    fn state(&self) -> FetchState {
        match self.content.with(|contents| contents.fetch(&self.content.plugin, &self.mcid)) {
            None => FetchState::Running { bytes: 0, bytes_total: None, providers: 1 },
            Some(Ok(())) => FetchState::Done,
            Some(Err(fault)) => FetchState::Failed(fault),
        }
    }
}

struct LocalInbox(Arc<Mutex<Queue<Message>>>);

impl Inbox for LocalInbox {
    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Message>> {
        self.0.lock().poll_next(cx)
    }

    fn dropped(&self) -> u64 {
        self.0.lock().dropped
    }

    fn queued(&self) -> u32 {
        u32::try_from(self.0.lock().items.len()).unwrap_or(u32::MAX)
    }
}

impl Drop for LocalInbox {
    fn drop(&mut self) {
        self.0.lock().is_closed = true;
    }
}

struct LocalOffer(Arc<Mutex<Queue<IncomingCall>>>);

impl Offer for LocalOffer {
    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<IncomingCall>> {
        self.0.lock().poll_next(cx)
    }
}

impl Drop for LocalOffer {
    fn drop(&mut self) {
        self.0.lock().is_closed = true;
    }
}

struct LocalAnswer(Option<oneshot::Sender<Result<Bytes, CallError>>>);

impl LocalAnswer {
    fn give(&mut self, outcome: Result<Bytes, CallError>) {
        if let Some(answer) = self.0.take() {
            // The caller may have given up.
            let _ = answer.send(outcome);
        }
    }
}

impl Answer for LocalAnswer {
    fn answer(mut self: Box<Self>, outcome: Result<Bytes, HandlerError>) {
        self.give(outcome.map_err(CallError::Handler));
    }

    fn fail(mut self: Box<Self>, error: CallError) {
        self.give(Err(error));
    }
}
