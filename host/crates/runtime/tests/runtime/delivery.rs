//! What becomes of messages: every disposition, order, dead letters.

use macula_runtime::{ReplayError, dead_letter_topic};
use macula_wire::{Message, Metadata, Traceparent};

use super::support::{Fixture, MANIFEST, logged, until};

fn dead_letters(fixture: &Fixture) -> Vec<Message> {
    fixture.mesh.published("_mesh.deadletters.probe")
}

fn value(message: &Message, name: &str) -> String {
    message.metadata.as_ref().and_then(|metadata| metadata.value(name)).unwrap_or_default().to_owned()
}

#[tokio::test]
async fn a_message_reaches_the_handler_whole() {
    let fixture = Fixture::new();
    let plugin = fixture.probe().await;
    let mut message = fixture.mesh.message("in.kitchen", "describe");
    message.content_type = "text/plain".parse().unwrap();
    message.metadata = Some(Metadata::new(vec![("unit".into(), "c".into())]).unwrap().into());
    fixture.mesh.send(&message);
    let report = fixture.reports(1).await.remove(0);
    let publisher = message.publisher;
    let seq = message.seq;
    assert_eq!(report, format!("in.kitchen text/plain {publisher} {seq} 1 0 false [(\"unit\", \"c\")]"));
    until(&plugin, |status| status.metrics.messages == 1).await;
}

#[tokio::test]
async fn a_publish_carries_its_options() {
    let fixture = Fixture::new();
    fixture.probe().await;
    assert!(fixture.ask("publish-acked out.x hello").await.starts_with("Ok("));
    let message = fixture.mesh.published("out.x").remove(0);
    assert_eq!(message.content_type.as_str(), "text/plain");
    assert_eq!(value(&message, "unit"), "celsius");
    assert_eq!((message.plugin.as_str(), message.cause_depth), ("probe", 1));
}

#[tokio::test]
async fn what_a_handler_does_belongs_to_the_trace_of_what_it_handles() {
    let trace: Traceparent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01".parse().unwrap();
    let fixture = Fixture::new();
    let plugin = fixture.probe().await;
    fixture.start("other", &MANIFEST.replace("probe.do", "other.do").replace("in.**", "none")).await;
    let traced = |topic: &str| fixture.mesh.published(topic).remove(0).traceparent;
    let noted = |topic: &str| fixture.mesh.published(topic).remove(0).tracestate.map(|state| state.to_string());
    let mut message =
        fixture.mesh.message("in.x", "publish out.x y\nlog hello you\ntrace\ncall other.do publish out.y x");
    message.traceparent = Some(trace.clone());
    message.tracestate = Some("rojo=1,congo=2".parse().unwrap());
    fixture.mesh.send(&message);
    let reports = fixture.reports(3).await;
    assert_eq!(reports[1], "true", "the handler knows its trace: {reports:?}");
    assert!(reports[2].starts_with("answer Ok("), "{reports:?}");
    let (published, called) = (traced("out.x").unwrap(), traced("out.y").unwrap());
    assert_eq!((published.trace_id(), called.trace_id()), (trace.trace_id(), trace.trace_id()));
    assert!(published != trace && called != trace && published != called, "each handler is a part of its own");
    let (lines, _) = plugin.log().lines_from(0);
    let line = lines.iter().find(|line| line.message == "hello you").unwrap();
    assert!(line.fields.iter().any(|(name, value)| name == "trace" && value == trace.trace_id()), "{line:?}");

    let notes = Some("rojo=1,congo=2".to_owned());
    assert_eq!((noted("out.x"), noted("out.y")), (notes.clone(), notes.clone()), "what others noted goes along");

    // A plugin may note something itself; with a trace of its own, what was noted about the other does not go along.
    let own = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    message.payload = format!("publish-meta own.a tracestate mine=3\npublish-meta own.b traceparent {own}").into();
    fixture.mesh.send(&message);
    fixture.reports(5).await;
    assert_eq!((noted("own.a"), traced("own.a").unwrap().trace_id()), (Some("mine=3".to_owned()), trace.trace_id()));
    assert_eq!((noted("own.b"), traced("own.b").unwrap().as_str()), (None, own));

    // A dead letter is still found by its trace; what comes next belongs to no trace.
    message.payload = "dead".into();
    fixture.mesh.send(&message);
    fixture.mesh.wait_for("_mesh.deadletters.probe", 1).await;
    assert_eq!(traced("_mesh.deadletters.probe"), Some(trace));
    assert_eq!(noted("_mesh.deadletters.probe"), notes);
    assert_eq!(fixture.ask("trace").await, "false");
    assert!(fixture.ask("publish out.z x").await.starts_with("Ok("));
    assert_eq!((traced("out.z"), noted("out.z")), (None, None));
    // What is noted about no trace is nothing.
    fixture.ask("publish-meta own.c tracestate mine=3").await;
    assert_eq!((traced("own.c"), noted("own.c")), (None, None));
}

