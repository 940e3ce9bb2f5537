//! Closing a connection so that the client reads the last answer.

use std::io;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::forward::discard;
use crate::handshake::Stream;

/// Longest time that the end of a connection takes.
pub(super) const TIME: Duration = discard::TIME;

/// The state of the client's input at the end of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Input {
    /// Everything that the client has sent was read.
    Read,
    /// An upload, bytes that are not HTTP, or requests behind the last answered one are unread.
    Unread,
}

/// Ends TLS and TCP in order. If input is unread, the client gets time to read the answer first.
pub(super) async fn close(mut stream: Stream, input: Input) {
    let closing = async {
        let _ = stream.shutdown().await;
        if input == Input::Unread {
            let _ = discard_input(stream.socket_mut()).await;
        }
    };
    let _ = timeout(TIME, closing).await;
}

/// Reads and discards what the client still sends, within bounds: closing a socket with unread bytes resets the connection,
/// and the client loses the answer with it.
pub(super) async fn discard_input(socket: &mut TcpStream) -> io::Result<()> {
    let mut buffer = [0; 4096];
    let mut left = discard::BYTES;
    while left > 0 {
        match socket.read(&mut buffer).await? {
            0 => break,
            read => left = left.saturating_sub(read as u64),
        }
    }
    Ok(())
}
