//! Several instances of one plugin.

use super::support::{Fixture, MANIFEST, until};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn topics_are_divided_and_order_holds() {
    let fixture = Fixture::forgiving();
    let plugin = fixture.start("probe", &format!("{MANIFEST}\n[limits]\ninstances = 4")).await;
    let topics: Vec<String> = (0..12).map(|number| format!("in.t{number}")).collect();
    for round in 0..50 {
        for (number, topic) in topics.iter().enumerate() {
            fixture.mesh.publish(topic, format!("publish out.t{number} {round}"));
        }
    }
    until(&plugin, |status| status.metrics.messages == 600).await;
    for number in 0..12 {
        let rounds = fixture.mesh.published_texts(&format!("out.t{number}"));
        assert_eq!(rounds, (0..50).map(|round| round.to_string()).collect::<Vec<_>>(), "{number}");
    }
    let mut indices = Vec::new();
    for topic in &topics {
        let before = fixture.mesh.published("report").len();
        fixture.mesh.publish(topic, "who");
        indices.push(fixture.mesh.wait_for("report", before + 1).await.pop().unwrap());
    }
    indices.sort();
    indices.dedup();
    assert!(indices.len() > 1 && indices.iter().all(|who| who.ends_with("/4")), "{indices:?}");
}

#[tokio::test]
async fn equal_subscriptions_of_instances_are_one() {
    let fixture = Fixture::new();
    let manifest = MANIFEST.replace("[config]", "[config]\ninit = \"subscribe more.*\"");
    let plugin = fixture.start("probe", &format!("{manifest}\n[limits]\ninstances = 3")).await;
    assert_eq!(fixture.mesh.patterns(), ["in.**", "more.*"]);
    fixture.mesh.publish("more.x", "publish done x");
    until(&plugin, |status| status.metrics.messages == 1).await;
    assert_eq!(fixture.mesh.published("done").len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_instance_may_crash_while_others_serve() {
    let fixture = Fixture::forgiving();
    let plugin = fixture.start("probe", &format!("{MANIFEST}\n[limits]\ninstances = 2")).await;
    for number in 0..20 {
        fixture.mesh.publish(&format!("in.t{number}"), if number == 3 { "trap-once" } else { "publish done x" });
    }
    until(&plugin, |status| status.metrics.messages == 20).await;
    assert_eq!(fixture.mesh.published("done").len(), 19);
    assert_eq!(plugin.metrics().traps, 1);
}

#[tokio::test]
async fn any_instance_answers_calls() {
    let fixture = Fixture::new();
    fixture.start("probe", &format!("{MANIFEST}\n[limits]\ninstances = 2")).await;
    // With two instances one may call what the other answers.
    assert_eq!(fixture.ask("call probe.do handled").await, "answer handled 0");
}
