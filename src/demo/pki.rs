//! Throw-away PKI: a builder for authorities and leaf certificates, and the files of the demo.
//!
//! The tests use the builder as well: [`Leaf::with`] can change every field of a certificate.

use std::fs;
use std::io::{self, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::time::{Duration, SystemTime};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, DistinguishedName, DnType,
    ExtendedKeyUsagePurpose, IsCa, Issuer, KeyIdMethod, KeyPair, KeyUsagePurpose, PKCS_ECDSA_P256_SHA256,
    PublicKeyData, RevokedCertParams, SanType, SerialNumber, SignatureAlgorithm,
};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};

use crate::identity::{Attribute, Identity};

const HOUR: Duration = Duration::from_secs(60 * 60);
const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// File name of the CRL in use.
pub const CRL: &str = "ca.crl";
/// File name of a CRL without entries.
pub const NONE_REVOKED: &str = "none-revoked.crl";
/// File name of a CRL that revokes the consumer.
pub const CONSUMER_REVOKED: &str = "consumer-revoked.crl";

/// Writes the demo's certificates and keys into a folder, as `NAME.crt` and `NAME.key`: `ca`, `server`, `producer`,
/// `consumer`, `expired` (the producer's names, yesterday) and `stranger` (the producer's names, by another authority).
/// Beside them CRLs: [`CRL`], which is in use, and its replacements [`NONE_REVOKED`] and [`CONSUMER_REVOKED`].
///
/// # Errors
/// When a file cannot be written.
pub fn write_demo(folder: &Path) -> io::Result<()> {
    let now = SystemTime::now();
    let authority = Authority::root("Sidegate demo CA")?;
    let other = Authority::root("Another CA")?;
    authority.as_credential().write(folder, "ca")?;
    authority.issue(&Leaf::server()?)?.write(folder, "server")?;
    authority.issue(&producer()?)?.write(folder, "producer")?;
    let reader = authority.issue(&consumer()?)?;
    reader.write(folder, "consumer")?;
    let revoked: Vec<_> = reader.chain.iter().take(1).collect();
    for (name, revoked) in [(CRL, &[][..]), (NONE_REVOKED, &[]), (CONSUMER_REVOKED, &revoked)] {
        // The CRL is valid as long as its authority, because a demo may run for longer than a day.
        let crl = authority.crl(revoked, |params| params.next_update = (now + 60 * DAY).into())?;
        fs::write(folder.join(name), crl)?;
    }
    authority.issue(&producer()?.valid(now - 2 * DAY, now - DAY))?.write(folder, "expired")?;
    other.issue(&producer()?)?.write(folder, "stranger")
}

/// The demo's client that may publish.
///
/// # Errors
/// Never in practice: its names are fixed.
pub fn producer() -> io::Result<Leaf> {
    Leaf::client("Shop", "order-producer").uri("spiffe://shop.example/ns/orders/sa/producer")
}

/// The demo's client that may only read.
///
/// # Errors
/// Never in practice: its names are fixed.
pub fn consumer() -> io::Result<Leaf> {
    Leaf::client("Shop", "report-consumer").uri("spiffe://shop.example/ns/reports/sa/consumer")
}

/// Content of a leaf certificate before it is signed.
#[derive(Clone, Debug)]
pub struct Leaf {
    params: CertificateParams,
    algorithm: &'static SignatureAlgorithm,
}

impl Leaf {
    /// Makes a client certificate with the names O and CN, for client authentication, valid from an hour ago for 30 days.
    #[must_use]
    pub fn client(organization: &str, common_name: &str) -> Self {
        let mut params = lasting(SystemTime::now() - HOUR, SystemTime::now() + 30 * DAY);
        params.distinguished_name.push(DnType::OrganizationName, organization);
        params.distinguished_name.push(DnType::CommonName, common_name);
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.use_authority_key_identifier_extension = true;
        Self { params, algorithm: &PKCS_ECDSA_P256_SHA256 }
    }

    /// Makes a server certificate for `localhost`, `127.0.0.1` and `::1`.
    ///
    /// # Errors
    /// Never in practice: its names are fixed.
    pub fn server() -> io::Result<Self> {
        let localhost = SanType::DnsName("localhost".try_into().map_err(io::Error::other)?);
        Ok(Self::client("Sidegate", "localhost").with(|params| {
            params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
            params.subject_alt_names = vec![
                localhost,
                SanType::IpAddress(IpAddr::V4(Ipv4Addr::LOCALHOST)),
                SanType::IpAddress(IpAddr::V6(Ipv6Addr::LOCALHOST)),
            ];
        }))
    }

    /// Adds a URI subject alternative name.
    ///
    /// # Errors
    /// When it is not ASCII.
    pub fn uri(mut self, uri: &str) -> io::Result<Self> {
        self.params.subject_alt_names.push(SanType::URI(uri.try_into().map_err(io::Error::other)?));
        Ok(self)
    }

