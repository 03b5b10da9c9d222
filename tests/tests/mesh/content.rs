//! Content over real links: found, fetched from several at once, verified; and what happens when somebody lies or leaves.

use std::{
    collections::BTreeMap,
    io,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use macula_content::{
    Answer, Ask, Encoder, Finished, GROUP_BYTES, Geometry, GroupSet, Node, OutboardBuilder, Parent, Sending,
    store::{Owner, StoreConfig},
};
use macula_node::{
    ContentBytes, ContentSink, ContentSource, FetchError, FetchOptions, FetchState, Home, Mesh, MeshConfig,
    NodeContent, RealmAccess, RelayServer,
};
use macula_transport::LocalNode;
use macula_wire::{
    Digest, Fault, Mcid,
    control::{Control, Provide},
    hello::Role,
};
use parking_lot::Mutex;

use crate::{
    hostile::Rogue,
    support::{acked, config, granted, key, node, payloads, realm, relay, soon, topic},
};

/// Some content with its outboard.
struct Content {
    mcid: Mcid,
    bytes: Vec<u8>,
    parents: BTreeMap<u64, [u8; 64]>,
}

impl Content {
    /// Bytes that differ from group to group.
    fn new(len: usize) -> Arc<Self> {
        let bytes: Vec<u8> = (0..len as u64).map(|at| (at.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 56) as u8).collect();
        let mut builder = OutboardBuilder::new();
        builder.push(&bytes);
        let finished: Finished = builder.finish();
        let mcid = finished.mcid();
        let parents = finished.parents.into_iter().map(|Parent { index, pair }| (index, pair)).collect();
        Arc::new(Self { mcid, bytes, parents })
    }

    fn groups(&self) -> u64 {
        Geometry::of(self.bytes.len() as u64).groups()
    }
}

/// A provider's store of one content, which may be in part or spoiled.
#[derive(Default)]
struct Served {
    content: Option<Arc<Content>>,
    has: Option<GroupSet>,
    /// Sends other bytes than it has, as if they were verified.
    is_corrupt: AtomicBool,
    groups_read: AtomicU64,
    damaged: Mutex<Vec<Node>>,
}

struct Source(Arc<Served>);
struct Opened(Arc<Served>);

impl ContentSource for Source {
    fn open(&self, content: &Mcid) -> Option<Box<dyn ContentBytes>> {
        let has = self.0.content.as_ref().is_some_and(|own| own.mcid == *content);
        has.then(|| Box::new(Opened(Arc::clone(&self.0))) as Box<dyn ContentBytes>)
    }
}

impl ContentBytes for Opened {
    fn size(&self) -> u64 {
        self.0.content.as_ref().unwrap().bytes.len() as u64
    }

    fn groups(&self) -> Option<GroupSet> {
        self.0.has.clone()
    }

    fn parent(&mut self, index: u64) -> io::Result<[u8; 64]> {
        Ok(self.0.content.as_ref().unwrap().parents[&index])
    }

    fn group(&mut self, group: u64, into: &mut Vec<u8>) -> io::Result<()> {
        let content = self.0.content.as_ref().unwrap();
        let range = Geometry::of(content.bytes.len() as u64).bytes(group);
        into.extend_from_slice(&content.bytes[range.start as usize..range.end as usize]);
        if self.0.is_corrupt.load(Ordering::Relaxed) {
            into[0] ^= 1;
        }
        self.0.groups_read.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }

    fn damaged(&mut self, node: Node) {
        self.0.damaged.lock().push(node);
    }
}

/// A node that provides content.
async fn provider(relay: &RelayServer, content: &Arc<Content>, has: Option<GroupSet>) -> (Mesh, Arc<Served>) {
    let served = Arc::new(Served { content: Some(Arc::clone(content)), has, ..Served::default() });
    let mesh = node(relay).await;
    mesh.set_content_source(Arc::new(Source(Arc::clone(&served))));
    mesh.provide(std::slice::from_ref(&content.mcid));
    // Requests are answered in order: when this is, the relay knows what is provided.
    soon(mesh.retained(&topic("a"))).await.unwrap();
    (mesh, served)
}

/// What a fetch has written.
#[derive(Default)]
struct Written {
    size: Option<u64>,
    groups: BTreeMap<u64, Vec<u8>>,
    parents: BTreeMap<u64, [u8; 64]>,
    whole: Vec<u8>,
    checkpointed: GroupSet,
    is_complete: bool,
    /// Refuses to write this group.
    refuses: Option<u64>,
}

#[derive(Clone, Default)]
struct Sink(Arc<Mutex<Written>>);

impl ContentSink for Sink {
    fn set_size(&mut self, size: u64) -> Result<(), Fault> {
        self.0.lock().size = Some(size);
        Ok(())
    }

    fn write_parent(&mut self, parent: &Parent) -> Result<(), Fault> {
        self.0.lock().parents.insert(parent.index, parent.pair);
        Ok(())
    }

    fn write_group(&mut self, group: u64, bytes: &[u8]) -> Result<(), Fault> {
        let mut written = self.0.lock();
        if written.refuses == Some(group) {
            return Err(Fault::QuotaExceeded("the disk is full".into()));
        }
        assert!(written.size.is_some(), "the size is proved before anything is written");
        assert!(written.groups.insert(group, bytes.to_vec()).is_none(), "a group is written once");
        Ok(())
    }

    fn write_whole(&mut self, offset: u64, bytes: &[u8]) -> Result<(), Fault> {
        let mut written = self.0.lock();
        written.whole.truncate(offset as usize);
        written.whole.extend_from_slice(bytes);
        Ok(())
    }

    fn checkpoint(&mut self) -> Result<(), Fault> {
        let mut written = self.0.lock();
        let groups = written.groups.keys().map(|group| *group..*group + 1).collect();
        written.checkpointed = groups;
        Ok(())
    }

    fn complete(&mut self) -> Result<(), Fault> {
        self.0.lock().is_complete = true;
        Ok(())
    }
}

impl Sink {
    fn assert_is(&self, content: &Content) {
        let written = self.0.lock();
        assert!(written.is_complete);
        assert_eq!(written.size, Some(content.bytes.len() as u64));
        assert_eq!(written.groups.len() as u64, content.groups());
        let whole: Vec<u8> = written.groups.values().flatten().copied().collect();
        assert!(whole == content.bytes, "the bytes are the content's");
        assert_eq!(written.parents, content.parents, "and the outboard is there for the next to fetch from here");
    }
}

fn options() -> FetchOptions {
    FetchOptions { size: None, have: GroupSet::new(), patience: Duration::from_secs(20) }
}

async fn fetch(mesh: &Mesh, content: &Mcid, options: FetchOptions) -> (Sink, Result<(), FetchError>) {
    let sink = Sink::default();
    let outcome = soon(mesh.fetch(content, Box::new(sink.clone()), options).finish()).await;
    (sink, outcome)
}

/// Goal: content of any size comes whole from one provider through a relay, also when there is next to nothing of it.
#[tokio::test(flavor = "multi_thread")]
async fn content_of_any_size_is_fetched() {
    let relay = relay();
    let asker = node(&relay).await;
    for len in [0, 1, 16 << 10, (16 << 10) + 1, 3_000_000] {
        let content = Content::new(len);
        let (provider, _) = provider(&relay, &content, None).await;
        assert_eq!(soon(asker.providers(&content.mcid)).await, Ok(vec![provider.node()]));
        let (sink, outcome) = fetch(&asker, &content.mcid, options()).await;
        assert_eq!(outcome, Ok(()), "{len} bytes");
        sink.assert_is(&content);
    }
}

/// Goal: several providers are asked at once, one of which lies; what it sends is never written, and the rest is enough.
#[tokio::test(flavor = "multi_thread")]
async fn many_provide_and_one_lies() {
    let relay = relay();
    let content = Content::new(24 << 20);
    let mut providers = Vec::new();
    for _ in 0..3 {
        providers.push(provider(&relay, &content, None).await);
    }
    // It has the right outboard, and its encoder is told that the disk gave other bytes: what is not verified is not sent.
    let (_spoiled, served) = provider(&relay, &content, None).await;
    served.is_corrupt.store(true, Ordering::Relaxed);
    let asker = node(&relay).await;
    let (sink, outcome) = fetch(&asker, &content.mcid, options()).await;
    assert_eq!(outcome, Ok(()));
    sink.assert_is(&content);
    for (_, served) in &providers {
        assert!(served.groups_read.load(Ordering::Relaxed) > 0, "each has sent some");
    }
    assert!(served.damaged.lock().iter().all(|node| matches!(node, Node::Group(_))));
    // Whoever has fetched it can provide it.
    let relayed = soon(asker.providers(&content.mcid)).await.unwrap();
    assert_eq!(relayed.len(), 4);
}

/// Goal: providers that have parts make a whole, and what is here already is not asked for again.
#[tokio::test(flavor = "multi_thread")]
async fn parts_make_a_whole() {
    let relay = relay();
    let content = Content::new(4 << 20);
    let groups = content.groups();
    let (_first, _) = provider(&relay, &content, Some((0..groups / 2).into())).await;
    let (_second, second) = provider(&relay, &content, Some((groups / 2..groups).into())).await;
    let asker = node(&relay).await;
    let (sink, outcome) = fetch(&asker, &content.mcid, options()).await;
    assert_eq!(outcome, Ok(()));
    sink.assert_is(&content);
    second.groups_read.store(0, Ordering::Relaxed);
    let have = GroupSet::from(0..groups - 10);
    let again = FetchOptions { size: Some(content.bytes.len() as u64), have, ..options() };
    let (sink, outcome) = fetch(&asker, &content.mcid, again).await;
    assert_eq!(outcome, Ok(()));
    assert_eq!(sink.0.lock().groups.keys().copied().collect::<Vec<_>>(), (groups - 10..groups).collect::<Vec<_>>());
    assert_eq!(second.groups_read.load(Ordering::Relaxed), 10);
}

/// Goal: nobody who has it, nobody who may, a disk that is full: each its own end, and nothing is taken for complete.
#[tokio::test(flavor = "multi_thread")]
async fn a_fetch_that_cannot_end_well_says_why() {
    let relay = relay();
    let content = Content::new(4 << 20);
    let asker = node(&relay).await;
    let impatient = || FetchOptions { patience: Duration::from_millis(300), ..options() };
    let (sink, outcome) = fetch(&asker, &content.mcid, impatient()).await;
    assert_eq!(outcome, Err(FetchError::NotFound(content.mcid.clone())));
    assert!(!sink.0.lock().is_complete);

    let (lacking, _) = provider(&relay, &content, Some(GroupSet::new())).await;
    let (_, outcome) = fetch(&asker, &content.mcid, impatient()).await;
    assert!(matches!(outcome, Err(FetchError::Unavailable { .. })), "{outcome:?}");
    soon(lacking.close()).await;

    let (_provider, _) = provider(&relay, &content, None).await;
    let sink = Sink::default();
    sink.0.lock().refuses = Some(100);
    let outcome = soon(asker.fetch(&content.mcid, Box::new(sink.clone()), options()).finish()).await;
    assert_eq!(outcome, Err(FetchError::Sink(Fault::QuotaExceeded("the disk is full".into()))));
    let written = sink.0.lock();
    assert!(
        !written.is_complete && written.checkpointed.count() == written.groups.len() as u64,
        "what is there is kept"
    );
}

/// Goal: content is for those who may fetch it: a right to one is none to another, and the relay holds to it as well.
#[tokio::test(flavor = "multi_thread")]
async fn fetching_needs_the_right() {
    let relay = relay();
    let (content, other) = (Content::new(100_000), Content::new(50_000));
    let (_one, _) = provider(&relay, &content, None).await;
    let (_two, _) = provider(&relay, &other, None).await;
    let chain = granted(&key(200), None, 41, "/mesh/fetch", &[content.mcid.as_str()], None);
    let tokens = chain.links().to_vec();
    let restricted = MeshConfig {
        realm: RealmAccess::by_tokens(
            realm().name().clone(),
            realm().root(),
            Arc::new(move || tokens.clone()),
            Vec::new(),
        ),
        node: LocalNode { key: key(41), role: Role::Host, epoch: 1 },
        ..config(relay.url())
    };
    let asker = soon(Mesh::connect(restricted)).await.unwrap();
    let (sink, outcome) = fetch(&asker, &content.mcid, options()).await;
    assert_eq!(outcome, Ok(()));
    sink.assert_is(&content);
    let (_, outcome) = fetch(&asker, &other.mcid, options()).await;
    assert!(matches!(outcome, Err(FetchError::Denied(Fault::Denied(_)))), "{outcome:?}");
}

/// Goal: content that is named by SHA-256 is verified as a whole.
#[tokio::test(flavor = "multi_thread")]
async fn sha_256_is_verified_as_a_whole() {
    let relay = relay();
    let plain = Content::new(1_000_000);
    let mcid = Mcid::from(Digest::Sha256(<sha2::Sha256 as sha2::Digest>::digest(&plain.bytes).into()));
    let content = Arc::new(Content { mcid, bytes: plain.bytes.clone(), parents: BTreeMap::new() });
    let (liar, spoiled) = provider(&relay, &content, None).await;
    spoiled.is_corrupt.store(true, Ordering::Relaxed);
    let asker = node(&relay).await;
    let impatient = FetchOptions { patience: Duration::from_secs(1), ..options() };
    let (sink, outcome) = fetch(&asker, &content.mcid, impatient).await;
    assert!(matches!(outcome, Err(FetchError::Unavailable { .. })), "{outcome:?}");
    assert!(!sink.0.lock().is_complete);
    let (_honest, _) = provider(&relay, &content, None).await;
    let (sink, outcome) = fetch(&asker, &content.mcid, options()).await;
    assert_eq!(outcome, Ok(()));
    let written = sink.0.lock();
    assert!(written.is_complete && written.whole == content.bytes);
    drop(liar);
}

/// Goal: a fetch outlives the relay and its providers: it goes on where it was when they are back.
#[tokio::test(flavor = "multi_thread")]
async fn a_fetch_outlives_the_relay() {
    let first = relay();
    let port = first.url().port();
    let content = Content::new(64 << 20);
    let (_provider, served) = provider(&first, &content, None).await;
    let asker = node(&first).await;
    let sink = Sink::default();
    let fetching = asker.fetch(&content.mcid, Box::new(sink.clone()), options());
    let mut progress = fetching.progress();
    soon(progress.wait_for(|progress| progress.bytes_done > 1 << 20)).await.unwrap();
    soon(first.stop()).await;
    let _again = crate::support::relay_at(100, port);
    assert_eq!(soon(fetching.finish()).await, Ok(()));
    sink.assert_is(&content);
    let read = served.groups_read.load(Ordering::Relaxed);
    assert!(read < content.groups() + content.groups() / 2, "{read} groups were read, and it has {}", content.groups());
}

/// How a provider lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Lie {
    /// One bit of what it sends.
    Bit,
    /// It says that there is less, and sends what verifies under that.
    Smaller,
    /// It says that there is more.
    Larger,
    /// It sends groups that nobody asked for.
    Unasked,
    /// It stops in the middle, as if that were all.
    Short,
    /// Its head is none.
    Garbage,
    /// More follows than it said.
    Trailing,
}

