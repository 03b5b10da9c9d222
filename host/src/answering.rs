//! Procedures of the host's own: on offer as soon as the relay takes them, each call answered by itself.

use std::time::Duration;

use bytes::Bytes;
use macula_node::{
    IncomingCall, LinkState, Mesh,
    wire::{CallError, Fault, Topic},
};
use tokio::task::JoinSet;

/// How long to wait before a procedure is offered again to a relay that has refused it: rights may have come.
const OFFER_AGAIN: Duration = Duration::from_secs(1);

/// Offers a procedure, without a link as soon as there is one, and answers until the node has shut down. When the right to
/// offer it ends, it is offered again as soon as there is one. Some answers take long, and others are not to wait for them;
/// the offer bounds how many there are at a time.
pub(crate) async fn serve<F>(mesh: Mesh, procedure: Topic, answer: impl Fn(IncomingCall) -> F)
where
    F: Future<Output = ()> + Send + 'static,
{
    let mut answering = JoinSet::new();
    loop {
        match mesh.advertise(procedure.clone()).await {
            Ok(mut offer) => loop {
                tokio::select! {
                    call = offer.next() => match call {
                        Some(call) => drop(answering.spawn(answer(call))),
                        None => break,
                    },
                    Some(_) = answering.join_next() => {}
                }
            },
            Err(error) => tracing::debug!(%procedure, %error, "not on offer yet"),
        }
        if matches!(*mesh.link().borrow(), LinkState::Closed) {
            return;
        }
        tokio::time::sleep(OFFER_AGAIN).await;
    }
}

/// Gives the one answer to a call. What was refused did nothing.
pub(crate) fn give(call: IncomingCall, answer: Result<Vec<u8>, Fault>) {
    match answer {
        Ok(bytes) => call.responder.answer(Ok(Bytes::from(bytes))),
        Err(fault) => call.responder.fail(CallError::NotRun(fault)),
    }
}
