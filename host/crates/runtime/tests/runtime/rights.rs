//! Denials, feedback, rights that change.

use macula_runtime::{Grant, PluginSource, Rights, StartOptions};
use macula_wire::Operation;

use super::support::{Fixture, MANIFEST, PROBE, logged, until};

#[tokio::test]
async fn a_denial_names_the_line_to_add_once() {
    let fixture = Fixture::new();
    let manifest = MANIFEST.replace("publish = [\"**\"]", "publish = [\"report\"]");
    let plugin = fixture.start("probe", &manifest).await;
    for _ in 0..3 {
        assert_eq!(
            fixture.ask("publish alerts.kitchen x").await,
            "Err(Error::Denied(\"/mesh/publish alerts.kitchen\"))"
        );
    }
    let text = logged(&plugin, "denied").await;
    assert_eq!(
        text,
        "denied /mesh/publish alerts.kitchen; to allow it, the manifest needs: publish = [\"alerts.kitchen\"]"
    );
    let (lines, _) = plugin.log().lines_from(0);
    assert_eq!(lines.iter().filter(|line| line.message.starts_with("denied")).count(), 1);
    assert_eq!(plugin.metrics().denied, 3);
    assert!(fixture.mesh.published("alerts.kitchen").is_empty());
}

#[tokio::test]
async fn names_of_the_system_are_out_of_reach() {
    let fixture = Fixture::new();
    let plugin = fixture.probe().await;
    assert!(fixture.ask("publish _mesh.deadletters.probe x").await.contains("Denied"));
    assert!(fixture.ask("advertise _mesh.admin.stop").await.contains("Denied"));
    assert!(fixture.ask("call _mesh.admin.stop x").await.contains("NotRun(Error::Denied"));
    assert!(logged(&plugin, "denied").await.contains("are the system's"));
}

#[tokio::test]
async fn a_whole_pattern_must_be_covered() {
    let fixture = Fixture::new();
    fixture.start("probe", &MANIFEST.replace("subscribe = [\"**\"]", "subscribe = [\"in.**\", \"a.*\"]")).await;
    assert!(fixture.ask("subscribe a.**").await.contains("Denied(\"/mesh/subscribe a.**\")"));
    assert_eq!(fixture.ask("subscribe a.b").await, "subscribed 1");
}

#[tokio::test]
async fn asking_grants_nothing() {
    let fixture = Fixture::new();
    let manifest = Some(fixture.write("probe.toml", MANIFEST).into());
    let source = PluginSource::Bytes { name: "probe".into(), bytes: PROBE.into() };
    let plugin = fixture.runtime.start(source, StartOptions { manifest, grant: Grant::Nothing }).await.unwrap();
    assert!(fixture.mesh.patterns().is_empty() && fixture.mesh.procedures().is_empty());
    assert!(logged(&plugin, "/mesh/subscribe").await.contains("denied /mesh/subscribe in.**"));
    assert!(fixture.mesh.published("report").is_empty());
    assert_eq!(fixture.mesh.denied().len(), 3, "and the node's audit knows");
    assert_eq!(plugin.metrics().denied, 3, "the subscription, the offer, and the report of init");
}

#[tokio::test]
async fn rights_change_while_running() {
    let fixture = Fixture::new();
    let plugin = fixture.probe().await;
    fixture.ask("subscribe gone.*").await;
    assert!(fixture.ask("publish out.x 1").await.contains("Ok("));
    let mut asks = plugin.manifest().asks.clone();
    asks.publish = vec!["report".parse().unwrap()];
    asks.subscribe = vec!["in.**".parse().unwrap()];
    plugin.replace_rights(&Rights::as_asked(&asks));
    assert_eq!(fixture.mesh.patterns(), ["in.**"]);
    assert_eq!(fixture.reports(3).await[2], "rights changed");
    assert!(fixture.ask("publish out.x 2").await.contains("Denied"), "the decision before is not remembered");
    plugin.replace_rights(&Rights::as_asked(&plugin.manifest().asks));
    assert_eq!(fixture.reports(5).await[4], "rights changed");
    assert!(fixture.ask("publish out.x 3").await.contains("Ok("));
    assert_eq!(fixture.ask("subscribe gone.*").await, "subscribed 2", "what ended may begin again");
}

/// Goal: a right that has lapsed allows nothing, and leaves the subscriptions and offers that rest on it, so that they go on when it
/// is renewed; revoked, they end.
#[tokio::test]
async fn what_has_lapsed_leaves_what_stands() {
    let fixture = Fixture::new();
    let plugin = fixture.probe().await;
    let asks = plugin.manifest().asks.clone();
    let (patterns, procedures) = (fixture.mesh.patterns(), fixture.mesh.procedures());
    assert!(!patterns.is_empty() && !procedures.is_empty());
    let reports = |operation| match operation {
        Operation::Publish => vec!["report".parse().unwrap()],
        _ => Vec::new(),
    };
    plugin.replace_rights(&Rights::of(reports).remembering(|operation| asks.patterns(operation).to_vec()));
    assert_eq!(fixture.reports(1).await, ["rights changed"]);
    assert_eq!((fixture.mesh.patterns(), fixture.mesh.procedures()), (patterns.clone(), procedures.clone()));
    assert!(fixture.ask("publish out.x 1").await.contains("Denied"));
    plugin.replace_rights(&Rights::as_asked(&asks));
    assert_eq!(fixture.reports(3).await[2], "rights changed");
    assert!(fixture.ask("publish out.x 2").await.contains("Ok("));
    assert_eq!((fixture.mesh.patterns(), fixture.mesh.procedures()), (patterns, procedures));
    plugin.replace_rights(&Rights::default());
    assert!(fixture.mesh.patterns().is_empty() && fixture.mesh.procedures().is_empty());
}

#[tokio::test]
async fn two_plugins_feeding_each_other_come_to_an_end() {
    let fixture = Fixture::new();
    let ping = fixture.start("ping", &MANIFEST.replace("in.**", "ping").replace("probe.do", "ping.do")).await;
    let pong = fixture.start("pong", &MANIFEST.replace("in.**", "pong").replace("probe.do", "pong.do")).await;
    // Each forwards to the topic that the message names, and the message names both in turn.
    fixture.mesh.publish("ping", "forward pong");
    until(&ping, |status| status.metrics.messages == 1).await;
    fixture.mesh.wait_for("pong", 1).await;
    // `forward pong` at pong publishes to `pong` again: it feeds itself.
    until(&pong, |status| status.metrics.messages == 16).await;
    let depths: Vec<u8> = fixture.mesh.published("pong").iter().map(|message| message.cause_depth).collect();
    assert_eq!(depths, (1..=16).collect::<Vec<u8>>());
    assert_eq!(pong.status().subscriptions[0].queued, 0);
}
