//! Closing a connection so that the client reads the last answer.

use std::future::poll_fn;
use std::io;
use std::task::Poll;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};

use crate::forward::discard::{BURST, Discard, PAUSE};
use crate::handshake::Stream;
use crate::stop::{Order, StopSignal};

/// Longest time that the end of a connection takes whose client has nothing more to send, or that a stopping server waits for.
pub(super) const TIME: Duration = Duration::from_secs(1);
/// Time without a byte after which a client has probably sent everything: it may wait for the end of this side.
const QUIET: Duration = Duration::from_millis(200);
/// Time without a byte after which no more is waited for.
const SILENCE: Duration = Duration::from_secs(2);
/// Most bytes that are discarded of a client that speaks no TLS.
const PLAIN_BYTES: u64 = 64 * 1024;

/// The state of the client's input at the end of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Input {
    /// Everything that the client has sent was read.
    Read,
    /// Bytes that are not HTTP, or requests behind the last answered one, are unread.
    Unread,
    /// An upload is unread, and probably goes on.
    Upload,
}

/// Ends TLS and TCP in order. If input is unread, it is read and discarded first, and only then is the connection closed: a
/// socket that is closed with unread bytes is reset, and the client loses the answer with it. Some clients also give their
/// upload up, and the answer with it, as soon as the end of TLS comes.
pub(super) async fn close(mut stream: Stream, input: Input, discard: Discard, stop: &StopSignal) {
    let (time, mut left) = match input {
        Input::Read => (TIME, 0),
        Input::Unread | Input::Upload => (discard.time, discard.bytes),
    };
    let closing = async {
        stream.flush().await?;
        let is_open = input != Input::Upload || discard_input(stream.socket_mut(), &mut left, QUIET).await?;
        stream.shutdown().await?;
        if is_open {
            discard_input(stream.socket_mut(), &mut left, SILENCE).await?;
        }
        io::Result::Ok(())
    };
    let stopping = async {
        ordered(stop, Order::Finish).await;
        let _ = timeout(TIME, ordered(stop, Order::Close)).await;
    };
    tokio::select! {
        _ = timeout(time, closing) => {}
        () = stopping => {}
    }
}

/// Waits for an order to the connection.
async fn ordered(stop: &StopSignal, order: Order) {
    poll_fn(|cx| {
        stop.set_waker(cx.waker());
        if stop.includes(order) { Poll::Ready(()) } else { Poll::Pending }
    })
    .await;
}

/// Reads and discards what a client of plain HTTP still sends, within small bounds.
pub(super) async fn discard_plain(socket: &mut TcpStream) -> io::Result<bool> {
    discard_input(socket, &mut PLAIN_BYTES.clone(), TIME).await
}

/// Reads and discards what the client still sends, until nothing has come for a while or nothing is left of the budget.
/// Returns `true` if the client has not ended its side.
async fn discard_input(socket: &mut TcpStream, left: &mut u64, silence: Duration) -> io::Result<bool> {
    let mut buffer = vec![0; if *left == 0 { 0 } else { 16 * 1024 }];
    let mut burst = BURST;
    while *left > 0 {
        let read = match timeout(silence, socket.read(&mut buffer)).await {
            Ok(read) => read? as u64,
            Err(_silent) => return Ok(true),
        };
        if read == 0 {
            return Ok(false);
        }
        *left = left.saturating_sub(read);
        match burst.checked_sub(read) {
            Some(rest) => burst = rest,
            None => {
                sleep(PAUSE).await;
                burst = BURST;
            }
        }
    }
    Ok(true)
}