    /// Sets the first and the last instant of the validity.
    #[must_use]
    pub fn valid(self, from: SystemTime, until: SystemTime) -> Self {
        self.with(|params| {
            params.not_before = from.into();
            params.not_after = until.into();
        })
    }

    /// Sets the kind of key; the default is P-256.
    #[must_use]
    pub fn key(mut self, algorithm: &'static SignatureAlgorithm) -> Self {
        self.algorithm = algorithm;
        self
    }

    /// Changes any other field.
    #[must_use]
    pub fn with(mut self, change: impl FnOnce(&mut CertificateParams)) -> Self {
        change(&mut self.params);
        self
    }

    /// Signs the certificate with its own key.
    ///
    /// # Errors
    /// When the key or the certificate cannot be made.
    pub fn self_signed(&self) -> io::Result<Credential> {
        let key = generate(self.algorithm)?;
        let certificate = self.params.self_signed(&key).map_err(io::Error::other)?;
        Ok(Credential::new(vec![certificate.into()], &key))
    }
}

/// A certificate authority and its key.
#[derive(Debug)]
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    certificate: CertificateDer<'static>,
    /// Certificates between a leaf and the root, which a client presents with its leaf.
    intermediates: Vec<CertificateDer<'static>>,
}

impl Authority {
    /// Makes a self-signed authority.
    ///
    /// # Errors
    /// When the key or the certificate cannot be made.
    pub fn root(common_name: &str) -> io::Result<Self> {
        let (params, key) = (authority(common_name), generate(&PKCS_ECDSA_P256_SHA256)?);
        let certificate = params.self_signed(&key).map_err(io::Error::other)?.into();
        Ok(Self { issuer: Issuer::new(params, key), certificate, intermediates: Vec::new() })
    }

    /// Makes an authority below this one. Its certificate is part of the chains that it issues.
    ///
    /// # Errors
    /// When the key or the certificate cannot be made.
    pub fn intermediate(&self, common_name: &str) -> io::Result<Self> {
        self.intermediate_of(authority(common_name))
    }

    /// Makes an authority below this one with these parameters.
    ///
    /// # Errors
    /// When the key or the certificate cannot be made.
    pub fn intermediate_of(&self, params: CertificateParams) -> io::Result<Self> {
        let key = generate(&PKCS_ECDSA_P256_SHA256)?;
        let certificate: CertificateDer<'static> =
            params.signed_by(&key, &self.issuer).map_err(io::Error::other)?.into();
        let intermediates = std::iter::once(certificate.clone()).chain(self.intermediates.clone()).collect();
        Ok(Self { issuer: Issuer::new(params, key), certificate, intermediates })
    }

    /// Makes a key and signs a certificate for it.
    ///
    /// # Errors
    /// When the key or the certificate cannot be made.
    pub fn issue(&self, leaf: &Leaf) -> io::Result<Credential> {
        let key = generate(leaf.algorithm)?;
        let certificate = self.certify(leaf, &key)?;
        Ok(Credential::new(std::iter::once(certificate).chain(self.intermediates.clone()).collect(), &key))
    }

    /// Signs a certificate for a key that was made elsewhere.
    ///
    /// # Errors
    /// When the certificate cannot be made.
    pub fn certify(&self, leaf: &Leaf, key: &impl PublicKeyData) -> io::Result<CertificateDer<'static>> {
        Ok(leaf.params.signed_by(key, &self.issuer).map_err(io::Error::other)?.into())
    }

    /// Makes a CRL that lists these certificates, one hour old and valid for a day. `change` can change every other field.
    ///
    /// # Errors
    /// When a certificate cannot be read, or the CRL cannot be made.
    pub fn crl(
        &self,
        revoked: &[&CertificateDer<'_>],
        change: impl FnOnce(&mut CertificateRevocationListParams),
    ) -> io::Result<Vec<u8>> {
        let now = SystemTime::now();
        let mut params = CertificateRevocationListParams {
            this_update: (now - HOUR).into(),
            next_update: (now + DAY).into(),
            crl_number: SerialNumber::from(1_u64),
            issuing_distribution_point: None,
            revoked_certs: revoked.iter().map(|der| entry(der)).collect::<io::Result<_>>()?,
            key_identifier_method: KeyIdMethod::Sha256,
        };
        change(&mut params);
        Ok(params.signed_by(&self.issuer).map_err(io::Error::other)?.der().to_vec())
    }

    /// Returns the certificate of the authority.
    #[must_use]
    pub fn certificate(&self) -> &CertificateDer<'static> {
        &self.certificate
    }

    /// Returns the key and the name of the authority.
    #[must_use]
    pub fn issuer(&self) -> &Issuer<'static, KeyPair> {
        &self.issuer
    }

    /// Returns the certificate and key of the authority, to write them to files or to present them wrongly.
    #[must_use]
    pub fn as_credential(&self) -> Credential {
        Credential::new(vec![self.certificate.clone()], self.issuer.key())
    }
}

