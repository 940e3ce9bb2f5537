//! Policies on disk: a file, or a folder of files. The proxy and the tools read policy files only here.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::diagnostic::{Code, Diagnostic, Source};
use crate::document::Budget;
use crate::reload::files::{self, AcceptedKinds, ReadError};
use crate::secret;

/// Reads policies: named files, and of each folder every `*.yaml` and `*.yml` directly in it, in the order of their names,
/// without `*_test.yaml` (which hold tests only). Files in folders must be regular files.
///
/// # Errors
/// Every path that does not exist or cannot be read, and every folder without a policy.
pub fn read(paths: &[PathBuf], accept: AcceptedKinds) -> Result<Vec<Arc<Source>>, Vec<Diagnostic>> {
    collect(paths, accept, |path| !is_test(path))
}

/// Reads policies together with the test files beside them, for a tool: a named path may be a pipe.
///
/// # Errors
/// As [`read`].
pub fn read_with_tests(paths: &[PathBuf]) -> Result<Vec<Arc<Source>>, Vec<Diagnostic>> {
    let mut sources = collect(paths, AcceptedKinds::Streams, |_| true)?;
    // The tests of a single named policy are in a file beside it.
    for path in paths.iter().filter(|path| path.is_file() && !is_test(path)) {
        let beside = path.with_extension("").into_os_string();
        for ending in ["_test.yaml", "_test.yml"] {
            let mut beside = beside.clone();
            beside.push(ending);
            let beside = PathBuf::from(beside);
            if beside.is_file() && !sources.iter().any(|source| source.name() == beside.display().to_string())
            {
                sources.push(read_file(&beside, AcceptedKinds::Regular).map_err(|problem| vec![problem])?);
            }
        }
    }
    Ok(sources)
}

fn collect(
    paths: &[PathBuf],
    accept: AcceptedKinds,
    wanted: impl Fn(&Path) -> bool,
) -> Result<Vec<Arc<Source>>, Vec<Diagnostic>> {
    let (mut sources, mut problems) = (Vec::new(), Vec::new());
    for path in paths {
        match files(path, &wanted) {
            Ok(files) => {
                for file in files {
                    let accept = if file == *path { accept } else { AcceptedKinds::Regular };
                    match read_file(&file, accept) {
                        Ok(source) => sources.push(source),
                        Err(problem) => problems.push(problem),
                    }
                }
            }
            Err(problem) => problems.push(problem),
        }
    }
    if problems.is_empty() { Ok(sources) } else { Err(problems) }
}

fn files(path: &Path, wanted: impl Fn(&Path) -> bool) -> Result<Vec<PathBuf>, Diagnostic> {
    if !path.is_dir() {
        return Ok(vec![path.to_owned()]);
    }
    let entries = fs::read_dir(path).and_then(Iterator::collect::<io::Result<Vec<_>>>);
    let entries = entries.map_err(|error| unreadable(path, &error.into()))?;
    let mut files: Vec<PathBuf> =
        entries.into_iter().map(|entry| entry.path()).filter(|path| is_policy(path)).collect();
    files.retain(|path| wanted(path));
    files.sort();
    if files.is_empty() {
        return Err(Diagnostic::error(
            Code::NoPolicy,
            format!("no policy in the folder `{}`", path.display()),
        )
        .help("put a file that ends in `.yaml` or `.yml` directly in it, or name another folder"));
    }
    Ok(files)
}

/// `true` if a file of a folder is to be read. Hidden files are not: editors and volume mounts make such files.
fn is_policy(path: &Path) -> bool {
    let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    let ending = path.extension().and_then(|ending| ending.to_str()).unwrap_or_default();
    matches!(ending, "yaml" | "yml") && !name.starts_with('.') && !path.is_dir()
}

fn is_test(path: &Path) -> bool {
    path.file_stem().and_then(|stem| stem.to_str()).is_some_and(|stem| stem.ends_with("_test"))
}

fn read_file(path: &Path, accept: AcceptedKinds) -> Result<Arc<Source>, Diagnostic> {
    let bytes = files::read(path, Budget::POLICY.bytes as u64, accept);
    let bytes = bytes.map_err(|error| unreadable(path, &error))?;
    let name = path.display().to_string();
    match String::from_utf8(bytes) {
        Ok(text) => {
            let source = Source::new(name, text);
            secret::refuse_secret_document(&source)?;
            Ok(source)
        }
        Err(error) => {
            let at = error.utf8_error().valid_up_to();
            Err(Diagnostic::error(Code::NotText, format!("`{name}` is not UTF-8 text (byte {at})"))
                .help("save it as UTF-8"))
        }
    }
}

fn unreadable(path: &Path, error: &ReadError) -> Diagnostic {
    let path = path.display();
    let cannot = || Diagnostic::error(Code::Unreadable, format!("`{path}` cannot be read: {error}"));
    match (error, error.io_kind()) {
        (_, Some(io::ErrorKind::NotFound)) => {
            Diagnostic::error(Code::NoPolicy, format!("there is no `{path}`"))
                .help("name a policy file, or a folder of them")
        }
        (_, Some(io::ErrorKind::PermissionDenied)) => {
            Diagnostic::error(Code::Unreadable, format!("`{path}` may not be read"))
                .help("give this process the right to read it")
        }
        (ReadError::TooLarge(bound), _) => {
            Diagnostic::error(Code::TooLarge, format!("`{path}` is larger than {} MiB", bound >> 20))
                .help("split it into several files")
        }
        (ReadError::Irregular(_), _) => cannot().help("put a regular file there, or a symbolic link to one"),
        _ => cannot(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(result: Result<Vec<Arc<Source>>, Vec<Diagnostic>>, folder: &Path) -> Vec<String> {
        let short = |source: &Arc<Source>| source.name().replace(&format!("{}/", folder.display()), "");
        result.unwrap().iter().map(short).collect()
    }

    #[test]
    fn a_folder_is_read_in_the_order_of_names_without_its_tests() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["b.yml", "a.yaml", "a_test.yaml", "notes.md", ".hidden.yaml"] {
            fs::write(folder.path().join(name), "version: 1\n").unwrap();
        }
        fs::create_dir(folder.path().join("below.yaml")).unwrap();
        let path = [folder.path().to_owned()];
        assert_eq!(names(read(&path, AcceptedKinds::Regular), folder.path()), ["a.yaml", "b.yml"]);
        assert_eq!(names(read_with_tests(&path), folder.path()), ["a.yaml", "a_test.yaml", "b.yml"]);
        let file = [folder.path().join("a.yaml")];
        assert_eq!(names(read(&file, AcceptedKinds::Streams), folder.path()), ["a.yaml"]);
        assert_eq!(names(read_with_tests(&file), folder.path()), ["a.yaml", "a_test.yaml"]);
    }

    #[test]
    fn every_path_that_cannot_be_read_is_reported() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("latin.yaml"), b"a: \xe4").unwrap();
        std::os::unix::fs::symlink("/dev/null", folder.path().join("device.yaml")).unwrap();
        let empty = tempfile::tempdir().unwrap();
        let paths = ["/nowhere".into(), empty.path().to_owned(), folder.path().to_owned()];
        let problems = read(&paths, AcceptedKinds::Streams).unwrap_err();
        let codes: Vec<_> = problems.iter().map(|problem| problem.code.name()).collect();
        assert_eq!(codes, ["no-policy", "no-policy", "unreadable", "not-text"]);
        assert!(problems[2].message.ends_with("it is a device and no regular file"), "{problems:?}");
    }
}
