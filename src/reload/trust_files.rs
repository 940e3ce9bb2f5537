//! Trust on disk: client CAs and CRLs, each a file or a folder of files. The proxy and the tools read them only here.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::diagnostic::{Code, Diagnostic, Place};
use crate::identity::TrustFile;
use crate::reload::files::{self, AcceptedKinds, ReadError};

/// Largest file, in bytes: a CRL of a million entries has about 40 MiB.
const MAX_BYTES: u64 = 256 << 20;

/// The kind of files that are looked for in a folder.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TrustFileKind {
    /// Certificates: `*.pem`, `*.crt`, `*.cer`.
    Certificates,
    /// CRLs and certificates beside them: also `*.crl`, `*.der`, and `*.r0` to `*.r9` as `openssl rehash` names them.
    Crls,
}

impl TrustFileKind {
    fn includes(self, path: &Path) -> bool {
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        let ending = path.extension().and_then(|ending| ending.to_str()).unwrap_or_default();
        let is_such = match (self, ending) {
            (_, "pem" | "crt" | "cer") | (Self::Crls, "crl" | "der") => true,
            (Self::Crls, ending) => {
                ending.strip_prefix('r').is_some_and(|rest| matches!(rest.as_bytes(), [b'0'..=b'9']))
            }
            _ => false,
        };
        // Kubernetes' `..data` links are not looked at. A FIFO or a dangling link is an error: if it were left out silently,
        // a CA would be missing.
        is_such && !name.starts_with('.') && !path.is_dir()
    }

    const fn missing(self) -> (&'static str, &'static str) {
        match self {
            Self::Certificates => (
                "certificate",
                "put at least one *.pem or *.crt file there; without a client CA every client would be refused",
            ),
            Self::Crls => (
                "CRL",
                "put at least one *.crl, *.pem or *.der file there, or remove `tls.crl` if nothing is to be checked",
            ),
        }
    }
}

/// Returns the file itself, or those in a folder, in the order of their names.
///
/// # Errors
/// The folder cannot be read, or holds no file of the kind.
pub fn list(path: &Path, kind: TrustFileKind) -> Result<Vec<PathBuf>, Diagnostic> {
    if !path.is_dir() {
        return Ok(vec![path.to_owned()]);
    }
    let entries = fs::read_dir(path).and_then(Iterator::collect::<io::Result<Vec<_>>>);
    let entries = entries.map_err(|error| unreadable(path, &error.into()))?;
    let mut files: Vec<PathBuf> = entries.into_iter().map(|entry| entry.path()).collect();
    files.retain(|file| kind.includes(file));
    files.sort();
    if files.is_empty() {
        let (what, help) = kind.missing();
        return Err(file_problem(format!("there is no {what} in the folder `{}`", path.display()), help));
    }
    Ok(files)
}

/// Reads the file, or those in a folder. Problems and files carry the place that named them; without a place, the user of a
/// tool named the path, and it may be a pipe.
///
/// # Errors
/// Every file that cannot be read.
pub fn read(
    path: &Path,
    kind: TrustFileKind,
    place: Option<&Place>,
) -> Result<Vec<TrustFile>, Vec<Diagnostic>> {
    let at = |problem: Diagnostic| place.cloned().into_iter().fold(problem, Diagnostic::at);
    let files = list(path, kind).map_err(|problem| vec![at(problem)])?;
    let (mut read, mut problems) = (Vec::new(), Vec::new());
    for file in files {
        let accept =
            if place.is_none() && file == path { AcceptedKinds::Streams } else { AcceptedKinds::Regular };
        match bytes_of(&file, accept) {
            Ok(bytes) => {
                read.push(TrustFile { name: file.display().to_string(), bytes, place: place.cloned() });
            }
            Err(problem) => problems.push(at(problem)),
        }
    }
    if problems.is_empty() { Ok(read) } else { Err(problems) }
}

/// Reads one file. Problems carry the place that named it.
///
/// # Errors
/// The file cannot be read, or is too large.
pub fn read_file(path: &Path, place: &Place) -> Result<Vec<u8>, Vec<Diagnostic>> {
    bytes_of(path, AcceptedKinds::Regular).map_err(|problem| vec![problem.at(place.clone())])
}

fn bytes_of(path: &Path, accept: AcceptedKinds) -> Result<Vec<u8>, Diagnostic> {
    files::read(path, MAX_BYTES, accept).map_err(|error| unreadable(path, &error))
}

fn unreadable(file: &Path, error: &ReadError) -> Diagnostic {
    let help = match (error, error.io_kind()) {
        (_, Some(io::ErrorKind::NotFound)) => {
            "check the path; relative ones are relative to the configuration file"
        }
        (_, Some(io::ErrorKind::PermissionDenied)) => "let the user that runs sidegate read it",
        (ReadError::TooLarge(_), _) => "no certificate or CRL is that large; check the path",
        (ReadError::Irregular(_), _) => "put a regular file there, or a symbolic link to one",
        _ => "check the path",
    };
    file_problem(format!("cannot read `{}`: {error}", file.display()), help)
}

fn file_problem(message: String, help: &str) -> Diagnostic {
    Diagnostic::error(Code::File, message).help(help)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_gives_the_files_of_the_wanted_kind() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["b.crl", "a.pem", "c.der", "9d66eef0.r0", "9d66eef0.rx", ".a.crl", "README", "d.cer"] {
            fs::write(folder.path().join(name), name).unwrap();
        }
        fs::create_dir(folder.path().join("e.pem")).unwrap();
        std::os::unix::fs::symlink("a.pem", folder.path().join(".b.pem")).unwrap();
        let names = |kind| -> Vec<_> {
            let files = read(folder.path(), kind, None).unwrap();
            files.into_iter().map(|file| String::from_utf8(file.bytes).unwrap()).collect()
        };
        assert_eq!(names(TrustFileKind::Certificates), ["a.pem", "d.cer"]);
        assert_eq!(names(TrustFileKind::Crls), ["9d66eef0.r0", "a.pem", "b.crl", "c.der", "d.cer"]);
    }

    #[test]
    fn a_name_of_the_kind_that_is_no_file_is_a_problem_by_name() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("a.pem"), "a").unwrap();
        std::os::unix::fs::symlink("nowhere", folder.path().join("b.pem")).unwrap();
        std::os::unix::fs::symlink("/dev/null", folder.path().join("c.crt")).unwrap();
        let problems = read(folder.path(), TrustFileKind::Certificates, None).unwrap_err();
        let told: Vec<_> = problems.iter().map(|problem| &*problem.message).collect();
        assert!(told[0].contains("b.pem`: No such file"), "{told:?}");
        assert!(told[1].ends_with("c.crt`: it is a device and no regular file"), "{told:?}");
        assert_eq!(told.len(), 2);
    }
}
