//! Trust on disk: client CAs and CRLs, each a file or a folder of them. The one place where they are read, for the proxy
//! and for the tools alike.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::diagnostic::{Diagnostic, Place};
use crate::identity::TrustFile;

/// A larger file is none of ours: a CRL of a million entries has about 40 MiB.
const LARGEST: u64 = 256 << 20;

/// What is looked for in a folder.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Certificates: `*.pem`, `*.crt`, `*.cer`.
    Certificates,
    /// CRLs and certificates beside them: also `*.crl`, `*.der`, and `*.r0` to `*.r9` as `openssl rehash` names them.
    Crls,
}

impl Kind {
    fn holds(self, path: &Path) -> bool {
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        let ending = path.extension().and_then(|ending| ending.to_str()).unwrap_or_default();
        let is_such = match (self, ending) {
            (_, "pem" | "crt" | "cer") | (Self::Crls, "crl" | "der") => true,
            (Self::Crls, ending) => {
                ending.strip_prefix('r').is_some_and(|rest| matches!(rest.as_bytes(), [b'0'..=b'9']))
            }
            _ => false,
        };
        // Kubernetes' `..data` links are not files of ours.
        is_such && !name.starts_with('.') && path.is_file()
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

/// The file itself, or those in a folder, in the order of their names.
///
/// # Errors
/// The folder cannot be read, or holds nothing of the kind.
pub fn list(path: &Path, kind: Kind) -> Result<Vec<PathBuf>, Diagnostic> {
    if !path.is_dir() {
        return Ok(vec![path.to_owned()]);
    }
    let entries = fs::read_dir(path).and_then(Iterator::collect::<io::Result<Vec<_>>>);
    let entries = entries.map_err(|error| unreadable(path, &error))?;
    let mut files: Vec<PathBuf> = entries.into_iter().map(|entry| entry.path()).collect();
    files.retain(|file| kind.holds(file));
    files.sort();
    if files.is_empty() {
        let (what, help) = kind.missing();
        return Err(file_problem(format!("there is no {what} in the folder `{}`", path.display()), help));
    }
    Ok(files)
}

/// Reads the file, or those in a folder. Problems and files know the place that named them.
///
/// # Errors
/// Every file that cannot be read.
pub fn read(path: &Path, kind: Kind, place: Option<&Place>) -> Result<Vec<TrustFile>, Vec<Diagnostic>> {
    let at = |problem: Diagnostic| place.cloned().into_iter().fold(problem, Diagnostic::at);
    let files = list(path, kind).map_err(|problem| vec![at(problem)])?;
    let (mut read, mut problems) = (Vec::new(), Vec::new());
    for file in files {
        match bytes_of(&file) {
            Ok(bytes) => {
                read.push(TrustFile { name: file.display().to_string(), bytes, place: place.cloned() });
            }
            Err(problem) => problems.push(at(problem)),
        }
    }
    if problems.is_empty() { Ok(read) } else { Err(problems) }
}

/// Reads one file. Problems know the place that named it.
///
/// # Errors
/// It cannot be read, or is too large to be what it should be.
pub fn read_file(path: &Path, place: &Place) -> Result<Vec<u8>, Vec<Diagnostic>> {
    bytes_of(path).map_err(|problem| vec![problem.at(place.clone())])
}

fn bytes_of(path: &Path) -> Result<Vec<u8>, Diagnostic> {
    let length = fs::metadata(path).map_err(|error| unreadable(path, &error))?.len();
    if length > LARGEST {
        let message = format!("`{}` is larger than {} MiB", path.display(), LARGEST >> 20);
        return Err(file_problem(message, "no certificate or CRL is that large; check the path"));
    }
    fs::read(path).map_err(|error| unreadable(path, &error))
}

fn unreadable(file: &Path, error: &io::Error) -> Diagnostic {
    let help = match error.kind() {
        io::ErrorKind::NotFound => "check the path; relative ones are relative to the configuration file",
        io::ErrorKind::PermissionDenied => "let the user that runs sidegate read it",
        _ => "check the path",
    };
    file_problem(format!("cannot read `{}`: {error}", file.display()), help)
}

fn file_problem(message: String, help: &str) -> Diagnostic {
    Diagnostic::error("file", message).help(help)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_gives_what_is_of_its_kind() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["b.crl", "a.pem", "c.der", "9d66eef0.r0", "9d66eef0.rx", ".a.crl", "README", "d.cer"] {
            fs::write(folder.path().join(name), name).unwrap();
        }
        fs::create_dir(folder.path().join("e.pem")).unwrap();
        let names = |kind| -> Vec<_> {
            let files = read(folder.path(), kind, None).unwrap();
            files.into_iter().map(|file| String::from_utf8(file.bytes).unwrap()).collect()
        };
        assert_eq!(names(Kind::Certificates), ["a.pem", "d.cer"]);
        assert_eq!(names(Kind::Crls), ["9d66eef0.r0", "a.pem", "b.crl", "c.der", "d.cer"]);
    }
}
