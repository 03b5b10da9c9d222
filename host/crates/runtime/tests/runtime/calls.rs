//! Calls: answered or failed, exactly once.

use std::time::Duration;

use bytes::Bytes;
use macula_wire::{CallError, Fault};

use super::support::{Fixture, MANIFEST};

async fn call(fixture: &Fixture, command: &str) -> Result<String, CallError> {
    let answer = fixture.mesh.call("probe.do", command.to_owned()).await?;
    Ok(String::from_utf8(answer.into()).unwrap())
}

#[tokio::test]
async fn answers_and_errors() {
    let fixture = Fixture::new();
    fixture.probe().await;
    assert_eq!(call(&fixture, "handled").await.unwrap(), "handled 0");
    let Err(CallError::Handler(error)) = call(&fixture, "fail out-of-range").await else { panic!("no error") };
    assert_eq!((error.code.as_str(), error.message.as_str(), &error.data[..]), ("out-of-range", "as told", &[7][..]));
    let Err(CallError::Handler(error)) = call(&fixture, "fail Not A Code").await else { panic!("no error") };
    assert_eq!(error.code, "malformed-error");
    assert_eq!(call(&fixture, "huge 1048577").await, Err(CallError::MaybeRun(Fault::TooLarge(1 << 20))));
}

#[tokio::test]
async fn a_trap_may_have_run() {
    let fixture = Fixture::new();
    fixture.probe().await;
    let trapped = CallError::MaybeRun(Fault::Other("the handler trapped".into()));
    assert_eq!(call(&fixture, "trap").await, Err(trapped));
    assert_eq!(call(&fixture, "handled").await.unwrap(), "handled 0", "the next instance answers");
}

#[tokio::test(start_paused = true)]
async fn time_left_is_told_and_handed_on() {
    let fixture = Fixture::new();
    fixture.probe().await;
    let procedure: macula_wire::Topic = "probe.do".parse().unwrap();
    let ask = |text: &'static str, ms| {
        fixture.mesh.call_as(procedure.clone(), Bytes::from_static(text.as_bytes()), Duration::from_millis(ms), 0)
    };
    assert_eq!(ask("time-left", 1234).await.unwrap(), "1234");
    // Nobody answers at `deaf`, so the inner call lasts as long as it may.
    let (_keep, deaf) = (fixture.start("deaf", &MANIFEST.replace("probe.do", "deaf")).await, "deaf");
    fixture.mesh.hold_acks();
    fixture.mesh.publish("in.x", "publish-acked stuck x");
    while fixture.mesh.held_acks() < 2 {
        tokio::task::yield_now().await;
    }
    fixture.mesh.release_acks();
    let begin = tokio::time::Instant::now();
    let outcome = fixture.mesh.call_as(deaf.parse().unwrap(), Bytes::from("sleep 60000"), Duration::from_secs(2), 0);
    assert_eq!(outcome.await, Err(CallError::MaybeRun(Fault::Timeout)));
    assert_eq!(begin.elapsed().as_secs(), 2);
}

#[tokio::test]
async fn plugins_call_each_other() {
    let fixture = Fixture::new();
    fixture.probe().await;
    fixture.start("caller", &MANIFEST.replace("probe.do", "caller.do").replace("in.**", "ask.**")).await;
    fixture.mesh.publish("ask.x", "call probe.do who");
    let reports = fixture.reports(1).await;
    assert!(reports[0].starts_with("answer probe "), "{reports:?}");
    fixture.mesh.publish("ask.x", "call nobody.here x");
    assert!(fixture.reports(2).await[1].contains("NotRun(Error::NotFound(\"nobody.here\"))"));
}

#[tokio::test]
async fn a_plugin_does_not_wait_for_itself() {
    let fixture = Fixture::new();
    fixture.probe().await;
    let report = fixture.ask("call probe.do handled").await;
    assert!(
        report.contains("NotRun(Error::Unavailable") && report.contains("offered by this plugin itself"),
        "{report}"
    );
}

#[tokio::test]
async fn offers_come_and_go() {
    let fixture = Fixture::new();
    fixture.probe().await;
    assert_eq!(fixture.ask("advertise probe.more").await, "advertised");
    assert!(fixture.ask("advertise probe.more").await.contains("Conflict"));
    assert_eq!(fixture.mesh.procedures(), ["probe.do", "probe.more"]);
    assert_eq!(fixture.mesh.call("probe.more", "handled").await.unwrap(), "handled 2");
    assert_eq!(fixture.ask("withdraw probe.more").await, "withdrawn");
    assert_eq!(fixture.mesh.procedures(), ["probe.do"]);
}

#[tokio::test]
async fn calls_come_before_messages_but_do_not_starve_them() {
    let fixture = Fixture::new();
    fixture.probe().await;
    let mut calls = Vec::new();
    for _ in 0..60 {
        calls.push(fixture.mesh.call("probe.do", "publish called x"));
    }
    fixture.mesh.publish("in.x", "publish heard x");
    let heard = fixture.mesh.wait_for("heard", 1).await;
    assert_eq!(heard, ["x"]);
    let heard = fixture.mesh.published("heard")[0].seq;
    let before = fixture.mesh.published("called").iter().filter(|message| message.seq < heard).count();
    assert_eq!(before, 16);
    for call in calls {
        call.await.unwrap();
    }
}
