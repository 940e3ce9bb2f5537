//! TLS, under a deadline: a socket becomes a [`TlsConnection`]: a stream, with the chain that the client presented. The
//! certificate is not judged here: TLS never fails because of a certificate that is missing or not valid (DESIGN §2.1).

mod certificates;
pub(crate) mod pieces;
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
use rustls::{
    AlertDescription, DigitallySignedStruct, DistinguishedName, PeerIncompatible, ServerConfig,
    SignatureScheme,
};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use crate::handshake_failure::HandshakeFailure;
use crate::identity;
use crate::protocol::Protocol;

use certificates::Certificates;

pub(crate) use stream::Stream;

/// A connection after its handshake.
pub(crate) struct TlsConnection {
    /// Stream that carries HTTP.
    pub stream: Stream,
    /// Presented chain, leaf first; empty if the client presented no certificate. The chain is not judged.
    pub chain: Vec<CertificateDer<'static>>,
    /// Which HTTP was agreed on (ALPN).
    pub protocol: Protocol,
    /// True if the session was resumed from a ticket.
    pub resumed: bool,
}

/// Reason for which a handshake failed.
pub(crate) enum HandshakeError {
    /// The client speaks plain HTTP. The socket is returned so that the client gets an answer.
    PlainHttp(TcpStream),
    /// The handshake failed: the peer is not an HTTP client, lacks the key of its certificate, or violates the protocol.
    Failed(HandshakeFailure, io::Error),
    /// The handshake did not end within its time limit.
    TimedOut,
}

impl fmt::Debug for HandshakeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::PlainHttp(_) => f.write_str("PlainHttp"),
            Self::Failed(cause, error) => write!(f, "Failed({}: {error})", cause.name()),
            Self::TimedOut => f.write_str("TimedOut"),
        }
    }
}

/// Runs the handshake of one connection within a time limit.
///
/// # Errors
/// The reason for which the handshake failed.
pub(crate) async fn accept(
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
        Ok(Err((error, sniffed))) => Err(HandshakeError::Failed(failure(&error, &sniffed), error)),
        Err(_) => Err(HandshakeError::TimedOut),
    }
}

/// Returns the cause of a failed handshake.
fn failure(error: &io::Error, sniffed: &SniffedSocket) -> HandshakeFailure {
    if let Some(error) = error.get_ref().and_then(|error| error.downcast_ref::<rustls::Error>()) {
        return failure_of_tls(error);
    }
    match error.kind() {
        io::ErrorKind::UnexpectedEof
        | io::ErrorKind::ConnectionReset
        | io::ErrorKind::ConnectionAborted
        | io::ErrorKind::BrokenPipe => match sniffed.first {
            FirstByte::Unseen => HandshakeFailure::Silent,
            // The first answer of the server has its certificate. Some clients that do not accept it send no alert.
            _ if sniffed.written.taken > 0 => HandshakeFailure::ClosedAfterCertificate,
            FirstByte::Tls | FirstByte::Letter => HandshakeFailure::Closed,
        },
        _ => HandshakeFailure::Internal,
    }
}

fn failure_of_tls(error: &rustls::Error) -> HandshakeFailure {
    use rustls::{Error, InvalidMessage, PeerMisbehaved};
    match error {
        Error::NoApplicationProtocol => HandshakeFailure::Alpn,
        Error::PeerIncompatible(what) => failure_of_offer(what),
        Error::InvalidCertificate(_) => HandshakeFailure::Proof,
        Error::PeerMisbehaved(
            PeerMisbehaved::SignedHandshakeWithUnadvertisedSigScheme
            | PeerMisbehaved::SignedKxWithWrongAlgorithm,
        ) => HandshakeFailure::Signature,
        Error::AlertReceived(alert) => failure_of_alert(*alert),
        Error::InvalidMessage(
            InvalidMessage::InvalidContentType | InvalidMessage::UnknownProtocolVersion,
        ) => HandshakeFailure::NotTls,
        Error::General(_)
        | Error::FailedToGetCurrentTime
        | Error::FailedToGetRandomBytes
        | Error::Other(_) => HandshakeFailure::Internal,
        _ => HandshakeFailure::Protocol,
    }
}

