//! Calls between nodes.

use std::time::Duration;

use bytes::Bytes;
use macula_node::{Advertise, CallOptions};
use macula_wire::{CallError, Fault, HandlerError, limits::PAYLOAD_BYTES_MAX};

use crate::support::{node, relay, soon, topic};

fn patient() -> CallOptions {
    CallOptions { timeout: Duration::from_secs(30), ..CallOptions::default() }
}

/// Goal: two nodes call one another at the same time, each inside its own handler.
#[tokio::test(flavor = "multi_thread")]
async fn two_nodes_call_one_another() {
    let relay = relay();
    let (one, two) = (node(&relay).await, node(&relay).await);
    let mut double = soon(one.advertise(topic("math.double"))).await.unwrap();
    let mut quadruple = soon(two.advertise(topic("math.quadruple"))).await.unwrap();
    let serve_double = async {
        for _ in 0..2 {
            let call = double.next().await.unwrap();
            let n: u32 = String::from_utf8_lossy(&call.request.payload).parse().unwrap();
            call.responder.answer(Ok((2 * n).to_string().into()));
        }
    };
    let serve_quadruple = async {
        let call = quadruple.next().await.unwrap();
        assert_eq!((&*call.request.procedure, call.request.caller), ("math.quadruple", one.node()));
        let once = two.call(&topic("math.double"), &call.request.payload, &patient()).await.unwrap();
        let twice = two.call(&topic("math.double"), &once, &patient()).await;
        call.responder.answer(twice.map_err(|error| HandlerError::new("failed", error.to_string())));
    };
    let (name, options) = (topic("math.quadruple"), patient());
    let calling = one.call(&name, b"7", &options);
    let ((), (), answer) = soon(async { tokio::join!(serve_double, serve_quadruple, calling) }).await;
    assert_eq!(&answer.unwrap()[..], b"28");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_handlers_error_comes_back_as_it_was() {
    let relay = relay();
    let (one, two) = (node(&relay).await, node(&relay).await);
    let mut offer = soon(two.advertise(topic("p"))).await.unwrap();
    let error = HandlerError { code: "out-of-range".into(), message: "too much".into(), data: vec![1, 2, 3] };
    let serve = async { offer.next().await.unwrap().responder.answer(Err(error.clone())) };
    let (name, options) = (topic("p"), patient());
    let ((), outcome) = soon(async { tokio::join!(serve, one.call(&name, b"", &options)) }).await;
    assert_eq!(outcome, Err(CallError::Handler(error.clone())));
}

#[tokio::test(flavor = "multi_thread")]
async fn calls_and_answers_up_to_one_mebibyte() {
    let relay = relay();
    let (one, two) = (node(&relay).await, node(&relay).await);
    let mut offer = soon(two.advertise(topic("p"))).await.unwrap();
    let serve = async {
        let call = offer.next().await.unwrap();
        call.responder.answer(Ok(call.request.payload));
        offer.next().await.unwrap().responder.answer(Ok(Bytes::from(vec![0; PAYLOAD_BYTES_MAX + 1])));
    };
    let (name, options) = (topic("p"), patient());
    let call = async {
        let big = vec![7; PAYLOAD_BYTES_MAX];
        assert_eq!(one.call(&name, &big, &options).await.unwrap(), big);
        let too_big = vec![7; PAYLOAD_BYTES_MAX + 1];
        let refused = Fault::TooLarge(PAYLOAD_BYTES_MAX as u32);
        assert_eq!(one.call(&name, &too_big, &options).await, Err(CallError::NotRun(refused.clone())));
        assert_eq!(one.call(&name, b"", &options).await, Err(CallError::MaybeRun(refused)));
    };
    soon(async { tokio::join!(serve, call) }).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_nobody_offers_is_not_found_and_did_not_run() {
    let relay = relay();
    let (one, two) = (node(&relay).await, node(&relay).await);
    let outcome = soon(one.call(&topic("p"), b"", &patient())).await;
    assert!(matches!(outcome, Err(CallError::NotRun(Fault::NotFound(_)))), "{outcome:?}");
    let offer = soon(two.advertise(topic("p"))).await.unwrap();
    assert!(matches!(soon(two.advertise(topic("p"))).await, Err(Fault::Conflict(_))));
    drop(offer);
    let again = soon(two.advertise(topic("p"))).await;
    assert!(again.is_ok(), "withdrawn, so free again");
    drop(again);
    soon(async {
        // Withdrawing needs no answer, so it is seen a moment later.
        while !matches!(one.call(&topic("p"), b"", &patient()).await, Err(CallError::NotRun(Fault::NotFound(_)))) {}
    })
    .await;
}

/// Goal: a call ends at its deadline, whatever the handler does, and the handler is told.
#[tokio::test(flavor = "multi_thread")]
async fn a_call_ends_at_its_deadline_and_the_handler_is_told() {
    let relay = relay();
    let (one, two) = (node(&relay).await, node(&relay).await);
    let mut offer = soon(two.advertise(topic("p"))).await.unwrap();
    let options = CallOptions { timeout: Duration::from_millis(200), ..CallOptions::default() };
    let name = topic("p");
    let serve = async {
        let mut call = offer.next().await.unwrap();
        assert!(call.request.time_left <= Duration::from_millis(200));
        call.responder.cancelled().await;
        call.responder.answer(Ok("too late".into()));
    };
    let ((), outcome) = soon(async { tokio::join!(serve, one.call(&name, b"", &options)) }).await;
    assert_eq!(outcome, Err(CallError::MaybeRun(Fault::Timeout)));
    crate::support::stats_where(&relay, |stats| stats.calls_in == 1 && stats.calls_pending == 0).await;
}

/// Goal: who drops the call's future cancels it, at the handler too.
#[tokio::test(flavor = "multi_thread")]
async fn dropping_the_call_cancels_it_at_the_provider() {
    let relay = relay();
    let (one, two) = (node(&relay).await, node(&relay).await);
    let mut offer = soon(two.advertise(topic("p"))).await.unwrap();
    let caller = one.clone();
    let calling = tokio::spawn(async move { caller.call(&topic("p"), b"", &patient()).await });
    let mut call = soon(offer.next()).await.unwrap();
    calling.abort();
    soon(call.responder.cancelled()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_provider_that_dies_gives_maybe_run() {
    let relay = relay();
    let (one, two) = (node(&relay).await, node(&relay).await);
    let mut offer = soon(two.advertise(topic("p"))).await.unwrap();
    let caller = one.clone();
    let calling = tokio::spawn(async move { caller.call(&topic("p"), b"", &patient()).await });
    let call = soon(offer.next()).await.unwrap();
    soon(two.close()).await;
    let outcome = soon(calling).await.unwrap();
    assert!(matches!(outcome, Err(CallError::MaybeRun(_))), "{outcome:?}");
    drop(call);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_responder_that_is_dropped_gives_maybe_run() {
    let relay = relay();
    let (one, two) = (node(&relay).await, node(&relay).await);
    let mut offer = soon(two.advertise(topic("p"))).await.unwrap();
    let serve = async { drop(offer.next().await.unwrap()) };
    let (name, options) = (topic("p"), patient());
    let ((), outcome) = soon(async { tokio::join!(serve, one.call(&name, b"", &options)) }).await;
    assert_eq!(outcome, Err(CallError::MaybeRun(Fault::Cancelled)));
}

/// Goal: calls spread over providers, each takes no more than it said, and every call is answered once.
/// Method: nothing is answered before each provider has as many calls as it takes.
#[tokio::test(flavor = "multi_thread")]
async fn calls_spread_over_providers() {
    let relay = relay();
    let caller = node(&relay).await;
    let mut offers = Vec::new();
    for _ in 0..2 {
        let provider = node(&relay).await;
        let options = Advertise { in_flight_max: 50, ..Advertise::default() };
        offers.push((soon(provider.advertise_with(topic("p"), options)).await.unwrap(), provider));
    }
    let calls = (0..100).map(|n| {
        let caller = caller.clone();
        async move { caller.call(&topic("p"), n.to_string().as_bytes(), &patient()).await }
    });
    let calling = tokio::spawn(futures::future::join_all(calls));
    let mut taken = Vec::new();
    for (offer, _) in &mut offers {
        for _ in 0..50 {
            taken.push(soon(offer.next()).await.unwrap());
        }
    }
    let one_too_many = soon(caller.call(&topic("p"), b"", &patient())).await;
    assert!(matches!(one_too_many, Err(CallError::NotRun(Fault::Unavailable(_)))), "{one_too_many:?}");
    for call in taken {
        call.responder.answer(Ok(call.request.payload));
    }
    for (n, answer) in soon(calling).await.unwrap().into_iter().enumerate() {
        assert_eq!(answer.unwrap(), n.to_string());
    }
}
