//! TLS, under a deadline: a socket becomes a [`TlsConnection`] stream with the chain that the client presented. Nobody is
//! judged here; TLS never fails for want of a good certificate (DESIGN §2.1).

mod certificates;
pub mod pieces;
mod stream;

use std::fmt;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use rustls::client::danger::HandshakeSignatureValid;
use rustls::crypto::{CryptoProvider, WebPkiSupportedAlgorithms, aws_lc_rs};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::server::{NoServerSessionStorage, ProducesTickets};
use rustls::sign::CertifiedKey;
use rustls::{DigitallySignedStruct, DistinguishedName, ServerConfig, SignatureScheme};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use crate::identity;
use crate::protocol::Protocol;

use certificates::Certificates;

pub use stream::Stream;

/// A connection on which TLS is done.
pub struct TlsConnection {
    /// The stream, which carries HTTP from here on.
    pub stream: Stream,
    /// What the client presented, leaf first; empty where it presented nothing. Not judged.
    pub chain: Vec<CertificateDer<'static>>,
    /// Which HTTP was agreed on (ALPN).
    pub protocol: Protocol,
    /// Whether the session was resumed from a ticket.
    pub resumed: bool,
}

/// Why a connection never became a secured one.
pub enum HandshakeError {
    /// The client speaks plain HTTP; the socket is handed back so that it can be told.
    PlainHttp(TcpStream),
    /// The handshake failed: no HTTP client, a failed proof of possession, a protocol violation.
    Failed(io::Error),
    /// The handshake took longer than it may.
    TimedOut,
}

impl fmt::Debug for HandshakeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::PlainHttp(_) => f.write_str("PlainHttp"),
            Self::Failed(error) => write!(f, "Failed({error})"),
            Self::TimedOut => f.write_str("TimedOut"),
        }
    }
}

/// Runs the handshake of one connection.
///
/// # Errors
/// Why there is no secured connection.
pub async fn accept(
    socket: TcpStream,
    config: &Arc<ServerConfig>,
    limit: Duration,
) -> Result<TlsConnection, HandshakeError> {
    let accept = TlsAcceptor::from(Arc::clone(config)).accept(SniffedSocket::new(socket)).into_fallible();
    match tokio::time::timeout(limit, accept).await {
        Ok(Ok(stream)) => Ok(TlsConnection::of(stream)),
        Ok(Err((_, sniffed))) if sniffed.first == FirstByte::Letter => {
            Err(HandshakeError::PlainHttp(sniffed.socket))
        }
        Ok(Err((error, _))) => Err(HandshakeError::Failed(error)),
        Err(_) => Err(HandshakeError::TimedOut),
    }
}

impl TlsConnection {
    fn of(stream: TlsStream<SniffedSocket>) -> Self {
        let (_, session) = stream.get_ref();
        let chain = session.peer_certificates().map(<[_]>::to_vec).unwrap_or_default();
        let protocol = match session.alpn_protocol() {
            Some(b"h2") => Protocol::Http2,
            _ => Protocol::Http1,
        };
        let resumed = session.handshake_kind() == Some(rustls::HandshakeKind::Resumed);
        Self { stream: Stream::new(stream), chain, protocol, resumed }
    }
}

/// The server's side of TLS, with its certificates: the first is for clients that ask for none of their names.
///
/// Sessions are resumed by stateless tickets, one per connection: nothing is kept for a stranger. A ticket brings
/// back the chain, never a verdict, so a ticket made under another trust bundle is no way around this one.
///
/// # Errors
/// The provider cannot be used.
pub fn server_config(certificates: Vec<CertifiedKey>) -> Result<ServerConfig, rustls::Error> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let mut config = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()?
        .with_client_cert_verifier(Arc::new(OptionalClientAuth::new(&provider)))
        .with_cert_resolver(Arc::new(Certificates::new(certificates)));
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.ticketer = Arc::new(BoundedTickets(aws_lc_rs::Ticketer::new()?));
    config.send_tls13_tickets = 1;
    // A 0.5-RTT or 0-RTT byte would be answered before the client has proven anything.
    config.max_early_data_size = 0;
    config.send_half_rtt_data = false;
    Ok(config)
}

/// Tickets of sessions that fit into one. A ticket holds the client's chain, and its length is told in 16 bits: of a longer one
/// the client would get a message that it cannot read, and never its answer. Without a ticket the next handshake is a whole one.
#[derive(Debug)]
struct BoundedTickets(Arc<dyn ProducesTickets>);

impl BoundedTickets {
    /// A client sends its ticket within its first message, which may have 64 KiB together with all else that it says.
    const LARGEST_SESSION: usize = 48 * 1024;
}

impl ProducesTickets for BoundedTickets {
    fn enabled(&self) -> bool {
        self.0.enabled()
    }

    fn lifetime(&self) -> u32 {
        self.0.lifetime()
    }

