//! Environment of the demo's proxy: the folder with its files, and the backend.

use std::fs::{self, DirBuilder};
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use super::events::Backend;
use super::{Options, pki};

/// Shipped policy for the events backend.
const POLICY: &str = include_str!("../../policies/events.yaml");

/// First line of the configuration that the demo writes. It marks a folder as the demo's own.
const MARK: &str = "# Written by `sidegate demo`;";

/// Folder and backend of the demo. When dropped, the backend stops and a temporary folder is removed.
#[derive(Debug)]
pub(super) struct Environment {
    folder: Folder,
    /// Running backend; `None` while it is stopped.
    backend: Option<Backend>,
    backend_address: SocketAddr,
}

impl Environment {
    /// Makes the folder, starts the backend and writes all files.
    pub(super) fn prepare(options: &Options) -> io::Result<Self> {
        let folder = Folder::make(options.folder.as_deref())?;
        let address = loopback(options.backend_port);
        let backend = Backend::start(address)
            .map_err(|error| with_context(error, &format!("listen on {address} (backend)")))?;
        let environment = Self { backend_address: backend.address(), backend: Some(backend), folder };
        pki::write_demo(environment.folder())?;
        environment.write_policy()?;
        fs::write(environment.configuration(), environment.configuration_text(options))?;
        Ok(environment)
    }

    pub(super) fn folder(&self) -> &Path {
        &self.folder.path
    }

    pub(super) fn is_temporary(&self) -> bool {
        self.folder.is_temporary
    }

    pub(super) fn backend(&self) -> SocketAddr {
        self.backend_address
    }

    /// Returns the path of the configuration, which `sidegate run --config` can read as well.
    pub(super) fn configuration(&self) -> PathBuf {
        self.folder().join("sidegate.yaml")
    }

    /// Stops the backend, or starts it again on its port. Returns a message for the user.
    pub(super) fn toggle_backend(&mut self) -> String {
        match self.backend.take() {
            Some(backend) => {
                backend.stop();
                "the backend is stopped".to_owned()
            }
            None => match Backend::start(self.backend_address) {
                Ok(backend) => {
                    self.backend = Some(backend);
                    "the backend is running again".to_owned()
                }
                Err(error) => format!("the backend is still stopped: {error}"),
            },
        }
    }

    /// Writes the policy if the folder has none: the user may have changed the policy of an earlier run.
    fn write_policy(&self) -> io::Result<()> {
        let file = self.folder().join("policies").join("events.yaml");
        fs::create_dir_all(self.folder().join("policies"))?;
        if file.exists() { Ok(()) } else { fs::write(file, POLICY) }
    }

    fn configuration_text(&self, options: &Options) -> String {
        format!(
            "{MARK} `sidegate run --config` takes it too, in front of a backend of your own.
listen: {listen}
tls:
  certificate: server.crt
  key: server.key
  client_ca: ca.crt
  crl: {crl}
backend:
  url: http://{backend}
policies: policies/
limits:
  max_connections: {slots}
admin:
  listen: {admin}
log:
  level: warn
  audit: audit.jsonl
drain_timeout: 1s
",
            listen = loopback(options.port),
            crl = pki::CRL,
            backend = self.backend_address,
            slots = options.max_connections,
            admin = loopback(options.admin_port),
        )
    }
}

/// Folder of the demo, removed when dropped if it is temporary.
#[derive(Debug)]
struct Folder {
    path: PathBuf,
    is_temporary: bool,
}

impl Folder {
    fn make(chosen: Option<&Path>) -> io::Result<Self> {
        let Some(path) = chosen else { return Self::temporary() };
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(path)
            .and_then(|()| fs::canonicalize(path))
            .and_then(check_is_own_folder)
            .map(|path| Self { path, is_temporary: false })
            .map_err(|error| with_context(error, &format!("use the folder {}", path.display())))
    }

    /// Makes a new folder that only this user can read: it holds private keys, and every user can write to `/tmp`.
    fn temporary() -> io::Result<Self> {
        let parent = std::env::temp_dir();
        let process = std::process::id();
        for attempt in 0..100 {
            let path = parent.join(format!("sidegate-demo-{process}-{attempt}"));
            match DirBuilder::new().mode(0o700).create(&path) {
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                made => return made.map(|()| Self { path, is_temporary: true }),
            }
        }
        Err(io::Error::other(format!("no new folder can be made in {}", parent.display())))
    }
}

/// Checks that the folder is empty or was made by the demo, because certificates and keys in it are overwritten.
fn check_is_own_folder(folder: PathBuf) -> io::Result<PathBuf> {
    let is_ours = fs::read_to_string(folder.join("sidegate.yaml")).is_ok_and(|text| text.starts_with(MARK));
    if is_ours || fs::read_dir(&folder)?.next().is_none() {
        return Ok(folder);
    }
    Err(io::Error::other("it holds files that are not the demo's; name a new or an empty one"))
}

impl Drop for Folder {
    fn drop(&mut self) {
        if self.is_temporary {
            // An error is ignored: the files are a throw-away PKI in a temporary folder.
            let _ = fs::remove_dir_all(&self.path);
        }
    }
}

pub(super) fn loopback(port: u16) -> SocketAddr {
    SocketAddr::from((Ipv4Addr::LOCALHOST, port))
}

fn with_context(error: io::Error, what: &str) -> io::Error {
    io::Error::new(error.kind(), format!("cannot {what}: {error}"))
}
