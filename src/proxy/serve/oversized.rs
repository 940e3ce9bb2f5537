//! Header lists that HTTP/2 does not take, because they have more than twice `limits.http.max_header_bytes`.
//!
//! The HTTP implementation keeps nothing of such a list, so it cannot become a request, and answers by itself: with a bare 431, or
//! with the end of the connection if the list is several times as large still. That answer would have no record and no count, and
//! a stranger would get another status than 401. So it is found among the frames on their way to the client, and the documented
//! answer takes its place.

use bytes::Bytes;
use http::{Response, StatusCode, header};

/// Length of the head of a frame, in bytes (RFC 9113 §4.1).
const HEAD: usize = 9;
const DATA: u8 = 0;
const HEADERS: u8 = 1;
pub(super) const RST_STREAM: u8 = 3;
const GOAWAY: u8 = 7;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;
/// An error code (RFC 9113 §7).
const COMPRESSION_ERROR: [u8; 4] = [0, 0, 0, 9];
/// The first header block index of the dynamic table (RFC 7541 §2.3.3).
const FIRST_DYNAMIC: usize = 62;

/// One frame among others.
pub(super) struct Frame<'f> {
    pub(super) kind: u8,
    flags: u8,
    stream: u32,
    pub(super) payload: &'f [u8],
}

impl<'f> Frame<'f> {
    /// Splits the first frame off. `None` if there is no whole frame.
    pub(super) fn split(bytes: &'f [u8]) -> Option<(Self, &'f [u8])> {
        let (head, rest) = bytes.split_first_chunk::<HEAD>()?;
        let [a, b, c, kind, flags, stream @ ..] = *head;
        let length = usize::from(a) << 16 | usize::from(b) << 8 | usize::from(c);
        let (payload, rest) = rest.split_at_checked(length)?;
        let stream = u32::from_be_bytes(stream) & 0x7fff_ffff;
        Some((Self { kind, flags, stream, payload }, rest))
    }

    fn write(&self, to: &mut Vec<u8>) {
        let [_, length @ ..] = u32::try_from(self.payload.len()).unwrap_or_default().to_be_bytes();
        to.extend_from_slice(&length);
        to.extend_from_slice(&[self.kind, self.flags]);
        to.extend_from_slice(&self.stream.to_be_bytes());
        to.extend_from_slice(self.payload);
    }
}

/// `true` if these frames end the connection because of the size of a header list. `is_large` says that the list that is being
/// read is larger than the limit.
pub(super) fn end_connection(mut frames: &[u8], is_large: bool) -> bool {
    while let Some((frame, rest)) = Frame::split(frames) {
        if frame.kind == GOAWAY
            && let Some((head, data)) = frame.payload.split_at_checked(8)
            && (matches!(data, b"header_list_way_too_large" | b"too_many_continuations")
                || is_large && head.ends_with(&COMPRESSION_ERROR))
        {
            return true;
        }
        frames = rest;
    }
    false
}

/// The search for bare answers on one connection. It goes on while a head was read that has become no request: HTTP/2 may take
/// it up a turn later, or end its stream for another reason.
#[derive(Debug, Default)]
pub(super) struct Search {
    /// Number of heads that became no request and are not searched for any more.
    settled: u32,
    /// The first stream whose head was read since the search began; 0 while there is no search.
    first: u32,
    /// Streams from there on whose answers have begun. What follows on them are trailers.
    begun: Vec<u32>,
    /// Number of looks of this search.
    looks: u32,
}

/// Looks after which a head is taken for one that became neither a request nor an answer.
const MOST_LOOKS: u32 = 16;

impl Search {
    /// Begins or ends a search. `first` is the first stream whose head was read since the last call, or 0; `without_request` is the
    /// number of heads that have become no request. Returns `true` if the frames of this turn are to be looked at.
    pub(super) fn update(&mut self, first: u32, without_request: u32) -> bool {
        if self.first == 0 {
            self.first = first;
        }
        let is_over = without_request == self.settled || self.first == 0 || self.looks >= MOST_LOOKS;
        if is_over {
            self.settled = without_request;
            (self.first, self.looks) = (0, 0);
            self.begun = Vec::new();
        }
        self.looks += u32::from(!is_over);
        !is_over
    }

    /// Replaces the bare answers among the frames by documented ones. Returns the frames if there was such an answer.
    pub(super) fn replace(
        &mut self,
        mut frames: &[u8],
        mut answer: impl FnMut() -> Response<Bytes>,
    ) -> Option<Vec<u8>> {
        let (mut out, mut replaced) = (Vec::new(), Vec::new());
        while let Some((frame, rest)) = Frame::split(frames) {
            let bare = self.bare_answer(&frame);
            match frame.kind {
                HEADERS => {
                    self.begun.push(frame.stream);
                    match bare {
                        Some(block) => {
                            replaced.push(frame.stream);
                            block.write(frame.stream, &answer(), &mut out);
                        }
                        None => frame.write(&mut out),
                    }
                }
                // HTTP/2 resets the stream because the rest of the request is not wanted. The client would discard the answer
                // for it; curl does so even if the reset is without an error. What still comes of the request is ignored.
                RST_STREAM if replaced.contains(&frame.stream) => {}
                _ => frame.write(&mut out),
            }
            frames = rest;
        }
        out.extend_from_slice(frames);
        (!replaced.is_empty()).then_some(out)
    }