#[tokio::test]
async fn a_dead_letter_is_kept_until_it_is_handled() {
    let fixture = Fixture::new();
    let plugin = fixture.probe().await;
    let ids = || plugin.dead_letters().unwrap().list().iter().map(|letter| letter.id).collect::<Vec<_>>();
    let settled = async |letters: u64| {
        until(&plugin, |status| status.metrics.messages == letters).await;
    };
    fixture.tell("dead again");
    settled(1).await;
    assert_eq!(ids(), [1]);
    // It fails once more: there is one letter all the same.
    plugin.replay(1).unwrap();
    settled(2).await;
    assert_eq!(ids(), [2]);
    assert_eq!(plugin.replay(1), Err(ReplayError::NotThere(1)));
    // While it waits it is there, and does not wait twice.
    let busy = fixture.mesh.call("probe.do", "sleep 50");
    plugin.replay(2).unwrap();
    assert_eq!((plugin.replay(2), ids()), (Err(ReplayError::UnderWay(2)), vec![2]));
    busy.await.unwrap();
    settled(3).await;
    assert_eq!(ids(), [3]);
    fixture.stop(&plugin).await;
    assert_eq!(plugin.replay(3), Err(ReplayError::NotRunning));
    assert_eq!(ids(), [3]);
}

#[tokio::test(start_paused = true)]
async fn retries_end_as_a_dead_letter() {
    let fixture = Fixture::new();
    let plugin = fixture.probe().await;
    fixture.tell("retry");
    fixture.mesh.wait_for("_mesh.deadletters.probe", 1).await;
    let letter = dead_letters(&fixture).remove(0);
    assert_eq!(&letter.payload[..], b"retry");
    assert_eq!(value(&letter, "reason"), "5 attempts failed");
    assert_eq!((value(&letter, "topic"), value(&letter, "attempts")), ("in.x".into(), "5".into()));
    let metrics = until(&plugin, |status| status.held_messages == 0).await.metrics;
    assert_eq!((metrics.retries, metrics.dead_letters, metrics.traps), (5, 1, 0));
    assert_eq!(dead_letter_topic(plugin.name()), Some(letter.topic));
}

#[tokio::test(start_paused = true)]
async fn later_messages_of_the_same_topic_wait_behind_a_retry() {
    let fixture = Fixture::new();
    fixture.probe().await;
    fixture.mesh.publish("in.a", "retry-once 5000");
    fixture.mesh.publish("in.a", "publish done a2");
    fixture.mesh.publish("in.a", "publish done a3");
    fixture.mesh.publish("in.b", "publish done b1");
    assert_eq!(fixture.mesh.wait_for("done", 3).await, ["b1", "a2", "a3"]);
}

#[tokio::test(start_paused = true)]
async fn a_retry_far_away_is_cut_to_what_others_may_wait() {
    let fixture = Fixture::new();
    fixture.probe().await;
    let begin = tokio::time::Instant::now();
    fixture.mesh.publish("in.a", "retry-once 4000000000");
    fixture.mesh.publish("in.a", "publish done x");
    fixture.mesh.wait_for("done", 1).await;
    assert_eq!(begin.elapsed().as_secs(), 30);
}

#[tokio::test]
async fn too_many_behind_one_make_it_a_dead_letter() {
    let fixture = Fixture::new();
    fixture.probe().await;
    fixture.mesh.publish("in.a", "retry 30000");
    for _ in 0..300 {
        fixture.mesh.publish("in.a", "publish done x");
    }
    fixture.mesh.wait_for("done", 300).await;
    assert!(value(&dead_letters(&fixture)[0], "reason").contains("more than 256 later messages"));
}

