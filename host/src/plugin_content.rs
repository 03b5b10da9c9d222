//! The content that plugins see: the runtime's traits over what a node has for one owner.

use std::sync::Arc;

use macula_node::{
    ContentReader, ContentWriter as NodeWriter, FetchState as NodeState, OwnedContent, OwnedFetch,
    wire::{Fault, Mcid},
};
use macula_runtime::mesh::{Content, ContentBlob, ContentFetch, ContentWriter, FetchState, Pending};
use parking_lot::Mutex;
use tokio::{sync::watch, task::JoinHandle};

/// One plugin's.
#[derive(Clone)]
pub(crate) struct PluginContent(pub(crate) OwnedContent);

impl Content for PluginContent {
    fn holds(&self, mcid: &Mcid) -> bool {
        self.0.holds(mcid)
    }

    fn is_here(&self, mcid: &Mcid) -> bool {
        self.0.is_here(mcid)
    }

    fn put(&self, bytes: Vec<u8>) -> Pending<Result<Mcid, Fault>> {
        let content = self.0.clone();
        Box::pin(async move { content.put(bytes).await })
    }

    fn create(&self) -> Pending<Result<Box<dyn ContentWriter>, Fault>> {
        let content = self.0.clone();
        Box::pin(async move {
            let writer = content.create().await?;
            Ok(Box::new(Writer(Arc::new(writer))) as Box<dyn ContentWriter>)
        })
    }

    fn open(&self, mcid: &Mcid) -> Pending<Result<Arc<dyn ContentBlob>, Fault>> {
        let (content, mcid) = (self.0.clone(), mcid.clone());
        Box::pin(async move {
            let reader = content.open(&mcid).await?;
            Ok(Arc::new(Reader(reader)) as Arc<dyn ContentBlob>)
        })
    }

    fn fetch(&self, mcid: &Mcid) -> Box<dyn ContentFetch> {
        Box::new(Fetch::begin(self.0.fetch(mcid)))
    }

    fn set_pinned(&self, mcid: &Mcid, is_pinned: bool) -> Pending<Result<(), Fault>> {
        let (content, mcid) = (self.0.clone(), mcid.clone());
        Box::pin(async move { content.set_pinned(&mcid, is_pinned).await })
    }
}

struct Writer(Arc<NodeWriter>);

impl ContentWriter for Writer {
    fn write(&self, piece: Vec<u8>) -> Pending<Result<(), Fault>> {
        let writer = Arc::clone(&self.0);
        Box::pin(async move { writer.write(piece).await })
    }

    fn finish(&self) -> Pending<Result<Mcid, Fault>> {
        let writer = Arc::clone(&self.0);
        Box::pin(async move { writer.finish().await })
    }
}

struct Reader(ContentReader);

impl ContentBlob for Reader {
    fn size(&self) -> u64 {
        self.0.size()
    }

    fn read(self: Arc<Self>, offset: u64, len: usize) -> Pending<Result<Vec<u8>, Fault>> {
        Box::pin(async move { self.0.read(offset, len).await })
    }
}

/// A fetch that sees to it that what came is the plugin's, before it says that it is done.
struct Fetch {
    state: watch::Receiver<NodeState>,
    /// What was told last.
    last: Mutex<FetchState>,
    outcome: Arc<Mutex<Option<Result<(), Fault>>>>,
    task: JoinHandle<()>,
}

impl Fetch {
    fn begin(mut fetch: OwnedFetch) -> Self {
        let (state, outcome) = (fetch.watch(), Arc::<Mutex<_>>::default());
        let ended = Arc::clone(&outcome);
        let task = tokio::spawn(async move {
            let finished = fetch.finish().await;
            *ended.lock() = Some(finished);
        });
        let last = Mutex::new(FetchState::Running { bytes: 0, bytes_total: None, providers: 0 });
        Self { state, last, outcome, task }
    }
}

impl ContentFetch for Fetch {
    fn state(&self) -> FetchState {
        match &*self.outcome.lock() {
            Some(Ok(())) => return FetchState::Done,
            Some(Err(fault)) => return FetchState::Failed(fault.clone()),
            None => {}
        }
        let mut last = self.last.lock();
        // One that has ended is about to be told so.
        if let NodeState::Running(progress) = &*self.state.borrow() {
            *last = FetchState::Running {
                bytes: progress.bytes_done,
                bytes_total: progress.bytes_total,
                providers: u32::try_from(progress.providers_sending).unwrap_or(u32::MAX),
            };
        }
        last.clone()
    }
}

impl Drop for Fetch {
    fn drop(&mut self) {
        // With it goes this plugin's interest.
        self.task.abort();
    }
}