    /// Returns the header block of a bare answer, if the frame is one.
    fn bare_answer<'f>(&self, frame: &Frame<'f>) -> Option<StatusBlock<'f>> {
        let is_one = frame.kind == HEADERS
            && frame.flags == END_STREAM | END_HEADERS
            && frame.stream >= self.first
            && !self.begun.contains(&frame.stream);
        is_one.then(|| StatusBlock::of(frame.payload)).flatten()
    }
}

/// A header block that holds nothing but `:status`.
struct StatusBlock<'f> {
    whole: &'f [u8],
    /// Updates of the size of the table, which the client must get.
    updates: &'f [u8],
    /// The field enters the client's table.
    is_inserted: bool,
}

impl<'f> StatusBlock<'f> {
    fn of(block: &'f [u8]) -> Option<Self> {
        let mut rest = block;
        while rest.first().is_some_and(|byte| byte & 0xe0 == 0x20) {
            (_, rest) = integer(rest, 5)?;
        }
        let updates = block.get(..block.len() - rest.len())?;
        let first = *rest.first()?;
        let (index, value) = match first {
            0x80.. => integer(rest, 7)?,
            0x40.. => integer(rest, 6)?,
            _ => integer(rest, 4)?,
        };
        let is_indexed = first >= 0x80;
        let is_whole = match is_indexed {
            true => index >= FIRST_DYNAMIC && value.is_empty(),
            false => {
                let (length, text) = integer(value, 7)?;
                index > 0 && text.len() == length
            }
        };
        is_whole.then_some(Self { whole: block, updates, is_inserted: !is_indexed && first >= 0x40 })
    }

    /// Writes an answer in the place of the block. The client's table stays as the HTTP implementation knows it.
    fn write(&self, stream: u32, answer: &Response<Bytes>, out: &mut Vec<u8>) {
        let mut block = match answer.status() {
            StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE => self.whole.to_vec(),
            status => {
                // `:status` has the index 8, and the field does not enter the table.
                let mut block = [self.updates, &[0x08]].concat();
                text(status.as_str().as_bytes(), &mut block);
                if self.is_inserted {
                    // A field of the same size takes the place in the table: 10 bytes, as `:status` and three digits have.
                    block.push(0x40);
                    text(b"x-sidegate", &mut block);
                    text(b"", &mut block);
                }
                block
            }
        };
        for (name, value) in answer.headers() {
            block.push(0);
            text(name.as_str().as_bytes(), &mut block);
            text(value.as_bytes(), &mut block);
        }
        let body = answer.body();
        let end = if body.is_empty() { END_STREAM } else { 0 };
        Frame { kind: HEADERS, flags: END_HEADERS | end, stream, payload: &block }.write(out);
        if !body.is_empty() {
            Frame { kind: DATA, flags: END_STREAM, stream, payload: body }.write(out);
        }
    }
}

/// Removes the body of an answer for which the client has no room. An empty body must not be announced with another length.
pub(super) fn without_body(mut answer: Response<Bytes>) -> Response<Bytes> {
    answer.headers_mut().remove(header::CONTENT_LENGTH);
    answer.headers_mut().remove(header::CONTENT_TYPE);
    answer.map(|_| Bytes::new())
}

/// Reads an integer with a prefix of so many bits (RFC 7541 §5.1).
fn integer(bytes: &[u8], prefix: u32) -> Option<(usize, &[u8])> {
    let (first, mut rest) = bytes.split_first()?;
    let most = (1 << prefix) - 1;
    let mut value = usize::from(*first) & most;
    if value < most {
        return Some((value, rest));
    }
    for shift in [0, 7, 14] {
        let (byte, more) = rest.split_first()?;
        rest = more;
        value += usize::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some((value, rest));
        }
    }
    None
}

