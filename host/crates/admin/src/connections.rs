//! Connections to the health port: few at a time, and none for long.
//!
//! Requests are short and answered from memory. So a connection is closed after [`LIFETIME`], whatever it is doing, and
//! beyond [`CONNECTIONS_MAX`] new ones wait in the kernel: nobody can use up the node's file descriptors through this
//! port.

use std::{
    io,
    net::SocketAddr,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore},
    time::{Sleep, sleep},
};

/// Connections at a time. Supervisors and a metrics collector need a handful.
const CONNECTIONS_MAX: usize = 64;
/// How long a connection may live, from accepting it to its last answer.
const LIFETIME: Duration = Duration::from_secs(10);

/// A listener that keeps to the bounds.
pub(crate) struct Connections {
    listener: TcpListener,
    permits: Arc<Semaphore>,
}

/// An accepted connection.
pub(crate) struct Connection {
    stream: TcpStream,
    end: Pin<Box<Sleep>>,
    _permit: OwnedSemaphorePermit,
}

impl Connections {
    pub(crate) fn new(listener: TcpListener) -> Self {
        Self { listener, permits: Arc::new(Semaphore::new(CONNECTIONS_MAX)) }
    }
}

impl axum::serve::Listener for Connections {
    type Io = Connection;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Connection, SocketAddr) {
        let permit = Arc::clone(&self.permits).acquire_owned().await.expect("the semaphore is never closed");
        let (stream, from) = axum::serve::Listener::accept(&mut self.listener).await;
        (Connection { stream, end: Box::pin(sleep(LIFETIME)), _permit: permit }, from)
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }
}

impl AsyncRead for Connection {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.end.as_mut().poll(cx).is_ready() {
            return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
        }
        Pin::new(&mut self.stream).poll_read(cx, buffer)
    }
}

impl AsyncWrite for Connection {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        if self.end.as_mut().poll(cx).is_ready() {
            return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
        }
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    /// Connections that say nothing do not keep others out for ever: time is virtual here.
    #[tokio::test(start_paused = true)]
    async fn silent_connections_are_closed_and_make_room() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let address = listener.local_addr().unwrap();
        let connections = Connections::new(TcpListener::from_std(listener).unwrap());
        let router = axum::Router::new().route("/live", axum::routing::get(|| async { "live" }));
        tokio::spawn(async move { axum::serve(connections, router).await });
        let silent: Vec<_> = (0..CONNECTIONS_MAX).map(|_| std::net::TcpStream::connect(address).unwrap()).collect();
        let mut asking = std::net::TcpStream::connect(address).unwrap();
        asking.write_all(b"GET /live HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").unwrap();
        asking.set_nonblocking(true).unwrap();
        let mut asking = TcpStream::from_std(asking).unwrap();
        let mut answer = String::new();
        tokio::io::AsyncReadExt::read_to_string(&mut asking, &mut answer).await.unwrap();
        assert!(answer.ends_with("live"), "{answer}");
        drop(silent);
    }
}
