//! Calls: who gets them, how they end, and that none runs twice.

use std::time::Duration;

use macula_wire::{
    CallError, ChannelKind, Fault,
    frame::{self, Header, Lane, Outcome},
    hello::Role,
    limits::{CALL_TIMEOUT_MAX, HOPS_MAX},
};

use super::harness::{Answer, Sim, id_of};

fn error(answers: &[(u64, Answer)]) -> String {
    let [(_, Err(error))] = answers else { panic!("one error: {answers:?}") };
    error.to_string()
}

#[test]
fn a_call_reaches_its_provider_and_the_answer_its_caller() {
    let mut sim = Sim::new();
    let (caller, provider) = (sim.host(1), sim.host(2));
    sim.advertise(provider, "math.add", 10);
    sim.call(caller, 77, "math.add", "[1,2]");
    let call = sim.take_call(provider);
    assert_eq!((call.procedure.as_str(), call.payload.as_str(), call.caller), ("math.add", "[1,2]", id_of(1)));
    assert_eq!((call.lane, call.time_left_ms), (Lane::Calls, 10_000));
    sim.reply(provider, call.number, "3");
    assert_eq!(sim.answers(caller), [(77, Ok("3".to_owned()))]);
    assert_eq!(sim.relay.stats().calls_pending, 0);
}

#[test]
fn a_handlers_error_reaches_the_caller_unchanged() {
    let mut sim = Sim::new();
    let (caller, provider) = (sim.host(1), sim.host(2));
    sim.advertise(provider, "p", 10);
    sim.call(caller, 1, "p", "");
    let call = sim.take_call(provider);
    let error = CallError::Handler(macula_wire::HandlerError::new("out-of-range", "too much"));
    sim.put(provider, Lane::Calls, |out| frame::put_reply_error(call.number, &error, out)).unwrap();
    sim.pump();
    assert_eq!(sim.answers(caller), [(1, Err(error))]);
}

#[test]
fn large_calls_and_answers_take_their_own_lane() {
    let mut sim = Sim::new();
    let (caller, provider) = (sim.host(1), sim.host(2));
    sim.advertise(provider, "p", 10);
    let large = "x".repeat(Lane::CALL_BYTES_MAX + 1);
    sim.call(caller, 1, "p", &large);
    let call = sim.take_call(provider);
    assert_eq!((call.lane, call.payload.len()), (Lane::Bulk, large.len()));
    sim.stall(caller, &[Lane::Calls]);
    sim.reply(provider, call.number, &large);
    assert_eq!(sim.answers(caller), [(1, Ok(large))]);
}

/// A node may call what it offers itself: the relay does not care who is who.
#[test]
fn a_node_can_call_itself() {
    let mut sim = Sim::new();
    let node = sim.host(1);
    sim.advertise(node, "p", 10);
    sim.call(node, 1, "p", "x");
    let call = sim.take_call(node);
    sim.reply(node, call.number, "y");
    assert_eq!(sim.answers(node), [(1, Ok("y".to_owned()))]);
    sim.call(node, 2, "p", "x");
    sim.close(node);
    sim.assert_empty();
}

/// Goal: the provider with the fewest calls in flight gets the next, and none more than it takes.
#[test]
fn calls_spread_by_load_and_stop_at_the_providers_bounds() {
    let mut sim = Sim::new();
    let (caller, one, two) = (sim.host(1), sim.host(2), sim.host(3));
    sim.advertise(one, "p", 2);
    sim.advertise(two, "p", 3);
    for number in 0..5 {
        sim.call(caller, number, "p", "");
    }
    assert_eq!((sim.hosts[one].calls.len(), sim.hosts[two].calls.len()), (2, 3));
    sim.call(caller, 5, "p", "");
    assert_eq!(error(&sim.answers(caller)), "unavailable: all providers of p are busy (the handler did not run)");
    let freed = sim.hosts[one].calls[0].number;
    sim.reply(one, freed, "");
    sim.call(caller, 6, "p", "");
    assert_eq!(sim.hosts[one].calls.len(), 3, "the one with room");
    sim.relay.assert_consistent();
}