    fn encrypt(&self, plain: &[u8]) -> Option<Vec<u8>> {
        (plain.len() <= Self::LARGEST_SESSION).then(|| self.0.encrypt(plain)).flatten()
    }

    fn decrypt(&self, cipher: &[u8]) -> Option<Vec<u8>> {
        self.0.decrypt(cipher)
    }
}

/// Whether a server certificate has a name that clients can ask for.
#[must_use]
pub fn has_name(leaf: &CertificateDer<'_>) -> bool {
    !certificates::names_of(leaf).is_empty()
}

/// A server certificate with its key.
///
/// # Errors
/// A key that does not fit the certificate, or one that the provider cannot use.
pub fn certified_key(
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
) -> Result<CertifiedKey, rustls::Error> {
    CertifiedKey::from_der(chain, key, &aws_lc_rs::default_provider())
}

/// Asks for a certificate and takes any, or none. The proof of possession is always checked, except for a leaf that
/// no bundle and no clock could ever make valid: its client could give no proof that we can check, and never
/// becomes an identity.
#[derive(Debug)]
struct OptionalClientAuth {
    algorithms: WebPkiSupportedAlgorithms,
}

impl OptionalClientAuth {
    fn new(provider: &CryptoProvider) -> Self {
        Self { algorithms: provider.signature_verification_algorithms }
    }
}

/// Turns a failed proof into a passed one only where there will never be an identity to protect.
fn proof_or_permanent_flaw(
    proof: Result<HandshakeSignatureValid, rustls::Error>,
    leaf: &CertificateDer<'_>,
) -> Result<HandshakeSignatureValid, rustls::Error> {
    match proof {
        Err(_) if identity::permanent_flaw(leaf).is_some() => Ok(HandshakeSignatureValid::assertion()),
        proof => proof,
    }
}

impl ClientCertVerifier for OptionalClientAuth {
    fn offer_client_auth(&self) -> bool {
        true
    }

    fn client_auth_mandatory(&self) -> bool {
        false
    }

    /// None: a client with a certificate of another authority must send it, to be told what is wrong with it.
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _now: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        proof_or_permanent_flaw(
            rustls::crypto::verify_tls12_signature(message, cert, dss, &self.algorithms),
            cert,
        )
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        proof_or_permanent_flaw(
            rustls::crypto::verify_tls13_signature(message, cert, dss, &self.algorithms),
            cert,
        )
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

/// What the first byte of a connection is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum FirstByte {
    Unseen,
    /// A TLS record, or anything else that TLS itself answers.
    Tls,
    /// A capital letter: the method of a plain HTTP request.
    Letter,
}

/// A socket whose first byte is looked at on its way to TLS, so that plain HTTP can be answered as such.
#[derive(Debug)]
pub struct SniffedSocket {
    socket: TcpStream,
    first: FirstByte,
    written: WriteProgress,
}

/// Progress of the socket with the bytes that were written to it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct WriteProgress {
    /// Bytes that the socket has taken since the start, wrapping.
    pub taken: u64,
    /// State after the last write: the socket had no room for all of it, because the peer does not read.
    pub is_full: bool,
}

impl WriteProgress {
    fn record(&mut self, write: &Poll<io::Result<usize>>) {
        self.is_full = write.is_pending();
        if let Poll::Ready(Ok(taken)) = write {
            self.taken = self.taken.wrapping_add(*taken as u64);
        }
    }
}

impl SniffedSocket {
    fn new(socket: TcpStream) -> Self {
        Self { socket, first: FirstByte::Unseen, written: WriteProgress::default() }
    }

    fn classify_first_byte(&mut self, read: &[u8]) -> io::Result<()> {
        self.first = match read.first() {
            None => FirstByte::Unseen,
            Some(byte) if byte.is_ascii_uppercase() => FirstByte::Letter,
            Some(_) => FirstByte::Tls,
        };
        match self.first {
            FirstByte::Letter => Err(io::Error::new(io::ErrorKind::InvalidData, "plain HTTP on a TLS port")),
            _ => Ok(()),
        }
    }
}

impl AsyncRead for SniffedSocket {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let read = Pin::new(&mut self.socket).poll_read(cx, buf);
        if self.first == FirstByte::Unseen && matches!(read, Poll::Ready(Ok(()))) {
            self.classify_first_byte(buf.filled().get(before..).unwrap_or_default())?;
        }
        read
    }
}

impl AsyncWrite for SniffedSocket {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let write = Pin::new(&mut self.socket).poll_write(cx, buf);
        self.written.record(&write);
        write
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        // Of one buffer a plain write costs the kernel less.
        let write = match bufs {
            [one] => Pin::new(&mut self.socket).poll_write(cx, one),
            bufs => Pin::new(&mut self.socket).poll_write_vectored(cx, bufs),
        };
        self.written.record(&write);
        write
    }

    fn is_write_vectored(&self) -> bool {
        self.socket.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_shutdown(cx)
    }
}
