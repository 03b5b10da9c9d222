//! The examples as they are shipped, on a mesh in memory.

use std::path::Path;

use macula_runtime::{Grant, PluginSource};

use super::support::Fixture;

fn example(name: &str) -> PluginSource {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../examples/prebuilt");
    PluginSource::Path(folder.join(name).with_extension("wasm"))
}

#[tokio::test]
async fn sensor_alert_alerts_and_sums_up() {
    let fixture = Fixture::new();
    let plugin = fixture.runtime.start(example("sensor-alert"), Grant::AsAsked).await.unwrap();
    assert_eq!(plugin.name().as_str(), "sensor-alert");
    assert_eq!(fixture.mesh.patterns(), ["sensors.*.temperature"]);
    fixture.mesh.publish("sensors.kitchen.temperature", "31.5");
    let alerts = fixture.mesh.wait_for("alerts.kitchen.temperature", 1).await;
    assert!(alerts[0].contains("31.5"), "{alerts:?}");
    let summary = fixture.mesh.call("sensors.summary", "").await.unwrap();
    assert!(String::from_utf8_lossy(&summary).contains("kitchen"));
}

#[tokio::test]
async fn lookup_serves_a_table_that_is_content() {
    let fixture = Fixture::new();
    fixture.runtime.start(example("lookup"), Grant::AsAsked).await.unwrap();
    let table: String = (0..100_000).map(|key| format!("key-{key},value {key}\n")).collect();
    let mcid = fixture.mesh.provide(table);
    fixture.mesh.publish("tables.current", mcid.to_string());
    let answer = loop {
        match fixture.mesh.call("lookup.get", "\"key-99999\"").await {
            Ok(answer) => break answer,
            Err(error) => assert!(error.to_string().contains("no table"), "{error}"),
        }
    };
    assert_eq!(answer, "\"value 99999\"");
}
