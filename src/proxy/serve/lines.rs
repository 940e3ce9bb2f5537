//! The ends of lines in the bytes of an HTTP/1.1 client. hyper accepts a lone LF, as RFC 9112 §2.2 allows; a proxy in front
//! that does not accept it has read other headers (request smuggling). Heads and trailers with a lone LF are therefore
//! refused. A second `Content-Length` is refused in the same way: hyper makes one of two that are equal, and nothing of a
//! request is repaired.
//!
//! The end of a head and the framing of a body are read here a second time, for this purpose only. A body is never changed,
//! so that nothing depends on it if the two readings differ: odd framing is refused by hyper.

use bytes::BufMut;
use http::header;
use memchr::{memchr, memchr_iter};
use tokio::io::ReadBuf;

/// The bytes that hyper gets from a line on that is refused: they make the head complete, and no header can contain them.
const NO_HEAD: &[u8] = b"\0\r\n\r\n";

/// The reader's position in the messages of one connection.
#[derive(Debug, Default)]
pub struct Lines {
    at: At,
    /// A line whose end has not come yet.
    begun: Vec<u8>,
    next: Framing,
    /// The head that is being read has a `Content-Length`.
    has_length: bool,
    /// The message in progress asks for another protocol (`Upgrade`).
    asks_to_switch: bool,
    /// Number of complete heads; wraps around.
    heads: u32,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum At {
    #[default]
    Head,
    /// So many bytes of a body, or of a chunk with the end of its line, are to come; then the state is `then`.
    Bytes(u64, Then),
    ChunkSize,
    Trailers,
    /// A message that asks for another protocol has ended. Its answer tells whether that protocol follows, or the next head.
    PerhapsSwitched,
    /// The rest of the connection cannot be read: hyper refuses it, and the connection ends.
    Unknown,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Then {
    Head,
    ChunkSize,
}

/// The framing by the head that is being read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Framing {
    /// The head has not begun.
    #[default]
    Unbegun,
    Length(u64),
    Chunked,
    Unknown,
}

impl Lines {
    /// Looks at the bytes behind `before`, which were just read. A head with a line that is refused is cut there, so that
    /// hyper refuses it. Returns the position of bytes that may belong to another protocol, which are to be looked at again if that
    /// protocol is declined.
    pub fn look(&mut self, buf: &mut ReadBuf<'_>, before: usize) -> Option<usize> {
        let read = buf.filled().get(before..).unwrap_or_default();
        if self.is_plain_head(read) {
            self.heads = self.heads.wrapping_add(1);
            return None;
        }
        match self.read(read) {
            Finding::Nothing => None,
            Finding::PerhapsSwitched(end) => Some(before + end),
            Finding::RefusedLine(end) => {
                self.at = At::Unknown;
                buf.set_filled(before + end);
                // hyper makes more room than this before it reads. Without room, no head is complete here.
                if buf.remaining_mut() >= NO_HEAD.len() {
                    buf.put_slice(NO_HEAD);
                }
                None
            }
        }
    }

    /// `true` if another protocol follows, should the answer agree to it.
    pub(super) fn may_switch(&self) -> bool {
        self.at == At::PerhapsSwitched
    }

    /// Number of requests whose heads have been read; wraps around.
    pub(super) fn heads(&self) -> u32 {
        self.heads
    }

    /// Notes that another protocol was declined: a head follows.
    pub(super) fn go_on(&mut self) {
        self.at = At::Head;
    }

    /// `true` if the bytes read so far end with a message, as far as is known.
    pub(super) fn end_with_a_message(&self) -> bool {
        self.at == At::Head && self.next == Framing::Unbegun && self.begun.is_empty()
    }

    /// The fast path: most reads are one whole head, without a body and without a lone LF, after which the state is as
    /// before.
    fn is_plain_head(&self, read: &[u8]) -> bool {
        if !self.end_with_a_message() {
            return false;
        }
        let (mut start, mut has_length) = (0, false);
        for end in memchr_iter(b'\n', read) {
            let Some(line) = read.get(start..end).and_then(|line| line.strip_suffix(b"\r")) else {
                return false;
            };
            if line.is_empty() {
                return start > 0 && end + 1 == read.len();
            }
            // Of the first line only the end matters.
            if start > 0 {
                match field(line) {
                    Field::Other => {}
                    Field::Length(Some(0)) if !has_length => has_length = true,
                    _ => return false,
                }
            }
            start = end + 1;
        }
        false
    }

