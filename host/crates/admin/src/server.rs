//! The HTTP server.

use std::{
    io,
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use axum::{
    Json, Router,
    extract::{Request, State},
    http::{StatusCode, header},
    middleware::{self, Next},
    response::{IntoResponse, Response},
    routing::get,
};
use serde::Serialize;
use tokio::{net::TcpListener, sync::watch, task::JoinHandle};

use crate::{Check, Source, connections::Connections, metrics};

/// A running server. Dropping it leaves it running until its runtime ends; see [`AdminServer::stop`].
#[derive(Debug)]
pub struct AdminServer {
    address: SocketAddr,
    stop: watch::Sender<bool>,
    task: JoinHandle<()>,
}

/// Why the port could not be opened.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen on {address} (TCP): {error}")]
pub struct BindError {
    /// Where.
    pub address: SocketAddr,
    /// Why.
    pub error: io::Error,
}

#[derive(Clone)]
struct Served {
    source: Arc<dyn Source>,
    address: SocketAddr,
}

/// The body of `/health` and `/ready`.
#[derive(Serialize)]
struct Report {
    status: &'static str,
    checks: Vec<Check>,
}

impl AdminServer {
    /// Opens the port and serves; `:0` picks one. Must be called within a tokio runtime.
    ///
    /// # Errors
    /// See [`BindError`]; nothing is left open.
    pub fn start(address: SocketAddr, source: Arc<dyn Source>) -> Result<Self, BindError> {
        let refused = |error| BindError { address, error };
        let listener = std::net::TcpListener::bind(address).map_err(refused)?;
        listener.set_nonblocking(true).map_err(refused)?;
        let address = listener.local_addr().map_err(refused)?;
        let listener = TcpListener::from_std(listener).map_err(refused)?;
        let served = Served { source, address };
        let (stop, mut stopping) = watch::channel(false);
        let serve = axum::serve(Connections::new(listener), router(served)).with_graceful_shutdown(async move {
            // An error means that the handle is gone, which is no reason to stop.
            if stopping.wait_for(|stop| *stop).await.is_err() {
                std::future::pending::<()>().await;
            }
        });
        let task = tokio::spawn(async move {
            if let Err(error) = serve.await {
                tracing::error!(%error, "health and metrics are no longer served");
            }
        });
        Ok(Self { address, stop, task })
    }

    /// What was bound.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Takes no further requests. Requests under way are not waited for: they are answered from memory.
    pub async fn stop(self) {
        let _ = self.stop.send(true);
        self.task.abort();
        let _ = self.task.await;
    }
}

fn router(served: Served) -> Router {
    Router::new()
        .route("/live", get(|| async { "live\n" }))
        .route("/ready", get(ready))
        .route("/health", get(health))
        .route("/metrics", get(metrics_text))
        .layer(middleware::from_fn_with_state(served.clone(), only_for_this_host))
        .with_state(served)
}

/// 200 when everything is well, 503 otherwise: for load balancers and supervisors.
async fn ready(State(served): State<Served>) -> Response {
    let checks = served.source.checks();
    let ok = checks.iter().all(|check| check.ok);
    let report = Report { status: if ok { "ready" } else { "not ready" }, checks };
    let code = if ok { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (code, Json(report)).into_response()
}

/// As `/ready`, in words for people; 200 as long as the process can answer.
async fn health(State(served): State<Served>) -> Json<Report> {
    let checks = served.source.checks();
    let status = if checks.iter().all(|check| check.ok) { "healthy" } else { "degraded" };
    Json(Report { status, checks })
}

async fn metrics_text(State(served): State<Served>) -> Response {
    match metrics::text(served.source.metrics()) {
        Ok(text) => ([(header::CONTENT_TYPE, "application/openmetrics-text; version=1.0.0; charset=utf-8")], text)
            .into_response(),
        Err(_) => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    }
}

async fn only_for_this_host(State(served): State<Served>, request: Request, next: Next) -> Response {
    let host = request.headers().get(header::HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
    if is_this_host(host, served.address.ip()) {
        next.run(request).await
    } else {
        (StatusCode::MISDIRECTED_REQUEST, "this server answers to its own address and to localhost only\n")
            .into_response()
    }
}

/// Whether a `Host` header names this server by address, or as localhost. On an address that stands for all, any
/// address will do, but no name.
fn is_this_host(host: &str, bound: IpAddr) -> bool {
    let name = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|b| b.is_ascii_digit()) && !name.ends_with(':') => name,
        _ => host,
    };
    let name = name.trim_start_matches('[').trim_end_matches(']');
    if name.eq_ignore_ascii_case("localhost") {
        return true;
    }
    name.parse::<IpAddr>()
        .is_ok_and(|ip| ip == bound || bound.is_unspecified() || (bound.is_loopback() && ip.is_loopback()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_other_machines_are_refused() {
        let loopback: IpAddr = [127, 0, 0, 1].into();
        for good in ["localhost", "localhost:8080", "127.0.0.1:8080", "127.0.0.1", "[::1]:8080"] {
            assert!(is_this_host(good, loopback), "{good}");
        }
        for bad in
            ["", "evil.example", "evil.example:8080", "localhost.evil.example", "10.0.0.1", "127.0.0.1.evil.example:80"]
        {
            assert!(!is_this_host(bad, loopback), "{bad}");
        }
        let any: IpAddr = [0, 0, 0, 0].into();
        assert!(is_this_host("192.0.2.7:8080", any) && !is_this_host("evil.example", any));
    }
}
