//! Reads with a time limit. `open` and `read` on a dead network volume block in the kernel for ever, and such a thread cannot
//! be ended. Each read therefore has a time limit, and a part whose read hangs delays no other part.

use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender, TryRecvError};
use std::thread;
use std::time::Duration;

use super::contents::Reading;
use super::part::{Part, PerPart};
use crate::digest::Digest;

type Job = Box<dyn FnOnce() + Send>;

/// The use of an abandoned read when it comes back. Files that it read before it hung may have changed since, so the content
/// is good only if another look has to agree with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Late {
    /// The content counts like any other: the next look must agree.
    Counts,
    /// The content is not used: the part is read anew.
    IsDropped,
}

/// The reading thread, and the abandoned reads. At most one thread per part hangs, because a part is read again only after
/// its read has come back.
pub(super) struct Readers {
    /// Time limit for the first read in a look that hangs.
    read_timeout: Duration,
    /// Time limit for further reads in that look.
    left: Duration,
    late: Late,
    thread: Option<Sender<Job>>,
    given_up: PerPart<Option<Receiver<Reading>>>,
}

impl Readers {
    pub(super) fn new(read_timeout: Duration) -> Self {
        Self {
            read_timeout,
            left: read_timeout,
            late: Late::IsDropped,
            thread: None,
            given_up: PerPart::default(),
        }
    }

    /// Begins a look at all parts. Once a read has hung, the others of a dead volume get a much shorter time.
    pub(super) const fn begin(&mut self, read_timeout: Duration, late: Late) {
        self.read_timeout = read_timeout;
        self.left = read_timeout;
        self.late = late;
    }

    /// Reads a part; `None` while the read hangs. The content of an abandoned read may count later, so that a slow volume is
    /// seen in the end, unless the configuration names something else by then.
    pub(super) fn read(
        &mut self,
        part: Part,
        settings: Digest,
        read: impl FnOnce() -> Reading + Send + 'static,
    ) -> Option<Reading> {
        let given_up = self.given_up.of_mut(part);
        match given_up.as_ref().map(Receiver::try_recv) {
            Some(Err(TryRecvError::Empty)) => return None,
            Some(Ok(reading)) if reading.settings == settings && self.late == Late::Counts => {
                *given_up = None;
                return Some(reading);
            }
            _ => *given_up = None,
        }
        let (sender, receiver) = mpsc::sync_channel(1);
        // The content came too late, for a configuration that is not the same any more.
        self.submit(Box::new(move || drop(sender.send(read()))));
        match receiver.recv_timeout(self.left) {
            Ok(reading) => Some(reading),
            Err(RecvTimeoutError::Timeout) => {
                self.thread = None;
                self.left = self.read_timeout / 4;
                *self.given_up.of_mut(part) = Some(receiver);
                None
            }
            // Without a thread (the machine has none left) nothing is known of the part.
            Err(RecvTimeoutError::Disconnected) => None,
        }
    }

    fn submit(&mut self, job: Job) {
        let job = match &self.thread {
            None => job,
            Some(thread) => match thread.send(job) {
                Ok(()) => return,
                Err(mpsc::SendError(job)) => job,
            },
        };
        let (sender, jobs) = mpsc::channel::<Job>();
        let started = thread::Builder::new().name("reload-reads".to_owned()).spawn(move || {
            for job in jobs {
                job();
            }
        });
        self.thread = started.ok().and_then(|_| sender.send(job).ok().map(|()| sender));
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::super::contents::Material;
    use super::*;

    const SETTINGS: Digest = [1; 32];

    fn reading(settings: Digest, of: u8) -> Reading {
        Reading { settings, of: [of; 32], is_unfinished: false, material: Material::AdminToken(None) }
    }

    /// A part whose read waits until the test lets it continue.
    fn hang(readers: &mut Readers, part: Part, of: u8) -> Sender<()> {
        let (release, released) = mpsc::channel();
        let hung = readers.read(part, SETTINGS, move || {
            released.recv().unwrap();
            reading(SETTINGS, of)
        });
        assert!(hung.is_none());
        release
    }

    fn seen(readers: &mut Readers, part: Part, settings: Digest) -> Option<u8> {
        let read = readers.read(part, settings, move || reading(settings, 9));
        read.map(|reading| reading.of[0])
    }

    #[test]
    fn a_hanging_read_delays_no_other_and_counts_when_it_comes_back() {
        let mut readers = Readers::new(Duration::from_millis(50));
        readers.begin(Duration::from_millis(50), Late::Counts);
        let release = hang(&mut readers, Part::Policies, 7);
        assert_eq!(seen(&mut readers, Part::ClientTrust, SETTINGS), Some(9));
        let start = Instant::now();
        for _ in 0..1_000 {
            assert_eq!(seen(&mut readers, Part::Policies, SETTINGS), None, "it is not read a second time");
        }
        assert!(start.elapsed() < Duration::from_millis(50), "it is not waited for a second time");
        release.send(()).unwrap();
        let came_back = (0..1_000).find_map(|_| {
            thread::sleep(Duration::from_millis(5));
            seen(&mut readers, Part::Policies, SETTINGS)
        });
        assert_eq!(came_back, Some(7));
        assert_eq!(seen(&mut readers, Part::Policies, SETTINGS), Some(9));
    }

    #[test]
    fn what_comes_back_late_is_read_anew_for_another_configuration_and_where_no_look_follows() {
        for (late, settings) in [(Late::Counts, [2; 32]), (Late::IsDropped, SETTINGS)] {
            let mut readers = Readers::new(Duration::from_millis(50));
            let release = hang(&mut readers, Part::Policies, 7);
            readers.begin(Duration::from_millis(50), late);
            release.send(()).unwrap();
            let came_back = (0..1_000).find_map(|_| {
                thread::sleep(Duration::from_millis(5));
                seen(&mut readers, Part::Policies, settings)
            });
            assert_eq!(came_back, Some(9), "{late:?}");
        }
    }

    #[test]
    fn a_look_is_bounded_while_every_part_hangs() {
        let mut readers = Readers::new(Duration::from_millis(200));
        let start = Instant::now();
        let hung: Vec<_> = Part::ALL.map(|part| hang(&mut readers, part, 7)).into();
        assert!(start.elapsed() < Duration::from_millis(200 + 7 * 100), "{:?}", start.elapsed());
        drop(hung);
    }
}