    /// Reads on, up to the first byte that is not passed on as it is.
    fn read(&mut self, read: &[u8]) -> Finding {
        let mut rest = read;
        while !rest.is_empty() {
            match self.at {
                At::Unknown => return Finding::Nothing,
                At::PerhapsSwitched => return Finding::PerhapsSwitched(read.len() - rest.len()),
                At::Bytes(left, then) => {
                    let here = usize::try_from(left).unwrap_or(usize::MAX).min(rest.len());
                    rest = rest.get(here..).unwrap_or_default();
                    self.at = self.after(left - here as u64, then);
                }
                At::Head | At::ChunkSize | At::Trailers => {
                    let Some(end) = memchr(b'\n', rest) else {
                        self.begun.extend_from_slice(rest);
                        return Finding::Nothing;
                    };
                    let line = rest.get(..end).unwrap_or_default();
                    rest = rest.get(end + 1..).unwrap_or_default();
                    if !self.take_line(line) {
                        return Finding::RefusedLine(read.len() - rest.len() - 1);
                    }
                }
            }
        }
        Finding::Nothing
    }

    /// Ends a line, given without its LF. Returns false if the line is refused.
    fn take_line(&mut self, line: &[u8]) -> bool {
        let mut begun = std::mem::take(&mut self.begun);
        let whole = if begun.is_empty() {
            line
        } else {
            begun.extend_from_slice(line);
            &begun
        };
        let Some(text) = whole.strip_suffix(b"\r") else {
            // hyper itself refuses such a chunk.
            let is_chunk = self.at == At::ChunkSize;
            self.at = At::Unknown;
            return is_chunk;
        };
        self.at = match self.at {
            At::Head => match self.head(text) {
                Some(at) => at,
                None => {
                    self.at = At::Unknown;
                    return false;
                }
            },
            At::ChunkSize => chunk(text),
            At::Trailers if text.is_empty() => self.end(),
            at => at,
        };
        true
    }

    /// Takes a line of a head; `None` if the line is refused.
    fn head(&mut self, line: &[u8]) -> Option<At> {
        if line.is_empty() {
            self.has_length = false;
            self.heads = self.heads.wrapping_add(u32::from(self.next != Framing::Unbegun));
            return Some(match std::mem::take(&mut self.next) {
                // Empty lines before a request are ignored (RFC 9112 §2.2).
                Framing::Unbegun => At::Head,
                Framing::Length(length) => self.after(length, Then::Head),
                Framing::Chunked => At::ChunkSize,
                Framing::Unknown => At::Unknown,
            });
        }
        self.next = match (self.next, field(line)) {
            (Framing::Unbegun, _) => Framing::Length(0),
            (_, Field::Length(_)) if std::mem::replace(&mut self.has_length, true) => return None,
            (framing, Field::Upgrade) => {
                self.asks_to_switch = true;
                framing
            }
            (Framing::Unknown, _) => Framing::Unknown,
            (Framing::Chunked, _) | (_, Field::Coding) => Framing::Chunked,
            (_, Field::Length(length)) => length.map_or(Framing::Unknown, Framing::Length),
            (framing, Field::Other) => framing,
        };
        Some(At::Head)
    }

    fn after(&mut self, left: u64, then: Then) -> At {
        match (left, then) {
            (0, Then::Head) => self.end(),
            (0, Then::ChunkSize) => At::ChunkSize,
            (left, then) => At::Bytes(left, then),
        }
    }

    /// Ends a message.
    fn end(&mut self) -> At {
        if std::mem::take(&mut self.asks_to_switch) { At::PerhapsSwitched } else { At::Head }
    }
}

/// The reader's finding in the bytes that were read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Finding {
    Nothing,
    /// The position of the LF that ends a refused line of a head or a trailer: a lone LF, or the end of a second
    /// `Content-Length`.
    RefusedLine(usize),
    /// The end of a message that asks for another protocol, with more bytes behind it.
    PerhapsSwitched(usize),
}

