//! Demo: a throw-away PKI, an embedded events backend, the shipped policy and the proxy in one process.

pub mod events;
pub mod walkthrough;
pub mod pki;
mod environment;

use std::io::{self, Write};
use std::path::PathBuf;

use tokio::signal::unix::{Signal, SignalKind, signal};

use self::environment::Environment;
use self::walkthrough::Walkthrough;
use crate::app::{self, App};
use crate::diagnostic::{Code, Diagnostic};
use crate::reload::Origin;

/// Options of the demo.
#[derive(Clone, Debug)]
pub struct Options {
    /// Folder for the files, which stay there; `None` for a temporary folder, which is removed at the end.
    pub folder: Option<PathBuf>,
    /// Port of the proxy; 0 for a free port.
    pub port: u16,
    /// Port of the admin listener; 0 for a free port.
    pub admin_port: u16,
    /// Port of the backend; 0 for a free port.
    pub backend_port: u16,
    /// Maximum number of connections that the proxy admits.
    pub max_connections: usize,
}

/// Runs the demo until a signal ends it, and writes the steps to try to `out`.
///
/// # Errors
/// A port, a folder or a file cannot be used.
pub fn run(options: &Options, out: &mut dyn Write) -> Result<(), Vec<Diagnostic>> {
    let environment = Environment::prepare(options).map_err(failed)?;
    // The files of the demo are read as `sidegate run` reads them.
    let loaded = Origin::new(environment.configuration(), &[]).load()?;
    let log = app::start_log(&loaded.config);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(failed)?;
    runtime.block_on(async {
        let app = App::start(loaded, Some(log.dropped())).map_err(failed)?;
        // The handlers are set before the steps are shown, because a signal without a handler ends the process.
        let toggle = signal(SignalKind::user_defined1()).map_err(failed)?;
        let (stop, abort) = app::signals().map_err(failed)?;
        announce(&app, &environment, options, out).map_err(failed)?;
        tokio::select! {
            served = app.serve(stop, abort) => served.map_err(failed),
            gone = toggle_backend_on_signal(toggle, environment, out) => gone.map_err(failed),
        }
    })
}

/// Stops or starts the backend at each signal. Ends with an error when `out` cannot be written.
async fn toggle_backend_on_signal(
    mut toggle: Signal,
    mut environment: Environment,
    out: &mut dyn Write,
) -> io::Result<()> {
    while toggle.recv().await.is_some() {
        writeln!(out, "{}", environment.toggle_backend())?;
        out.flush()?;
    }
    std::future::pending().await
}

fn announce(app: &App, environment: &Environment, options: &Options, out: &mut dyn Write) -> io::Result<()> {
    let admin = app.admin_address().ok_or_else(|| io::Error::other("the admin listener has no address"))?;
    let walkthrough = Walkthrough {
        folder: environment.folder().to_owned(),
        listen: app.listen_address()?,
        admin,
        max_connections: options.max_connections,
        process: std::process::id(),
    };
    let removal_note = if environment.is_temporary() { " (removed at the end)" } else { "" };
    writeln!(out, "Sidegate stands in front of an events backend that has no authorization of its own.\n")?;
    writeln!(
        out,
        "  proxy    https://localhost:{} (at most {} connections)",
        walkthrough.listen.port(),
        walkthrough.max_connections
    )?;
    writeln!(out, "  backend  http://{}", environment.backend())?;
    writeln!(out, "  admin    http://{admin}")?;
    writeln!(out, "  files    {}{removal_note}", walkthrough.folder.display())?;
    writeln!(out, "\nPaste these lines into another terminal, in this order:\n")?;
    for line in walkthrough.steps() {
        writeln!(out, "{line}")?;
    }
    writeln!(out, "Ctrl-C ends the demo.")?;
    out.flush()
}

fn failed(error: impl std::fmt::Display) -> Vec<Diagnostic> {
    vec![Diagnostic::error(Code::Demo, error.to_string())]
}
