//! From modules to a component: QuickJS evaluates them here, once, and the component begins with its memory afterwards.
//!
//! What runs while it is built sees a clock that stands still and the same random numbers each time, so that the same source
//! makes the same bytes. Handlers, later, see real ones.

use std::{
    collections::BTreeMap,
    path::{Component as PathPart, Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use anyhow::{Context as _, Result, anyhow};
use componentize_qjs::{codegen, default_sync_runtime_wasm, stubwasi};
use wasi_preview1_component_adapter_provider::{
    WASI_SNAPSHOT_PREVIEW1_ADAPTER_NAME, WASI_SNAPSHOT_PREVIEW1_REACTOR_ADAPTER,
};
use wasmtime::{
    Cache, CacheConfig, Config, Engine, Store,
    component::{Component, Linker, ResourceTable},
};
use wasmtime_wasi::{
    HostMonotonicClock, HostWallClock, WasiCtx, WasiCtxBuilder, WasiCtxView, WasiView, p2::pipe::MemoryOutputPipe,
    random::Deterministic,
};
use wasmtime_wizer::{WasmtimeWizerComponent, Wizer};
use wit_component::StringEncoding;
use wit_parser::{Resolve, WorldId};

/// Where the runtime asks for modules that are not the contract's.
const MODULE_LOADER: &str = "local:init/module-loader";

/// The first module's path, as the runtime knows it.
const ENTRY: &str = "/entry.js";

/// What a module may print while it is evaluated.
const OUTPUT_BYTES_MAX: usize = 64 << 10;

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
    let engine = engine(cache)?;
    let wizer = Wizer::new();
    let (context, instrumented) = wizer.instrument_component(linked)?;
    let component = Component::new(&engine, &instrumented)?;
    let mut linker: Linker<State> = Linker::new(&engine);
    linker.allow_shadowing(true);
    linker.define_unknown_imports_as_traps(&component)?;
    wasmtime_wasi::p2::add_to_linker_async(&mut linker)?;
    serve_modules(&mut linker, modules)?;

    let output = MemoryOutputPipe::new(OUTPUT_BYTES_MAX);
    let mut store = Store::new(&engine, State { wasi: wasi(&output), table: ResourceTable::new() });
    let instance = linker.instantiate_async(&mut store, &component).await?;
    let init = instance
        .get_typed_func::<(&str, &str, Option<&str>, bool), (std::result::Result<(), String>,)>(&mut store, "init")?;
    let (outcome,) = init.call_async(&mut store, (shim, entry, Some(ENTRY), false)).await.map_err(|trap| {
        let reason = trap.root_cause().to_string();
        anyhow!("{}{reason}", said(&output))
    })?;
    outcome.map_err(|error| anyhow!("{}{error}", said(&output)))?;
    Ok(wizer.snapshot_component(context, &mut WasmtimeWizerComponent { store: &mut store, instance }).await?)
}

fn engine(cache: &Path) -> Result<Engine> {
    let mut config = Config::new();
    config.wasm_component_model(true);
    let mut settings = CacheConfig::new();
    settings.with_directory(cache);
    // Without it everything works, a little slower.
    if let Ok(cache) = Cache::new(settings) {
        config.cache(Some(cache));
    }
    Ok(Engine::new(&config)?)
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

/// A clock that stands at 2000-01-01: no program takes that for now.
struct StoppedClock;

const STOPPED: Duration = Duration::from_secs(946_684_800);

impl HostWallClock for StoppedClock {
    fn resolution(&self) -> Duration {
        Duration::from_millis(1)
    }

    fn now(&self) -> Duration {
        STOPPED
    }
}

impl HostMonotonicClock for StoppedClock {
    fn resolution(&self) -> u64 {
        1_000_000
    }

    fn now(&self) -> u64 {
        1_000_000
    }
}

fn wasi(output: &MemoryOutputPipe) -> WasiCtx {
    WasiCtxBuilder::new()
        .stdout(output.clone())
        .stderr(output.clone())
        .wall_clock(StoppedClock)
        .monotonic_clock(StoppedClock)
        .secure_random(Deterministic::new((0..=255).collect()))
        .insecure_random(Deterministic::new((0..=255).collect()))
        .insecure_random_seed(1)
        .build()
}

fn said(output: &MemoryOutputPipe) -> String {
    String::from_utf8_lossy(&output.contents()).into_owned()
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
    fn specifiers_are_paths_below_the_root() {
        assert_eq!(joined("/entry.js", "./app/a.js"), Path::new("app/a.js"));
        assert_eq!(joined("/app/src/a.js", "../../macula/index.js"), Path::new("macula/index.js"));
    }
}