/// The encoding of some groups, and the head before it.
fn honest(content: &Content, groups: &GroupSet) -> (Sending, Vec<u8>) {
    let Digest::Blake3(root) = content.mcid.digest() else { panic!("named by BLAKE3") };
    let geometry = Geometry::of(content.bytes.len() as u64);
    let mut encoder = Encoder::new(root, geometry, groups.clone());
    let mut encoding = Vec::new();
    while let Some(node) = encoder.node() {
        let supplied = match node {
            Node::Parent(index) => encoder.supply(&content.parents[&index], &mut encoding),
            Node::Group(group) => {
                let range = geometry.bytes(group);
                encoder.supply(&content.bytes[range.start as usize..range.end as usize], &mut encoding)
            }
        };
        supplied.unwrap();
    }
    (Sending { size: geometry.size(), groups: groups.clone(), has: None }, encoding)
}

fn told(lie: Lie, content: &Content, ask: &Ask) -> Vec<u8> {
    let geometry = Geometry::of(content.bytes.len() as u64);
    let mut groups = ask.groups.clone();
    if ask.last {
        groups.insert(&GroupSet::from(geometry.last_group()..geometry.groups()));
    }
    if lie == Lie::Unasked {
        groups = GroupSet::from(0..geometry.groups());
    }
    let (mut sending, mut encoding) = honest(content, &groups);
    match lie {
        Lie::Bit => *encoding.last_mut().unwrap() ^= 1,
        Lie::Short => encoding.truncate(encoding.len() / 2),
        Lie::Trailing => encoding.extend([0; 100]),
        Lie::Smaller => {
            // The root's pair is true under any size; where it belongs is not.
            sending.size = 3 * macula_content::GROUP_BYTES;
            sending.groups = GroupSet::from(2..3);
        }
        Lie::Larger => sending.size *= 2,
        Lie::Unasked | Lie::Garbage => {}
    }
    let mut answer = Vec::new();
    if lie == Lie::Garbage {
        answer.extend([200, 0, 0, 0]);
        answer.extend([0xff; 300]);
    } else {
        Answer::from(sending).encode(&mut answer).unwrap();
    }
    answer.extend(encoding);
    answer
}

