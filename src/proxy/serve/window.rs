//! The window of an HTTP/2 connection, as its client opens it (RFC 9113 §6.9), read from the client's frames: hyper does not
//! tell whether an answer waits for its own window or for that of the connection.

/// Length of the client's preface, before its first frame (RFC 9113 §3.4), in bytes.
const PREFACE: usize = 24;
const HEAD: usize = 9;
/// Length of a WINDOW_UPDATE frame, in bytes.
const UPDATE: usize = HEAD + 4;
const WINDOW_UPDATE: u8 = 8;

/// A reader of a client's frames that looks only at updates of the connection's window.
#[derive(Debug)]
pub(super) struct WindowUpdates {
    /// Number of bytes to skip before the next frame.
    skip: usize,
    /// The beginning of a frame.
    frame: [u8; UPDATE],
    filled: usize,
}

impl Default for WindowUpdates {
    fn default() -> Self {
        Self { skip: PREFACE, frame: [0; UPDATE], filled: 0 }
    }
}

impl WindowUpdates {
    /// Reads bytes, and returns by how many bytes they open the connection's window.
    pub(super) fn read(&mut self, mut bytes: &[u8]) -> i64 {
        let mut opened = 0;
        while !bytes.is_empty() {
            let skipped = self.skip.min(bytes.len());
            self.skip -= skipped;
            bytes = bytes.get(skipped..).unwrap_or_default();
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

    /// `true` if the head of a frame is complete and is that of an update of the connection's window.
    const fn is_update(&self) -> bool {
        // Stream 0 is the connection itself; the first bit of a stream number is reserved.
        self.filled >= HEAD && matches!(self.frame, [0, 0, 4, WINDOW_UPDATE, _, 0 | 0x80, 0, 0, 0, ..])
    }

    fn complete(&mut self) -> i64 {
        let [a, b, c, _, _, _, _, _, _, increment @ ..] = self.frame;
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
            let mut updates = WindowUpdates::default();
            let opened: i64 = sent.chunks(size).map(|part| updates.read(part)).sum();
            assert_eq!(opened, 1007, "in parts of {size}");
        }
    }
}
