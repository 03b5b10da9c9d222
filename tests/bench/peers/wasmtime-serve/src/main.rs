//! Starts `wasmtime serve` with a component that gives back what it gets, sends it requests of 128 bytes over one
//! connection and over 64, and prints requests a second, their latency, and the server's processor time for each.

use std::{
    fs,
    net::{Ipv4Addr, SocketAddr},
    process::Stdio,
    time::{Duration, Instant},
};

use anyhow::{Context, ensure};
use bytes::Bytes;
use futures::future::try_join_all;
use hdrhistogram::Histogram;
use http_body_util::{BodyExt, Full};
use hyper::{Request, client::conn::http1};
use hyper_util::rt::TokioIo;
use tokio::{net::TcpStream, process::Command};

const USAGE: &str = "usage: wasmtime-serve-peer WASMTIME COMPONENT [FLAG OF SERVE]...";

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    let mut arguments = std::env::args_os().skip(1);
    let (wasmtime, component) = (arguments.next().context(USAGE)?, arguments.next().context(USAGE)?);
    let address = free_address()?;
    let mut serve = Command::new(wasmtime);
    serve.arg("serve").args(["--addr", &address.to_string()]).args(arguments).arg(component);
    let mut server = serve.stdout(Stdio::null()).stderr(Stdio::null()).kill_on_drop(true).spawn()?;
    let pid = server.id().context("it has ended")?;
    until_it_listens(address).await?;
    for (connections, requests) in [(1, 20_000), (64, 200_000)] {
        let before = cpu_seconds(pid)?;
        let begin = Instant::now();
        let each = requests / connections;
        let histograms = try_join_all((0..connections).map(|_| ask(address, each))).await?;
        let seconds = begin.elapsed().as_secs_f64();
        let done = (each * connections) as f64;
        let mut all = histogram()?;
        histograms.iter().try_for_each(|one| all.add(one))?;
        println!(
            "{connections} at once: {:.0} a second, p50 {:.0} µs, p99 {:.0} µs, {:.1} µs of the server's time each",
            done / seconds,
            all.value_at_quantile(0.5) as f64 / 1000.0,
            all.value_at_quantile(0.99) as f64 / 1000.0,
            (cpu_seconds(pid)? - before) * 1e6 / done,
        );
    }
    server.kill().await?;
    Ok(())
}

fn free_address() -> std::io::Result<SocketAddr> {
    std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()
}

async fn until_it_listens(address: SocketAddr) -> anyhow::Result<()> {
    let deadline = Instant::now() + Duration::from_secs(60);
    while TcpStream::connect(address).await.is_err() {
        ensure!(Instant::now() < deadline, "the server does not listen");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    Ok(())
}

fn histogram() -> anyhow::Result<Histogram<u64>> {
    Ok(Histogram::new_with_bounds(1, Duration::from_secs(10).as_nanos() as u64, 3)?)
}

/// So many requests, one after another.
async fn ask(address: SocketAddr, requests: usize) -> anyhow::Result<Histogram<u64>> {
    let stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    let connection = tokio::spawn(connection);
    let mut histogram = histogram()?;
    let body = Bytes::from_static(&[b'x'; 128]);
    for _ in 0..requests {
        let request = Request::post("/").header("host", address.to_string()).body(Full::new(body.clone()))?;
        let begin = Instant::now();
        let answer = sender.send_request(request).await?.into_body().collect().await?.to_bytes();
        histogram.saturating_record(begin.elapsed().as_nanos() as u64);
        ensure!(answer == body, "it gave back something else");
    }
    drop(sender);
    connection.await??;
    Ok(histogram)
}

/// Processor time of a process, in seconds; the system counts in hundredths.
fn cpu_seconds(pid: u32) -> anyhow::Result<f64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    let fields: Vec<&str> = stat.rsplit_once(')').context("stat")?.1.split_whitespace().collect();
    Ok((fields[11].parse::<f64>()? + fields[12].parse::<f64>()?) / 100.0)
}
