//! Single HTTP/2 frames (RFC 9113), for connections that no library would produce.

use std::io::{self, Read, Write};
use std::net::SocketAddr;

use super::Client;
use super::backend::BackendConnection;
use super::http1::Wire;
use super::tls::Tls;

pub const DATA: u8 = 0;
pub const HEADERS: u8 = 1;
pub const PRIORITY: u8 = 2;
pub const RST_STREAM: u8 = 3;
pub const SETTINGS: u8 = 4;
pub const PUSH_PROMISE: u8 = 5;
pub const PING: u8 = 6;
pub const GOAWAY: u8 = 7;
pub const WINDOW_UPDATE: u8 = 8;
pub const CONTINUATION: u8 = 9;

/// Flag of SETTINGS and PING.
pub const ACK: u8 = 1;
/// Flag of DATA and HEADERS.
pub const END_STREAM: u8 = 1;
/// Flag of HEADERS and CONTINUATION.
pub const END_HEADERS: u8 = 4;
/// Flag of DATA and HEADERS.
pub const PADDED: u8 = 8;
/// Flag of HEADERS.
pub const WITH_PRIORITY: u8 = 0x20;

/// Error codes (RFC 9113 §7).
pub const PROTOCOL_ERROR: u32 = 1;
pub const INTERNAL_ERROR: u32 = 2;
pub const FLOW_CONTROL_ERROR: u32 = 3;
pub const STREAM_CLOSED: u32 = 5;
pub const FRAME_SIZE_ERROR: u32 = 6;
pub const REFUSED_STREAM: u32 = 7;
pub const CANCEL: u32 = 8;
pub const COMPRESSION_ERROR: u32 = 9;

/// Header fields: names and values.
pub type Fields<'f> = &'f [(&'f str, &'f str)];

pub const GET_EVENTS: Fields<'static> =
    &[(":method", "GET"), (":scheme", "https"), (":authority", "localhost"), (":path", "/events")];
pub const POST_EVENTS: Fields<'static> =
    &[(":method", "POST"), (":scheme", "https"), (":authority", "localhost"), (":path", "/events")];

/// Returns the bytes of a frame.
pub fn frame(kind: u8, flags: u8, stream: u32, payload: impl AsRef<[u8]>) -> Vec<u8> {
    let payload = payload.as_ref();
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

/// Returns a HEADERS frame with a complete header block.
pub fn headers(stream: u32, flags: u8, fields: &[(&str, &str)]) -> Vec<u8> {
    frame(HEADERS, flags | END_HEADERS, stream, block(fields))
}

/// Returns the pseudo-header fields of a request to `https://localhost`.
pub const fn pseudo_headers<'a>(method: &'a str, path: &'a str) -> [(&'static str, &'a str); 4] {
    [(":method", method), (":scheme", "https"), (":authority", "localhost"), (":path", path)]
}

/// Returns a request of one stream: a head, one DATA frame, and trailers.
pub fn request_with_trailers(
    stream: u32,
    head: &[(&str, &str)],
    data: &str,
    trailers: &[(&str, &str)],
) -> Vec<u8> {
    [headers(stream, 0, head), frame(DATA, 0, stream, data), headers(stream, END_STREAM, trailers)].concat()
}

/// Returns a header block without compression, which can contain any bytes.
pub fn block<N: AsRef<[u8]>, V: AsRef<[u8]>>(fields: &[(N, V)]) -> Vec<u8> {
    let mut block = Vec::new();
    for (name, value) in fields {
        block.push(0);
        for text in [name.as_ref(), value.as_ref()] {
            integer(&mut block, text.len());
            block.extend_from_slice(text);
        }
    }
    block
}

/// Appends an integer with a prefix of seven bits (RFC 7541 §5.1).
fn integer(block: &mut Vec<u8>, value: usize) {
    let Some(mut rest) = value.checked_sub(0x7f) else {
        return block.push(u8::try_from(value).unwrap());
    };
    block.push(0x7f);
    while rest >= 0x80 {
        block.push(u8::try_from(rest & 0x7f).unwrap() | 0x80);
        rest >>= 7;
    }
    block.push(u8::try_from(rest).unwrap());
}

/// Returns one setting of a SETTINGS frame.
pub fn setting(id: u16, value: u32) -> Vec<u8> {
    [id.to_be_bytes().as_slice(), &value.to_be_bytes()].concat()
}

#[derive(Clone, Debug)]
pub struct Frame {
    pub kind: u8,
    pub flags: u8,
    pub stream: u32,
    pub payload: Vec<u8>,
}

impl Frame {
    pub fn read(wire: &mut Wire<impl Read + Write>) -> io::Result<Self> {
        let head = wire.read_exactly(9)?;
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
        let stream = u32::from_be_bytes(head[5..9].try_into().unwrap());
        let payload = wire.read_exactly(usize::try_from(length).unwrap())?;
        Ok(Self { kind: head[3], flags: head[4], stream, payload })
    }

    /// Returns the error code of a RST_STREAM or a GOAWAY.
    pub fn error(&self) -> u32 {
        let at = if self.kind == GOAWAY { 4 } else { 0 };
        u32::from_be_bytes(self.payload[at..at + 4].try_into().unwrap())
    }

