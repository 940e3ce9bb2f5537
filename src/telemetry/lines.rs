//! Lines on their way out, through a bounded channel to a thread that writes them. A line that does not fit into the channel
//! is dropped, a line that cannot be written is lost, and both are counted.

use std::fs::File;
use std::io::{self, Stderr, Stdout, Write};
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tracing_appender::non_blocking::{ErrorCounter, NonBlocking, NonBlockingBuilder, WorkerGuard};

/// The counter of dropped and lost lines.
#[derive(Clone, Debug)]
pub struct Dropped {
    /// Lines for which the channel had no room.
    channel: ErrorCounter,
    /// Lines that could not be written (the disk was full, or the other end was closed), or had no room in bytes.
    unwritten: Arc<AtomicU64>,
}

impl Dropped {
    /// Counts a line for which there was no room.
    pub(super) fn add(&self) {
        self.unwritten.fetch_add(1, Ordering::Relaxed);
    }

    /// Number of these lines.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.channel.dropped_lines() as u64 + self.unwritten.load(Ordering::Relaxed)
    }
}

/// A destination of lines.
pub(super) trait Sink: Write {
    /// Takes back the beginning of a line that could not be written whole. Returns `true` if nothing of it is left.
    fn take_back(&mut self, _torn: &[u8]) -> bool {
        false
    }
}

impl Sink for Stdout {}

impl Sink for Stderr {}

impl Sink for File {
    /// Cuts a regular file back to the end of its last whole line. The file may have other writers, so its end is compared with
    /// what was written here.
    fn take_back(&mut self, torn: &[u8]) -> bool {
        let length = self.metadata().ok().filter(std::fs::Metadata::is_file).map(|file| file.len());
        let Some(start) = length.and_then(|length| length.checked_sub(torn.len() as u64)) else {
            return false;
        };
        let mut end = vec![0; torn.len()];
        self.read_exact_at(&mut end, start).is_ok() && end == torn && self.set_len(start).is_ok()
    }
}

/// Bytes of lines on their way to the writing thread.
#[derive(Clone, Debug, Default)]
pub(super) struct Waiting(Arc<AtomicUsize>);

impl Waiting {
    /// Takes room for a line among so many bytes in all. `false` if there is none.
    pub(super) fn take(&self, bytes: usize, most: usize) -> bool {
        let has_room = self.0.fetch_add(bytes, Ordering::Relaxed).saturating_add(bytes) <= most;
        if !has_room {
            self.give_back(bytes);
        }
        has_room
    }

    fn give_back(&self, bytes: usize) {
        self.0.fetch_sub(bytes, Ordering::Relaxed);
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

/// The log lines about lines that cannot be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Report {
    /// Lines of the log, in which the process cannot say that it cannot be written.
    None,
    /// Audit records: the log says so.
    Log,
}

/// Returns a writer that never waits for `to`, with room for so many lines.
pub(super) fn writer<W: Sink + Send + 'static>(
    to: W,
    next: Next<W>,
    room: usize,
    thread: &str,
    report: Report,
    waiting: Option<Waiting>,
) -> (NonBlocking, Dropped, WorkerGuard) {
    let unwritten = Arc::new(AtomicU64::new(0));
    let trouble = Trouble { report, ..Trouble::default() };
    let lines = Lines { to, next, unwritten: Arc::clone(&unwritten), is_torn: false, trouble, waiting };
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
    trouble: Trouble,
    waiting: Option<Waiting>,
}

impl<W: Sink> Write for Lines<W> {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.waiting.iter().for_each(|waiting| waiting.give_back(line.len()));
        match self.write_line(line) {
            Ok(()) => self.trouble.end(),
            Err(error) => {
                self.unwritten.fetch_add(1, Ordering::Relaxed);
                self.trouble.add(&error, Instant::now());
            }
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.to.flush()
    }
}

impl<W: Sink> Lines<W> {
    fn write_line(&mut self, line: &[u8]) -> io::Result<()> {
        if let Some(next) = self.next.take() {
            self.to = next;
            self.is_torn = false;
        }
        if self.is_torn {
            self.to.write_all(b"\n")?;
            self.is_torn = false;
        }
        let mut written = 0;
        let end = self.write_bytes(line, &mut written);
        if end.is_err() && written > 0 {
            self.is_torn = !self.to.take_back(line.get(..written).unwrap_or_default());
        }
        end
    }

