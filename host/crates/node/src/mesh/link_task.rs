//! Keeps a handle linked: dials, joins the realm, says everything again, serves the link, backs off, dials again.

use std::{sync::Arc, time::Duration};

use macula_transport::{Backoff, ControlReadError, ControlReader, ControlWriter, DialError, Dialler, Link, RelayUrl};
use macula_wire::{
    NodeId,
    control::{Beat, Control, Join, Proof, Show},
    frame::Lane,
    limits::{HELLO_TIMEOUT, PING_TIMEOUT},
};
use tokio::{
    sync::{mpsc, watch},
    task::JoinSet,
    time::{Instant, sleep, timeout, timeout_at},
};

use super::{
    config::{self, LinkState, MeshConfig, Outlook},
    content,
    dialling::{AllFailed, Relays},
    handle::Shared,
    inbound::Inbound,
    outbox::REALM_SLOT,
    own_rights::{OwnRights, TICK},
    registry::CONTROL_QUEUE_MAX,
};
use crate::{clock::unix_now, pulse::ping_interval};

/// How long a closing handle waits for its last frames to arrive, and a link lives on after the relay's goodbye.
const FINISH_TIMEOUT: Duration = Duration::from_secs(2);

/// Why there is no link.
struct Down {
    reason: String,
    outlook: Outlook,
}

/// Runs until the handle is closed.
pub(super) async fn run(shared: Arc<Shared>, config: MeshConfig, mut close: watch::Receiver<bool>) {
    let dialler = Dialler::new(config.tls, &config.endpoint);
    let mut backoff = Backoff::for_links();
    let mut relays = Relays::new(config.relays.clone());
    let rights = tokio::spawn(keep_rights(Arc::clone(&shared), close.clone()));
    while !*close.borrow() {
        let dialled = tokio::select! {
            dialled = relays.dial(&dialler, &config.node) => dialled,
            () = until(&mut close) => break,
        };
        let down = match dialled {
            Ok((url, link)) => serve(&shared, &config, &url, &link, close.clone(), &mut backoff).await,
            Err(failed) => failed.into(),
        };
        if *close.borrow() {
            break;
        }
        tracing::info!(reason = %down.reason, attempt = backoff.attempts(), "no link");
        shared.set_state(LinkState::Down { reason: down.reason, outlook: down.outlook });
        let delay = backoff.next(getrandom::u32().unwrap_or(u32::MAX / 2));
        tokio::select! {
            () = sleep(delay) => {}
            () = until(&mut close) => {}
        }
    }
    rights.abort();
    shared.outbox.close();
    let bytes = shared.outbox.waiting_bytes();
    if bytes > 0 {
        tracing::warn!(bytes, "the node is closing, and this much of what it has published was not sent");
    }
    shared.registry.close();
    shared.set_state(LinkState::Closed);
    let _ = timeout(FINISH_TIMEOUT, dialler.drained()).await;
}

