//! Bounded reading of files. A file that hangs or never ends would stop every reload: a FIFO blocks in `open`, `/dev/zero`
//! has no end, and a log that is named by mistake grows while it is read.

use std::fmt;
use std::fs::{self, File, FileType, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt};
use std::path::Path;

use rustix::fs::OFlags;

/// Kinds of files that are accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AcceptedKinds {
    /// Regular files, also through symbolic links: for every file of the server.
    Regular,
    /// Pipes and devices as well: for the files that the user of a tool names, as in `sidegate policy check <(generate)`.
    Streams,
}

/// Reason for which a file was not read.
#[derive(Debug)]
pub enum ReadError {
    /// An error of the operating system.
    Io(io::Error),
    /// The file is a directory, FIFO, socket or device.
    Irregular(&'static str),
    /// The file has more bytes than the bound.
    TooLarge(u64),
}

impl From<io::Error> for ReadError {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

impl fmt::Display for ReadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Io(error) => error.fmt(f),
            Self::Irregular(kind) => write!(f, "it is {kind} and no regular file"),
            Self::TooLarge(bound) if bound % (1 << 20) == 0 => {
                write!(f, "it is larger than {} MiB", bound >> 20)
            }
            Self::TooLarge(bound) => write!(f, "it is larger than {bound} bytes"),
        }
    }
}

impl ReadError {
    /// Returns the kind of an error of the operating system.
    #[must_use]
    pub fn io_kind(&self) -> Option<io::ErrorKind> {
        match self {
            Self::Io(error) => Some(error.kind()),
            Self::Irregular(_) | Self::TooLarge(_) => None,
        }
    }
}

/// Reads a whole file of at most `bound` bytes.
///
/// # Errors
/// The file cannot be read, is not of an accepted kind, or holds more than the bound.
pub fn read(path: &Path, bound: u64, accept: AcceptedKinds) -> Result<Vec<u8>, ReadError> {
    let file = open(path, accept)?;
    let length = file.metadata()?.len();
    if length > bound {
        return Err(ReadError::TooLarge(bound));
    }
    read_stream(file, bound)
}

/// Reads a stream to its end, which must come within `bound` bytes: a file that grows meanwhile is bounded as well.
///
/// # Errors
/// The stream cannot be read, or holds more than the bound.
pub fn read_stream(stream: impl Read, bound: u64) -> Result<Vec<u8>, ReadError> {
    let mut bytes = Vec::new();
    stream.take(bound.saturating_add(1)).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > bound {
        return Err(ReadError::TooLarge(bound));
    }
    Ok(bytes)
}

/// Opens a file without blocking on a FIFO. The kind is checked before, because opening a device can change its state, and
/// after, because the path may name another file by then (race).
fn open(path: &Path, accept: AcceptedKinds) -> Result<File, ReadError> {
    if accept == AcceptedKinds::Streams {
        return Ok(File::open(path)?);
    }
    check_regular(fs::metadata(path)?.file_type())?;
    let nonblocking = i32::try_from(OFlags::NONBLOCK.bits()).unwrap_or_default();
    let file = OpenOptions::new().read(true).custom_flags(nonblocking).open(path)?;
    check_regular(file.metadata()?.file_type())?;
    Ok(file)
}

fn check_regular(kind: FileType) -> Result<(), ReadError> {
    match kind {
        kind if kind.is_file() => Ok(()),
        kind if kind.is_dir() => Err(ReadError::Irregular("a directory")),
        kind if kind.is_fifo() => Err(ReadError::Irregular("a FIFO (named pipe)")),
        kind if kind.is_socket() => Err(ReadError::Irregular("a socket")),
        _ => Err(ReadError::Irregular("a device")),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;
    use std::os::unix::net::UnixListener;
    use std::process::Command;

    use super::*;

    fn told(path: &Path, bound: u64, accept: AcceptedKinds) -> String {
        read(path, bound, accept).map_or_else(|error| error.to_string(), |bytes| format!("{bytes:?}"))
    }

    #[test]
    fn other_kinds_of_files_are_refused_by_name() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        fs::write(path("file"), [7]).unwrap();
        symlink("file", path("link")).unwrap();
        assert!(Command::new("mkfifo").arg(path("fifo")).status().unwrap().success());
        symlink("fifo", path("link-to-fifo")).unwrap();
        let _socket = UnixListener::bind(path("socket")).unwrap();
        for (name, expected) in [
            ("file", "[7]"),
            ("link", "[7]"),
            ("fifo", "it is a FIFO (named pipe) and no regular file"),
            ("link-to-fifo", "it is a FIFO (named pipe) and no regular file"),
            ("socket", "it is a socket and no regular file"),
            (".", "it is a directory and no regular file"),
            ("/dev/zero", "it is a device and no regular file"),
        ] {
            assert_eq!(told(&path(name), 9, AcceptedKinds::Regular), expected, "{name}");
        }
    }

    #[test]
    fn no_more_than_the_bound_is_read_of_anything() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("file");
        fs::write(&file, [7, 7]).unwrap();
        for accept in [AcceptedKinds::Regular, AcceptedKinds::Streams] {
            assert_eq!(told(&file, 2, accept), "[7, 7]");
            assert_eq!(told(&file, 1, accept), "it is larger than 1 bytes");
        }
        assert_eq!(told(Path::new("/dev/zero"), 1 << 20, AcceptedKinds::Streams), "it is larger than 1 MiB");
        // The length of a file in `/proc` is reported as 0.
        assert!(read(Path::new("/proc/self/limits"), 1 << 20, AcceptedKinds::Regular).unwrap().len() > 100);
        assert!(matches!(
            read(Path::new("/proc/self/limits"), 99, AcceptedKinds::Regular),
            Err(ReadError::TooLarge(99))
        ));
    }
}
