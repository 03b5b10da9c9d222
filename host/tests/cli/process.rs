//! Starting, talking to, and ending processes of the binary.

use std::{
    io::{BufRead, BufReader, Read, Write},
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    sync::mpsc::{self, Receiver},
    thread,
    time::Duration,
};

use serde_json::Value;

/// Longest wait for something that is expected. Generous: test machines are slow and shared, and a first build of a plugin in Rust
/// compiles its SDK as well.
pub(crate) const PATIENCE: Duration = Duration::from_secs(300);

/// An empty `MACULA_HOME`, removed at the end.
pub(crate) struct Home {
    folder: tempfile::TempDir,
    /// Of all its processes.
    environment: Vec<(&'static str, PathBuf)>,
}

impl Home {
    pub(crate) fn new() -> Self {
        Self::with_environment(&[])
    }

    /// One whose processes have these variables.
    pub(crate) fn with_environment(environment: &[(&'static str, PathBuf)]) -> Self {
        Self { folder: tempfile::tempdir().unwrap(), environment: environment.to_vec() }
    }

    pub(crate) fn path(&self) -> &Path {
        self.folder.path()
    }

    /// The binary with these arguments, in this home and nothing else of the environment's settings.
    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_macula-host"));
        command.args(arguments).env("MACULA_HOME", self.path()).current_dir(project());
        for name in ["MACULA_NODE", "MACULA_QUIC_PORT", "MACULA_REALM", "HEALTH_PORT", "MACULA_TLS_MODE", "RUST_LOG"] {
            command.env_remove(name);
        }
        command.envs(self.environment.iter().map(|(name, value)| (*name, value)));
        command
    }

    /// Runs to the end.
    pub(crate) fn output(&self, arguments: &[&str]) -> Finished {
        Finished::of(&self.command(arguments).stdin(Stdio::null()).output().unwrap())
    }

    /// Runs to the end with `input` as standard input.
    pub(crate) fn output_with(&self, arguments: &[&str], input: &[u8]) -> Finished {
        let mut child = self
            .command(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut pipe = child.stdin.take().unwrap();
        let input = input.to_vec();
        // A process that refuses its arguments does not read its input.
        let writer = thread::spawn(move || drop(pipe.write_all(&input)));
        let output = child.wait_with_output().unwrap();
        writer.join().unwrap();
        Finished::of(&output)
    }

    /// Starts `run` or `relay` on ports of the system's choice, and waits until it is ready.
    pub(crate) fn node(&self, arguments: &[&str]) -> Node {
        let mut all = arguments.to_vec();
        if !arguments.contains(&"--relay") && !arguments.contains(&"--listen") {
            all.extend(["--listen", "127.0.0.1:0"]);
        }
        all.extend(["--health", "127.0.0.1:0", "--json"]);
        let mut process = Process::start(self.command(&all));
        let ready = process.line();
        let ready: Value = serde_json::from_str(&ready).unwrap_or_else(|_| panic!("{ready:?}: {}", process.log()));
        assert_eq!(ready["ready"], true);
        Node { process, ready }
    }

    /// Starts a subscriber and waits until the relay has its subscription.
    pub(crate) fn subscriber(&self, arguments: &[&str]) -> Process {
        let all: Vec<&str> = [&["subscribe"], arguments].concat();
        let mut process = Process::start(self.command(&all));
        process.note("subscribed");
        process
    }
}

/// The project's root.
pub(crate) fn project() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

/// A built example.
pub(crate) fn prebuilt(name: &str) -> String {
    project().join("examples/prebuilt").join(format!("{name}.wasm")).display().to_string()
}

/// What a process left behind.
#[derive(Debug)]
pub(crate) struct Finished {
    pub(crate) code: Option<i32>,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl Finished {
    pub(crate) fn of(output: &Output) -> Self {
        Self {
            code: output.status.code(),
            out: String::from_utf8_lossy(&output.stdout).into_owned(),
            err: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }

    #[track_caller]
    pub(crate) fn succeeded(self) -> String {
        assert_eq!(self.code, Some(0), "{}{}", self.out, self.err);
        self.out
    }

    /// Ended with this code and one clear sentence that contains `what`.
    #[track_caller]
    pub(crate) fn failed(self, code: i32, what: &str) {
        assert_eq!(self.code, Some(code), "{}{}", self.out, self.err);
        assert!(self.err.contains(what), "{what:?} is not said in: {}", self.err);
        assert!(!self.err.contains("panicked"), "{}", self.err);
    }
}

/// A running process; killed when dropped.
pub(crate) struct Process {
    child: Child,
    lines: Receiver<String>,
    notes: Receiver<String>,
    log: Vec<String>,
}

impl Process {
    pub(crate) fn start(mut command: Command) -> Self {
        // A group of its own, so that what a shell has started ends with it.
        command.process_group(0).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let lines = lines_of(child.stdout.take().unwrap());
        let notes = lines_of(child.stderr.take().unwrap());
        Self { child, lines, notes, log: Vec::new() }
    }

    /// The next line of standard output.
    #[track_caller]
    pub(crate) fn line(&mut self) -> String {
        self.lines.recv_timeout(PATIENCE).unwrap_or_else(|error| panic!("no line: {error}; {}", self.log()))
    }

    /// Waits for a line of standard error that contains `what`.
    #[track_caller]
    pub(crate) fn note(&mut self, what: &str) -> String {
        loop {
            match self.notes.recv_timeout(PATIENCE) {
                Ok(note) => {
                    self.log.push(note.clone());
                    if note.contains(what) {
                        return note;
                    }
                }
                Err(error) => panic!("{what:?} was not noted: {error}; {}", self.log()),
            }
        }
    }

    /// What standard error has said so far.
    pub(crate) fn log(&mut self) -> String {
        self.log.extend(self.notes.try_iter());
        self.log.join("\n")
    }

    pub(crate) fn signal(&self, signal: &str) {
        assert!(Command::new("kill").args([signal, &self.child.id().to_string()]).status().unwrap().success());
    }

    /// Waits for the end.
    pub(crate) fn wait(mut self) -> Finished {
        let code = self.child.wait().unwrap().code();
        let out: Vec<String> = self.lines.iter().collect();
        let err: Vec<String> = std::mem::take(&mut self.log).into_iter().chain(self.notes.iter()).collect();
        Finished { code, out: out.join("\n"), err: err.join("\n") }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let group = format!("-{}", self.child.id());
        let _ = Command::new("kill").args(["-KILL", "--", &group]).stderr(Stdio::null()).status();
        let _ = self.child.wait();
    }
}

fn lines_of(pipe: impl Read + Send + 'static) -> Receiver<String> {
    let (sender, lines) = mpsc::channel();
    thread::spawn(move || {
        for line in BufReader::new(pipe).lines().map_while(Result::ok) {
            if sender.send(line).is_err() {
                return;
            }
        }
    });
    lines
}

/// A running node.
pub(crate) struct Node {
    pub(crate) process: Process,
    pub(crate) ready: Value,
}

impl Node {
    /// Address of its relay, with its id.
    pub(crate) fn relay(&self) -> String {
        self.ready["relay"].as_str().unwrap().to_owned()
    }

    /// Port of its relay.
    pub(crate) fn port(&self) -> u16 {
        let relay = self.relay();
        let (address, _) = relay.split_once('#').unwrap();
        address.rsplit_once(':').unwrap().1.parse().unwrap()
    }

    /// The body of a page of its health port, after the head.
    pub(crate) fn page(&self, path: &str, host: &str) -> (String, String) {
        let address = self.ready["health"].as_str().unwrap().strip_prefix("http://").unwrap();
        let mut connection = std::net::TcpStream::connect(address).unwrap();
        write!(connection, "GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n").unwrap();
        let mut answer = String::new();
        connection.read_to_string(&mut answer).unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        (head.lines().next().unwrap().to_owned(), body.to_owned())
    }

    /// Asks it to stop, and waits: it drains and ends in peace.
    #[track_caller]
    pub(crate) fn stop(self) {
        self.process.signal("-TERM");
        let finished = self.process.wait();
        assert_eq!(finished.code, Some(0), "{}", finished.err);
    }
}
