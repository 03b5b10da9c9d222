//! A module of WebAssembly that has been begun: its first function is run here, and it starts with its memory afterwards.
//!
//! componentize-js lets Wizer do that for StarlingMonkey, with a clock, random numbers and paths that differ each time.
//! This program takes Wizer's place, is called with the same arguments, and leaves all of that out.

use std::path::{Component as PathPart, Path, PathBuf};

use anyhow::{Context as _, Result, anyhow, bail};
use wasmtime::{Caller, Extern, Linker, Module, Store};
use wasmtime_wasi::{
    DirPerms, FilePerms,
    p1::{self, WasiP1Ctx},
    p2::pipe::MemoryInputPipe,
};
use wasmtime_wizer::Wizer;

use crate::sandbox;

/// The variable that names the folder for compiled code; everything else in the environment is for the module.
const CACHE_VARIABLE: &str = "MACULA_BUILD_JS_CACHE";

/// What is asked for, in Wizer's words.
#[derive(Debug, PartialEq, Eq)]
pub struct Request {
    /// The function that begins the module.
    init: String,
    /// Folders that the module may read.
    folders: Vec<Folder>,
    /// The module.
    input: PathBuf,
    /// Where it goes when it has begun.
    output: PathBuf,
}

/// A folder of this machine, and its name inside.
#[derive(Debug, PartialEq, Eq)]
struct Folder {
    here: PathBuf,
    inside: String,
}

impl Request {
    /// Reads the arguments that componentize-js gives to Wizer. Others are refused: what they ask for would not be done.
    pub fn parse(arguments: &[String]) -> Result<Self> {
        let (mut init, mut output, mut input) = (None, None, None);
        let mut folders = Vec::new();
        let mut arguments = arguments.iter();
        while let Some(argument) = arguments.next() {
            match argument.split_once('=').unwrap_or((argument, "")) {
                ("--allow-wasi", "") | ("--wasm-bulk-memory" | "--inherit-env", "true") => {}
                ("--init-func", "") => init = arguments.next().cloned(),
                ("--mapdir", mapping) => {
                    let (inside, here) = mapping.split_once("::").with_context(|| argument.clone())?;
                    folders.push(Folder { here: here.into(), inside: inside.to_owned() });
                }
                // By a name that is the same on all machines.
                ("--dir", here) => {
                    folders.push(Folder { here: here.into(), inside: format!("/sources{}", folders.len()) })
                }
                ("-o", path) => output = Some(path.into()),
                (path, "") if !path.starts_with('-') && input.is_none() => input = Some(path.into()),
                _ => bail!("{argument} is not known: this componentize-js is of another version"),
            }
        }
        Ok(Self {
            init: init.context("--init-func is missing")?,
            folders,
            input: input.context("there is no module")?,
            output: output.context("-o is missing")?,
        })
    }

    /// Text with the names that folders have inside in place of those they have here.
    fn inside(&self, text: &str) -> String {
        self.folders.iter().fold(text.to_owned(), |text, folder| {
            let here = format!("{}/", folder.here.display());
            text.replace(&here, &format!("{}/", folder.inside.trim_end_matches('/')))
        })
    }
}

/// Begins the module, which reads `input` as its arguments.
pub fn take(request: &Request, input: &str) -> Result<()> {
    let cache = std::env::var_os(CACHE_VARIABLE).context(CACHE_VARIABLE)?;
    let module = std::fs::read(&request.input).with_context(|| request.input.display().to_string())?;
    let begun = tokio::runtime::Builder::new_current_thread().build()?.block_on(begin(
        request,
        &module,
        &request.inside(input),
        Path::new(&cache),
    ))?;
    std::fs::write(&request.output, begun).with_context(|| request.output.display().to_string())
}

async fn begin(request: &Request, module: &[u8], input: &str, cache: &Path) -> Result<Vec<u8>> {
    let engine = sandbox::engine(cache)?;
    let output = sandbox::output();
    let mut wasi = sandbox::wasi(&output);
    wasi.stdin(MemoryInputPipe::new(input.to_owned()));
    for (name, value) in std::env::vars_os().filter(|(name, _)| name != CACHE_VARIABLE) {
        // The engine asks for none that is not text.
        if let (Some(name), Some(value)) = (name.to_str(), value.to_str()) {
            wasi.env(name, value);
        }
    }
    for folder in &request.folders {
        wasi.preopened_dir(&folder.here, &folder.inside, DirPerms::READ, FilePerms::READ)
            .map_err(|error| anyhow!("{}: {error}", folder.here.display()))?;
    }
    let mut store = Store::new(&engine, wasi.build_p1());
    let mut linker: Linker<WasiP1Ctx> = Linker::new(&engine);
    p1::add_to_linker_async(&mut linker, |wasi| wasi)?;
    stat_files(&mut linker, request)?;
    let mut wizer = Wizer::new();
    wizer.init_func(&request.init);
    let begun = wizer
        .run(&mut store, module, async |store, module| {
            stand_still(&mut linker, module)?;
            // The contract's functions: there is no host here.
            linker.define_unknown_imports_as_traps(module)?;
            linker.instantiate_async(store, module).await
        })
        .await;
    begun.map_err(|error| match sandbox::said(&output) {
        // What the engine says of the plugin says more than that it ended.
        said if said.trim().is_empty() => error.into(),
        said => anyhow!("{}", said.trim_end()),
    })
}