/// Goal: among equally loaded providers the faster one is chosen.
#[test]
fn the_faster_provider_is_preferred() {
    let mut sim = Sim::new();
    let (caller, slow, fast) = (sim.host(1), sim.host(2), sim.host(3));
    sim.advertise(slow, "p", 10);
    sim.advertise(fast, "p", 10);
    for (number, (provider, takes)) in [(slow, 50), (fast, 5)].into_iter().enumerate() {
        sim.call(caller, number as u64, "p", "");
        sim.pass(Duration::from_millis(takes));
        let call = sim.take_call(provider);
        sim.reply(provider, call.number, "");
    }
    for number in 2..6 {
        sim.call(caller, number, "p", "");
        let call = sim.take_call(fast);
        sim.reply(fast, call.number, "");
    }
}

/// Goal: a provider that hangs costs one call; the next go to another, until it has answered again.
/// Method: it hangs after having been the faster one. Its calls end by cancellation, by the sweep, and with their caller's
/// link; then a late answer comes.
#[test]
fn a_provider_that_does_not_answer_comes_last_until_it_has_answered() {
    for end in ["cancel", "sweep", "link"] {
        let mut sim = Sim::new();
        let (first, caller, other, hangs) = (sim.host(1), sim.host(2), sim.host(3), sim.host(4));
        sim.advertise(other, "p", 10);
        sim.advertise(hangs, "p", 10);
        for (number, (provider, takes)) in [(other, 50), (hangs, 5)].into_iter().enumerate() {
            sim.call(caller, number as u64, "p", "");
            sim.pass(Duration::from_millis(takes));
            let call = sim.take_call(provider);
            sim.reply(provider, call.number, "");
        }
        sim.call(first, 100, "p", "");
        let unanswered = sim.take_call(hangs);
        sim.pass(Duration::from_secs(1));
        match end {
            "cancel" => sim.put(first, Lane::Calls, |out| frame::put_cancel(100, out)).unwrap(),
            "sweep" => sim.pass(Duration::from_secs(20)),
            _ => sim.close(first),
        }
        sim.pump();
        for number in 2..20 {
            sim.call(caller, number, "p", "");
            let call = sim.take_call(other);
            sim.reply(other, call.number, "");
        }
        sim.call(caller, 20, "p", "");
        sim.call(caller, 21, "p", "");
        assert_eq!(sim.hosts[other].calls.len(), 2, "not even when the other is busy, as long as it takes more");
        sim.reply(hangs, unanswered.number, "late");
        sim.call(caller, 22, "p", "");
        sim.take_call(hangs);
        sim.relay.assert_consistent();
    }
}

/// Goal: who gives up at once says nothing about the provider.
#[test]
fn giving_up_early_does_not_speak_against_a_provider() {
    let mut sim = Sim::new();
    let (caller, slow, fast) = (sim.host(1), sim.host(2), sim.host(3));
    sim.advertise(slow, "p", 10);
    sim.advertise(fast, "p", 10);
    for (number, (provider, takes)) in [(slow, 50), (fast, 5)].into_iter().enumerate() {
        sim.call(caller, number as u64, "p", "");
        sim.pass(Duration::from_millis(takes));
        let call = sim.take_call(provider);
        sim.reply(provider, call.number, "");
    }
    for number in 2..10 {
        sim.call(caller, number, "p", "");
        sim.take_call(fast);
        sim.pass(Duration::from_millis(5));
        sim.put(caller, Lane::Calls, |out| frame::put_cancel(number, out)).unwrap();
        sim.pump();
    }
}

/// Goal: when nobody answers, calls are still given to somebody.
#[test]
fn the_last_resort_is_a_provider_that_does_not_answer() {
    let mut sim = Sim::new();
    let (caller, provider) = (sim.host(1), sim.host(2));
    sim.advertise(provider, "p", 10);
    for number in 0..3 {
        sim.call(caller, number, "p", "");
        sim.take_call(provider);
        sim.pass(Duration::from_secs(1));
        sim.put(caller, Lane::Calls, |out| frame::put_cancel(number, out)).unwrap();
        sim.pump();
    }
}