/// Serves one link to its end.
async fn serve(
    shared: &Arc<Shared>,
    config: &MeshConfig,
    url: &RelayUrl,
    link: &Link,
    close: watch::Receiver<bool>,
    backoff: &mut Backoff,
) -> Down {
    let (mut control_writer, mut control_reader) = link.take_control();
    let (queue, queued) = mpsc::channel(CONTROL_QUEUE_MAX);
    let peer = link.peer().node;
    shared.heard();
    // Nothing of the realm is said to a relay that has not shown that it may serve it.
    let shown = timeout(HELLO_TIMEOUT, relay_right(shared, &peer, &mut control_writer, &mut control_reader)).await;
    let shown = shown.unwrap_or_else(|_| Err(Down::hopeful(format!("relay {} did not answer", peer.short()))));
    let proofs = shown.and_then(|shown| Ok((shown, own_proofs(shared)?)));
    let (shown, proofs) = match proofs {
        Ok(both) => both,
        Err(down) => {
            link.close(&down.reason);
            return down;
        }
    };
    shared.set_permissions();
    let realm = &config.realm;
    let join = |id, proofs| Join { id, slot: REALM_SLOT, name: realm.name().clone(), root: realm.root(), proofs };
    let (joined, all_said) = shared.registry.link_up(queue, proofs, join);
    let mut tasks: JoinSet<String> = JoinSet::new();
    tasks.spawn(write_control(Arc::clone(shared), control_writer, queued));
    let (farewell, leaving) = watch::channel(false);
    tasks.spawn(read_control(Arc::clone(shared), control_reader, farewell));
    tasks.spawn(watch_relay(Arc::clone(shared), peer, shown));
    let joined = tokio::select! {
        joined = timeout(HELLO_TIMEOUT, joined) => match joined {
            Ok(Ok(Ok(()))) => Ok(()),
            Ok(Ok(Err(fault))) => Err(Down::denied(format!("the relay refuses realm {}: {fault}", realm.name()))),
            Ok(Err(_)) | Err(_) => Err(Down::hopeful(format!("relay {} did not answer the join", peer.short()))),
        },
        // The relay has closed the link, and says why.
        Some(ended) = tasks.join_next() => Err(Down::hopeful(reason_of(ended))),
    };
    let down = match joined {
        Err(down) => down,
        Ok(()) => {
            backoff.reset();
            // What this node knows is revoked, the relay knows from now on.
            drop(shared.registry.revoke(shared.rights.revocations()));
            // Messages follow only then: this node's own subscriptions must not miss what it sends again.
            let said = tokio::select! {
                said = timeout(PING_TIMEOUT, all_said) => match said {
                    Ok(Ok(())) => Ok(()),
                    Ok(Err(_)) | Err(_) => Err(Down::hopeful(format!("relay {} did not answer requests", peer.short()))),
                },
                Some(ended) = tasks.join_next() => Err(Down::hopeful(reason_of(ended))),
            };
            match said {
                Ok(()) => serve_joined(shared, url, link, close, leaving, tasks).await,
                Err(down) => down,
            }
        }
    };
    link.close(&down.reason);
    shared.registry.link_down();
    down
}

impl From<AllFailed> for Down {
    fn from(AllFailed(failed): AllFailed) -> Self {
        let is_hopeful = failed.iter().any(DialError::is_transient);
        let reasons: Vec<String> = failed.iter().map(ToString::to_string).collect();
        Self { outlook: if is_hopeful { Outlook::Hopeful } else { Outlook::Refused }, reason: reasons.join("; ") }
    }
}

impl Down {
    /// It may be another time.
    fn hopeful(reason: String) -> Self {
        Self { reason, outlook: Outlook::Hopeful }
    }

    /// A right is missing.
    fn denied(reason: String) -> Self {
        Self { reason, outlook: Outlook::Denied }
    }
}

/// What this node presents when it joins.
fn own_proofs(shared: &Shared) -> Result<Vec<Proof>, Down> {
    let realm = shared.rights.access().name();
    let refused = |refusal| Down::denied(format!("nothing lets this node into realm {realm}: {refusal}"));
    shared.rights.proofs().map_err(refused)
}

/// Why a task has ended.
fn reason_of(ended: Result<String, tokio::task::JoinError>) -> String {
    ended.unwrap_or_else(|error| format!("a task failed: {error}"))
}

/// Asks the relay to show its right to the realm, and checks it.
async fn relay_right(
    shared: &Shared,
    relay: &NodeId,
    writer: &mut ControlWriter,
    reader: &mut ControlReader,
) -> Result<Shown, Down> {
    let lost = Down::hopeful;
    let show = Show { id: SHOW_ID, realm: shared.rights.realm() };
    writer.send([Control::Show(show)]).await.map_err(|error| lost(error.to_string()))?;
    loop {
        match reader.next().await.map_err(|error| lost(error.to_string()))? {
            Control::Done(done) if done.id == SHOW_ID => {
                let shown = match done.fault {
                    None => done.proof,
                    Some(_) => None,
                };
                return check_relay(shared, relay, shown.as_ref()).map_err(Down::denied);
            }
            Control::Goodbye(goodbye) => return Err(lost(goodbye.reason)),
            _ => {}
        }
    }
}

