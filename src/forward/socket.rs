//! Sockets to the backend: TCP, TLS over TCP, or a Unix socket, all used alike once they are connected.

use std::fmt;
use std::io;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use http::uri::Scheme;
use rustix::io::Errno;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpStream, UnixStream};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::Protocol;
use crate::refusal::BackendFault;

/// The address of the backend.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Location {
    /// A host, by name or address, and a port.
    Tcp {
        /// Name or address; an IPv6 address without its brackets.
        host: String,
        /// The port, from 1.
        port: u16,
        /// The name that the certificate must be for; `None` without TLS.
        tls: Option<ServerName<'static>>,
    },
    /// A Unix socket.
    Unix(PathBuf),
}

impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp { host, port, .. } if host.contains(':') => write!(f, "[{host}]:{port}"),
            Self::Tcp { host, port, .. } => write!(f, "{host}:{port}"),
            Self::Unix(path) => write!(f, "{}", path.display()),
        }
    }
}

/// Returns the client's side of TLS: the authorities of the backend's certificate, and our own certificate.
///
/// # Errors
/// A key that does not fit its certificate, or one that the provider cannot use.
pub fn client_config(
    authorities: RootCertStore,
    own: Option<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>)>,
    protocol: Protocol,
) -> Result<ClientConfig, rustls::Error> {
    let builder = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()?
        .with_root_certificates(authorities);
    let mut config = match own {
        Some((chain, key)) => builder.with_client_auth_cert(chain, key)?,
        None => builder.with_no_client_auth(),
    };
    config.alpn_protocols = match protocol {
        Protocol::Http1 => vec![b"http/1.1".to_vec()],
        Protocol::Http2 => vec![b"h2".to_vec()],
    };
    Ok(config)
}

/// The reason why there is no socket: the fault, and the error for operators.
#[derive(Debug)]
pub(super) struct NoSocket {
    pub(super) fault: BackendFault,
    pub(super) error: io::Error,
}

impl Location {
    /// The URL scheme: `https` with TLS, else `http`.
    pub(super) fn scheme(&self) -> Scheme {
        match self {
            Self::Tcp { tls: Some(_), .. } => Scheme::HTTPS,
            Self::Tcp { tls: None, .. } | Self::Unix(_) => Scheme::HTTP,
        }
    }

    /// Makes a connection, TLS included.
    pub(super) async fn dial(&self, tls: Option<&Arc<ClientConfig>>) -> Result<Socket, NoSocket> {
        let unreachable = |error| NoSocket { fault: fault_of(&error), error };
        match self {
            Self::Unix(path) => Ok(Socket::Unix(UnixStream::connect(path).await.map_err(unreachable)?)),
            Self::Tcp { host, port, tls: name } => {
                let socket = TcpStream::connect((host.as_str(), *port)).await.map_err(unreachable)?;
                // Heads and small bodies are whole when they are written; waiting for more only adds delay.
                socket.set_nodelay(true).map_err(unreachable)?;
                match name {
                    None => Ok(Socket::Tcp(socket)),
                    Some(name) => secure(socket, name.clone(), tls).await,
                }
            }
        }
    }
}

/// The fault for which no socket was connected. A process without descriptors, ports or memory says nothing of the backend.
fn fault_of(error: &io::Error) -> BackendFault {
    let own = [Errno::MFILE, Errno::NFILE, Errno::ADDRNOTAVAIL, Errno::NOBUFS, Errno::NOMEM];
    match error.raw_os_error() {
        Some(code) if own.iter().any(|errno| errno.raw_os_error() == code) => BackendFault::OwnResources,
        _ => BackendFault::Unreachable,
    }
}

async fn secure(
    socket: TcpStream,
    name: ServerName<'static>,
    tls: Option<&Arc<ClientConfig>>,
) -> Result<Socket, NoSocket> {
    let insecure = |error| NoSocket { fault: BackendFault::Insecure, error };
    let tls = tls.ok_or_else(|| insecure(io::Error::other("TLS is not configured")))?;
    let stream = TlsConnector::from(Arc::clone(tls)).connect(name, socket).await.map_err(insecure)?;
    Ok(Socket::Tls(Box::new(stream)))
}

/// A connected socket.
#[derive(Debug)]
pub(super) enum Socket {
    Tcp(TcpStream),
    Unix(UnixStream),
    Tls(Box<TlsStream<TcpStream>>),
}

/// Calls the same method of whichever socket it is.
macro_rules! each {
    ($self:ident, $stream:ident => $call:expr) => {
        match $self.get_mut() {
            Self::Tcp($stream) => $call,
            Self::Unix($stream) => $call,
            Self::Tls($stream) => $call,
        }
    };
}

impl AsyncRead for Socket {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        each!(self, stream => Pin::new(stream).poll_read(cx, buf))
    }
}

impl AsyncWrite for Socket {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        each!(self, stream => Pin::new(stream).poll_write(cx, buf))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        // A plain write of one buffer costs the kernel less.
        match bufs {
            [one] => self.poll_write(cx, one),
            bufs => each!(self, stream => Pin::new(stream).poll_write_vectored(cx, bufs)),
        }
    }

    fn is_write_vectored(&self) -> bool {
        match self {
            Self::Tcp(stream) => stream.is_write_vectored(),
            Self::Unix(stream) => stream.is_write_vectored(),
            Self::Tls(stream) => stream.is_write_vectored(),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        each!(self, stream => Pin::new(stream).poll_flush(cx))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        each!(self, stream => Pin::new(stream).poll_shutdown(cx))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_without_resources_does_not_blame_the_backend() {
        let of = |errno: Errno| fault_of(&io::Error::from_raw_os_error(errno.raw_os_error()));
        for own in [Errno::MFILE, Errno::NFILE, Errno::ADDRNOTAVAIL, Errno::NOMEM] {
            assert_eq!(of(own), BackendFault::OwnResources, "{own:?}");
        }
        for backend in [Errno::CONNREFUSED, Errno::HOSTUNREACH, Errno::CONNRESET, Errno::NOENT] {
            assert_eq!(of(backend), BackendFault::Unreachable, "{backend:?}");
        }
    }
}
