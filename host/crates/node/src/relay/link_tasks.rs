//! The tasks of one link at a relay.

use std::{
    cell::{Cell, RefCell},
    rc::Rc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use futures::FutureExt;
use macula_relay::{LinkKey, Peer, Violation};
use macula_transport::{ControlReader, ControlWriter, LaneReader, Link};
use macula_wire::{
    control::{Beat, Control},
    frame::{Lane, Outgoing, Piece, Reassembly},
    limits::{FRAME_BYTES_MAX, PING_INTERVAL, PING_TIMEOUT},
};
use tokio::{
    sync::Notify,
    task::{AbortHandle, JoinSet, spawn_local, yield_now},
    time::timeout,
};

use super::{
    admission::Now,
    content,
    driver::{Counted, LinkWakers, Shared, forget},
};
use crate::pulse::ping_interval;

/// Pieces of a stream that are read at a time; a piece is a packet's worth.
const PIECES: usize = 32;
/// How long frames are still taken after the link has ended; they are here already.
const LAST_FRAMES_TIMEOUT: Duration = Duration::from_secs(1);
/// Bytes that one lane may push through the core before others get their turn.
const TURN_BYTES: usize = 256 << 10;

/// What the tasks of a link have in common.
pub(super) struct LinkContext {
    pub(super) shared: Rc<Shared>,
    pub(super) link: Link,
    pub(super) key: LinkKey,
    wakers: Rc<LinkWakers>,
    /// When the peer was last heard.
    heard: RefCell<Instant>,
    /// The peer broke the protocol: nothing more is taken from it.
    is_broken: Cell<bool>,
}

/// Why a link ends.
type Ended = String;

/// Serves a link until it ends, then takes it out of the core.
pub(super) async fn run(shared: Rc<Shared>, link: Link) {
    let hello = link.peer();
    let peer = Peer { node: hello.node, epoch: hello.epoch, role: hello.role };
    let id = hello.node.short();
    end_earlier_runs(&shared, &link);
    let key = shared.relay.borrow_mut().link_opened(peer);
    let writers: Rc<RefCell<Vec<AbortHandle>>> = Rc::default();
    let wakers = register(&shared, &link, key, &writers);
    tracing::debug!(link = %id, role = ?hello.role, from = %link.remote_address(), "link opened");
    let context = Rc::new(LinkContext {
        shared: Rc::clone(&shared),
        link: link.clone(),
        key,
        wakers,
        heard: RefCell::new(Instant::now()),
        is_broken: Cell::new(false),
    });
    let (control_writer, control_reader) = link.take_control();
    let mut tasks = JoinSet::new();
    tasks.spawn_local(read_control(Rc::clone(&context), control_reader));
    tasks.spawn_local(write_control(Rc::clone(&context), control_writer));
    tasks.spawn_local(content::accept_streams(Rc::clone(&context)));
    let mut lanes = JoinSet::new();
    lanes.spawn_local(accept_lanes(Rc::clone(&context)));
    let ended = tokio::select! {
        Some(ended) = tasks.join_next() => ended,
        Some(ended) = lanes.join_next() => ended,
    };
    let ended = ended.unwrap_or_else(|error| format!("a task failed: {error}"));
    link.close(&ended);
    if !context.is_broken.get() {
        // What had arrived before the end is still taken.
        let _ = timeout(LAST_FRAMES_TIMEOUT, async { while lanes.join_next().await.is_some() {} }).await;
    }
    lanes.shutdown().await;
    tasks.shutdown().await;
    for writer in writers.borrow_mut().drain(..) {
        writer.abort();
    }
    forget(&shared, key);
    shared.admission.borrow_mut().link_closed(key);
    shared.relay.borrow_mut().link_closed(Instant::now(), key);
    shared.resumed.notify_waiters();
    shared.settle_rights();
    tracing::debug!(link = %id, reason = %ended, "link closed");
}

/// Ends links of earlier runs of the same node: whoever was killed says no good-bye, and until its silence is noticed its
/// offers would be given calls.
fn end_earlier_runs(shared: &Rc<Shared>, link: &Link) {
    let peer = link.peer();
    let wakers = shared.wakers.borrow();
    let links = wakers.iter().flatten().map(|wakers| &wakers.link);
    for old in links.filter(|old| old.peer().node == peer.node && old.peer().epoch < peer.epoch) {
        old.close("the node has started anew");
    }
}

fn register(shared: &Rc<Shared>, link: &Link, key: LinkKey, writers: &Rc<RefCell<Vec<AbortHandle>>>) -> Rc<LinkWakers> {
    let start = {
        let (shared, link, writers) = (Rc::downgrade(shared), link.clone(), Rc::clone(writers));
        Box::new(move |lane| {
            if let Some(shared) = shared.upgrade() {
                let writer = spawn_local(write_lane(shared, link.clone(), key, lane));
                writers.borrow_mut().push(writer.abort_handle());
            }
        })
    };
    let wakers = Rc::new(LinkWakers {
        link: link.clone(),
        control: Notify::new(),
        lanes: Default::default(),
        started: RefCell::default(),
        start,
    });
    let mut all = shared.wakers.borrow_mut();
    if all.len() <= key.index() {
        all.resize(key.index() + 1, None);
    }
    all[key.index()] = Some(Rc::clone(&wakers));
    wakers
}

impl LinkContext {
    pub(super) fn heard(&self, now: Instant) {
        *self.heard.borrow_mut() = now;
    }

    /// Closes the link for breaking the protocol.
    fn violated(&self, violation: &Violation) -> Ended {
        tracing::warn!(link = %self.link.peer().node.short(), %violation, "a peer broke the protocol");
        self.shared.relay.borrow_mut().count_violation();
        self.is_broken.set(true);
        violation.to_string()
    }
}

async fn read_control(context: Rc<LinkContext>, mut reader: ControlReader) -> Ended {
    loop {
        let message = match reader.next().await {
            Ok(message) => message,
            Err(error) => return error.to_string(),
        };
        context.heard(Instant::now());
        let handled = {
            let mut relay = context.shared.relay.borrow_mut();
            let mut admission = context.shared.admission.borrow_mut();
            admission.handle_control(&mut relay, Now::read(), context.key, context.link.peer().node, message)
        };
        if let Err(violation) = handled {
            return context.violated(&violation);
        }
        context.shared.settle_rights();
    }
}

async fn write_control(context: Rc<LinkContext>, mut writer: ControlWriter) -> Ended {
    let mut ping = 0;
    let mut pings = ping_interval();
    loop {
        let mut messages = Vec::new();
        while let Some(message) = context.shared.relay.borrow_mut().poll_control(context.key) {
            messages.push(message);
        }
        if !messages.is_empty()
            && let Err(error) = writer.send(messages).await
        {
            return error.to_string();
        }
        tokio::select! {
            () = context.wakers.control.notified() => {}
            _ = pings.tick() => {
                let silence = context.heard.borrow().elapsed();
                if silence > PING_TIMEOUT {
                    return "the peer does not answer".into();
                }
                if silence >= PING_INTERVAL {
                    ping += 1;
                    if let Err(error) = writer.send([Control::Ping(Beat { token: ping })]).await {
                        return error.to_string();
                    }
                }
            }
        }
    }
}

async fn accept_lanes(context: Rc<LinkContext>) -> Ended {
    let mut readers = JoinSet::new();
    let mut open = [false; Lane::COUNT];
    loop {
        tokio::select! {
            lane = context.link.accept_lane() => match lane {
                Err(error) => {
                    // The link is closed; what has arrived is still read.
                    while readers.join_next().await.is_some() {}
                    return error.to_string();
                }
                Ok(reader) => {
                    if std::mem::replace(&mut open[reader.lane().index()], true) {
                        return format!("lane {:?} was opened twice", reader.lane());
                    }
                    readers.spawn_local(read_lane(Rc::clone(&context), reader));
                }
            },
            Some(ended) = readers.join_next() => match ended {
                Ok(Ok(lane)) => open[lane.index()] = false,
                Ok(Err(reason)) => return reason,
                Err(error) => return format!("a task failed: {error}"),
            },
        }
    }
}

/// Feeds a lane's frames to the core; a run is ended when no input is left at hand, not by a timer.
async fn read_lane(context: Rc<LinkContext>, mut reader: LaneReader) -> Result<Lane, Ended> {
    let lane = reader.lane();
    let _reading = lane.carries_messages().then(|| Counted::new(&context.shared, |ending| &ending.reading));
    let mut pieces: [Bytes; PIECES] = std::array::from_fn(|_| Bytes::new());
    let mut reassembly = Reassembly::default();
    let mut turn = 0;
    loop {
        let read = match reader.read(&mut pieces).now_or_never() {
            Some(read) => read,
            None => {
                context.shared.relay.borrow_mut().flush(Instant::now());
                context.shared.pump();
                turn = 0;
                reader.read(&mut pieces).await
            }
        };
        let Some(count) = read.map_err(|error| error.to_string())? else {
            context.shared.relay.borrow_mut().flush(Instant::now());
            context.shared.pump();
            return match reassembly.end() {
                Ok(()) => Ok(lane),
                Err(error) => Err(context.violated(&error.into())),
            };
        };
        if context.shared.relay.borrow().is_suspended(context.key) {
            context.shared.until_active(context.key).await;
        }
        let now = Instant::now();
        context.heard(now);
        let fed = feed(&context, now, lane, &pieces[..count], &mut reassembly);
        turn += fed.map_err(|violation| context.violated(&violation))?;
        for piece in &mut pieces[..count] {
            *piece = Bytes::new();
        }
        if turn >= TURN_BYTES {
            context.shared.relay.borrow_mut().flush(now);
            context.shared.pump();
            turn = 0;
            yield_now().await;
        }
    }
}

fn feed(
    context: &LinkContext,
    now: Instant,
    lane: Lane,
    pieces: &[Bytes],
    reassembly: &mut Reassembly,
) -> Result<usize, Violation> {
    let mut relay = context.shared.relay.borrow_mut();
    let mut fed = 0;
    for input in pieces {
        fed += input.len();
        let mut at = 0;
        while let Some(frame) = reassembly.next(input, &mut at, FRAME_BYTES_MAX)? {
            match frame {
                Piece::InPlace(range) => relay.handle_frame(now, context.key, lane, &input[range])?,
                Piece::Assembled(buffer) => {
                    relay.handle_frame(now, context.key, lane, &buffer)?;
                    reassembly.recycle(buffer);
                }
            }
        }
    }
    Ok(fed)
}

/// Writes what the core has for a lane, as long as the link lives.
async fn write_lane(shared: Rc<Shared>, link: Link, key: LinkKey, lane: Lane) {
    let _writing = Counted::new(&shared, |ending| &ending.writing);
    let Ok(mut writer) = link.open_lane(lane).await else { return };
    let Some(wakers) = shared.wakers.borrow().get(key.index()).cloned().flatten() else { return };
    let mut outgoing = Outgoing::default();
    let mut pieces = Vec::new();
    loop {
        shared.relay.borrow_mut().poll_transmit(Instant::now(), key, lane, &mut outgoing);
        if outgoing.is_empty() {
            shared.ending.progress.notify_one();
            if shared.ending.writers_finish.get() {
                // Fails when the peer is gone, which its other tasks notice.
                let _ = writer.finish().await;
                return;
            }
            wakers.lanes[lane.index()].notified().await;
            continue;
        }
        // Draining may have released receipts of other links.
        shared.pump();
        outgoing.take_into(&mut pieces);
        // The reader of control notices the end of the link.
        if writer.write(&mut pieces).await.is_err() {
            return;
        }
        pieces.clear();
    }
}