fn entry(certificate: &CertificateDer<'_>) -> io::Result<RevokedCertParams> {
    let identity =
        Identity::from_certificate(certificate).map_err(|flaw| io::Error::other(flaw.to_string()))?;
    let digits = identity.single(Attribute::Serial).unwrap_or_default();
    let digits = format!("{}{digits}", if digits.len() % 2 == 1 { "0" } else { "" });
    let (pairs, _) = digits.as_bytes().as_chunks::<2>();
    let byte = |pair: &[u8; 2]| u8::from_str_radix(&String::from_utf8_lossy(pair), 16);
    let serial: Vec<u8> = pairs.iter().map(byte).collect::<Result<_, _>>().map_err(io::Error::other)?;
    Ok(RevokedCertParams {
        serial_number: SerialNumber::from_slice(&serial),
        revocation_time: (SystemTime::now() - HOUR).into(),
        reason_code: None,
        invalidity_date: None,
    })
}

/// Returns parameters of an authority's certificate, which may sign certificates and CRLs for 90 days.
#[must_use]
pub fn authority(common_name: &str) -> CertificateParams {
    let mut params = lasting(SystemTime::now() - 30 * DAY, SystemTime::now() + 60 * DAY);
    params.distinguished_name.push(DnType::CommonName, common_name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params
}

/// A certificate chain with its key.
#[derive(Debug)]
pub struct Credential {
    /// Certificates, leaf first.
    pub chain: Vec<CertificateDer<'static>>,
    /// Private key of the leaf.
    pub key: PrivateKeyDer<'static>,
}

impl Credential {
    fn new(chain: Vec<CertificateDer<'static>>, key: &KeyPair) -> Self {
        Self { chain, key: PrivatePkcs8KeyDer::from(key.serialize_der()).into() }
    }

    /// Writes `NAME.crt` (the chain) and `NAME.key` (readable by its owner alone) into a folder.
    ///
    /// # Errors
    /// When a file cannot be written.
    pub fn write(&self, folder: &Path, name: &str) -> io::Result<()> {
        let chain: String = self.chain.iter().map(|certificate| pem("CERTIFICATE", certificate)).collect();
        fs::write(folder.join(format!("{name}.crt")), chain)?;
        write_private(&folder.join(format!("{name}.key")), &pem("PRIVATE KEY", self.key.secret_der()))
    }
}

impl Clone for Credential {
    fn clone(&self) -> Self {
        Self { chain: self.chain.clone(), key: self.key.clone_key() }
    }
}

/// Returns the PEM form of DER.
#[must_use]
pub fn pem(label: &str, der: &[u8]) -> String {
    let text = STANDARD.encode(der);
    let mut lines = format!("-----BEGIN {label}-----\n");
    for (column, character) in text.chars().enumerate() {
        if column > 0 && column % 64 == 0 {
            lines.push('\n');
        }
        lines.push(character);
    }
    lines + &format!("\n-----END {label}-----\n")
}

/// Writes a file that only its owner can read. The mode is set at creation, so that the key is never readable by others.
fn write_private(path: &Path, text: &str) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?.write_all(text.as_bytes())
}

fn generate(algorithm: &'static SignatureAlgorithm) -> io::Result<KeyPair> {
    KeyPair::generate_for(algorithm).map_err(io::Error::other)
}

fn lasting(from: SystemTime, until: SystemTime) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.not_before = from.into();
    params.not_after = until.into();
    params
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn only_the_owner_can_read_the_keys_and_a_second_run_replaces_them() {
        let folder = tempfile::tempdir().unwrap();
        write_demo(folder.path()).unwrap();
        let first = fs::read(folder.path().join("producer.key")).unwrap();
        write_demo(folder.path()).unwrap();
        for name in ["ca", "server", "producer", "consumer", "expired", "stranger"] {
            let key = folder.path().join(format!("{name}.key"));
            assert_eq!(fs::metadata(&key).unwrap().permissions().mode() & 0o777, 0o600, "{name}");
            assert!(folder.path().join(format!("{name}.crt")).exists(), "{name}");
        }
        assert_ne!(fs::read(folder.path().join("producer.key")).unwrap(), first);
    }

    #[test]
    fn a_leaf_of_an_intermediate_presents_the_intermediate_and_not_the_root() {
        let root = Authority::root("root").unwrap();
        let leaf =
            root.intermediate("a").unwrap().intermediate("b").unwrap().issue(&producer().unwrap()).unwrap();
        assert_eq!(leaf.chain.len(), 3);
        assert!(!leaf.chain.contains(root.certificate()));
    }
}