/// The meaning of a header for the framing.
enum Field {
    Length(Option<u64>),
    Coding,
    /// Another protocol may follow if the answer agrees; a lone LF is a byte like others there.
    Upgrade,
    Other,
}

fn field(line: &[u8]) -> Field {
    if !matches!(line.first(), Some(b'C' | b'c' | b'T' | b't' | b'U' | b'u')) {
        return Field::Other;
    }
    let Some((name, value)) = memchr(b':', line).and_then(|colon| line.split_at_checked(colon)) else {
        return Field::Other;
    };
    let is = |other: header::HeaderName| name.eq_ignore_ascii_case(other.as_str().as_bytes());
    if is(header::CONTENT_LENGTH) {
        Field::Length(number(value.get(1..).unwrap_or_default().trim_ascii(), 10))
    } else if is(header::TRANSFER_ENCODING) {
        Field::Coding
    } else if is(header::UPGRADE) {
        Field::Upgrade
    } else {
        Field::Other
    }
}

/// The state after the line with a chunk's size.
fn chunk(line: &[u8]) -> At {
    let size = line.split(|byte| matches!(byte, b';' | b' ' | b'\t')).next().unwrap_or_default();
    match number(size, 16).map(|size| (size, size.checked_add(2))) {
        Some((0, _)) => At::Trailers,
        Some((_, Some(with_its_end))) => At::Bytes(with_its_end, Then::ChunkSize),
        _ => At::Unknown,
    }
}