/// Requests of the registry count from 1.
const SHOW_ID: u64 = 0;

/// What a relay has shown, and until when it holds.
struct Shown {
    proof: Proof,
    until: Option<u64>,
}

fn check_relay(shared: &Shared, relay: &NodeId, shown: Option<&Proof>) -> Result<Shown, String> {
    let realm = shared.rights.access().name();
    let Some(shown) = shown else {
        return Err(format!(
            "relay {} does not serve realm {realm} under root {}, as it is known here: it shows no right to",
            relay.short(),
            shared.rights.access().root()
        ));
    };
    let checked = shared.rights.check_relay(relay, shown).map(|until| Shown { proof: shown.clone(), until });
    checked.map_err(|error| format!("relay {} may not serve realm {realm}: {error}", relay.short()))
}

/// Has the relay show its right again before it ends, and looks at it when something is revoked; gives the link up when
/// the right does not hold any more.
async fn watch_relay(shared: Arc<Shared>, relay: NodeId, shown: Shown) -> String {
    let Shown { mut proof, mut until } = shown;
    // When the end of its right was noticed: a date that leaps beyond it leaves the relay its time to renew it.
    let mut noticed: Option<Instant> = None;
    loop {
        tokio::select! {
            () = until_half_over(until) => {}
            () = shared.rights.revoked() => {
                if let Err(reason) = check_relay(&shared, &relay, Some(&proof)) {
                    return reason;
                }
                continue;
            }
        }
        let Some(answer) = shared.registry.show(shared.rights.realm()) else { continue };
        // A relay that does not answer has not renewed its right either.
        let answer = timeout(HELLO_TIMEOUT, answer).await.ok();
        let renewed = answer.and_then(Result::ok).and_then(Result::ok).flatten();
        match check_relay(&shared, &relay, renewed.as_ref()) {
            Ok(shown) => (Shown { proof, until }, noticed) = (shown, None),
            Err(reason) => {
                let is_over = until.is_some_and(|until| unix_now() > until);
                if is_over && noticed.get_or_insert_with(Instant::now).elapsed() >= OwnRights::grace() {
                    return reason;
                }
                tracing::debug!(%reason, "the relay's right was not renewed");
            }
        }
    }
}

/// Waits until half of what is left of a relay's right is over: by the date, which may leap.
async fn until_half_over(until: Option<u64>) {
    let begin = unix_now();
    let half = until.map(|until| begin.saturating_add(until.saturating_sub(begin) / 2));
    let mut waited = Duration::ZERO;
    loop {
        sleep(TICK).await;
        waited += TICK;
        if waited >= RELAY_SHOW_INTERVAL || half.is_some_and(|half| unix_now() >= half) {
            return;
        }
    }
}

/// A relay's right is looked at again after this long at the latest: it may have been revoked.
const RELAY_SHOW_INTERVAL: Duration = Duration::from_secs(3600);

/// What a relay has refused it is asked for again after so long, then after twice that, and so on: it writes each time down.
const ASK_AGAIN: Duration = Duration::from_secs(30);
const ASK_AGAIN_MAX: Duration = Duration::from_secs(600);