#[tokio::test]
async fn a_rejected_message_is_counted_and_logged() {
    let fixture = Fixture::new();
    let plugin = fixture.probe().await;
    fixture.tell("reject not mine");
    assert_eq!(logged(&plugin, "rejected").await, "rejected a message on in.x: not mine");
    assert_eq!(until(&plugin, |status| status.metrics.messages == 1).await.metrics.rejected, 1);
    assert!(dead_letters(&fixture).is_empty());
}

#[tokio::test]
async fn a_dead_letter_on_request() {
    let fixture = Fixture::new();
    let plugin = fixture.probe().await;
    fixture.tell("dead look at this");
    fixture.mesh.wait_for("_mesh.deadletters.probe", 1).await;
    assert_eq!(value(&dead_letters(&fixture)[0], "reason"), "look at this");
    until(&plugin, |status| status.metrics.dead_letters == 1).await;
}

#[tokio::test]
async fn subscriptions_come_and_go() {
    let fixture = Fixture::new();
    let plugin = fixture.probe().await;
    assert_eq!(fixture.ask("subscribe more.*").await, "subscribed 1");
    assert!(fixture.ask("subscribe more.*").await.contains("Conflict"));
    assert!(fixture.ask("subscribe in.**").await.contains("by the manifest already"));
    assert!(fixture.ask("subscribe a..b").await.contains("Invalid"));
    fixture.mesh.publish("more.x", "describe");
    let reports = fixture.reports(5).await;
    assert!(reports[4].starts_with("more.x ") && reports[4].contains(" 1 1 false"), "{}", reports[4]);
    assert_eq!(fixture.ask("stats").await, "more.* 1");
    assert_eq!(fixture.ask("unsubscribe more.*").await, "unsubscribed");
    assert_eq!(fixture.mesh.patterns(), ["in.**"]);
    assert_eq!(plugin.status().subscriptions.len(), 1);
}

#[tokio::test]
async fn a_forgotten_handle_ends_nothing() {
    let fixture = Fixture::new();
    fixture.probe().await;
    assert_eq!(fixture.ask("subscribe-drop more.*").await, "subscribed");
    fixture.mesh.publish("more.x", "publish done x");
    fixture.mesh.wait_for("done", 1).await;
}

#[tokio::test]
async fn no_inbox_starves() {
    let fixture = Fixture::new();
    fixture.probe().await;
    fixture.ask("subscribe other.*").await;
    for _ in 0..500 {
        fixture.mesh.publish("in.busy", "publish busy x");
    }
    fixture.mesh.publish("other.calm", "publish calm x");
    fixture.mesh.wait_for("calm", 1).await;
    let calm = fixture.mesh.published("calm")[0].seq;
    let before = fixture.mesh.published("busy").iter().filter(|message| message.seq < calm).count();
    assert!(before <= 2, "{before} came before it");
}

#[tokio::test]
async fn the_last_value_can_be_read() {
    let fixture = Fixture::new();
    fixture.probe().await;
    assert_eq!(fixture.ask("retained nothing.here").await, "None");
}

#[tokio::test]
async fn publish_refuses_what_can_never_be_right() {
    let fixture = Fixture::new();
    fixture.probe().await;
    assert!(fixture.ask("publish a..b x").await.contains("Invalid"));
    assert!(fixture.ask("publish-size out.x 1048577").await.contains("TooLarge(1048576)"));
    assert!(fixture.ask("publish-size out.x 1048576").await.contains("Ok("));
    assert!(fixture.ask("publish-meta out.x macula-ttl 5").await.contains("reserved for the platform"));
    assert!(fixture.ask("publish-meta out.x traceparent 5").await.contains("traceparent"));
}

#[tokio::test]
async fn the_mesh_may_refuse() {
    let fixture = Fixture::new();
    fixture.probe().await;
    fixture.mesh.fail_next(macula_wire::Fault::Unavailable("no link".into()));
    // The refused one, then the report of it.
    assert!(fixture.ask("publish out.x y").await.contains("Unavailable(\"no link\")"));
}

#[tokio::test]
async fn a_manifest_with_nothing_to_open_is_fine() {
    let fixture = Fixture::new();
    let manifest = MANIFEST.split("[[subscriptions]]").next().unwrap();
    let plugin = fixture.start("probe", manifest).await;
    assert!(plugin.status().subscriptions.is_empty());
}
