//! WASI 0.2 as far as language runtimes need it: real clocks and randomness; no files, no network, nothing in the
//! environment; what is printed goes to the plugin's log. Waiting is bounded like every other wait.

use std::{
    io,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU8, Ordering},
    },
    task::{Context, Poll},
};

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::io::AsyncWrite;
use wasmtime::{
    StoreContextMut,
    component::{Linker, Resource},
};
use wasmtime_wasi::{
    WasiCtx, WasiCtxView, WasiView,
    cli::{IsTerminal, StdoutStream},
    p2::{DynPollable, OutputStream, Pollable, StreamResult, bindings::io::poll},
};

use super::InstanceState;
use crate::{
    log::{ENTRY_BYTES_MAX, Entry, LogLevel, LogSource, PluginLog},
    plugin::PluginCore,
};

/// The version of `wasi:io` that wasmtime-wasi links; a linker finds it for all of 0.2.
const POLL: &str = "wasi:io/poll@0.2.12";

/// What printing may hand over at a time.
const WRITE_BYTES_MAX: usize = 64 << 10;

/// Random bytes that one call may ask for.
const RANDOM_BYTES_MAX: u64 = 64 << 10;

impl WasiView for InstanceState {
    /// Asked once for each function of WASI that the guest calls.
    fn ctx(&mut self) -> WasiCtxView<'_> {
        self.host_calls += 1;
        WasiCtxView { ctx: &mut self.wasi, table: &mut self.table }
    }
}

/// `cause_depth` is that of what the instance handles.
pub(super) fn context(plugin: &Arc<PluginCore>, cause_depth: &Arc<AtomicU8>) -> WasiCtx {
    let output = |level| Output {
        plugin: Arc::clone(plugin),
        level,
        line: Arc::default(),
        cause_depth: Arc::clone(cause_depth),
    };
    WasiCtx::builder()
        .stdout(output(LogLevel::Info))
        .stderr(output(LogLevel::Warn))
        .max_random_size(RANDOM_BYTES_MAX)
        .monotonic_clock(plugin.clock)
        .wall_clock(plugin.clock)
        .build()
}

/// Puts waits under the handler's clock: guest time stands still meanwhile, and no wait outlasts the budget.
pub(super) fn link_bounded_waits(linker: &mut Linker<InstanceState>) -> wasmtime::Result<()> {
    let mut instance = linker.instance(POLL)?;
    instance.func_wrap_async("poll", |store, (pollables,): (Vec<Resource<DynPollable>>,)| {
        Box::new(async move { Ok((poll_bounded(store, pollables).await?,)) })
    })?;
    instance.func_wrap_async("[method]pollable.block", |store, (pollable,): (Resource<DynPollable>,)| {
        Box::new(async move { poll_bounded(store, vec![pollable]).await.map(|_| ()) })
    })
}

async fn poll_bounded(
    mut store: StoreContextMut<'_, InstanceState>,
    pollables: Vec<Resource<DynPollable>>,
) -> wasmtime::Result<Vec<u32>> {
    let state = store.data_mut();
    state.host_calls += 1;
    let patience = state.patience();
    state.begin_wait();
    let ready = tokio::time::timeout(patience, poll::Host::poll(&mut state.table, pollables)).await;
    state.end_wait().await;
    match ready {
        Ok(ready) => ready,
        Err(_) => Err(wasmtime::Error::msg("waited in wasi:io/poll for longer than a handler may take")),
    }
}

/// One of stdout and stderr.
struct Output {
    plugin: Arc<PluginCore>,
    level: LogLevel,
    /// What has been printed since the last end of a line.
    line: Arc<Mutex<Vec<u8>>>,
    cause_depth: Arc<AtomicU8>,
}

impl Clone for Output {
    fn clone(&self) -> Self {
        Self {
            plugin: Arc::clone(&self.plugin),
            level: self.level,
            line: Arc::clone(&self.line),
            cause_depth: Arc::clone(&self.cause_depth),
        }
    }
}

impl Output {
    fn print(&self, bytes: &[u8]) {
        let mut line = self.line.lock();
        for piece in bytes.split_inclusive(|byte| *byte == b'\n') {
            let room = ENTRY_BYTES_MAX.saturating_sub(line.len());
            line.extend_from_slice(&piece[..piece.len().min(room)]);
            if piece.ends_with(b"\n") {
                self.write_line(&std::mem::take(&mut *line));
            }
        }
    }

    fn write_line(&self, line: &[u8]) {
        let text = String::from_utf8_lossy(line.trim_ascii_end()).into_owned();
        if !text.is_empty() {
            let log: &PluginLog = &self.plugin.log;
            let cause_depth = self.cause_depth.load(Ordering::Relaxed);
            let dropped = log.write(Entry { cause_depth, ..Entry::new(self.level, LogSource::Output, text) });
            self.plugin.counters.log_dropped.add(dropped);
        }
    }
}

impl IsTerminal for Output {
    fn is_terminal(&self) -> bool {
        false
    }
}

impl StdoutStream for Output {
    fn async_stream(&self) -> Box<dyn AsyncWrite + Send + Sync> {
        Box::new(self.clone())
    }

    fn p2_stream(&self) -> Box<dyn OutputStream> {
        Box::new(self.clone())
    }
}

#[wasmtime_wasi::async_trait]
impl Pollable for Output {
    async fn ready(&mut self) {}
}

impl OutputStream for Output {
    fn write(&mut self, bytes: Bytes) -> StreamResult<()> {
        self.print(&bytes);
        Ok(())
    }

    fn flush(&mut self) -> StreamResult<()> {
        Ok(())
    }

    fn check_write(&mut self) -> StreamResult<usize> {
        Ok(WRITE_BYTES_MAX)
    }
}

impl AsyncWrite for Output {
    fn poll_write(self: Pin<&mut Self>, _cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.print(bytes);
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}