/// Renews this node's rights, and puts in force what has changed, for as long as the handle lives.
async fn keep_rights(shared: Arc<Shared>, mut close: watch::Receiver<bool>) {
    let mut ticks = tokio::time::interval(TICK);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let (mut pause, mut ask_at) = (ASK_AGAIN, Instant::now() + ASK_AGAIN);
    loop {
        tokio::select! {
            _ = ticks.tick() => {}
            () = until(&mut close) => return,
        }
        let ticked = shared.rights.tick();
        let is_new = !ticked.proofs.is_empty();
        if is_new {
            shared.registry.present(ticked.proofs);
        }
        if ticked.changed {
            shared.set_permissions();
        }
        if is_new || Instant::now() >= ask_at {
            shared.registry.ask_again();
            pause = if is_new { ASK_AGAIN } else { (pause * 2).min(ASK_AGAIN_MAX) };
            ask_at = Instant::now() + pause;
        }
    }
}

async fn serve_joined(
    shared: &Arc<Shared>,
    url: &RelayUrl,
    link: &Link,
    mut close: watch::Receiver<bool>,
    leaving: watch::Receiver<bool>,
    mut tasks: JoinSet<String>,
) -> Down {
    let number = shared.outbox.link_up();
    shared.set_link(Some((number, link.clone())));
    let mut writers = JoinSet::new();
    let (finish, finishing) = watch::channel(false);
    for lane in Lane::ALL {
        let until = Until { finishing: finishing.clone(), leaving: leaving.clone() };
        writers.spawn(write_lane(Arc::clone(shared), link.clone(), number, lane, until));
    }
    tasks.spawn(content::serve(Arc::clone(shared), link.clone()));
    let mut lanes = JoinSet::new();
    lanes.spawn(accept_lanes(Arc::clone(shared), link.clone(), number));
    let up = config::Link { url: url.clone(), relay: link.peer().node, generation: number };
    tracing::info!(relay = %url, id = %link.peer().node.short(), "linked");
    shared.set_state(LinkState::Up(up));
    let reason = tokio::select! {
        Some(ended) = tasks.join_next() => reason_of(ended),
        Some(ended) = lanes.join_next() => reason_of(ended),
        () = until(&mut close) => {
            // Everything that was published goes out, and is there, before the link is closed.
            let _ = finish.send(true);
            let all = async { while writers.join_next().await.is_some() {} };
            let _ = timeout(FINISH_TIMEOUT, all).await;
            "the node is closing".into()
        }
    };
    shared.set_link(None);
    link.close(&reason);
    // What had arrived before the end is still read.
    let _ = timeout(FINISH_TIMEOUT, async { while lanes.join_next().await.is_some() {} }).await;
    lanes.shutdown().await;
    tasks.shutdown().await;
    writers.shutdown().await;
    let unsent = shared.outbox.link_down();
    shared.calls.link_down(&unsent);
    shared.incoming.link_down();
    Down::hopeful(reason)
}

async fn write_control(shared: Arc<Shared>, mut writer: ControlWriter, mut queued: mpsc::Receiver<Control>) -> String {
    let mut ping = 0;
    let mut pings = ping_interval();
    loop {
        let mut messages = Vec::new();
        tokio::select! {
            count = queued.recv_many(&mut messages, 64) => {
                if count == 0 {
                    return "the relay does not take what it is asked".into();
                }
                let more = !queued.is_empty();
                match timeout(PING_TIMEOUT, writer.send(messages)).await {
                    Ok(Ok(())) => {}
                    Ok(Err(error)) => return error.to_string(),
                    Err(_) => return "the relay does not read".into(),
                }
                if more {
                    continue;
                }
            }
            _ = pings.tick() => {
                let silence = shared.silence();
                if silence > PING_TIMEOUT {
                    return "the relay does not answer".into();
                }
                ping += 1;
                if let Err(error) = writer.send([Control::Ping(Beat { token: ping })]).await {
                    return error.to_string();
                }
            }
        }
    }
}