    /// Returns the status at the start of an answer's header block.
    pub fn status(&self) -> u16 {
        let skip = self.payload.iter().take_while(|byte| **byte & 0xe0 == 0x20).count();
        match &self.payload[skip..] {
            [indexed @ 0x88..=0x8e, ..] => [200, 204, 206, 304, 400, 404, 500][usize::from(indexed - 0x88)],
            [0x08 | 0x18 | 0x48, length @ 0x80..=0xff, text @ ..] => {
                digits(&text[..usize::from(length & 0x7f)])
            }
            [0x08 | 0x18 | 0x48, length, text @ ..] => {
                std::str::from_utf8(&text[..usize::from(*length)]).unwrap().parse().unwrap()
            }
            block => panic!("no status at the start of {block:x?}"),
        }
    }
}

/// Decodes three digits in the Huffman code (RFC 7541, appendix B): 0 to 2 have five bits, the others six.
fn digits(coded: &[u8]) -> u16 {
    let bits: Vec<u16> =
        coded.iter().flat_map(|byte| (0..8).rev().map(move |at| u16::from(byte >> at & 1))).collect();
    let number = |bits: &[u16]| bits.iter().fold(0, |number, bit| number << 1 | bit);
    let (mut rest, mut status) = (bits.as_slice(), 0);
    for _ in 0..3 {
        let (digit, length) = match number(&rest[..5]) {
            digit @ 0..=2 => (digit, 5),
            _ => (number(&rest[..6]) - 0x16, 6),
        };
        status = status * 10 + digit;
        rest = &rest[length..];
    }
    status
}

/// The reaction of a server to frames of a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reaction {
    /// An answer with this status.
    Answer(u16),
    /// The end of the stream with this error code.
    Reset(u32),
    /// The end of the connection with this error code.
    GoAway(u32),
    /// The end of the connection without GOAWAY.
    Closed,
}

/// A client connection on which the test writes every byte.
pub struct Frames {
    pub wire: Tls,
}

impl Frames {
    /// Completes the TLS handshake and sends nothing of HTTP/2.
    pub fn connect_without_preface(client: &Client, address: SocketAddr) -> io::Result<Self> {
        Ok(Self { wire: client.alpn(&["h2"]).connect(address)? })
    }

    /// Sends the preface, with a header table of size 0, so that each answer can be decoded alone.
    pub fn connect(client: &Client, address: SocketAddr) -> io::Result<Self> {
        let mut frames = Self::connect_without_preface(client, address)?;
        frames.wire.send(preface(&setting(1, 0)))?;
        Ok(frames)
    }

    /// Connects, and gives every stream a window of this many bytes.
    pub fn with_windows_of(bytes: u32, client: &Client, address: SocketAddr) -> io::Result<Self> {
        let mut frames = Self::connect_without_preface(client, address)?;
        frames.wire.send(preface(&[setting(1, 0), setting(4, bytes)].concat()))?;
        Ok(frames)
    }

    pub fn send(&mut self, bytes: impl AsRef<[u8]>) -> io::Result<()> {
        self.wire.send(bytes)
    }

    pub fn next(&mut self) -> io::Result<Frame> {
        Frame::read(&mut self.wire)
    }

    /// Reads frames until the server answers or ends the stream, or ends the connection.
    pub fn reaction(&mut self, stream: u32) -> Reaction {
        while let Ok(frame) = self.next() {
            match frame.kind {
                GOAWAY if frame.error() != 0 => return Reaction::GoAway(frame.error()),
                RST_STREAM if frame.stream == stream => return Reaction::Reset(frame.error()),
                HEADERS if frame.stream == stream => return Reaction::Answer(frame.status()),
                _ => {}
            }
        }
        Reaction::Closed
    }

    /// Sends a PING and returns true if it is answered: the server has then read everything before it.
    pub fn answers_ping(&mut self) -> bool {
        let mark = *b"are you?";
        if self.send(frame(PING, 0, 0, mark)).is_err() {
            return false;
        }
        while let Ok(frame) = self.next() {
            match frame.kind {
                PING if frame.flags == ACK && frame.payload == mark => return true,
                GOAWAY if frame.error() != 0 => return false,
                _ => {}
            }
        }
        false
    }
}

/// Serves HTTP/2 in a script of a backend; calls `answer` with the stream of each HEADERS frame.
pub fn serve(
    connection: &mut BackendConnection,
    mut answer: impl FnMut(&mut BackendConnection, u32) -> io::Result<()>,
) -> io::Result<()> {
    connection.wire.read_exactly(preface(&[]).len() - 9)?;
    connection.wire.send(frame(SETTINGS, 0, 0, ""))?;
    loop {
        let next = Frame::read(&mut connection.wire)?;
        match next.kind {
            SETTINGS if next.flags & ACK == 0 => connection.wire.send(frame(SETTINGS, ACK, 0, ""))?,
            PING if next.flags & ACK == 0 => connection.wire.send(frame(PING, ACK, 0, next.payload))?,
            HEADERS => answer(connection, next.stream)?,
            RST_STREAM => connection.record_event(format!("RST_STREAM {}", next.error())),
            _ => {}
        }
    }
}

/// Returns the connection preface with these settings (RFC 9113 §3.4).
pub fn preface(settings: &[u8]) -> Vec<u8> {
    [b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".as_slice(), &frame(SETTINGS, 0, 0, settings)].concat()
}

mod tests {
    use super::*;

    #[test]
    fn a_status_is_read_in_every_encoding() {
        for (payload, status) in [
            (vec![0x88], 200),
            (vec![0x20, 0x8c], 400),
            (vec![0x48, 0x82, 0x68, 0x01], 401),
            (vec![0x08, 3, b'4', b'0', b'3'], 403),
            (vec![0x48, 0x83, 0x6c, 0x0d, 0x7f], 504),
        ] {
            assert_eq!(Frame { kind: HEADERS, flags: 0, stream: 1, payload }.status(), status);
        }
    }
}