/// Appends a text without compression (RFC 7541 §5.2).
fn text(bytes: &[u8], to: &mut Vec<u8>) {
    match bytes.len() {
        length @ ..0x7f => to.push(u8::try_from(length).unwrap_or_default()),
        length => {
            to.push(0x7f);
            let mut rest = length - 0x7f;
            while rest >= 0x80 {
                to.push(u8::try_from(rest & 0x7f).unwrap_or_default() | 0x80);
                rest >>= 7;
            }
            to.push(u8::try_from(rest).unwrap_or_default());
        }
    }
    to.extend_from_slice(bytes);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        Frame { kind, flags, stream, payload }.write(&mut out);
        out
    }

    const BARE: u8 = END_STREAM | END_HEADERS;
    /// `:status: 431`, which enters the table.
    const INSERTED: &[u8] = &[0x48, 0x83, 0x68, 0x17, 0xff];

    fn answer(status: u16, body: &'static str) -> Response<Bytes> {
        Response::builder().status(status).header("a", "b").body(Bytes::from_static(body.as_bytes())).unwrap()
    }

    fn replace(frames: &[u8], first: u32, answer: impl FnMut() -> Response<Bytes>) -> Option<Vec<u8>> {
        let mut search = Search::default();
        assert!(search.update(first, 1));
        search.replace(frames, answer)
    }

    #[test]
    fn a_search_lasts_while_a_head_has_become_no_request_and_knows_answers_that_have_begun() {
        let mut search = Search::default();
        assert!(!search.update(1, 0), "the head has become a request");
        assert!(search.update(3, 1), "the head is not taken up yet");
        assert_eq!(search.replace(&frame(HEADERS, END_HEADERS, 5, INSERTED), || unreachable!()), None);
        assert!(search.update(7, 1));
        assert_eq!(search.replace(&frame(HEADERS, BARE, 5, &[0xbe]), || unreachable!()), None, "trailers");
        assert!(search.replace(&frame(HEADERS, BARE, 3, &[0xbe]), || answer(431, "")).is_some());
        assert!(!search.update(0, 0), "the answer counts as a request");
        // A head whose stream HTTP/2 has reset never becomes a request.
        assert!((0..MOST_LOOKS).all(|look| search.update(if look == 0 { 9 } else { 0 }, 1)));
        assert!(!search.update(0, 1) && !search.update(0, 1));
        assert!(search.update(11, 2), "the next one is searched for");
        assert!(!search.update(0, 1) && !search.update(0, 0));
    }

    #[test]
    fn only_the_bare_answer_to_a_new_request_is_replaced() {
        let others = [
            frame(HEADERS, BARE, 3, INSERTED),
            frame(HEADERS, END_HEADERS, 5, INSERTED),
            frame(HEADERS, BARE, 5, &[0xbe]),
            frame(HEADERS, BARE, 7, &[0x88, 0xbe]),
            frame(HEADERS, BARE, 7, &[0x89]),
            frame(HEADERS, BARE, 7, &[0x40, 1, b'a', 1, b'b']),
            frame(HEADERS, BARE, 7, b""),
            frame(RST_STREAM, 0, 7, &[0, 0, 0, 1]),
        ]
        .concat();
        assert_eq!(replace(&others, 5, || unreachable!()), None);
        let bare = [
            frame(HEADERS, BARE, 9, INSERTED),
            frame(RST_STREAM, 0, 9, &[0, 0, 0, 1]),
            b"\0\0\x05rest".to_vec(),
        ];
        let expected = [
            others.clone(),
            frame(HEADERS, END_HEADERS, 9, &[INSERTED, &[0, 1, b'a', 1, b'b']].concat()),
            frame(DATA, END_STREAM, 9, b"body"),
            b"\0\0\x05rest".to_vec(),
        ];
        let replaced = replace(&[others, bare.concat()].concat(), 5, || answer(431, "body"));
        assert_eq!(replaced, Some(expected.concat()));
    }

    #[test]
    fn another_status_leaves_the_table_of_the_client_as_it_would_be() {
        let update: &[u8] = &[0x3f, 0xe1, 0x1f];
        let field: &[u8] = &[0x08, 3, b'4', b'0', b'1'];
        let placed: &[u8] = &[&[0x40, 10], b"x-sidegate".as_slice(), &[0]].concat();
        for (block, expected) in [
            ([update, INSERTED].concat(), [update, field, placed].concat()),
            (vec![0xbe], field.to_vec()),
            (vec![0x08, 3, b'4', b'3', b'1'], field.to_vec()),
        ] {
            let replaced = replace(&frame(HEADERS, BARE, 1, &block), 1, || answer(401, ""));
            let fields = [expected.as_slice(), &[0, 1, b'a', 1, b'b']].concat();
            assert_eq!(replaced, Some(frame(HEADERS, BARE, 1, &fields)), "{block:x?}");
        }
    }

    #[test]
    fn the_end_of_a_connection_is_that_of_a_header_list_by_its_debug_data_or_by_the_size_of_the_list() {
        let end = |error: u8, data: &str| {
            frame(GOAWAY, 0, 0, &[&[0, 0, 0, 1, 0, 0, 0, error], data.as_bytes()].concat())
        };
        assert!(end_connection(&end(11, "header_list_way_too_large"), false));
        assert!(end_connection(
            &[frame(6, 0, 0, &[0; 8]), end(11, "too_many_continuations")].concat(),
            false
        ));
        assert!(end_connection(&end(9, ""), true));
        for (frames, is_large) in
            [(end(9, ""), false), (end(11, "too_many_resets"), true), (end(0, ""), true), (Vec::new(), true)]
        {
            assert!(!end_connection(&frames, is_large));
        }
    }

    #[test]
    fn a_long_text_has_its_length_before_it() {
        for length in [0, 1, 126, 127, 128, 254, 255, 300, 20_000] {
            let (mut out, long) = (Vec::new(), vec![b'a'; length]);
            text(&long, &mut out);
            assert_eq!(integer(&out, 7), Some((length, long.as_slice())));
        }
    }
}
