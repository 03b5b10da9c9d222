//! From modules to a component: QuickJS evaluates them here, once, and the component begins with its memory afterwards.

use std::{
    collections::BTreeMap,
    path::{Component as PathPart, Path, PathBuf},
    sync::Arc,
};

use anyhow::{Context as _, Result, anyhow};
use componentize_qjs::{codegen, default_sync_runtime_wasm, stubwasi};
use wasi_preview1_component_adapter_provider::{
    WASI_SNAPSHOT_PREVIEW1_ADAPTER_NAME, WASI_SNAPSHOT_PREVIEW1_REACTOR_ADAPTER,
};
use wasmtime::{
    Store,
    component::{Component, Linker, ResourceTable},
};
use wasmtime_wasi::{WasiCtx, WasiCtxView, WasiView};
use wasmtime_wizer::{WasmtimeWizerComponent, Wizer};
use wit_component::StringEncoding;
use wit_parser::{Resolve, WorldId};

use crate::sandbox;

/// Where the runtime asks for modules that are not the contract's.
const MODULE_LOADER: &str = "local:init/module-loader";

/// The first module's path, as the runtime knows it.
const ENTRY: &str = "/entry.js";

/// Makes the component: `entry` is the text of the first module, `modules` are those that it leads to. Compiled code of
/// the runtime is kept in `cache`, because it is the same for all plugins that use the same interfaces.
pub fn evaluate(
    entry: &str,
    modules: BTreeMap<PathBuf, String>,
    (resolve, world): (&Resolve, WorldId),
    cache: &Path,
) -> Result<Vec<u8>> {
    let (linked, shim) = link(resolve, world)?;
    let component = tokio::runtime::Builder::new_current_thread().build()?.block_on(snapshot(
        &linked,
        &shim,
        entry,
        Arc::new(modules),
        cache,
    ))?;
    stubwasi::stub_internal_imports(&component)
}

/// The runtime, and a library that speaks the world for it, linked to one component; and the script that the runtime
/// begins with.
fn link(resolve: &Resolve, world: WorldId) -> Result<(Vec<u8>, String)> {
    let (mut bindings, metadata) = wit_dylib::create_with_metadata(resolve, world, None);
    wit_component::embed_component_metadata(&mut bindings, resolve, world, StringEncoding::UTF8)?;
    let mut linker = wit_component::Linker::default();
    linker.encoder().validate(true);
    linker.library("quickjs.wasm", default_sync_runtime_wasm(), false)?;
    linker.library("bindings.wasm", &bindings, false)?;
    linker.encoder().adapter(WASI_SNAPSHOT_PREVIEW1_ADAPTER_NAME, WASI_SNAPSHOT_PREVIEW1_REACTOR_ADAPTER)?;
    let linked = linker.encode().context("the contract and the JavaScript runtime do not fit")?;
    Ok((linked, codegen::generate_shim(resolve, &metadata)))
}

async fn snapshot(
    linked: &[u8],
    shim: &str,
    entry: &str,
    modules: Arc<BTreeMap<PathBuf, String>>,
    cache: &Path,
) -> Result<Vec<u8>> {
    let engine = sandbox::engine(cache)?;
    let wizer = Wizer::new();
    let (context, instrumented) = wizer.instrument_component(linked)?;
    let component = Component::new(&engine, &instrumented)?;
    let mut linker: Linker<State> = Linker::new(&engine);
    linker.allow_shadowing(true);
    linker.define_unknown_imports_as_traps(&component)?;
    wasmtime_wasi::p2::add_to_linker_async(&mut linker)?;
    serve_modules(&mut linker, modules)?;

    let output = sandbox::output();
    let mut store = Store::new(&engine, State { wasi: sandbox::wasi(&output).build(), table: ResourceTable::new() });
    let instance = linker.instantiate_async(&mut store, &component).await?;
    let init = instance
        .get_typed_func::<(&str, &str, Option<&str>, bool), (std::result::Result<(), String>,)>(&mut store, "init")?;
    let (outcome,) = init.call_async(&mut store, (shim, entry, Some(ENTRY), false)).await.map_err(|trap| {
        let reason = trap.root_cause().to_string();
        anyhow!("{}{}", sandbox::said(&output), host_function(&reason).unwrap_or(reason))
    })?;
    outcome.map_err(|error| anyhow!("{}{error}", sandbox::said(&output)))?;
    Ok(wizer.snapshot_component(context, &mut WasmtimeWizerComponent { store: &mut store, instance }).await?)
}

/// What to do about a function of the host that was called, where there is none.
fn host_function(reason: &str) -> Option<String> {
    let (interface, function) = reason.split('`').nth(1)?.strip_prefix("macula:plugin/")?.split_once('#')?;
    let interface = interface.split('@').next().unwrap_or_default();
    Some(format!(
        "the host is called outside of handlers ({interface}: {function}), and while a plugin is built there is none: call it in a \
         handler, onStart for example"
    ))
}

struct State {
    wasi: WasiCtx,
    table: ResourceTable,
}

impl WasiView for State {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        WasiCtxView { ctx: &mut self.wasi, table: &mut self.table }
    }
}

fn serve_modules(linker: &mut Linker<State>, modules: Arc<BTreeMap<PathBuf, String>>) -> Result<()> {
    let mut loader = linker.instance(MODULE_LOADER)?;
    let known = Arc::clone(&modules);
    loader.func_wrap("resolve", move |_, (referrer, specifier): (String, String)| {
        let path = joined(&referrer, &specifier);
        let found = known.contains_key(&path).then(|| format!("/{}", path.display()));
        // The graph has seen every import: only a name made up at run time comes here in vain.
        Ok((found.ok_or_else(|| format!("there is no module {specifier}")),))
    })?;
    loader.func_wrap("load", move |_, (path,): (String,)| {
        let text = modules.get(Path::new(path.trim_start_matches('/'))).cloned();
        Ok((text.ok_or_else(|| format!("there is no module {path}")),))
    })?;
    Ok(())
}

/// A relative specifier as a path below the root.
fn joined(referrer: &str, specifier: &str) -> PathBuf {
    let mut path = PathBuf::from(referrer.trim_start_matches('/'));
    path.pop();
    for part in Path::new(specifier).components() {
        match part {
            PathPart::ParentDir => {
                path.pop();
            }
            PathPart::Normal(name) => path.push(name),
            PathPart::CurDir | PathPart::RootDir | PathPart::Prefix(_) => {}
        }
    }
    path
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_of_the_host_is_told_from_other_traps() {
        let told = host_function("unknown import: `macula:plugin/log@0.1.0#enabled` has not been defined").unwrap();
        assert!(told.contains("outside of handlers (log: enabled)"), "{told}");
        assert_eq!(host_function("wasm `unreachable` instruction executed"), None);
    }

    #[test]
    fn specifiers_are_paths_below_the_root() {
        assert_eq!(joined("/entry.js", "./app/a.js"), Path::new("app/a.js"));
        assert_eq!(joined("/app/src/a.js", "../../macula/index.js"), Path::new("macula/index.js"));
    }
}
