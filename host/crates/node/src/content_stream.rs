//! Heads of streams for content, at hosts and relays alike.

use std::time::Duration;

use bytes::Bytes;
use macula_content::{HeadError, head::HEAD_BYTES_MAX};
use macula_transport::{StreamError, StreamReader, StreamWriter};
use tokio::time::timeout;

/// How long a head may take.
pub(crate) const HEAD_TIMEOUT: Duration = Duration::from_secs(10);

/// Why there is no head. The stream is given up.
#[derive(Debug, thiserror::Error)]
pub(crate) enum HeadReadError {
    #[error(transparent)]
    Head(#[from] HeadError),
    #[error(transparent)]
    Stream(#[from] StreamError),
    #[error("the stream ended before its head")]
    Cut,
    #[error("the head did not come in time")]
    Slow,
}

/// Reads a head: it, and what has come behind it.
pub(crate) async fn read_head<T>(
    reader: &mut StreamReader,
    decode: impl Fn(&[u8]) -> Result<Option<(T, usize)>, HeadError>,
) -> Result<(T, Bytes), HeadReadError> {
    let read = async {
        let mut head: Vec<u8> = Vec::new();
        while let Some(piece) = reader.read(HEAD_BYTES_MAX).await? {
            head.extend_from_slice(&piece);
            if let Some((decoded, used)) = decode(&head)? {
                return Ok((decoded, Bytes::from(head).slice(used..)));
            }
        }
        Err(HeadReadError::Cut)
    };
    timeout(HEAD_TIMEOUT, read).await.unwrap_or(Err(HeadReadError::Slow))
}

/// Writes a head, and nothing after it.
pub(crate) async fn write_last_head(
    mut writer: StreamWriter,
    encode: impl Fn(&mut Vec<u8>) -> Result<(), HeadError>,
) -> Result<(), HeadReadError> {
    let mut head = Vec::new();
    encode(&mut head)?;
    timeout(HEAD_TIMEOUT, writer.write(head.into())).await.unwrap_or(Err(StreamError::GivenUp))?;
    writer.finish();
    Ok(())
}
