//! Causes of a failed TLS handshake, in the words of metrics and of the log.

/// The cause of a failed TLS handshake. `deploy/RUNBOOK.md` says for each what to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum HandshakeFailure {
    /// The client offers no version of TLS that is served.
    Version,
    /// The client offers no cipher suite that is served.
    Cipher,
    /// The client offers no key exchange that is served: no group, or no cipher suite with one.
    Group,
    /// The client accepts no signature that a certificate of the server can make, or makes none that is accepted.
    Signature,
    /// The client offers application protocols (ALPN), and none of them is served.
    Alpn,
    /// The client does not hold the key of the certificate that it presents.
    Proof,
    /// The client does not accept the certificate of the server.
    ServerCertificateRefused,
    /// The client gives up with another alert.
    ClientAlert,
    /// The bytes are no TLS.
    NotTls,
    /// The messages break the rules of TLS.
    Protocol,
    /// The client closes the connection after it has got the certificate of the server, without a word.
    ClosedAfterCertificate,
    /// The client closes the connection in the middle of the handshake.
    Closed,
    /// The client closes the connection without a byte, as checks do that only connect.
    Silent,
    /// An error of this machine or of the library.
    Internal,
}

impl HandshakeFailure {
    /// All causes.
    pub const ALL: [Self; 14] = [
        Self::Version,
        Self::Cipher,
        Self::Group,
        Self::Signature,
        Self::Alpn,
        Self::Proof,
        Self::ServerCertificateRefused,
        Self::ClientAlert,
        Self::NotTls,
        Self::Protocol,
        Self::ClosedAfterCertificate,
        Self::Closed,
        Self::Silent,
        Self::Internal,
    ];

    /// The value of the label `cause`, and of the field `cause` of log lines.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Version => "version",
            Self::Cipher => "cipher",
            Self::Group => "group",
            Self::Signature => "signature",
            Self::Alpn => "alpn",
            Self::Proof => "proof",
            Self::ServerCertificateRefused => "server_certificate_refused",
            Self::ClientAlert => "client_alert",
            Self::NotTls => "not_tls",
            Self::Protocol => "protocol",
            Self::ClosedAfterCertificate => "closed_after_certificate",
            Self::Closed => "closed",
            Self::Silent => "silent",
            Self::Internal => "internal",
        }
    }

    /// The cause in words, for the log.
    #[must_use]
    pub const fn text(self) -> &'static str {
        match self {
            Self::Version => "the client offers no version of TLS that is served (1.2 and 1.3)",
            Self::Cipher => "the client offers no cipher suite that is served",
            Self::Group => {
                "the client offers no key exchange that is served (ECDHE with X25519, P-256 or P-384)"
            }
            Self::Signature => "client and server have no signature algorithm in common",
            Self::Alpn => "the client offers no application protocol that is served (h2, http/1.1, http/1.0)",
            Self::Proof => "the client does not hold the key of the certificate that it presents",
            Self::ServerCertificateRefused => "the client does not accept the server's certificate",
            Self::ClientAlert => "the client has given up",
            Self::NotTls => "the bytes are no TLS",
            Self::Protocol => "the client breaks the rules of TLS",
            Self::ClosedAfterCertificate => {
                "the client has closed the connection after it got the server's certificate"
            }
            Self::Closed => "the client has closed the connection",
            Self::Silent => "the client has closed the connection without a byte",
            Self::Internal => "an error of this machine",
        }
    }
}
