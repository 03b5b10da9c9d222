use super::*;

const WHOLE: &str = r#"
name = "sensor-alert"
version = "0.1.0"
description = "Warns when it gets hot"
subscribe = ["sensors.*.temperature"]
publish   = ["alerts.**"]
advertise = ["sensors.summary"]
call      = []
[config]
threshold = 30.0
greeting = "hi"
on = true
list = [1, "two"]
alert.level = 3
[limits]
memory-mib = 32
[[subscriptions]]
pattern = "sensors.*.temperature"
when-full = "latest-only"
retained = false
[[procedures]]
procedure = "sensors.summary"
"#;

fn resolve(embedded: Option<&str>, beside: Option<&str>) -> Result<Manifest, ManifestError> {
    Manifest::resolve(embedded, beside.map(|text| ManifestText { origin: "x.toml", text }), "My Plugin_1")
}

fn refused(embedded: Option<&str>, beside: Option<&str>) -> String {
    resolve(embedded, beside).unwrap_err().to_string()
}

#[test]
fn content_is_asked_for_by_its_id_or_as_a_whole() {
    let mcid = macula_wire::Mcid::of(b"a table");
    let some = resolve(Some(&format!("fetch = [\"{mcid}\"]")), None).unwrap();
    assert_eq!(some.asks.patterns(Operation::Fetch), [mcid.as_str().parse().unwrap()]);
    assert!(resolve(Some("fetch = [\"**\"]"), Some(&format!("fetch = [\"{mcid}\"]"))).is_ok());
    assert!(refused(Some(&format!("fetch = [\"{mcid}\"]")), Some("fetch = [\"**\"]")).contains("may only narrow"));
    for bad in ["a.b", "*", "bafkr4i", "bafkr4i.**"] {
        let text = refused(Some(&format!("\nfetch = [\"{bad}\"]")), None);
        assert!(text.contains("line 2") && text.contains("content id"), "{bad}: {text}");
    }
}

#[test]
fn the_whole_form() {
    let manifest = resolve(Some(WHOLE), None).unwrap();
    assert_eq!(manifest.name.as_str(), "sensor-alert");
    assert_eq!(manifest.limits, Limits { memory_mib: 32, ..Limits::default() });
    let config: Vec<_> = manifest.config.iter().map(|(key, value)| format!("{key}={value}")).collect();
    assert_eq!(config, ["alert.level=3", "greeting=hi", "list=[1,\"two\"]", "on=true", "threshold=30.0"]);
    let subscription = &manifest.subscriptions[0];
    assert_eq!((subscription.when_full, subscription.retained), (WhenFull::LatestOnly, false));
    assert_eq!(manifest.procedures[0].as_str(), "sensors.summary");
}

#[test]
fn without_any_manifest() {
    let manifest = resolve(None, None).unwrap();
    assert_eq!(manifest.name.as_str(), "my-plugin-1");
    assert_eq!(manifest.asks, Asks::default());
    assert_eq!(manifest.limits, Limits::default());
}

#[test]
fn the_file_beside_sets_and_narrows() {
    let beside = "publish = [\"alerts.kitchen\"]\n[config]\nthreshold = 5\n[limits]\ntimers = 3";
    let manifest = resolve(Some(WHOLE), Some(beside)).unwrap();
    assert_eq!(manifest.asks.publish[0].as_str(), "alerts.kitchen");
    assert_eq!(manifest.config["threshold"], "5");
    assert_eq!(manifest.config["greeting"], "hi");
    assert_eq!((manifest.limits.timers, manifest.limits.memory_mib), (3, 32));
}

#[test]
fn the_file_beside_is_the_manifest_where_there_is_no_other() {
    let manifest = resolve(None, Some("publish = [\"a.b\"]")).unwrap();
    assert_eq!(manifest.asks.publish[0].as_str(), "a.b");
}

#[test]
fn refusals_say_where_and_why() {
    for (embedded, beside, expected) in [
        (Some("nmae = \"x\""), None, "the embedded manifest, line 1: unknown field `nmae`"),
        (Some("name = \"X\""), None, "line 1: \"X\" is no plugin name"),
        (Some("\n\npublish = [\"a..b\"]"), None, "line 3: \"a..b\" has an empty segment"),
        (Some("publish = [\n\"ok\",\n\"_mesh.x\"]"), None, "line 3: "),
        (Some("call = [\"_mesh.admin.**\"]"), None, "are the system's"),
        (Some("[limits]\nmemory-mib = 0"), None, "`memory-mib = 0` is outside 1 to 4095"),
        (Some("[limits]\nmemory = 9"), None, "unknown field `memory`"),
        (Some("[[subscriptions]]\npattern = \"a\""), None, "line 2: \"a\" is not covered by `subscribe`; add it there"),
        (Some("[[procedures]]\nprocedure = \"a\""), None, "\"a\" is not covered by `advertise`"),
        (Some("name = "), None, "line 1"),
        (Some(WHOLE), Some("\npublish = [\"other\"]"), "x.toml, line 2: `publish` may only narrow"),
        (Some(WHOLE), Some("call = [\"a\"]"), "`call` may only narrow"),
    ] {
        let text = refused(embedded, beside);
        assert!(text.contains(expected), "{text}");
        assert!(!text.contains('\n'), "one sentence: {text:?}");
    }
}
