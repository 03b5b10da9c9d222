//! Content as plugins have it: what each function gives and refuses.

use macula_runtime::{Mcid, Operation};

use super::support::{Fixture, MANIFEST};

/// Without the right to fetch.
fn without_right() -> String {
    MANIFEST.replace("fetch = [\"**\"]\n", "")
}

fn ok(mcid: &Mcid) -> String {
    format!("Ok(\"{mcid}\")")
}

#[tokio::test]
async fn what_is_stored_can_be_read() {
    let fixture = Fixture::new();
    fixture.probe().await;
    let mcid = Mcid::of(b"hello there");
    assert_eq!(fixture.ask("put hello there").await, ok(&mcid));
    assert_eq!(fixture.ask("put hello there").await, ok(&mcid), "again is free");
    assert_eq!(fixture.ask("create hello there").await, ok(&Mcid::of(b"hellothere")));
    assert_eq!(fixture.ask(&format!("open {mcid}")).await, "11 hello there");
    assert_eq!(fixture.ask(&format!("read {mcid} 6 3")).await, "read the");
    assert_eq!(fixture.ask(&format!("read {mcid} 6 300")).await, "read there");
    assert_eq!(fixture.ask(&format!("read {mcid} 11 1")).await, "read ");
    assert_eq!(fixture.ask(&format!("read {mcid} 9007199254740991 1")).await, "read ");
    assert_eq!(fixture.ask(&format!("has {mcid}")).await, "Ok(true)");
    assert_eq!(fixture.ask(&format!("has {}", Mcid::of(b"other"))).await, "Ok(false)");
}

#[tokio::test]
async fn bounds_are_told() {
    let fixture = Fixture::new();
    fixture.probe().await;
    let mcid = Mcid::of(b"x");
    fixture.ask("put x").await;
    assert_eq!(fixture.ask("put-size 1048577").await, "Err(Error::TooLarge(1048576))");
    assert_eq!(fixture.ask("write-size 1048577").await, "Err(Error::TooLarge(1048576))");
    assert_eq!(fixture.ask("write-size 1048576").await, "Ok(())");
    assert_eq!(fixture.ask(&format!("read {mcid} 0 1048577")).await, "Error::TooLarge(1048576)");
    assert_eq!(fixture.ask(&format!("blobs {mcid} 64")).await, "None");
    let refused = fixture.ask(&format!("blobs {mcid} 65")).await;
    assert!(refused.contains("QuotaExceeded(\"content: 64 are open"), "{refused}");
    assert_eq!(fixture.ask(&format!("blobs {mcid} 64")).await, "None", "dropped handles count no more");
    assert!(fixture.ask("writers 17").await.contains("writers: 16 are open"));
    fixture.mesh.set_content_quota(10);
    assert_eq!(fixture.ask("put 0123456789").await, "Err(Error::QuotaExceeded(\"content of this plugin\"))");
    assert_eq!(fixture.ask("create 01234 56789").await, "Err(Error::QuotaExceeded(\"content of this plugin\"))");
    for command in ["open", "has", "pin", "unpin", "fetch"] {
        for bad in ["bafkr4i", "bafybeigdyrzt5sfp7udm7hu76uh7y26nf3efuylqabf3oclgtqy55fbzdi", "x"] {
            let refused = fixture.ask(&format!("{command} {bad}")).await;
            assert!(refused.contains("Error::Invalid("), "{command} {bad}: {refused}");
        }
    }
}

#[tokio::test]
async fn what_is_elsewhere_is_fetched() {
    let fixture = Fixture::new();
    let plugin = fixture.probe().await;
    let (whole, late) = (fixture.mesh.provide("from afar"), fixture.mesh.provide("late"));
    assert_eq!(fixture.ask(&format!("open {whole}")).await, "9 from afar");
    let nobody = Mcid::of(b"nobody's");
    assert!(fixture.ask(&format!("open {nobody}")).await.contains("NotFound"));
    assert!(fixture.ask(&format!("pin {late}")).await.contains("NotFound"));

    fixture.mesh.hold_fetches();
    assert_eq!(fixture.ask(&format!("fetch {late}")).await, "fetching");
    assert!(fixture.ask("fetch-state").await.contains("FetchState::Running"));
    assert_eq!(fixture.ask(&format!("fetch-drop {nobody}")).await, "Ok(())");
    fixture.mesh.release_fetches();
    assert_eq!(fixture.ask("fetch-state").await, "FetchState::Done");
    assert_eq!(fixture.ask(&format!("has {late}")).await, "Ok(true)");
    assert_eq!(fixture.ask(&format!("pin {late}")).await, "Ok(())");
    assert!(fixture.mesh.is_pinned(plugin.name(), &late));
    assert_eq!(fixture.ask(&format!("unpin {late}")).await, "Ok(())");
    assert!(!fixture.mesh.is_pinned(plugin.name(), &late));

    fixture.mesh.hold_fetches();
    let never = fixture.mesh.provide("never");
    fixture.ask(&format!("fetch {never}")).await;
    fixture.tell("fetch-cancel");
    assert_eq!(fixture.ask("fetch-state").await, "FetchState::Failed(Error::Cancelled)");
    fixture.mesh.release_fetches();
    assert_eq!(fixture.ask("fetch-state").await, "FetchState::Failed(Error::Cancelled)");
}

#[tokio::test(start_paused = true)]
async fn who_waits_for_too_long_is_told() {
    let fixture = Fixture::new();
    fixture.probe().await;
    let late = fixture.mesh.provide("late");
    fixture.mesh.hold_fetches();
    assert_eq!(fixture.ask(&format!("open {late}")).await, "Error::Timeout");
}

#[tokio::test]
async fn without_the_right_only_ones_own() {
    let fixture = Fixture::new();
    fixture.probe().await;
    fixture.ask("put shared").await;
    let shared = Mcid::of(b"shared");
    let manifest = without_right().replace("in.**", "other.**").replace("probe.do", "other.do");
    let other = fixture.start("other", &manifest.replace("\"report\"\n", "\"other-report\"\n")).await;
    let ask = async |command: String| {
        let before = fixture.mesh.published("other-report").len();
        fixture.mesh.publish("other.x", command);
        fixture.mesh.wait_for("other-report", before + 1).await.remove(before)
    };
    assert_eq!(ask(format!("can /mesh/fetch {shared}")).await, "false");
    assert_eq!(ask(format!("has {shared}")).await, "Ok(false)", "another's is nobody's");
    for command in ["open", "fetch"] {
        let denied = ask(format!("{command} {shared}")).await;
        assert!(denied.contains(&format!("Error::Denied(\"/mesh/fetch {shared}\")")), "{denied}");
    }
    assert!(ask(format!("pin {shared}")).await.contains("NotFound"));
    assert!(fixture.mesh.denied().contains(&(Operation::Fetch, shared.to_string())));
    // Who knows the bytes has them.
    assert_eq!(ask("put shared".to_owned()).await, ok(&shared));
    assert_eq!(ask(format!("open {shared}")).await, "6 shared");
    fixture.stop(&other).await;
    let manifest = format!("fetch = [\"{shared}\"]\n{manifest}").replace("\"report\"\n", "\"other-report\"\n");
    fixture.start("third", &manifest).await;
    assert_eq!(ask(format!("can /mesh/fetch {shared}")).await, "true");
    assert_eq!(ask(format!("open {shared}")).await, "6 shared");
    assert!(ask(format!("open {}", Mcid::of(b"other"))).await.contains("Denied"));
}
