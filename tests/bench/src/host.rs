//! A host with plugins, as its users run it: the binary that was built beside this one.

use std::{
    ffi::OsStr,
    io::{Read, Write},
    net::TcpStream,
    ops::Deref,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use anyhow::{Context, bail, ensure};
use serde::Deserialize;

use crate::process::Process;

/// A running host.
pub(crate) struct Host {
    process: Process,
    /// Of its health and metrics.
    health: String,
}

/// What it says when it is ready.
#[derive(Deserialize)]
struct Ready {
    health: String,
}

impl Host {
    /// Starts it on a relay, and waits until it and its plugins are ready.
    pub(crate) fn start<S: AsRef<OsStr>>(
        home: &Path,
        relay: &str,
        arguments: impl IntoIterator<Item = S>,
    ) -> anyhow::Result<Self> {
        let binary = std::env::current_exe()?.with_file_name("macula-host");
        if !binary.is_file() {
            bail!("{} is not there; build it with: cargo build --release -p macula-host", binary.display());
        }
        let mut run = Command::new(binary);
        run.arg("run").args(arguments).args(["--relay", relay, "--health", "127.0.0.1:0", "--json"]);
        let mut process = Process::spawn(run.env("MACULA_HOME", home).env("RUST_LOG", "error"))?;
        let Ready { health } = process.hear().context("the host")?;
        Ok(Self { process, health })
    }

    /// The sum of a metric over all plugins.
    pub(crate) fn metric(&self, name: &str) -> anyhow::Result<f64> {
        let address = self.health.strip_prefix("http://").context("an address")?;
        let mut connection = TcpStream::connect(address)?;
        write!(connection, "GET /metrics HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n")?;
        let mut page = String::new();
        connection.read_to_string(&mut page)?;
        let is_it = |line: &&str| line.strip_prefix(name).is_some_and(|rest| rest.starts_with(['{', ' ']));
        page.lines().filter(is_it).map(|line| Ok(line.rsplit(' ').next().unwrap_or_default().parse::<f64>()?)).sum()
    }

    /// Waits until a metric has this sum.
    pub(crate) fn wait_until(&self, name: &str, value: f64, patience: Duration) -> anyhow::Result<()> {
        let pause = Duration::from_millis(500);
        for _ in 0..patience.as_millis() / pause.as_millis() {
            if self.metric(name)? == value {
                return Ok(());
            }
            std::thread::sleep(pause);
        }
        let is = self.metric(name)?;
        ensure!(is == value, "{name} is {is}, and not {value}");
        Ok(())
    }
}

impl Deref for Host {
    type Target = Process;

    fn deref(&self) -> &Process {
        &self.process
    }
}

/// A built example.
pub(crate) fn prebuilt(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("../../examples/prebuilt/{name}.wasm"))
}