#[test]
fn a_withdrawn_procedure_is_not_found_but_calls_sent_before_are_answered() {
    let mut sim = Sim::new();
    let (caller, provider) = (sim.host(1), sim.host(2));
    sim.call(caller, 1, "p", "");
    assert_eq!(error(&sim.answers(caller)), "not found: nobody offers p (the handler did not run)");
    let offer = sim.advertise(provider, "p", 10);
    sim.call(caller, 2, "p", "");
    sim.withdraw(provider, offer);
    sim.call(caller, 3, "p", "");
    assert_eq!(error(&sim.answers(caller)), "not found: nobody offers p (the handler did not run)");
    let call = sim.take_call(provider);
    sim.reply(provider, call.number, "late but fine");
    assert_eq!(sim.answers(caller), [(2, Ok("late but fine".to_owned()))]);
    sim.relay.assert_consistent();
}

/// Goal: a call that is provably unsent moves to another provider when its own is lost; one that may have arrived does
/// not, and its caller is told so.
/// Method: two providers with a call each in the stream and one each read; then one is lost.
#[test]
fn only_an_unsent_call_moves_to_another_provider() {
    let mut sim = Sim::new();
    let (caller, one, two) = (sim.host(1), sim.host(2), sim.host(3));
    sim.advertise(one, "p", 10);
    sim.call(caller, 1, "p", "sent");
    assert_eq!(sim.hosts[one].calls.len(), 1);
    sim.stall(one, &[Lane::Calls]);
    sim.call(caller, 2, "p", "unsent");
    sim.advertise(two, "p", 10);
    sim.close(one);
    let answers = sim.answers(caller);
    let lost = CallError::MaybeRun(Fault::Unavailable("the link to the provider was lost".into()));
    assert_eq!(answers, [(1, Err(lost))]);
    let call = sim.take_call(two);
    assert_eq!(call.payload, "unsent");
    sim.reply(two, call.number, "done");
    assert_eq!(sim.answers(caller), [(2, Ok("done".to_owned()))]);
    assert_eq!(sim.relay.stats().calls_maybe_run, 1);
    sim.relay.assert_consistent();
}

#[test]
fn an_unsent_call_without_another_provider_did_not_run() {
    let mut sim = Sim::new();
    let (caller, provider) = (sim.host(1), sim.host(2));
    sim.advertise(provider, "p", 10);
    sim.stall(provider, &[Lane::Calls]);
    sim.call(caller, 1, "p", "");
    sim.close(provider);
    assert_eq!(error(&sim.answers(caller)), "not found: nobody offers p (the handler did not run)");
    sim.relay.assert_consistent();
}

/// Goal: a call moves to a provider of *its* procedure, also when the caller has used the channel's number for another
/// one in the meantime.
#[test]
fn a_moved_call_never_reaches_another_procedure() {
    let mut sim = Sim::new();
    let (caller, provider, other) = (sim.host(1), sim.host(2), sim.host(3));
    sim.advertise(provider, "door.status", 10);
    sim.advertise(other, "door.open", 10);
    sim.stall(provider, &[Lane::Calls]);
    sim.call(caller, 1, "door.status", "");
    sim.forget_channels(caller, true);
    sim.call(caller, 2, "door.open", "");
    assert_eq!(sim.take_call(other).procedure, "door.open");
    sim.close(provider);
    assert!(sim.hosts[other].calls.is_empty(), "it was meant for door.status");
    assert!(error(&sim.answers(caller)).ends_with("(the handler did not run)"));
}

/// Goal: a moved call carries the time that is left, not what was left in the beginning.
#[test]
fn a_moved_call_carries_the_time_that_is_left() {
    let mut sim = Sim::new();
    let (caller, one, two) = (sim.host(1), sim.host(2), sim.host(3));
    sim.advertise(one, "p", 10);
    sim.stall(one, &[Lane::Calls]);
    sim.feed_call_for(caller, 1, "p", "", Duration::from_secs(10));
    sim.pump();
    sim.advertise(two, "p", 10);
    sim.pass(Duration::from_secs(4));
    sim.close(one);
    let left = sim.take_call(two).time_left_ms;
    assert_eq!(left, 6000);
}

