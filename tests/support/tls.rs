//! A TLS client that presents any certificate, valid or not.

use std::io;
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;

use rustls::client::ResolvesClientCert;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::aws_lc_rs::default_provider;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::sign::CertifiedKey;
use rustls::{
    ClientConfig, ClientConnection, DigitallySignedStruct, Error, HandshakeKind, RootCertStore,
    SignatureScheme, StreamOwned,
};
use sidegate::demo::pki::Credential;

use super::http1::Wire;
use super::{DEADLINE, Pki};

pub type Tls = Wire<StreamOwned<ClientConnection, TcpStream>>;

pub static TLS_12: &rustls::SupportedProtocolVersion = &rustls::version::TLS12;
pub static TLS_13: &rustls::SupportedProtocolVersion = &rustls::version::TLS13;

/// A client that keeps its TLS sessions: its second connection resumes the first session.
#[derive(Clone, Debug)]
pub struct Client {
    pub config: Arc<ClientConfig>,
}

impl Client {
    /// A client without a certificate, which trusts the authority of the test.
    pub fn anonymous(pki: &Pki) -> Self {
        Self::new(pki, None, &[TLS_13, TLS_12])
    }

    pub fn presenting(pki: &Pki, credential: &Credential) -> Self {
        Self::new(pki, Some(credential), &[TLS_13, TLS_12])
    }

    pub fn new(
        pki: &Pki,
        credential: Option<&Credential>,
        versions: &[&'static rustls::SupportedProtocolVersion],
    ) -> Self {
        let mut roots = RootCertStore::empty();
        roots.add(pki.ca.certificate().clone()).unwrap();
        let builder = ClientConfig::builder_with_provider(Arc::new(default_provider()))
            .with_protocol_versions(versions)
            .unwrap()
            .with_root_certificates(roots);
        let config = match credential {
            Some(credential) => builder.with_client_cert_resolver(Arc::new(FixedCredential::new(credential))),
            None => builder.with_no_client_auth(),
        };
        Self { config: Arc::new(config) }
    }

    pub fn alpn(&self, protocols: &[&str]) -> Self {
        let mut config = (*self.config).clone();
        config.alpn_protocols = protocols.iter().map(|protocol| protocol.as_bytes().to_vec()).collect();
        Self { config: Arc::new(config) }
    }

    /// Returns a client that accepts every name and certificate of the server.
    pub fn without_server_verification(&self) -> Self {
        let mut config = (*self.config).clone();
        config.dangerous().set_certificate_verifier(Arc::new(NoServerVerification));
        Self { config: Arc::new(config) }
    }

    /// Connects and completes the handshake of the client's side.
    pub fn connect(&self, address: SocketAddr) -> io::Result<Tls> {
        self.connect_as(address, "localhost")
    }

    /// Connects to a server of this name. The name is sent by SNI, except if it is an IP address.
    pub fn connect_as(&self, address: SocketAddr, name: &str) -> io::Result<Tls> {
        let mut stream = TcpStream::connect_timeout(&address, DEADLINE)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(DEADLINE))?;
        stream.set_write_timeout(Some(DEADLINE))?;
        let name = ServerName::try_from(name.to_owned()).unwrap();
        let mut connection =
            ClientConnection::new(Arc::clone(&self.config), name).map_err(io::Error::other)?;
        while connection.is_handshaking() {
            connection.complete_io(&mut stream)?;
        }
        Ok(Wire::new(StreamOwned::new(connection, stream)))
    }
}

impl Tls {
    /// Returns the certificate of the server as DER.
    pub fn server(&self) -> Vec<u8> {
        self.stream.conn.peer_certificates().unwrap()[0].to_vec()
    }

    pub fn is_resumed(&self) -> bool {
        self.stream.conn.handshake_kind() == Some(HandshakeKind::Resumed)
    }
}

/// Presents its certificate for every request of the server. The resolver of rustls would parse the certificate first and
/// refuse an invalid one.
#[derive(Debug)]
struct FixedCredential(Arc<CertifiedKey>);

impl FixedCredential {
    fn new(credential: &Credential) -> Self {
        let key = default_provider().key_provider.load_private_key(credential.key.clone_key()).unwrap();
        Self(Arc::new(CertifiedKey::new(credential.chain.clone(), key)))
    }
}

impl ResolvesClientCert for FixedCredential {
    fn resolve(&self, _: &[&[u8]], _: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.0))
    }

    fn has_certs(&self) -> bool {
        true
    }
}

/// Accepts every certificate, for tests that connect under a name that is not in the certificate of the server.
#[derive(Debug)]
struct NoServerVerification;

impl ServerCertVerifier for NoServerVerification {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        default_provider().signature_verification_algorithms.supported_schemes()
    }
}
