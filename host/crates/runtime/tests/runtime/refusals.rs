//! Components and manifests that cannot run, and the sentence each gets.

use std::fs;

use bytes::Bytes;
use macula_runtime::{Grant, PluginSource, StartError, StartOptions};

use super::{
    contract_component::contract_component,
    support::{Fixture, MANIFEST, PROBE},
};

const SHOUTING: &str = "world shouting { import log; export lifecycle; }";

async fn refused(fixture: &Fixture, bytes: Vec<u8>) -> String {
    let source = PluginSource::Bytes { name: "bad".into(), bytes: bytes.into() };
    let text = fixture.runtime.start(source, Grant::AsAsked).await.unwrap_err().to_string();
    assert!(!text.contains('\n'), "one sentence: {text}");
    assert!(fixture.runtime.plugins().is_empty());
    text
}

#[tokio::test]
async fn components_that_do_not_fit() {
    let fixture = Fixture::new();
    let handler =
        "(component $c) (instance $i (instantiate $c)) (export \"macula:plugin/message-handler@0.1.0\" (instance $i))";
    for (wat, expected) in [
        ("(module)".to_owned(), "a core WebAssembly module"),
        ("(component)".to_owned(), "handles nothing"),
        (
            format!("(component {handler})"),
            "in message-handler's on-message: the component does not export this function",
        ),
        (
            format!("(component (import \"wasi:http/types@0.2.0\" (instance)) {handler})"),
            "imports wasi:http/types@0.2.0, which plugins do not get",
        ),
    ] {
        let text = refused(&fixture, wat::parse_str(&wat).unwrap()).await;
        assert!(text.starts_with("bad: ") && text.contains(expected), "{text}");
    }
    // A function that no host has.
    let shouts =
        contract_component("shouting", SHOUTING, &[("interface log {", "interface log {\n    shout: func();\n")]);
    let text = refused(&fixture, shouts).await;
    assert!(text.starts_with("bad: ") && text.contains("macula:plugin/log@0.1.0"), "{text}");
    let mut damaged = PROBE.to_vec();
    let middle = damaged.len() / 2;
    damaged[middle..middle + 64].fill(0xff);
    let text = refused(&fixture, damaged).await;
    assert!(text.contains("damaged") || text.contains("cannot be compiled"), "{text}");
}

#[tokio::test]
async fn files_that_cannot_be_read() {
    let fixture = Fixture::new();
    let missing = fixture.home.path().join("missing.wasm");
    let error = fixture.runtime.start(PluginSource::Path(missing.clone()), Grant::AsAsked).await.unwrap_err();
    assert!(matches!(&error, StartError::Read(read) if read.path == missing), "{error}");
}

#[tokio::test]
async fn the_file_beside_sets_a_plugin_up() {
    let fixture = Fixture::new();
    let path = fixture.home.path().join("beside.wasm");
    fs::write(&path, PROBE).unwrap();
    fixture.write("beside.toml", MANIFEST);
    let plugin = fixture.runtime.start(PluginSource::Path(path.clone()), Grant::AsAsked).await.unwrap();
    assert_eq!(plugin.name().as_str(), "beside");
    assert_eq!(fixture.mesh.patterns(), ["in.**"]);
    let (inspection, manifest) = fixture.runtime.inspect(&path).await.unwrap();
    assert_eq!(inspection.abilities.len(), 6);
    assert_eq!(manifest.subscriptions.len(), 1);
    fixture.stop(&plugin).await;

    fixture.write("beside.toml", "subscribe = [\"a\"]\nsubscirbe = []");
    let error = fixture.runtime.start(PluginSource::Path(path), Grant::AsAsked).await.unwrap_err().to_string();
    assert!(error.contains("beside.toml, line 2: unknown field `subscirbe`"), "{error}");
}

#[tokio::test]
async fn an_altered_file_in_the_cache_is_not_run() {
    let fixture = Fixture::new();
    let plugin = fixture.probe().await;
    fixture.stop(&plugin).await;
    drop(plugin);
    let native = fixture.home.path().join("native");
    let mut files = fs::read_dir(native).unwrap().map(|entry| entry.unwrap().path());
    let file = files.find(|path| path.extension().is_some_and(|extension| extension == "native")).unwrap();
    let mut code = fs::read(&file).unwrap();
    let middle = code.len() / 2;
    code[middle] ^= 0xff;
    fs::remove_file(&file).unwrap();
    fs::write(&file, &code).unwrap();
    fixture.probe().await;
    assert_eq!(fixture.ask("handled").await, "handled 1");
    assert_ne!(fs::read(&file).unwrap(), code, "compiled again and replaced");
}

#[tokio::test]
async fn a_manifest_for_handlers_that_are_not_there() {
    let fixture = Fixture::new();
    let world = "world odd { export config-handler; }";
    let bytes = Bytes::from(contract_component("odd", world, &[]));
    let wrong = contract_component(
        "odd",
        world,
        &[("on-config-changed: func(keys: list<string>)", "on-config-changed: func()")],
    );
    for (manifest, expected) in [
        (
            "subscribe = [\"a\"]\n[[subscriptions]]\npattern = \"a\"",
            "subscription to a needs the export message-handler",
        ),
        ("advertise = [\"a\"]\n[[procedures]]\nprocedure = \"a\"", "offer of a needs the export call-handler"),
    ] {
        let manifest = Some(fixture.write("odd.toml", manifest).into());
        let source = PluginSource::Bytes { name: "odd".into(), bytes: bytes.clone() };
        let outcome = fixture.runtime.start(source, StartOptions { manifest, grant: Grant::AsAsked }).await;
        let error = outcome.unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
        assert!(fixture.runtime.plugins().is_empty());
    }
    // The right name with another type than the contract's.
    let text = refused(&fixture, wrong).await;
    assert!(text.contains("in config-handler's on-config-changed: keys (a list in the contract) is missing"), "{text}");
}