/// Goal: when the caller cancels, or is gone, its provider is told, and the answer goes nowhere.
#[test]
fn cancellation_reaches_the_provider() {
    let mut sim = Sim::new();
    let (caller, leaver, provider) = (sim.host(1), sim.host(2), sim.host(3));
    sim.advertise(provider, "p", 10);
    sim.call(caller, 1, "p", "");
    let call = sim.take_call(provider);
    sim.put(caller, Lane::Calls, |out| frame::put_cancel(1, out)).unwrap();
    sim.pump();
    assert_eq!(sim.hosts[provider].cancelled, [call.number]);
    sim.reply(provider, call.number, "too late");
    assert!(sim.answers(caller).is_empty());
    sim.put(caller, Lane::Calls, |out| frame::put_cancel(1, out)).unwrap();
    sim.call(leaver, 1, "p", "");
    let call = sim.take_call(provider);
    sim.close(leaver);
    assert_eq!(sim.hosts[provider].cancelled[1..], [call.number]);
    assert_eq!(sim.relay.stats().calls_pending, 0);
    sim.relay.assert_consistent();
}

/// Goal: a call that nobody answers is forgotten after its deadline; the provider is told, and so is the caller.
#[test]
fn calls_past_their_deadline_are_swept() {
    let mut sim = Sim::new();
    let (caller, provider) = (sim.host(1), sim.host(2));
    sim.advertise(provider, "p", 10);
    sim.feed_call_for(caller, 1, "p", "", Duration::from_secs(3));
    sim.feed_call_for(caller, 2, "p", "", Duration::from_secs(60));
    sim.pump();
    sim.pass(Duration::from_millis(3900));
    assert_eq!(sim.relay.stats().calls_pending, 2, "not before the caller gave up by itself");
    sim.pass(Duration::from_millis(600));
    assert_eq!(sim.relay.stats().calls_pending, 1);
    assert_eq!(sim.answers(caller), [(1, Err(CallError::MaybeRun(Fault::Timeout)))]);
    assert_eq!(sim.hosts[provider].cancelled.len(), 1);
    let late = sim.hosts[provider].calls[0].number;
    sim.reply(provider, late, "late");
    assert!(sim.answers(caller).is_empty());
    sim.relay.assert_consistent();
}

/// Goal: no caller can occupy the table for longer than a call may last.
#[test]
fn no_deadline_is_beyond_the_longest_call() {
    let mut sim = Sim::new();
    let (caller, provider) = (sim.host(1), sim.host(2));
    sim.advertise(provider, "p", 10);
    sim.feed_call_for(caller, 1, "p", "", Duration::from_millis(u64::from(u32::MAX)));
    sim.pump();
    sim.pass(CALL_TIMEOUT_MAX + Duration::from_secs(2));
    assert_eq!(sim.relay.stats().calls_pending, 0);
}

/// Goal: only the provider that has a call can answer it, and a number from before means nothing.
#[test]
fn answers_from_strangers_and_to_earlier_calls_go_nowhere() {
    let mut sim = Sim::new();
    let (caller, provider, stranger) = (sim.host(1), sim.host(2), sim.host(3));
    sim.advertise(provider, "p", 10);
    sim.advertise(stranger, "q", 10);
    sim.call(caller, 1, "p", "");
    let first = sim.take_call(provider);
    sim.reply(stranger, first.number, "forged");
    sim.reply(caller, first.number, "forged");
    sim.reply(provider, first.number + 1, "nobody's");
    assert!(sim.answers(caller).is_empty());
    sim.reply(provider, first.number, "right");
    assert_eq!(sim.answers(caller), [(1, Ok("right".to_owned()))]);
    sim.call(caller, 2, "p", "");
    let second = sim.take_call(provider);
    assert_eq!(second.number as u32, first.number as u32, "the same place in the table");
    sim.reply(provider, first.number, "again");
    assert!(sim.answers(caller).is_empty());
    sim.reply(provider, second.number, "second");
    assert_eq!(sim.answers(caller), [(2, Ok("second".to_owned()))]);
}