async fn read_control(shared: Arc<Shared>, mut reader: ControlReader, farewell: watch::Sender<bool>) -> String {
    let mut goodbye: Option<(String, Instant)> = None;
    loop {
        let read = match &goodbye {
            None => reader.next().await,
            Some((reason, until)) => {
                timeout_at(*until, reader.next()).await.unwrap_or_else(|_| Err(ControlReadError::Ended(reason.clone())))
            }
        };
        let message = match read {
            Ok(message) => message,
            Err(error) => return goodbye.map_or_else(|| error.to_string(), |(reason, _)| reason),
        };
        shared.heard();
        match message {
            Control::Done(done) => shared.registry.done(done),
            Control::Dropped(dropped) => {
                if let Some(subscription) = shared.registry.subscription(dropped.subscription) {
                    subscription.set_dropped(dropped.total);
                }
            }
            Control::Revoked(revoked) => {
                for revocation in &revoked.revocations {
                    if shared.rights.revoke(revocation) {
                        shared.set_permissions();
                    }
                }
            }
            Control::Ended(ended) => {
                let stands = shared.registry.ended(&ended);
                // This node may know better, or be about to: it says so once, and then now and then.
                stands.then(|| shared.rights.renew_soon());
            }
            Control::Refused(refused) => {
                let operation = refused.operation.0;
                tracing::warn!(%operation, name = %refused.name, "the relay does not forward this: the right is missing");
            }
            Control::Undelivered(undelivered) => shared.set_undelivered(undelivered.total),
            Control::Ping(beat) => shared.registry.pong(beat),
            Control::Goodbye(message) => {
                // Nothing more is sent, and what still comes is read until the relay closes the link.
                goodbye = Some((message.reason, Instant::now() + FINISH_TIMEOUT));
                let _ = farewell.send(true);
            }
            _ => {}
        }
    }
}

async fn accept_lanes(shared: Arc<Shared>, link: Link, number: u64) -> String {
    let mut readers = JoinSet::new();
    loop {
        tokio::select! {
            lane = link.accept_lane() => match lane {
                Ok(reader) => drop(readers.spawn(Inbound::new(Arc::clone(&shared), number).read(reader))),
                Err(error) => {
                    // The link is closed; what has arrived is still read.
                    while readers.join_next().await.is_some() {}
                    return error.to_string();
                }
            },
            Some(ended) = readers.join_next() => match ended {
                Ok(Ok(())) => {}
                Ok(Err(reason)) => return reason,
                Err(error) => return format!("a task failed: {error}"),
            },
        }
    }
}

/// Waits until a switch is thrown, or its owner is gone.
async fn until(switch: &mut watch::Receiver<bool>) {
    let _ = switch.wait_for(|thrown| *thrown).await;
}

/// When a writer stops.
struct Until {
    /// This node is closing: everything goes out first.
    finishing: watch::Receiver<bool>,
    /// The relay is leaving: messages wait for the next one.
    leaving: watch::Receiver<bool>,
}

/// Opens the lane when there is something for it, and writes until the link ends or everything is out.
async fn write_lane(shared: Arc<Shared>, link: Link, number: u64, lane: Lane, mut stop: Until) {
    let mut writer = None;
    let mut pieces = Vec::new();
    let is_leaving = loop {
        if lane.carries_messages() && *stop.leaving.borrow() {
            break true;
        }
        shared.outbox.take(number, lane, &mut pieces);
        if pieces.is_empty() {
            tokio::select! {
                biased;
                () = until(&mut stop.leaving), if lane.carries_messages() => break true,
                () = shared.outbox.waiting[lane.index()].notified() => continue,
                () = until(&mut stop.finishing) => break false,
            }
        }
        let writer = match &mut writer {
            Some(writer) => writer,
            None => match link.open_lane(lane).await {
                Ok(opened) => writer.insert(opened),
                Err(_) => return,
            },
        };
        // The reader of control notices the end of the link.
        if writer.write(&mut pieces).await.is_err() {
            return;
        }
        pieces.clear();
    };
    let Some(mut writer) = writer else { return };
    if is_leaving && let Some(sync) = shared.outbox.last_sync(number, lane) {
        // Fails when the relay is gone already.
        let _ = writer.write(&mut [sync]).await;
    }
    let _ = writer.finish().await;
}