fn number(digits: &[u8], radix: u32) -> Option<u64> {
    let is_plain = digits.first().is_some_and(u8::is_ascii_hexdigit);
    let text = std::str::from_utf8(digits).ok().filter(|_| is_plain)?;
    u64::from_str_radix(text, radix).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The position of the first lone LF, if the bytes are read in pieces of that size; counted from the start.
    fn found(bytes: &[u8], piece: usize) -> Option<usize> {
        let mut lines = Lines::default();
        let mut start = 0;
        bytes.chunks(piece).find_map(|piece| {
            let end = start + piece.len();
            let at = loop {
                match lines.read(&bytes[start..end]) {
                    Finding::Nothing => break None,
                    Finding::RefusedLine(at) => break Some(start + at),
                    // This test declines every switch.
                    Finding::PerhapsSwitched(at) => {
                        start += at;
                        lines.go_on();
                    }
                }
            };
            start = end;
            at
        })
    }

    #[track_caller]
    fn assert_found(bytes: impl AsRef<[u8]>, expected: Option<usize>) {
        let bytes = bytes.as_ref();
        for piece in [1, 2, 3, 7, bytes.len()] {
            assert_eq!(found(bytes, piece), expected, "{:?} by {piece}", String::from_utf8_lossy(bytes));
        }
    }

    const NEXT: &str = "GET /b HTTP/1.1\nHost: b\r\n\r\n";

    #[test]
    fn a_lone_line_feed_is_found_in_any_head_and_in_no_body() {
        assert_found("GET / HTTP/1.1\r\nHost: a\r\n\r\n", None);
        assert_found(NEXT, Some(15));
        assert_found("GET / HTTP/1.1\r\nHost: a\r\n\n", Some(25));
        assert_found("\r\n\nGET / HTTP/1.1\r\n\r\n", Some(2));
        assert_found("POST / HTTP/1.1\r\nContent-Length: 0\r\ncontent-length: 0\r\n\r\n", Some(54));
        assert_found(
            "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\n",
            Some(82),
        );
        for (first, framing_is_odd) in [
            ("GET / HTTP/1.1\r\nHost: a\r\n\r\n", false),
            ("POST / HTTP/1.1\r\ncontent-LENGTH:  6 \r\n\r\na\nb\n\nc", false),
            ("POST / HTTP/1.1\r\nContent-Length: 0\r\n\r\n\r\n", false),
            (
                "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n3;x=\"\ty\r\na\nb\r\nA \r\n\n\n\n\n\n\n\n\n\n\n\r\n0\r\nX: y\r\n\r\n",
                false,
            ),
            (
                "POST / HTTP/1.1\r\nContent-Length: 9\r\nTransfer-Encoding: chunked\r\n\r\n1\r\n\n\r\n0\r\n\r\n",
                false,
            ),
            (
                "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\nContent-Length: 9\r\n\r\n1\r\n\n\r\n0\r\n\r\n",
                false,
            ),
            ("POST / HTTP/1.1\r\nContent-Length: +6\r\n\r\n", true),
            ("POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", true),
            ("POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n1\na\r\n0\r\n\r\n", true),
            ("POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffffffff\r\n", true),
            ("GET / HTTP/1.1\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n", false),
            ("POST / HTTP/1.1\r\nUpgrade: a\r\nContent-Length: 3\r\nUpgrade: b\r\n\r\n\n\n\n", false),
            (
                "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\nUpgrade: a\r\n\r\n1\r\n\n\r\n0\r\nA: b\r\n\r\n",
                false,
            ),
            ("POST / HTTP/1.1\r\nUpgrade: a\r\nContent-Length: +6\r\n\r\n", true),
        ] {
            let expected = (!framing_is_odd).then(|| first.len() + 15);
            assert_found(format!("{first}{NEXT}"), expected);
        }
        let trailers = "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nX: a\nY: b\r\n\r\n";
        assert_found(trailers, trailers.find("\nY"));
    }

    #[test]
    fn a_cut_head_is_complete_and_invalid_for_hyper() {
        let mut storage = [0; 64];
        let mut buf = ReadBuf::new(&mut storage);
        buf.put_slice(b"GET / HTTP/1.1\r\nA: b\nC: d\r\n\r\n");
        Lines::default().look(&mut buf, 0);
        assert_eq!(buf.filled(), b"GET / HTTP/1.1\r\nA: b\0\r\n\r\n");
    }

    #[test]
    fn what_is_behind_a_request_for_another_protocol_is_left_alone_until_that_is_declined() {
        let asks = "GET / HTTP/1.1\r\nUpgrade: websocket\r\n\r\n";
        let mut storage = [0; 128];
        let mut buf = ReadBuf::new(&mut storage);
        buf.put_slice(format!("{asks}{NEXT}").as_bytes());
        let mut lines = Lines::default();
        assert_eq!(lines.look(&mut buf, 0), Some(asks.len()));
        assert_eq!(buf.filled().len(), asks.len() + NEXT.len());
        assert!(lines.may_switch() && !lines.end_with_a_message());
        lines.go_on();
        assert_eq!(lines.look(&mut buf, asks.len()), None);
        assert!(buf.filled().ends_with(&[b"/b HTTP/1.1", NO_HEAD].concat()));
    }

    proptest! {
        #[test]
        fn a_plain_head_is_one_without_a_body(
            lines in prop::collection::vec(prop::sample::select(vec![
                "\r\n", "\n", "a\n", "a\r\n", "\r\n\r\n", "Content-Length: 3\r\n", "Content-Length: 0\r\n",
                "Transfer-Encoding: chunked\r\n", "Upgrade: a\r\n", "Cookie: a\r\n", "\r",
            ]), 0..8),
        ) {
            let bytes = lines.concat().into_bytes();
            if Lines::default().is_plain_head(&bytes) {
                let mut lines = Lines::default();
                prop_assert_eq!(lines.read(&bytes), Finding::Nothing);
                prop_assert!(lines.end_with_a_message());
            }
        }

        #[test]
        fn any_lines_in_any_pieces_are_read_alike(
            lines in prop::collection::vec(prop::sample::select(vec![
                "\r\n", "\n", "a\n", "a\r\n", "\r\n\r\n", "Content-Length: 3\r\n", "Transfer-Encoding: chunked\r\n", "0\r\n", "Content-Length: 0\r\n", "2\r\n", "\r",
                "Upgrade: a\r\n",
            ]), 0..40),
            piece in 1_usize..50,
        ) {
            let bytes = lines.concat().into_bytes();
            prop_assert_eq!(found(&bytes, piece), found(&bytes, bytes.len().max(1)));
        }
    }
}