/// Provides content, and lies about it.
async fn liar(relay: &RelayServer, seed: u8, lie: Lie, content: &Arc<Content>) {
    let mut rogue = Rogue::joined_as(relay, seed).await;
    let provide = Provide { id: 2, slot: 0, contents: vec![content.mcid.clone()] };
    assert_eq!(rogue.ask(Control::Provide(provide)).await, None);
    let content = Arc::clone(content);
    tokio::spawn(async move {
        // All of it: a link ends with its control stream.
        let rogue = rogue;
        while let Ok((mut writer, mut reader)) = rogue.link.accept_stream().await {
            let mut head = Vec::new();
            while let Ok(Some(piece)) = reader.read(8192).await {
                head.extend_from_slice(&piece);
            }
            let (ask, _) = Ask::decode(&head).unwrap().unwrap();
            // Who is given up early reads no more.
            if writer.write(told(lie, &content, &ask).into()).await.is_ok() {
                writer.finish();
            }
        }
    });
}

/// Goal: whatever a provider sends, what is written is the content and its outboard, and the honest are enough.
#[tokio::test(flavor = "multi_thread")]
async fn no_lie_is_ever_written() {
    let lies = [Lie::Bit, Lie::Smaller, Lie::Larger, Lie::Unasked, Lie::Short, Lie::Garbage, Lie::Trailing];
    let relay = relay();
    let content = Content::new(8 << 20);
    for (number, lie) in lies.into_iter().enumerate() {
        liar(&relay, 70 + number as u8, lie, &content).await;
    }
    let asker = node(&relay).await;
    // Liars only: some of what they send is true, and may even be enough; nothing else is taken.
    let impatient = FetchOptions { patience: Duration::from_secs(1), ..options() };
    let (sink, outcome) = fetch(&asker, &content.mcid, impatient).await;
    match outcome {
        Ok(()) => sink.assert_is(&content),
        Err(FetchError::Unavailable { .. }) => assert!(!sink.0.lock().is_complete),
        Err(other) => panic!("{other}"),
    }
    let (_honest, _) = provider(&relay, &content, None).await;
    for _ in 0..5 {
        let (sink, outcome) = fetch(&asker, &content.mcid, options()).await;
        assert_eq!(outcome, Ok(()));
        sink.assert_is(&content);
    }
}