/// Returns the part of the client's offer that has nothing in common with what is served.
const fn failure_of_offer(what: &PeerIncompatible) -> HandshakeFailure {
    match what {
        PeerIncompatible::ServerDoesNotSupportTls12Or13
        | PeerIncompatible::ServerTlsVersionIsDisabledByOurConfig
        // Clients before TLS 1.2 do not have this extension, and are refused for it first.
        | PeerIncompatible::SignatureAlgorithmsExtensionRequired
        | PeerIncompatible::SupportedVersionsExtensionRequired
        | PeerIncompatible::Tls12NotOffered
        | PeerIncompatible::Tls12NotOfferedOrEnabled => HandshakeFailure::Version,
        PeerIncompatible::NoCipherSuitesInCommon => HandshakeFailure::Cipher,
        PeerIncompatible::EcPointsExtensionRequired
        | PeerIncompatible::KeyShareExtensionRequired
        | PeerIncompatible::NamedGroupsExtensionRequired
        | PeerIncompatible::NoEcPointFormatsInCommon
        | PeerIncompatible::NoKxGroupsInCommon
        | PeerIncompatible::UncompressedEcPointsRequired => HandshakeFailure::Group,
        PeerIncompatible::NoCertificateRequestSignatureSchemesInCommon
        | PeerIncompatible::NoSignatureSchemesInCommon => HandshakeFailure::Signature,
        _ => HandshakeFailure::Protocol,
    }
}

/// Returns the meaning of an alert by which the client ends the handshake (RFC 8446 §6.2).
const fn failure_of_alert(alert: AlertDescription) -> HandshakeFailure {
    match alert {
        AlertDescription::BadCertificate
        | AlertDescription::UnsupportedCertificate
        | AlertDescription::CertificateRevoked
        | AlertDescription::CertificateExpired
        | AlertDescription::CertificateUnknown
        | AlertDescription::UnknownCA
        // OpenSSL and rustls report a wrong signature in a chain so.
        | AlertDescription::DecryptError => HandshakeFailure::ServerCertificateRefused,
        AlertDescription::ProtocolVersion => HandshakeFailure::Version,
        AlertDescription::NoApplicationProtocol => HandshakeFailure::Alpn,
        _ => HandshakeFailure::ClientAlert,
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

/// Makes the TLS configuration of the server. The first certificate is for clients that ask for none of the names.
///
/// Sessions are resumed from stateless tickets, one per connection, so that the server keeps no memory for unknown clients. A
/// ticket contains the chain and no verdict, so a ticket from before a change of the trust bundle does not circumvent the
/// change.
///
/// # Errors
/// The provider cannot be used.
pub(crate) fn server_config(certificates: Vec<CertifiedKey>) -> Result<ServerConfig, rustls::Error> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let mut config = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()?
        .with_client_cert_verifier(Arc::new(OptionalClientAuth::new(&provider)))
        .with_cert_resolver(Arc::new(Certificates::new(certificates)));
    // Devices of HTTP/1.0 may offer nothing else. A client that offers only protocols that are not served is refused (RFC 7301
    // §3.2): it would not understand an answer.
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec(), b"http/1.0".to_vec()];
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.ticketer = Arc::new(BoundedTickets(aws_lc_rs::Ticketer::new()?));
    config.send_tls13_tickets = 1;
    // Data in 0-RTT or 0.5-RTT would be processed before the client has proven possession of its key.
    config.max_early_data_size = 0;
    config.send_half_rtt_data = false;
    Ok(config)
}

/// Ticket producer that makes no ticket for a large session. A ticket contains the chain of the client, and its length has 16
/// bits: a longer ticket would be a malformed message that ends the connection. Without a ticket the next handshake is a full
/// one.
#[derive(Debug)]
struct BoundedTickets(Arc<dyn ProducesTickets>);

impl BoundedTickets {
    /// Maximum length of a session in bytes. A client sends its ticket in its first message, which may have 64 KiB in total.
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

/// Returns true if a server certificate has a name that clients can ask for.
#[must_use]
pub(crate) fn has_name(leaf: &CertificateDer<'_>) -> bool {
    !certificates::names_of(leaf).is_empty()
}

/// Combines a server certificate with its key.
///
/// # Errors
/// The key does not fit the certificate, or the provider cannot use the key.
pub(crate) fn certified_key(
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
) -> Result<CertifiedKey, rustls::Error> {
    CertifiedKey::from_der(chain, key, &aws_lc_rs::default_provider())
}

/// Verifier that requests a certificate and accepts any certificate or none. The proof of possession is always checked,
/// except for a leaf that can never become valid (an unreadable one, for example): its proof cannot be checked, and it never
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

/// Accepts a failed proof only for a leaf that can never become an identity.
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

    /// Returns no names, so that a client sends a certificate of another authority as well and learns its flaw from the answer.
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

/// Kind of the first byte of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum FirstByte {
    Unseen,
    /// A TLS record, or another byte that TLS itself answers.
    Tls,
    /// A capital letter, which begins the method of a plain HTTP request.
    Letter,
}

/// Socket that inspects the first byte before TLS reads it, so that plain HTTP gets an answer in plain HTTP.
#[derive(Debug)]
pub(crate) struct SniffedSocket {
    socket: TcpStream,
    first: FirstByte,
    written: WriteProgress,
}

/// Progress of the writes to a socket.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct WriteProgress {
    /// Number of bytes that the socket has accepted since the start, wrapping.
    pub taken: u64,
    /// True if the socket had no room for the last write, because the peer does not read.
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
        // A plain write of one buffer costs the kernel less.
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
