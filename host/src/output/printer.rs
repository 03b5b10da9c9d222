//! Results that come one after another, for as long as somebody reads them.
//!
//! A thread of its own writes them, so that whoever prints can wait for a slow reader and for everything else at the same
//! time: the end of the command, a signal, the link. Lines that wait are bounded; who prints then waits, and the subscription
//! behind it holds back its source.

use std::{
    fmt::Display,
    io::{self, Write},
    thread::{self, JoinHandle},
};

use serde::Serialize;
use tokio::sync::mpsc;

/// Lines that wait for the thread. It takes what there is at once, so that many short lines cost one write.
const LINES_WAITING: usize = 256;

/// Prints lines in order. Dropping it leaves lines unwritten that wait; [`finish`](Self::finish) does not.
#[derive(Debug)]
pub(crate) struct Printer {
    lines: mpsc::Sender<String>,
    writing: JoinHandle<io::Result<()>>,
}

/// Nobody reads any more, or the lines cannot be written: [`Printer::finish`] tells which.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Unread;

impl Printer {
    /// Prints to standard output.
    pub(crate) fn to_stdout() -> io::Result<Self> {
        Self::to(io::stdout())
    }

    fn to(out: impl Write + Send + 'static) -> io::Result<Self> {
        let (lines, waiting) = mpsc::channel(LINES_WAITING);
        let writing = thread::Builder::new().name("macula-output".into()).spawn(move || write(out, waiting))?;
        Ok(Self { lines, writing })
    }

    /// Hands over a line; waits while many wait. Dropping the future prints nothing of it.
    pub(crate) async fn line(&self, text: impl Display) -> Result<(), Unread> {
        self.lines.send(text.to_string()).await.map_err(|_| Unread)
    }

    /// Hands over a value as one line of JSON.
    pub(crate) async fn json(&self, value: &impl Serialize) -> Result<(), Unread> {
        self.line(serde_json::to_string(value).expect("results are plain data")).await
    }

    /// Waits until lines can be written no more: whoever read them is gone, or the disk is full.
    pub(crate) async fn unread(&self) {
        self.lines.closed().await;
    }

    /// Waits until all lines are written, or cannot be.
    pub(crate) async fn finish(self) -> io::Result<()> {
        drop(self.lines);
        let (done, written) = tokio::sync::oneshot::channel();
        let writing = self.writing;
        // A thread that may wait for ever is none of the runtime's, which waits for its own when it ends.
        thread::spawn(move || done.send(writing.join()));
        match written.await {
            Ok(Ok(outcome)) => outcome,
            _ => Err(io::Error::other("the thread that writes has panicked")),
        }
    }
}

fn write(mut out: impl Write, mut waiting: mpsc::Receiver<String>) -> io::Result<()> {
    let mut batch = Vec::new();
    while waiting.blocking_recv_many(&mut batch, LINES_WAITING) > 0 {
        let mut text = String::new();
        for line in batch.drain(..) {
            text.push_str(&line);
            text.push('\n');
        }
        // What was written is to be seen now, also behind a pipe.
        out.write_all(text.as_bytes()).and_then(|()| out.flush())?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::{
        io::Read,
        os::unix::net::UnixStream,
        sync::{Arc, Mutex},
    };

    use super::*;

    #[derive(Clone, Default)]
    struct Kept(Arc<Mutex<Vec<u8>>>);

    impl Write for Kept {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[tokio::test]
    async fn all_lines_are_written_before_the_end() {
        let kept = Kept::default();
        let printer = Printer::to(kept.clone()).unwrap();
        let mut expected = String::new();
        for n in 0..3 * LINES_WAITING {
            printer.line(n).await.unwrap();
            expected.push_str(&format!("{n}\n"));
        }
        printer.finish().await.unwrap();
        assert_eq!(*kept.0.lock().unwrap(), expected.as_bytes());
    }

    /// Goal: a reader that reads nothing stops who prints, and nothing else; when it reads again, nothing is missing.
    #[tokio::test]
    async fn a_stalled_reader_holds_back_and_loses_nothing() {
        let (out, mut reader) = UnixStream::pair().unwrap();
        let printer = Printer::to(out).unwrap();
        let long = "x".repeat(4096);
        let mut printed = 0;
        // A pipe and the queue are full some time; then the future waits.
        while let Some(outcome) = futures_now(printer.line(&long)) {
            outcome.unwrap();
            printed += 1;
            tokio::task::yield_now().await;
        }
        let reading = thread::spawn(move || {
            let mut text = String::new();
            reader.read_to_string(&mut text).map(|_| text.lines().count()).unwrap()
        });
        printer.line(&long).await.unwrap();
        printer.finish().await.unwrap();
        assert_eq!(reading.join().unwrap(), printed + 1);
    }

    #[tokio::test]
    async fn a_reader_that_has_gone_is_noticed() {
        let (out, reader) = UnixStream::pair().unwrap();
        drop(reader);
        let printer = Printer::to(out).unwrap();
        printer.line("x").await.unwrap();
        printer.unread().await;
        assert_eq!(printer.line("x").await, Err(Unread));
        assert_eq!(printer.finish().await.unwrap_err().kind(), io::ErrorKind::BrokenPipe);
    }

    fn futures_now<T>(future: impl Future<Output = T>) -> Option<T> {
        let mut future = std::pin::pin!(future);
        let waker = std::task::Waker::noop();
        match future.as_mut().poll(&mut std::task::Context::from_waker(waker)) {
            std::task::Poll::Ready(value) => Some(value),
            std::task::Poll::Pending => None,
        }
    }
}
