//! Makes a component of a plugin in JavaScript or TypeScript. `macula-host build` runs it; it is a program of its own
//! because componentize-qjs brings a WebAssembly engine of another version.
//!
//! 1. Find every module that the plugin's entry leads to; take types out of TypeScript.
//! 2. See which interfaces they use, and which handlers `export default` has: that is the component's world.
//! 3. Let QuickJS evaluate them and the parts of the SDK that they use, and keep its memory: that is the component.
//!
//! Prints, as JSON, what the component imports and exports and which files went into it. What is wrong with the plugin goes
//! to standard error, where it is and as the parser shows it, with exit code 1.

mod evaluate;
mod graph;
mod handlers;
mod source;
mod world;

use std::{path::PathBuf, process::ExitCode};

use anyhow::{Context, Result, bail};
use serde::Serialize;

/// Where everything is.
struct Arguments {
    /// The plugin's first module.
    entry: PathBuf,
    /// The folder of the project: modules are looked for below it.
    root: PathBuf,
    /// The SDK.
    sdk: PathBuf,
    /// The contract: files of WIT.
    contract: PathBuf,
    /// Where compiled code of the JavaScript runtime is kept.
    cache: PathBuf,
    /// Where the component goes.
    output: PathBuf,
}

#[derive(Serialize)]
struct Report {
    imports: Vec<String>,
    exports: Vec<String>,
    inputs: Vec<PathBuf>,
}

fn main() -> ExitCode {
    match arguments().and_then(|arguments| run(&arguments)) {
        Ok(report) => {
            println!("{}", serde_json::to_string(&report).expect("paths and names are text"));
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

fn arguments() -> Result<Arguments> {
    let mut paths: Vec<PathBuf> = std::env::args_os().skip(1).map(PathBuf::from).collect();
    if paths.len() != 6 {
        bail!("usage: macula-build-js ENTRY ROOT SDK CONTRACT CACHE OUTPUT");
    }
    let output = paths.remove(5);
    let cache = paths.remove(4);
    for path in &mut paths {
        *path = path.canonicalize().with_context(|| path.display().to_string())?;
    }
    let [entry, root, sdk, contract] = <[PathBuf; 4]>::try_from(paths).expect("four are left");
    Ok(Arguments { entry, root, sdk, contract, cache, output })
}

fn run(arguments: &Arguments) -> Result<Report> {
    let handlers = handlers::of(&arguments.entry)?;
    let mut graph = graph::Graph::new(&arguments.root, &arguments.sdk)?;
    let entry = graph.add_entry(&arguments.entry, &handlers)?;
    let graph::Modules { files, interfaces, inputs } = graph.finish()?;
    let exports = handlers.interfaces();
    let (resolve, world) = world::of(&arguments.contract, &interfaces, &exports)?;
    let component = evaluate::evaluate(&entry, files, (&resolve, world), &arguments.cache).context(
        "the plugin cannot be evaluated; what stands outside of handlers runs when it is built, without a host",
    )?;
    std::fs::write(&arguments.output, component).with_context(|| arguments.output.display().to_string())?;
    Ok(Report {
        imports: interfaces.into_iter().collect(),
        exports: exports.into_iter().map(str::to_owned).collect(),
        inputs,
    })
}