    fn write_bytes(&mut self, line: &[u8], written: &mut usize) -> io::Result<()> {
        while let Some(rest) = line.get(*written..).filter(|rest| !rest.is_empty()) {
            match self.to.write(rest) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(more) => *written += more,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

/// Least time between two lines of the log about records that cannot be written: a disk may have room for every second one.
const PACE: Duration = Duration::from_secs(30);

/// A time in which lines cannot be written.
#[derive(Debug)]
struct Trouble {
    report: Report,
    /// Lines that were lost since the log last said that lines are written again.
    lost: u64,
    /// The instant of the last line of the log about it.
    said: Option<Instant>,
    /// The log says that lines cannot be written, and not yet that they can again.
    is_open: bool,
}

impl Default for Trouble {
    fn default() -> Self {
        Self { report: Report::None, lost: 0, said: None, is_open: false }
    }
}

impl Trouble {
    /// Notes a line that was lost.
    fn add(&mut self, error: &io::Error, now: Instant) {
        self.lost += 1;
        let is_due = self.said.is_none_or(|said| now.saturating_duration_since(said) >= PACE);
        if self.report == Report::Log && is_due {
            (self.said, self.is_open) = (Some(now), true);
            let (cause, lost) = (cause(error), self.lost);
            tracing::error!(cause, %error, lost, "audit records cannot be written, and are lost");
        }
    }

    /// Notes a line that was written.
    fn end(&mut self) {
        if self.is_open {
            tracing::warn!(lost = self.lost, "audit records are written again");
            (self.lost, self.is_open) = (0, false);
        }
    }
}

/// The cause of a failed write, for programs.
fn cause(error: &io::Error) -> &'static str {
    /// The number of `EIO` on Linux.
    const EIO: i32 = 5;
    match error.kind() {
        io::ErrorKind::StorageFull => "disk_full",
        io::ErrorKind::QuotaExceeded => "quota",
        io::ErrorKind::FileTooLarge => "file_too_large",
        io::ErrorKind::BrokenPipe => "closed_pipe",
        io::ErrorKind::ReadOnlyFilesystem => "read_only",
        _ if error.raw_os_error() == Some(EIO) => "io_error",
        _ => "other",
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

    impl Sink for Disk {}

    impl Sink for Stuck {}

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
        let (mut writer, dropped, _guard) =
            writer(Stuck(wait), Next::none_yet(), 4, "stuck", Report::None, None);
        (0..100).for_each(|_| writer.write_all(b"a line\n").unwrap());
        // Four lines wait, and the thread may have taken one.
        assert!((95..=96).contains(&dropped.count()), "{dropped:?}");
        drop(go);
    }

    #[test]
    fn lines_on_their_way_have_a_bound_in_bytes() {
        let waiting = Waiting::default();
        assert!(waiting.take(60, 100) && !waiting.take(41, 100) && waiting.take(40, 100));
        waiting.give_back(60);
        assert!(waiting.take(60, 100) && !waiting.take(1, 100));
    }

    #[test]
    fn a_line_that_does_not_fit_is_counted_and_the_next_one_is_whole() {
        let unwritten = Arc::new(AtomicU64::new(0));
        let to = Disk { held: Vec::new(), room: 9 };
        let next = Next::none_yet();
        let mut lines = Lines {
            to,
            next: next.clone(),
            unwritten: Arc::clone(&unwritten),
            is_torn: false,
            trouble: Trouble::default(),
            waiting: None,
        };
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
    #[test]
    fn a_regular_file_is_cut_back_to_its_last_whole_line_if_its_end_was_written_here() {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(b"whole\nhalf").unwrap();
        assert!(!file.take_back(b"other"), "the end is of another writer");
        assert!(!file.take_back(b"longer than the whole file"));
        assert_eq!(file.metadata().unwrap().len(), 10);
        assert!(file.take_back(b"half"));
        assert_eq!(file.metadata().unwrap().len(), 6);
        let mut device = File::options().append(true).open("/dev/full").unwrap();
        assert!(!device.take_back(b""));
    }

    #[test]
    fn lost_lines_are_said_once_in_a_while_and_their_end_once() {
        let mut trouble = Trouble { report: Report::Log, ..Trouble::default() };
        let (error, start) = (io::Error::from(io::ErrorKind::StorageFull), Instant::now());
        trouble.end();
        trouble.add(&error, start);
        assert!(trouble.is_open && trouble.said == Some(start));
        trouble.add(&error, start + PACE / 2);
        assert_eq!((trouble.said, trouble.lost), (Some(start), 2));
        trouble.end();
        assert_eq!((trouble.is_open, trouble.lost), (false, 0));
        trouble.add(&error, start + PACE / 2);
        assert!(!trouble.is_open, "too soon after the last line");
        trouble.add(&error, start + PACE);
        assert!(trouble.is_open && trouble.lost == 2);
        for (error, name) in [
            (io::Error::from(io::ErrorKind::BrokenPipe), "closed_pipe"),
            (io::Error::from_raw_os_error(28), "disk_full"),
            (io::Error::from_raw_os_error(122), "quota"),
            (io::Error::from_raw_os_error(27), "file_too_large"),
            (io::Error::from_raw_os_error(5), "io_error"),
            (io::Error::from_raw_os_error(11), "other"),
        ] {
            assert_eq!(cause(&error), name, "{error}");
        }
    }
}