/// Goal: who asks for much and reads nothing is given up, before what waits for it fills the provider's link for good; messages of
/// the provider get through.
#[tokio::test(flavor = "multi_thread")]
async fn who_does_not_read_holds_up_nobody() {
    let relay = relay();
    let content = Content::new(64 << 20);
    let (provider, _) = provider(&relay, &content, None).await;
    let listener = node(&relay).await;
    let mut heard = soon(listener.subscribe("a".parse().unwrap())).await.unwrap();
    let rogue = Rogue::joined_as(&relay, 90).await;
    let mut unread = Vec::new();
    let ask = async || {
        let (mut writer, reader) = soon(rogue.link.open_stream()).await.unwrap();
        let groups = GroupSet::from(0..content.groups());
        let ask = Ask { content: content.mcid.clone(), slot: 0, provider: None, groups, last: false, asker: None };
        let mut head = Vec::new();
        ask.encode(&mut head).unwrap();
        soon(writer.write(head.into())).await.unwrap();
        writer.finish();
        reader
    };
    for _ in 0..12 {
        unread.push(ask().await);
    }
    soon(provider.publish_with(&topic("a"), b"through", &acked())).await.unwrap();
    assert_eq!(payloads(&mut heard, 1).await, ["through"]);
    let (sink, outcome) = fetch(&listener, &content.mcid, options()).await;
    assert_eq!(outcome, Ok(()));
    sink.assert_is(&content);
    // Who was given up may not ask again at once.
    soon(async {
        loop {
            let mut reader = ask().await;
            let head = reader.read(1 << 10).await.unwrap().unwrap();
            let (answer, _) = Answer::decode(&head).unwrap().unwrap();
            match answer.outcome {
                Err(Fault::Unavailable(why)) if why.contains("may ask again") => break,
                _ => unread.push(reader),
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    })
    .await;
    // Its requests were reset, not ended: nobody takes a part for the whole.
    let mut reset = 0;
    for mut reader in unread {
        let ended = soon(async {
            loop {
                match reader.read(1 << 20).await {
                    Ok(Some(_)) => {}
                    Ok(None) => return false,
                    Err(_) => return true,
                }
            }
        });
        reset += u32::from(ended.await);
    }
    assert!(reset > 0, "somebody was given up");
}

/// Goal: what several want is fetched once, goes on as long as one of them wants it, and can be begun again at once; a handle of a
/// fetch that is over ends no later one.
#[tokio::test(flavor = "multi_thread")]
async fn a_fetch_ends_with_the_last_who_wants_it() {
    let home = tempfile::tempdir().unwrap();
    let state = Home::open(home.path()).unwrap().node("host").unwrap();
    let relay = relay();
    let content = Content::new(40 * GROUP_BYTES as usize + 7);
    let missing = 20;
    let mut has = GroupSet::from(0..41);
    has.remove(&GroupSet::from(missing..missing + 1));
    let (_part, _) = provider(&relay, &content, Some(has)).await;
    let mesh = node(&relay).await;
    let node_content = NodeContent::start(&state, StoreConfig::default(), &mesh).unwrap();
    let owner = |name: &str| node_content.of(Owner::Plugin(mesh.realm_id(), name.parse().unwrap()));
    let (one, other) = (owner("one"), owner("other"));

    let reader = soon(one.open(&content.mcid)).await.unwrap();
    assert_eq!(reader.size(), content.bytes.len() as u64);
    assert_eq!(soon(reader.read(0, 100)).await.unwrap(), content.bytes[..100]);
    let theirs = other.fetch(&content.mcid);
    drop(reader);
    assert!(matches!(theirs.state(), FetchState::Running(_)), "the other wants it still");
    drop(theirs);
    let mut again = one.fetch(&content.mcid);
    let (_all, _) = provider(&relay, &content, None).await;
    soon(again.finish()).await.unwrap();
    assert!(one.holds(&content.mcid) && !other.holds(&content.mcid) && other.is_here(&content.mcid));

    soon(node_content.remove(&content.mcid)).await.unwrap();
    let second = other.fetch(&content.mcid);
    drop(again);
    let mut watched = second.watch();
    let ended = soon(watched.wait_for(|state| !matches!(state, FetchState::Running(_)))).await.unwrap().clone();
    assert_eq!(ended, FetchState::Done, "the handle of the first fetch is not this one's");

    // What somebody has already is the other's as soon as it is opened, and parts are read wherever they are.
    let reader = soon(one.open(&content.mcid)).await.unwrap();
    let begin = missing * GROUP_BYTES - 3;
    let bytes = soon(reader.read(begin, 10)).await.unwrap();
    assert_eq!(bytes, content.bytes[begin as usize..begin as usize + 10]);
}

/// Goal: what nobody has is said to be nowhere, within the time that a handler has.
#[tokio::test(flavor = "multi_thread")]
async fn content_that_nobody_has_is_not_found() {
    let home = tempfile::tempdir().unwrap();
    let state = Home::open(home.path()).unwrap().node("host").unwrap();
    let relay = relay();
    let mesh = node(&relay).await;
    let node_content = NodeContent::start(&state, StoreConfig::default(), &mesh).unwrap();
    let plugin = node_content.of(Owner::Plugin(mesh.realm_id(), "one".parse().unwrap()));
    let refused = tokio::time::timeout(Duration::from_secs(5), plugin.open(&Mcid::of(b"nobody's"))).await.unwrap();
    assert!(matches!(refused, Err(Fault::NotFound(_))), "{:?}", refused.err());
    let config = StoreConfig { plugin_bytes_max: 10_000, ..StoreConfig::default() };
    drop(node_content);
    let other = Home::open(home.path()).unwrap().node("other").unwrap();
    let bounded = NodeContent::start(&other, config, &mesh).unwrap();
    let plugin = bounded.of(Owner::Plugin(mesh.realm_id(), "one".parse().unwrap()));
    assert!(matches!(soon(plugin.put(vec![7; 100_000])).await, Err(Fault::QuotaExceeded(_))));
    let content = Content::new(100_000);
    let (_all, _) = provider(&relay, &content, None).await;
    assert!(matches!(soon(plugin.open(&content.mcid)).await, Err(Fault::QuotaExceeded(_))));
}