#[test]
fn a_call_that_has_passed_too_many_relays_is_refused() {
    let mut sim = Sim::new();
    let (caller, provider) = (sim.host(1), sim.host(2));
    sim.advertise(provider, "p", 10);
    let channel = sim.number(caller, Lane::Calls, ChannelKind::Procedure, "p", 0);
    let header = Header { id: 1, channel, hops: HOPS_MAX, time: 1000, ..Header::default() };
    sim.put(caller, Lane::Calls, |out| frame::put_call(header, &[], b"", out)).unwrap();
    sim.pump();
    assert!(error(&sim.answers(caller)).ends_with("(the handler did not run)"));
    assert!(sim.hosts[provider].calls.is_empty());
}

/// Goal: numbers of calls are the caller's own; the same number is free again after the answer.
#[test]
fn callers_numbers_are_their_own() {
    let mut sim = Sim::new();
    let (one, two, provider) = (sim.host(1), sim.host(2), sim.host(3));
    sim.advertise(provider, "p", 10);
    for round in 0..2 {
        sim.call(one, 7, "p", "from one");
        sim.call(two, 7, "p", "from two");
        let calls = std::mem::take(&mut sim.hosts[provider].calls);
        for call in calls.into_iter().rev() {
            sim.reply(provider, call.number, &format!("{} {round}", call.payload));
        }
        assert_eq!(sim.answers(one), [(7, Ok(format!("from one {round}")))]);
        assert_eq!(sim.answers(two), [(7, Ok(format!("from two {round}")))]);
    }
}

/// Goal: a provider that does not read is not fed beyond its bound in bytes.
#[test]
fn a_provider_that_does_not_read_gets_no_further_calls() {
    let mut sim = Sim::with(crate::RelayConfig { call_bytes_per_link_max: 1000, ..Default::default() });
    let (caller, provider) = (sim.host(1), sim.host(2));
    sim.advertise(provider, "p", 1000);
    sim.stall(provider, &[Lane::Calls]);
    for number in 0..20 {
        sim.call(caller, number, "p", &"x".repeat(200));
    }
    let refused = sim.answers(caller).len();
    assert!((14..=16).contains(&refused), "{refused} refused");
    sim.resume(provider);
    assert_eq!(sim.hosts[provider].calls.len(), 20 - refused);
}

/// Goal: a caller that does not read its answers gets short errors instead, until even those are too many.
#[test]
fn answers_for_a_caller_that_does_not_read_are_bounded() {
    let mut sim = Sim::with(crate::RelayConfig { call_bytes_per_link_max: 10_000, ..Default::default() });
    let (caller, provider) = (sim.host(1), sim.host(2));
    sim.advertise(provider, "p", 1000);
    sim.stall(caller, &[Lane::Calls]);
    for number in 0..50 {
        sim.call(caller, number, "p", "");
        let call = sim.take_call(provider);
        sim.put(provider, Lane::Calls, |out| frame::put_reply(call.number, Outcome::Answer(&[0; 1000]), out)).unwrap();
    }
    sim.resume(caller);
    let answers = sim.answers(caller);
    assert_eq!(answers.len(), 50, "every call ends");
    assert_eq!(answers.iter().filter(|(_, answer)| answer.is_ok()).count(), 10);
}

/// Goal: clients may use procedures with system names, nodes only may offer them.
#[test]
fn only_nodes_offer_system_procedures() {
    let mut sim = Sim::new();
    let client = sim.open(1, Role::Client, 1);
    sim.join(client, 0, 200, "local.dev").unwrap();
    assert!(matches!(sim.try_advertise(client, "_mesh.admin.status", 1), Err(Fault::Denied(_))));
    let host = sim.host(2);
    sim.advertise(host, "_mesh.admin.status", 1);
    sim.call(client, 1, "_mesh.admin.status", "");
    assert_eq!(sim.take_call(host).procedure, "_mesh.admin.status");
}