/// What the engine asks of WASI 0.2 while it is begun: random numbers and the time, the same each time. It asks by core
/// functions, and by the names of whichever version it was made for.
fn stand_still(linker: &mut Linker<WasiP1Ctx>, module: &Module) -> wasmtime::Result<()> {
    for import in module.imports() {
        let (package, name) = (import.module(), import.name());
        match (package.split('@').next().unwrap_or_default(), name) {
            ("wasi:random/random", "get-random-u64") => {
                linker.func_wrap(package, name, || RANDOM)?;
            }
            ("wasi:clocks/monotonic-clock", "now") => {
                linker.func_wrap(package, name, || sandbox::STOPPED_TICKS)?;
            }
            ("wasi:clocks/wall-clock", "now") => {
                linker.func_wrap(package, name, |mut caller: Caller<'_, WasiP1Ctx>, answer: i32| {
                    let memory = caller.get_export("memory").and_then(Extern::into_memory);
                    let memory = memory.ok_or_else(|| wasmtime::Error::msg("the module has no memory"))?;
                    let mut now = [0; 16];
                    now[..8].copy_from_slice(&sandbox::STOPPED.as_secs().to_le_bytes());
                    memory.write(&mut caller, usize::try_from(answer)?, &now)?;
                    wasmtime::Result::Ok(())
                })?;
            }
            _ => {}
        }
    }
    Ok(())
}

/// A number as random as it need be: it seeds what is used before there is a handler.
const RANDOM: u64 = 0x9e37_79b9_7f4a_7c15;

/// Says of a file how large it is, and nothing of its number and times: the engine keeps what it was told of the last one.
fn stat_files(linker: &mut Linker<WasiP1Ctx>, request: &Request) -> Result<()> {
    // As WASI numbers them: the first folder follows the three standard streams.
    let folders: Vec<PathBuf> = request.folders.iter().map(|folder| folder.here.clone()).collect();
    linker.allow_shadowing(true);
    linker.func_wrap(
        "wasi_snapshot_preview1",
        "path_filestat_get",
        move |mut caller: Caller<'_, WasiP1Ctx>, folder: i32, _flags: i32, path: i32, length: i32, answer: i32| {
            let memory = caller.get_export("memory").and_then(Extern::into_memory);
            let memory = memory.ok_or_else(|| wasmtime::Error::msg("the module has no memory"))?;
            let mut name = vec![0; usize::try_from(length)?];
            memory.read(&caller, usize::try_from(path)?, &mut name)?;
            let folder = usize::try_from(folder - 3).ok().and_then(|index| folders.get(index));
            let (Some(folder), Ok(name)) = (folder, String::from_utf8(name)) else { return Ok(BAD_DESCRIPTOR) };
            let is_below = Path::new(&name).components().all(|part| matches!(part, PathPart::Normal(_)));
            let Some(found) = is_below.then(|| std::fs::metadata(folder.join(name)).ok()).flatten() else {
                return Ok(NO_SUCH_FILE);
            };
            memory.write(&mut caller, usize::try_from(answer)?, &stat(&found))?;
            wasmtime::Result::Ok(SUCCESS)
        },
    )?;
    Ok(())
}

const SUCCESS: i32 = 0;
const BAD_DESCRIPTOR: i32 = 8;
const NO_SUCH_FILE: i32 = 44;

/// WASI's `filestat`: device, number, kind, links, size, and the times of access, change and creation, 8 bytes each.
fn stat(file: &std::fs::Metadata) -> [u8; 64] {
    const FOLDER: u8 = 3;
    const FILE: u8 = 4;
    let mut stat = [0; 64];
    stat[16] = if file.is_dir() { FOLDER } else { FILE };
    stat[24] = 1;
    stat[32..40].copy_from_slice(&file.len().to_le_bytes());
    stat
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(arguments: &[&str]) -> Result<Request> {
        Request::parse(&arguments.iter().map(|argument| (*argument).to_owned()).collect::<Vec<_>>())
    }

    const USUAL: [&str; 8] = [
        "--allow-wasi",
        "--init-func",
        "begin",
        "--dir=/tmp/0815/sources",
        "--mapdir=/::/home/me/plugin",
        "--wasm-bulk-memory=true",
        "--inherit-env=true",
        "-o=/tmp/0815/out.wasm",
    ];

    #[test]
    fn paths_of_this_machine_stay_outside() {
        let request = request(&[&USUAL[..], &["/tmp/0815/in.wasm"]].concat()).unwrap();
        assert_eq!((request.init.as_str(), request.input.to_str()), ("begin", Some("/tmp/0815/in.wasm")));
        assert_eq!(request.output, Path::new("/tmp/0815/out.wasm"));
        assert_eq!(
            request.inside("--script /tmp/0815/sources/begin.js --strip /home/me/plugin/ entry.js"),
            "--script /sources0/begin.js --strip / entry.js"
        );
    }

    #[test]
    fn what_would_not_be_done_is_refused() {
        let error = request(&["--allow-wasi", "--init-func", "begin", "--preload=x"]).unwrap_err().to_string();
        assert!(error.contains("--preload=x is not known"), "{error}");
        assert!(request(&USUAL).unwrap_err().to_string().contains("there is no module"));
    }
}
