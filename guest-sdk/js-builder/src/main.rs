//! Makes a component of a plugin in JavaScript or TypeScript. `macula-host build` runs it; it is a program of its own
//! because componentize-qjs brings a WebAssembly engine of another version.
//!
//! 1. Find every module that the plugin's entry leads to; take types out of TypeScript.
//! 2. See which interfaces they use, and which handlers `export default` has: that is the component's world.
//! 3. `component`: let QuickJS evaluate them and the parts of the SDK that they use, and keep its memory: that is the
//!    component. `modules`: write them and the world into a folder, for another engine's tool.
//!
//! Prints, as JSON, what the component imports and exports, and all that was seen on the disk for it: what was read, and what
//! was looked for in vain. What is wrong with the plugin goes to standard error, where it is and as the parser shows it, with
//! exit code 1.
//!
//! Called with Wizer's arguments, it does what Wizer does: see [`snapshot`].

mod disk;
mod evaluate;
mod graph;
mod handlers;
mod sandbox;
mod snapshot;
mod source;
mod staging;
mod world;

use std::{io::IsTerminal, path::PathBuf, process::ExitCode, time::Duration};

use anyhow::{Context, Result, bail};
use serde::Serialize;

use self::disk::{Disk, Sight};

/// How long QuickJS may take, and StarlingMonkey, which is compiled first where nothing is in the cache yet.
const COMPONENT_TIME: Duration = Duration::from_secs(120);
const SNAPSHOT_TIME: Duration = Duration::from_secs(300);

const USAGE: &str = "usage: macula-build-js component ENTRY ROOT SDK CONTRACT CACHE OUTPUT
       macula-build-js modules ENTRY ROOT SDK CONTRACT FOLDER";

/// A plugin, and what it is made with.
struct Plugin {
    /// The plugin's first module.
    entry: PathBuf,
    /// The folder of the project. Modules of other folders, such as packages that several projects share, lie around it.
    root: PathBuf,
    /// The SDK.
    sdk: PathBuf,
    /// The contract: files of WIT.
    contract: PathBuf,
}

/// What is made of it.
enum Product {
    /// A component with QuickJS; compiled code of the runtime is kept in `cache`.
    Component { cache: PathBuf, output: PathBuf },
    /// A folder of files.
    Modules { folder: PathBuf },
}

#[derive(Serialize)]
struct Report {
    imports: Vec<String>,
    exports: Vec<String>,
    sights: Vec<(PathBuf, Sight)>,
}

fn main() -> ExitCode {
    let outcome = match std::env::args().nth(1) {
        Some(first) if first.starts_with("--") => {
            end_within(SNAPSHOT_TIME);
            take_snapshot()
        }
        _ => arguments().and_then(|(plugin, product)| make(&plugin, &product)).and_then(|report| {
            println!("{}", serde_json::to_string(&report).context("a file's name is no text in UTF-8")?);
            Ok(())
        }),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{}", readable(&format!("{error:#}")));
            ExitCode::FAILURE
        }
    }
}

/// Messages show the source, and what it printed: on a terminal nothing in them moves the cursor or turns the direction of
/// writing.
fn readable(text: &str) -> String {
    if !std::io::stderr().is_terminal() {
        return text.to_owned();
    }
    let moves = |c: char| {
        (c.is_control() && !matches!(c, '\n' | '\t'))
            || matches!(c, '\u{061c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
    };
    text.chars().map(|c| if moves(c) { c.escape_default().to_string() } else { c.to_string() }).collect()
}

/// Code outside of handlers may have no end; whoever builds is not to wait for that, and nothing is to be left running.
fn end_within(time: Duration) {
    std::thread::spawn(move || {
        std::thread::sleep(time);
        let seconds = time.as_secs();
        eprintln!(
            "the plugin could not be evaluated in {seconds} s; does what stands outside of handlers come to an end?"
        );
        std::process::exit(1);
    });
}

fn arguments() -> Result<(Plugin, Product)> {
    let mut arguments = std::env::args_os().skip(1);
    let product = arguments.next().unwrap_or_default();
    let mut paths: Vec<PathBuf> = arguments.map(PathBuf::from).collect();
    let rest = paths.split_off(paths.len().min(4));
    let product = match (product.to_str(), <[PathBuf; 1]>::try_from(rest)) {
        (Some("modules"), Ok([folder])) => Product::Modules { folder },
        (Some("component"), Err(rest)) => match <[PathBuf; 2]>::try_from(rest) {
            Ok([cache, output]) => Product::Component { cache, output },
            Err(_) => bail!(USAGE),
        },
        _ => bail!(USAGE),
    };
    for path in &mut paths {
        *path = path.canonicalize().with_context(|| path.display().to_string())?;
    }
    let [entry, root, sdk, contract] = <[PathBuf; 4]>::try_from(paths).ok().context(USAGE)?;
    Ok((Plugin { entry, root, sdk, contract }, product))
}

fn make(plugin: &Plugin, product: &Product) -> Result<Report> {
    end_within(COMPONENT_TIME);
    let disk = Disk::default();
    let handlers = handlers::of(&disk, &plugin.entry)?;
    let mut graph = graph::Graph::new(disk.clone(), &plugin.root, &plugin.sdk)?;
    let engine = match product {
        Product::Component { .. } => graph::Engine::QuickJs,
        Product::Modules { .. } => graph::Engine::Other,
    };
    let entry = graph.add_entry(&plugin.entry, &handlers, engine)?;
    let graph::Modules { files, interfaces } = graph.finish()?;
    let exports = handlers.interfaces();
    match product {
        Product::Component { cache, output } => {
            let (resolve, world) = world::of(&plugin.contract, &interfaces, &exports)?;
            let component = evaluate::evaluate(&entry, files, (&resolve, world), cache).context(
                "the plugin cannot be evaluated; what stands outside of handlers runs when it is built, without a host",
            )?;
            std::fs::write(output, component).with_context(|| output.display().to_string())?;
        }
        Product::Modules { folder } => {
            staging::write(folder, &entry, &files, &world::text(&interfaces, &exports), &plugin.contract)?;
        }
    }
    Ok(Report {
        imports: interfaces.into_iter().collect(),
        exports: exports.into_iter().map(str::to_owned).collect(),
        // The SDK goes with this program.
        sights: disk.sights_outside(&plugin.sdk),
    })
}

fn take_snapshot() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let request = snapshot::Request::parse(&arguments)?;
    let input = std::io::read_to_string(std::io::stdin())?;
    snapshot::take(&request, &input)
}
