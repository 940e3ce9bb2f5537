//! A throw-away PKI: a small builder for authorities and leaf certificates, and the set of files that the demo shows.
//!
//! The tests build everything else they need with it: [`Leaf::with`] reaches every field of a certificate.

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

/// The demo's CRL.
pub const CRL: &str = "ca.crl";
/// It as it is at the start.
pub const NONE_REVOKED: &str = "none-revoked.crl";
/// It with the consumer in it.
pub const CONSUMER_REVOKED: &str = "consumer-revoked.crl";

/// Writes the demo's certificates and keys into a folder, as `NAME.crt` and `NAME.key`: `ca`, `server`, `producer`,
/// `consumer`, `expired` (the producer's names, yesterday) and `stranger` (the producer's names, by another authority).
/// Beside them CRLs: [`CRL`], which is in use, and what to put in its place, [`NONE_REVOKED`] and [`CONSUMER_REVOKED`].
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
        // For as long as its authority: a demo may run for longer than a day.
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

/// What a certificate is going to say, before an authority signs it.
#[derive(Clone, Debug)]
pub struct Leaf {
    params: CertificateParams,
    algorithm: &'static SignatureAlgorithm,
}

impl Leaf {
    /// A client: its names in the order O, CN; for client authentication; valid from an hour ago for a month.
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

    /// A server on this machine: `localhost`, `127.0.0.1` and `::1`.
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

    /// Sets the first and the last instant of its validity.
    #[must_use]
    pub fn valid(self, from: SystemTime, until: SystemTime) -> Self {
        self.with(|params| {
            params.not_before = from.into();
            params.not_after = until.into();
        })
    }

    /// Sets the kind of key; P-256 when left out.
    #[must_use]
    pub fn key(mut self, algorithm: &'static SignatureAlgorithm) -> Self {
        self.algorithm = algorithm;
        self
    }

    /// Changes anything else that a certificate can say.
    #[must_use]
    pub fn with(mut self, change: impl FnOnce(&mut CertificateParams)) -> Self {
        change(&mut self.params);
        self
    }

    /// Signs it with its own key.
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
    /// What a leaf has to present beside itself: the authorities between it and the root.
    intermediates: Vec<CertificateDer<'static>>,
}

impl Authority {
    /// A self-signed authority.
    ///
    /// # Errors
    /// When the key or the certificate cannot be made.
    pub fn root(common_name: &str) -> io::Result<Self> {
        let (params, key) = (authority(common_name), generate(&PKCS_ECDSA_P256_SHA256)?);
        let certificate = params.self_signed(&key).map_err(io::Error::other)?.into();
        Ok(Self { issuer: Issuer::new(params, key), certificate, intermediates: Vec::new() })
    }

    /// An authority below this one; what it issues presents it too.
    ///
    /// # Errors
    /// When the key or the certificate cannot be made.
    pub fn intermediate(&self, common_name: &str) -> io::Result<Self> {
        self.intermediate_of(authority(common_name))
    }

    /// An authority below this one that says something of its own.
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

    /// A CRL that lists these certificates, an hour old and good for a day; `change` reaches everything else that it says.
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

    /// Its own certificate.
    #[must_use]
    pub fn certificate(&self) -> &CertificateDer<'static> {
        &self.certificate
    }

    /// The key it signs with, and the name it signs under.
    #[must_use]
    pub fn issuer(&self) -> &Issuer<'static, KeyPair> {
        &self.issuer
    }

    /// Itself, as something that can be written down or (wrongly) presented.
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

/// The parameters of an authority's certificate: it may sign certificates and CRLs, for three months.
#[must_use]
pub fn authority(common_name: &str) -> CertificateParams {
    let mut params = lasting(SystemTime::now() - 30 * DAY, SystemTime::now() + 60 * DAY);
    params.distinguished_name.push(DnType::CommonName, common_name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params
}

/// A certificate, what has to be presented beside it, and its key.
#[derive(Debug)]
pub struct Credential {
    /// Leaf first.
    pub chain: Vec<CertificateDer<'static>>,
    /// The leaf's private key.
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

/// The text form of some DER.
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

/// Born with its mode: a key that is made private after it was written was readable for a moment.
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
    fn the_demo_s_keys_are_their_owner_s_alone_and_a_second_run_replaces_them() {
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
