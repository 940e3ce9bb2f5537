//! Lines on their way out, through a bounded channel to a thread that writes them. A line that does not fit into the channel
//! is dropped, a line that cannot be written is lost, and both are counted.

use std::io::{self, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;
use tracing_appender::non_blocking::{ErrorCounter, NonBlocking, NonBlockingBuilder, WorkerGuard};

/// The counter of dropped and lost lines.
#[derive(Clone, Debug)]
pub struct Dropped {
    /// Lines for which the channel had no room.
    channel: ErrorCounter,
    /// Lines that could not be written: the disk was full, or the other end was closed.
    unwritten: Arc<AtomicU64>,
}

impl Dropped {
    /// Number of these lines.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.channel.dropped_lines() as u64 + self.unwritten.load(Ordering::Relaxed)
    }
}

/// The destination of the next line, if it has changed: a file that was opened anew.
#[derive(Debug)]
pub(super) struct Next<W>(Arc<Mutex<Option<W>>>);

impl<W> Next<W> {
    pub(super) fn none_yet() -> Self {
        Self(Arc::default())
    }

    /// Changes the destination. A line in progress is finished where it was begun.
    pub(super) fn give(&self, to: W) {
        *self.0.lock() = Some(to);
    }

    fn take(&self) -> Option<W> {
        self.0.lock().take()
    }
}

impl<W> Clone for Next<W> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

/// Returns a writer that never waits for `to`, with room for so many lines.
pub(super) fn writer<W: Write + Send + 'static>(
    to: W,
    next: Next<W>,
    room: usize,
    thread: &str,
) -> (NonBlocking, Dropped, WorkerGuard) {
    let unwritten = Arc::new(AtomicU64::new(0));
    let lines = Lines { to, next, unwritten: Arc::clone(&unwritten), is_torn: false };
    let builder = NonBlockingBuilder::default().lossy(true).buffered_lines_limit(room);
    let (writer, guard) = builder.thread_name(thread).finish(lines);
    let dropped = Dropped { channel: writer.error_counter(), unwritten };
    (writer, dropped, guard)
}

/// A writer of whole lines, which goes on after a line that it cannot write.
struct Lines<W> {
    to: W,
    next: Next<W>,
    unwritten: Arc<AtomicU64>,
    /// The last line was written in part: the next line must begin on a line of its own.
    is_torn: bool,
}

impl<W: Write> Write for Lines<W> {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let written = self.write_line(line);
        if written.is_err() {
            self.unwritten.fetch_add(1, Ordering::Relaxed);
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.to.flush()
    }
}

impl<W: Write> Lines<W> {
    fn write_line(&mut self, line: &[u8]) -> io::Result<()> {
        if let Some(next) = self.next.take() {
            self.to = next;
            self.is_torn = false;
        }
        if self.is_torn {
            self.to.write_all(b"\n")?;
            self.is_torn = false;
        }
        let mut rest = line;
        while !rest.is_empty() {
            match self.to.write(rest) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(written) => {
                    rest = rest.get(written..).unwrap_or_default();
                    self.is_torn = !rest.is_empty();
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A disk with so much room.
    struct Disk {
        held: Vec<u8>,
        room: usize,
    }

    impl Write for Disk {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let fits = bytes.len().min(self.room - self.held.len());
            self.held.extend_from_slice(&bytes[..fits]);
            if fits == 0 { Err(io::ErrorKind::StorageFull.into()) } else { Ok(fits) }
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    /// A destination that takes nothing.
    struct Stuck(std::sync::mpsc::Receiver<()>);

    impl Write for Stuck {
        fn write(&mut self, line: &[u8]) -> io::Result<usize> {
            let _ = self.0.recv();
            Ok(line.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_stuck_writer_delays_no_caller_and_its_lost_lines_are_counted() {
        let (go, wait) = std::sync::mpsc::channel();
        let (mut writer, dropped, _guard) = writer(Stuck(wait), Next::none_yet(), 4, "stuck");
        (0..100).for_each(|_| writer.write_all(b"a line\n").unwrap());
        // Four lines wait, and the thread may have taken one.
        assert!((95..=96).contains(&dropped.count()), "{dropped:?}");
        drop(go);
    }

    #[test]
    fn a_line_that_does_not_fit_is_counted_and_the_next_one_is_whole() {
        let unwritten = Arc::new(AtomicU64::new(0));
        let to = Disk { held: Vec::new(), room: 9 };
        let next = Next::none_yet();
        let mut lines = Lines { to, next: next.clone(), unwritten: Arc::clone(&unwritten), is_torn: false };
        for line in ["first\n", "second\n", "third\n", "fourth\n"] {
            lines.write_all(line.as_bytes()).unwrap();
        }
        assert_eq!(unwritten.load(Ordering::Relaxed), 3);
        lines.to.room = 100;
        lines.write_all(b"fifth\n").unwrap();
        assert_eq!(String::from_utf8(lines.to.held.clone()).unwrap(), "first\nsec\nfifth\n");

        lines.to.room = lines.to.held.len() + 3;
        lines.write_all(b"sixth\n").unwrap();
        next.give(Disk { held: Vec::new(), room: 100 });
        lines.write_all(b"seventh\n").unwrap();
        assert_eq!(String::from_utf8(lines.to.held).unwrap(), "seventh\n", "another file begins with a line");
        assert_eq!(unwritten.load(Ordering::Relaxed), 4);
    }
}
