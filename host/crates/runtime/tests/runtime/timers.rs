//! Timers, in paused time.

use std::time::Duration;

use tokio::time::Instant;

use super::support::{Fixture, MANIFEST};

#[tokio::test(start_paused = true)]
async fn once_and_again() {
    let fixture = Fixture::new();
    fixture.probe().await;
    let begin = Instant::now();
    assert_eq!(fixture.ask("after once 15000").await, "Ok(())");
    assert_eq!(fixture.ask("every again 10000").await, "Ok(())");
    let reports = fixture.reports(5).await;
    assert_eq!(reports[2..], ["tick again missed 0", "tick once missed 0", "tick again missed 0"]);
    assert_eq!(begin.elapsed().as_secs(), 20);
    assert_eq!(fixture.ask("cancel again").await, "true");
    assert_eq!(fixture.ask("cancel again").await, "false");
    assert!(fixture.ask("every again 9").await.contains("Invalid"));
}

#[tokio::test(start_paused = true)]
async fn what_was_missed_is_counted() {
    let fixture = Fixture::new();
    fixture.probe().await;
    fixture.ask("every beat 100").await;
    // Busy from the first tick on, by waiting for an ack that comes after the fifth.
    fixture.mesh.hold_acks();
    fixture.tell("publish-acked slow x");
    while fixture.mesh.held_acks() == 0 {
        tokio::task::yield_now().await;
    }
    tokio::time::advance(Duration::from_millis(550)).await;
    fixture.mesh.release_acks();
    let reports = fixture.reports(3).await;
    assert!(reports[1].starts_with("Ok("));
    assert_eq!(reports[2], "tick beat missed 4");
}

#[tokio::test(start_paused = true)]
async fn timers_outlive_a_crash() {
    let fixture = Fixture::forgiving();
    fixture.probe().await;
    fixture.ask("after later 5000").await;
    fixture.tell("trap-once");
    let reports = fixture.reports(3).await;
    assert_eq!(reports[1..], ["survived, attempt 2", "tick later missed 0"]);
}

#[tokio::test(start_paused = true)]
async fn a_timer_set_in_a_tick() {
    let fixture = Fixture::new();
    fixture.start("probe", &MANIFEST.replace("[config]", "[config]\non-a = \"after b 0\"\ninit = \"after a 0\"")).await;
    assert_eq!(fixture.reports(2).await, ["tick a missed 0", "tick b missed 0"]);
}
