//! The frames of an HTTP/2 client, as far as hyper does not tell of them: by how much the client opens the window of its
//! connection (RFC 9113 §6.9), and how many requests it has begun.

/// Length of the client's preface, before its first frame (RFC 9113 §3.4), in bytes.
const PREFACE: usize = 24;
const HEAD: usize = 9;
/// Length of a WINDOW_UPDATE frame, in bytes.
const UPDATE: usize = HEAD + 4;
const HEADERS: u8 = 1;
const WINDOW_UPDATE: u8 = 8;
const CONTINUATION: u8 = 9;
/// Flag of HEADERS and CONTINUATION.
const END_HEADERS: u8 = 4;

/// A reader of a client's frames.
#[derive(Debug)]
pub(super) struct ClientFrames {
    /// Number of bytes to skip before the next frame.
    skip: usize,
    /// The beginning of a frame.
    frame: [u8; UPDATE],
    filled: usize,
    /// The last stream on which a request began.
    last: u32,
    /// Bytes of the header block that was read last, or is being read.
    block: usize,
    /// The frame that is being read completes the head of a new request.
    ends_head: bool,
    /// The header block that is being read begins a new request.
    is_new: bool,
    /// Number of requests whose heads were read; wraps around.
    heads: u32,
    /// The first of these that was read since the last look; 0 if there was none.
    first_new: u32,
}

impl Default for ClientFrames {
    fn default() -> Self {
        Self {
            skip: PREFACE,
            frame: [0; UPDATE],
            filled: 0,
            last: 0,
            block: 0,
            ends_head: false,
            is_new: false,
            heads: 0,
            first_new: 0,
        }
    }
}

impl ClientFrames {
    /// Number of requests whose heads were read; wraps around.
    pub(super) const fn heads(&self) -> u32 {
        self.heads
    }

    /// The first stream on which the head of a request was read since the last call; 0 if there was none.
    pub(super) const fn take_first_new(&mut self) -> u32 {
        std::mem::replace(&mut self.first_new, 0)
    }

    /// Bytes of the header block that was read last, or is being read.
    pub(super) const fn block(&self) -> usize {
        self.block
    }

    /// Reads bytes, and returns by how many bytes they open the connection's window.
    pub(super) fn read(&mut self, mut bytes: &[u8]) -> i64 {
        let mut opened = 0;
        while !bytes.is_empty() {
            let skipped = self.skip.min(bytes.len());
            self.skip -= skipped;
            bytes = bytes.get(skipped..).unwrap_or_default();
            self.end_head();
            let wanted = if self.is_update() { UPDATE } else { HEAD };
            let taken = bytes.len().min(wanted - self.filled);
            for (to, from) in self.frame.iter_mut().skip(self.filled).zip(bytes.iter().take(taken)) {
                *to = *from;
            }
            self.filled += taken;
            bytes = bytes.get(taken..).unwrap_or_default();
            opened += self.complete();
        }
        opened
    }

    /// Notes the end of a head, once the last byte of its last frame was read.
    const fn end_head(&mut self) {
        if self.skip == 0 && self.ends_head {
            self.ends_head = false;
            self.heads = self.heads.wrapping_add(1);
            if self.first_new == 0 {
                self.first_new = self.last;
            }
        }
    }

    /// Notes a frame of a header block.
    const fn note_block(&mut self, kind: u8, flags: u8, stream: u32, length: usize) {
        if kind == HEADERS {
            self.block = 0;
            self.is_new = stream > self.last;
            if self.is_new {
                self.last = stream;
            }
        }
        self.block = self.block.saturating_add(length);
        self.ends_head = self.is_new && flags & END_HEADERS != 0;
    }

    /// `true` if the head of a frame is complete and is that of an update of the connection's window.
    const fn is_update(&self) -> bool {
        // Stream 0 is the connection itself; the first bit of a stream number is reserved.
        self.filled >= HEAD && matches!(self.frame, [0, 0, 4, WINDOW_UPDATE, _, 0 | 0x80, 0, 0, 0, ..])
    }

    fn complete(&mut self) -> i64 {
        let [a, b, c, kind, flags, s0, s1, s2, s3, increment @ ..] = self.frame;
        if self.is_update() {
            if self.filled < UPDATE {
                return 0;
            }
            self.filled = 0;
            // The first bit is reserved.
            return i64::from(u32::from_be_bytes(increment) & 0x7fff_ffff);
        }
        if self.filled == HEAD {
            self.filled = 0;
            self.skip = usize::from(a) << 16 | usize::from(b) << 8 | usize::from(c);
            if matches!(kind, HEADERS | CONTINUATION) {
                let stream = u32::from_be_bytes([s0 & 0x7f, s1, s2, s3]);
                self.note_block(kind, flags, stream, self.skip);
                self.end_head();
            }
        }
        0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(kind: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
        let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
        [&length[1..], &[kind, 0], &stream.to_be_bytes(), payload].concat()
    }

    #[test]
    fn updates_of_the_connection_count_however_they_are_cut() {
        let update = |stream, by: u32| frame(WINDOW_UPDATE, stream, &by.to_be_bytes());
        let sent = [
            b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec(),
            frame(4, 0, &[0, 4, 0, 0, 0, 0]),
            update(0, 1000),
            frame(0, 1, &update(0, 99)),
            update(1, 5),
            frame(1, 3, b""),
            update(0, 0x8000_0007),
        ]
        .concat();
        for size in [1, 2, 3, 9, 13, 20, sent.len()] {
            let mut updates = ClientFrames::default();
            let opened: i64 = sent.chunks(size).map(|part| updates.read(part)).sum();
            assert_eq!(opened, 1007, "in parts of {size}");
        }
    }
    #[test]
    fn a_head_is_read_with_its_last_frame_and_trailers_are_no_head() {
        let framed = |kind, flags: u8, stream: u32, length: usize| {
            let mut frame = frame(kind, stream, &vec![0; length]);
            frame[4] = flags;
            frame
        };
        let sent = [
            b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec(),
            framed(HEADERS, END_HEADERS | 1, 3, 20),
            framed(HEADERS, 0, 5, 30),
            framed(CONTINUATION, 0, 5, 40),
            framed(CONTINUATION, END_HEADERS, 5, 0),
            framed(HEADERS, END_HEADERS | 1, 5, 10),
        ]
        .concat();
        for size in [1, 7, 9, sent.len()] {
            let mut frames = ClientFrames::default();
            let heads = sent.chunks(size).map(|part| {
                frames.read(part);
                (frames.heads(), frames.block())
            });
            let heads: Vec<_> = heads.collect();
            assert_eq!(heads.last(), Some(&(2, 10)), "in parts of {size}");
            assert_eq!((frames.take_first_new(), frames.take_first_new()), (3, 0));
            if size == 1 {
                let ends: Vec<_> = (1..sent.len()).filter(|at| heads[*at].0 > heads[at - 1].0).collect();
                assert_eq!(ends, [24 + 9 + 19, 24 + 29 + 39 + 49 + 8]);
            }
        }
    }
}
