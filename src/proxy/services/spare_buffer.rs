//! The buffer in which frames of HTTP/2 are gathered.

use parking_lot::Mutex;

/// The buffer in which frames of HTTP/2 are gathered, lent to the connection whose task runs. A worker needs one, and its
/// connections need none while they wait.
#[derive(Debug, Default)]
pub struct SpareBuffer(Mutex<Vec<u8>>);

impl SpareBuffer {
    /// Lends the buffer, with room for `capacity` bytes.
    pub fn lend(&self, capacity: usize) -> Vec<u8> {
        let mut buffer = std::mem::take(&mut *self.0.lock());
        buffer.reserve_exact(capacity);
        buffer
    }

    /// Takes the buffer back. Of a buffer that has grown, at most `capacity` bytes are kept.
    pub fn take_back(&self, mut buffer: Vec<u8>, capacity: usize) {
        buffer.clear();
        buffer.shrink_to(capacity);
        *self.0.lock() = buffer;
    }
}
