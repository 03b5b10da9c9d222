//! Files that people name: of odd kinds and sizes, in odd places, and several processes at one of them.

use std::{
    fs::{self, File, Permissions},
    io::{Read, Write},
    os::unix::fs::{MetadataExt, PermissionsExt, symlink},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    thread,
};

use crate::process::{Home, Process, prebuilt, project};

/// Makes a FIFO.
fn fifo(path: &Path) -> PathBuf {
    assert!(Command::new("mkfifo").arg(path).status().unwrap().success());
    path.to_owned()
}

/// A regular file of this size that takes no room.
fn sparse(path: &Path, bytes: u64) -> PathBuf {
    File::create(path).unwrap().set_len(bytes).unwrap();
    path.to_owned()
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// Goal: whatever file is named to a command that reads one, it is refused at once, by what it is. Each command runs with 400 MB of
/// address space beyond what it has when it begins: nothing is read without a bound.
#[test]
fn odd_files_for_input_are_refused_by_what_they_are() {
    let home = Home::new();
    let at = |name: &str| home.path().join(name);
    let fifo = fifo(&at("fifo"));
    let large = sparse(&at("large.wasm"), 6 << 30);
    symlink("round", at("round")).unwrap();
    symlink(&fifo, at("link.wasm")).unwrap();
    let odd = [
        (Path::new("/dev/zero").to_owned(), "it is a device; a regular file is needed"),
        (fifo, "it is a FIFO (named pipe); a regular file is needed"),
        (at("link.wasm"), "it is a FIFO (named pipe); a regular file is needed"),
        (at("round"), "its symbolic links lead in a circle"),
        (large.clone(), "it has more than 128 MiB"),
    ];
    for (file, why) in &odd {
        for verb in [&["inspect"][..], &["inspect", "--wit"], &["deploy", "demo/a"], &["test"], &["run"]] {
            let arguments = [verb, &[text(file)]].concat();
            let arguments = if verb == ["run"] {
                [&arguments[..], &["--listen", "127.0.0.1:0", "--health", "127.0.0.1:0"]].concat()
            } else {
                arguments
            };
            home.output(&arguments).failed(1, why);
        }
    }
    let calculator = prebuilt("calculator");
    let manifest = sparse(&at("manifest.toml"), 200 << 20);
    let run = ["run", &calculator, "--listen", "127.0.0.1:0", "--health", "127.0.0.1:0"];
    home.output(&[&run[..], &["--manifest", text(&manifest)]].concat()).failed(1, "it has more than 64 KiB");
    for (file, why) in odd.iter().filter(|(file, _)| *file != large) {
        home.output(&[&run[..], &["--manifest", text(file)]].concat()).failed(1, why);
        home.output(&["status", "--config", text(file)]).failed(1, why);
        home.output(&["token", "verify", text(file)]).failed(1, why);
        let scenario = ["test", &calculator, "--scenario", text(file)];
        home.output(&scenario).failed(1, why);
    }
    home.output(&["status", "--config", text(&large)]).failed(1, "it has more than 1 MiB");
    let project = at("project");
    fs::create_dir(&project).unwrap();
    fs::write(project.join("go.mod"), "module a\n").unwrap();
    symlink(at("fifo"), project.join("macula.toml")).unwrap();
    home.output(&["build", text(&project)]).failed(2, "it is a FIFO (named pipe); a regular file is needed");
    symlink(at("fifo"), home.path().join("realms/io.example.pin")).unwrap();
    assert!(home.output(&["realm", "list", "-v"]).err.contains("it is a FIFO"), "a pin is left out, and said");
}

/// Goal: content goes where it was told, whatever is there: links are followed, modes kept, devices and FIFOs written to.
#[test]
fn content_goes_to_the_place_that_was_named() {
    let home = Home::new();
    let node = home.node(&["run"]);
    let bytes = vec![b'x'; 300_000];
    let mcid = home.output_with(&["content", "add", "-"], &bytes).succeeded().trim().to_owned();
    let at = |name: &str| home.path().join("out").join(name);
    fs::create_dir(home.path().join("out")).unwrap();
    let get = |path: &Path| home.output(&["content", "get", &mcid, "-o", text(path)]);
    // A program keeps its mode, and what a link leads to is replaced, not the link.
    fs::write(at("program"), "old").unwrap();
    fs::set_permissions(at("program"), Permissions::from_mode(0o755)).unwrap();
    symlink("program", at("link")).unwrap();
    get(&at("link")).succeeded();
    assert!(at("link").is_symlink() && fs::read(at("program")).unwrap() == bytes);
    assert_eq!(fs::metadata(at("program")).unwrap().mode() & 0o777, 0o755);
    // Devices and FIFOs.
    get(Path::new("/dev/null")).succeeded();
    get(Path::new("/dev/full")).failed(1, "No space left");
    assert_ne!(fs::metadata("/dev/null").unwrap().rdev(), 0, "it is a device still");
    let fifo = fifo(&at("fifo"));
    let reader = thread::spawn({
        let fifo = fifo.clone();
        move || {
            let mut bytes = Vec::new();
            File::open(fifo).unwrap().read_to_end(&mut bytes).map(|_| bytes).unwrap()
        }
    });
    get(&fifo).succeeded();
    assert!(reader.join().unwrap() == bytes);
    assert!(home.output(&["content", "get", &mcid, "--output", "/dev/stdout"]).succeeded().len() == bytes.len());
    // A folder is refused before anything is fetched.
    fs::create_dir(at("folder")).unwrap();
    get(&at("folder")).failed(2, "it is a folder");
    let mut left: Vec<String> =
        fs::read_dir(home.path().join("out")).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    left.sort();
    assert_eq!(left, ["fifo", "folder", "link", "program"], "no drafts are left");
    // Whoever takes the first bytes and goes is no failure.
    let mut reading = home.command(&["content", "get", &mcid]).stdout(Stdio::piped()).spawn().unwrap();
    reading.stdout.take().unwrap().read_exact(&mut [0; 10]).unwrap();
    assert!(reading.wait().unwrap().success());
    node.stop();
}

/// Goal: two that fetch to one place do not meet, also when one of them is killed: the place holds one of the contents, whole.
#[test]
fn two_that_fetch_to_one_place_do_not_meet() {
    let home = Home::new();
    let node = home.node(&["run"]);
    let contents: Vec<Vec<u8>> = [(b'a', 3_000_000), (b'b', 500_000)].map(|(byte, size)| vec![byte; size]).into();
    let ids: Vec<String> = contents
        .iter()
        .map(|bytes| home.output_with(&["content", "add", "-"], bytes).succeeded().trim().to_owned())
        .collect();
    let unknown = "bafkr4iaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";
    let target = home.path().join("target");
    // One that is under way, with nothing to put there yet, and is killed then.
    let mut waiting = Process::start(home.command(&["content", "get", unknown, "-o", text(&target), "--json"]));
    waiting.line();
    let both: Vec<_> =
        ids.iter().map(|id| home.command(&["content", "get", id, "-o", text(&target)]).spawn().unwrap()).collect();
    waiting.signal("-KILL");
    for mut getting in both {
        assert!(getting.wait().unwrap().success());
    }
    let got = fs::read(&target).unwrap();
    assert!(contents.contains(&got), "{} bytes, the first {:?}", got.len(), got.first());
    node.stop();
}

/// Goal: a file that becomes another while it is stored is said to have, and nothing of it stays behind.
#[test]
fn a_file_that_changes_while_it_is_stored_is_said_to() {
    let home = Home::new();
    let node = home.node(&["run"]);
    // What is read from a file that shrinks is fetched only once it has shrunk: the node is stopped meanwhile.
    let path = home.path().join("changing");
    fs::write(&path, vec![1; 8_000_000]).unwrap();
    let (sending, changed) = std::sync::mpsc::channel();
    let changer = thread::spawn({
        let path = path.clone();
        move || {
            let mut byte = 0_u8;
            while changed.try_recv().is_err() {
                byte = byte.wrapping_add(1);
                let mut file = File::options().write(true).open(&path).unwrap();
                file.write_all(&vec![byte; 8_000_000]).unwrap();
            }
        }
    });
    let output = home.output(&["content", "add", text(&path)]);
    sending.send(()).unwrap();
    changer.join().unwrap();
    output.failed(1, "changed while it was stored; nothing of it is kept");
    assert_eq!(home.output(&["content", "ls"]).succeeded(), "");
    node.stop();
}

/// Goal: what only reads needs no home, and a home that cannot be used is named with its variable.
#[test]
fn commands_that_only_read_need_no_home() {
    let home = Home::new();
    let nowhere = home.path().join("file");
    fs::write(&nowhere, "").unwrap();
    let nowhere = nowhere.join("home");
    let calculator = prebuilt("calculator");
    let example = project().join("examples/calculator/scenarios");
    let without_home = |arguments: &[&str]| {
        home.command(arguments).env("MACULA_HOME", &nowhere).stdin(Stdio::null()).output().unwrap()
    };
    let inspected = without_home(&["inspect", &calculator]);
    assert!(inspected.status.success(), "{}", String::from_utf8_lossy(&inspected.stderr));
    if example.is_dir() {
        let tested = without_home(&["test", &calculator, "--scenario", text(&example)]);
        assert!(tested.status.success(), "{}", String::from_utf8_lossy(&tested.stderr));
    }
    let verified = without_home(&["token", "verify", "/nowhere"]);
    assert_eq!(verified.status.code(), Some(4), "{}", String::from_utf8_lossy(&verified.stderr));
    let status = without_home(&["status"]);
    let err = String::from_utf8_lossy(&status.stderr).into_owned();
    assert!(err.contains("as MACULA_HOME") && err.contains("set MACULA_HOME to a folder"), "{err}");
}

/// Goal: what libraries cannot read is one sentence, also where they panic; a handler of another type is refused before it runs.
#[test]
fn odd_components_are_refused_in_one_sentence() {
    let home = Home::new();
    let file = |name: &str, text: &str| {
        let path = home.path().join(name);
        fs::write(&path, wat::parse_str(text).unwrap()).unwrap();
        path
    };
    let handler =
        r#"(component $c) (instance $i (instantiate $c)) (export "macula:plugin/message-handler@0.1.0" (instance $i))"#;
    let function = r#"(core module $m (func (export "f"))) (core instance $ci (instantiate $m)) (func $f (canon lift (core func $ci "f")))"#;
    let imports = file("imports.wasm", &format!(r#"(component (import "macula:plugin/log@0.1.0" (func)) {handler})"#));
    let exports = file("exports.wasm", &format!(r#"(component {function} (export "a:b/c" (func $f)) {handler})"#));
    for (path, name) in [(&imports, "macula:plugin/log@0.1.0"), (&exports, "a:b/c")] {
        home.output(&["inspect", text(path)]).failed(1, &format!("{name} is the name of an interface"));
        home.output(&["inspect", "--wit", text(path)]).failed(1, "is the name of an interface");
    }
    let module = file("module.wasm", "(module)");
    home.output(&["inspect", "--wit", text(&module)]).failed(1, "a core WebAssembly module, not a component");
    let wrong = file(
        "wrong.wasm",
        &format!(
            r#"(component {function} (component $c (import "x" (func $x)) (export "on-message" (func $x)))
            (instance $i (instantiate $c (with "x" (func $f)))) (export "macula:plugin/message-handler@0.1.0" (instance $i)))"#
        ),
    );
    for verb in [&["inspect"][..], &["run", "--listen", "127.0.0.1:0", "--health", "127.0.0.1:0"]] {
        let arguments = [verb, &[text(&wrong)]].concat();
        home.output(&arguments)
            .failed(1, "in message-handler's on-message: message (a record in the contract) is missing");
    }
    let named = home.path().join("line\nbreak.wasm");
    fs::write(&named, "x").unwrap();
    home.output(&["inspect", text(&named)]).failed(1, "no WebAssembly file");
}
