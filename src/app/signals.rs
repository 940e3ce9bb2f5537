//! Signals and their handlers.

use std::io;

use tokio::signal::unix::{Signal, SignalKind, signal};

use super::Stop;
use crate::reload::{Asker, Trigger};
use crate::telemetry::Audit;

/// Returns two futures: the first signal to end, which says in what way, and the second, which ends the process at once.
///
/// # Errors
/// The process cannot receive signals.
pub(crate) fn signals() -> io::Result<(impl Future<Output = Stop>, impl Future<Output = ()>)> {
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    let (mut terminate_again, mut interrupt_again) =
        (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    let stop = async move {
        tokio::select! {
            _ = terminate.recv() => Stop::Terminate,
            _ = interrupt.recv() => Stop::Interrupt,
        }
    };
    let abort = async move {
        let mut seen = 0;
        while seen < 2 {
            tokio::select! {
                _ = terminate_again.recv() => seen += 1,
                _ = interrupt_again.recv() => seen += 1,
            }
        }
    };
    Ok((stop, abort))
}

/// Keeps the process alive when a file reaches the limit of its size (`ulimit -f`, `LimitFSIZE`): the write fails, and records
/// are lost and counted. By default the signal would end the process.
///
/// # Errors
/// The process cannot receive signals.
pub(super) fn survive_file_size_limit() -> io::Result<()> {
    /// The number of `SIGXFSZ` on Linux.
    const SIGXFSZ: i32 = 25;
    signal(SignalKind::from_raw(SIGXFSZ)).map(drop)
}

/// Handles SIGHUP: everything is read anew, and the file of audit records is opened anew.
pub(super) async fn reload_at(mut hangups: Signal, reloads: Asker, audit: Option<Audit>) {
    while hangups.recv().await.is_some() {
        reopen(audit.as_ref());
        reloads.ask(Trigger::Signal);
    }
}

/// Handles SIGUSR1: the file of audit records is opened anew.
pub(super) async fn reopen_at(mut rotations: Signal, audit: Option<Audit>) {
    while rotations.recv().await.is_some() {
        reopen(audit.as_ref());
    }
}

/// Opens the file of audit records anew, after it was renamed.
fn reopen(audit: Option<&Audit>) {
    match audit.and_then(Audit::reopen) {
        Some(Ok(())) => tracing::info!("the file of audit records was opened anew"),
        Some(Err(error)) => {
            tracing::error!(%error, "the file of audit records cannot be opened anew: the old one goes on");
        }
        None => {}
    }
}
