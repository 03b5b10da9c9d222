//! The plugin against a host in the same process: what it publishes for which readings, and what it answers.

use super::SensorAlert;
use crate::rooms::ROOMS_MAX;
use macula_plugin::Disposition;
use macula_plugin::testing::Host;

/// What was published for these readings of the kitchen, as `state celsius`.
fn alerts(host: &mut Host<SensorAlert>, readings: &[&str]) -> Vec<String> {
    for reading in readings {
        assert_eq!(host.deliver("sensors.kitchen.temperature", reading), Disposition::Ack);
    }
    let published = host.take_published();
    assert!(published.iter().all(|message| message.topic == "alerts.kitchen.temperature"));
    published.iter().map(|message| message.text().to_owned()).collect()
}

#[test]
fn one_alert_when_rising_and_one_when_cooled_down() {
    let mut host = Host::<SensorAlert>::start();
    let readings = ["29", "30", "30.5", "31", "29.5", "30.5", "29", "28.9", "20"];
    assert_eq!(
        alerts(&mut host, &readings),
        [
            r#"{"room":"kitchen","state":"raised","celsius":30.5,"threshold":30.0}"#,
            r#"{"room":"kitchen","state":"cleared","celsius":28.9,"threshold":30.0}"#,
        ]
    );
}

#[test]
fn both_forms_of_a_reading_are_understood() {
    let mut host = Host::<SensorAlert>::setup().config("threshold", "25").start();
    assert_eq!(alerts(&mut host, &["{\"celsius\": 26}", "20"]).len(), 2);
    for malformed in ["", "warm", "{\"kelvin\": 300}", "[31]"] {
        let outcome = host.deliver("sensors.kitchen.temperature", malformed);
        assert!(matches!(outcome, Disposition::Reject(_)), "{malformed}: {outcome:?}");
    }
}

#[test]
fn a_wrong_setting_is_an_error_and_not_the_default() {
    let error = Host::<SensorAlert>::setup().config("threshold", "hot").try_start().expect_err("not a number");
    assert_eq!(error.to_string(), "invalid: setting threshold = \"hot\": invalid float literal");
}

#[test]
fn an_alert_that_was_not_sent_is_sent_when_the_message_comes_again() {
    let mut host = Host::<SensorAlert>::setup().deny("/mesh/publish", "**").start();
    let outcome = host.deliver("sensors.kitchen.temperature", "40");
    assert_eq!(outcome, Disposition::DeadLetter("denied: /mesh/publish alerts.kitchen.temperature".into()));
    host.allow("/mesh/publish", "alerts.**");
    assert_eq!(alerts(&mut host, &["40"]).len(), 1);
}

#[test]
fn the_summary_has_every_room() {
    let mut host = Host::<SensorAlert>::start();
    for (topic, reading) in
        [("sensors.hall.temperature", "18.5"), ("sensors.attic.temperature", "31"), ("sensors.hall.temperature", "21")]
    {
        host.deliver(topic, reading);
    }
    let summary = host.call("sensors.summary", "").expect("answers");
    assert_eq!(
        String::from_utf8_lossy(&summary),
        concat!(
            r#"{"attic":{"min":31.0,"max":31.0,"last":31.0,"count":1,"alert":true},"#,
            r#""hall":{"min":18.5,"max":21.0,"last":21.0,"count":2,"alert":false}}"#
        )
    );
}

#[test]
fn the_number_of_rooms_is_bounded() {
    let mut host = Host::<SensorAlert>::start();
    for room in 0..ROOMS_MAX {
        host.deliver(&format!("sensors.room-{room}.temperature"), "20");
    }
    let outcome = host.deliver("sensors.one-more.temperature", "20");
    assert!(matches!(outcome, Disposition::Reject(_)), "{outcome:?}");
    assert_eq!(host.deliver("sensors.room-0.temperature", "20"), Disposition::Ack);
}
