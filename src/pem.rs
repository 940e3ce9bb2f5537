//! Reading of PEM files. The errors of the PEM library quote the file, and a file may contain a private key by mistake, so an
//! error here names the line and the kind of the damage and never the content.

use std::fmt;

use rustls::pki_types::pem::{PemObject, SectionKind};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

/// Returns the sections of all known kinds in the order of the file; there may be none.
///
/// # Errors
/// The first flaw of the file.
pub fn sections(bytes: &[u8]) -> Result<Vec<(SectionKind, Vec<u8>)>, PemFlaw> {
    read(bytes)
}

/// Returns the certificates in the order of the file, at least one.
///
/// # Errors
/// The first flaw of the file, or the kind of block that the file contains instead.
pub fn certificates(bytes: &[u8]) -> Result<Vec<CertificateDer<'static>>, PemFlaw> {
    match read(bytes)? {
        certificates if !certificates.is_empty() => Ok(certificates),
        _ => Err(PemFlaw::without_block(BlockKind::Certificate, bytes)),
    }
}

/// Returns the only private key of the file.
///
/// # Errors
/// The first flaw of the file, the kind of block that the file contains instead, or the number of keys.
pub fn private_key(bytes: &[u8]) -> Result<PrivateKeyDer<'static>, PemFlaw> {
    let keys: Vec<PrivateKeyDer<'static>> = read(bytes)?;
    let count = keys.len();
    match <[PrivateKeyDer<'static>; 1]>::try_from(keys) {
        Ok([key]) => Ok(key),
        Err(_) if count > 1 => Err(PemFlaw::SeveralKeys(count)),
        Err(_) => Err(PemFlaw::without_block(BlockKind::PrivateKey, bytes)),
    }
}

/// Returns true if a file is DER: it begins with a SEQUENCE. The tag of a SEQUENCE is the digit 0 in ASCII, so a file in
/// ASCII is not DER.
#[must_use]
pub fn is_der(bytes: &[u8]) -> bool {
    bytes.first() == Some(&0x30) && !bytes.is_ascii()
}

fn read<T: PemObject>(bytes: &[u8]) -> Result<Vec<T>, PemFlaw> {
    let text = bytes.strip_prefix(BYTE_ORDER_MARK).unwrap_or(bytes);
    // The error of the library is dropped, because its text quotes lines of the file.
    T::pem_slice_iter(text).collect::<Result<_, _>>().map_err(|_| PemFlaw::of(bytes))
}

/// Byte order mark of UTF-8, which some editors write.
const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// Flaw of a PEM file. Lines are counted from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PemFlaw {
    /// The file contains only blanks.
    Empty,
    /// The file is UTF-16, which some editors and shells write.
    Utf16,
    /// The file is PKCS#12: certificates and key in one binary file.
    Pkcs12,
    /// The file is DER, the binary form.
    Der,
    /// The file is binary in another form.
    Binary,
    /// The file is a PEM file in base64, as in a manifest of Kubernetes.
    Base64OfPem,
    /// Line breaks were replaced by the characters `\n` or by blanks, or were removed.
    LostLineBreaks(usize),
    /// An END line and a BEGIN line are joined.
    JoinedLines(usize),
    /// Blanks stand before BEGIN or END.
    Indented(usize),
    /// A quote stands before BEGIN.
    Quoted(usize),
    /// A BEGIN line is malformed.
    BadBegin(usize),
    /// The file has no BEGIN line.
    NoBegin,
    /// The block that begins in this line has no END line.
    BeginWithoutEnd(usize),
    /// The END line has no BEGIN line.
    EndWithoutBegin(usize),
    /// The label of END, in the second line, differs from that of BEGIN, in the first.
    LabelMismatch(usize, usize),
    /// The line is not base64.
    NotBase64(usize),
    /// The base64 of the block that begins in this line is incomplete.
    Incomplete(usize),
    /// The key that begins in this line is protected by a password.
    Encrypted(usize),
    /// The file has this number of keys, and one is expected.
    SeveralKeys(usize),
    /// The first block of the file has another kind than expected.
    WrongKind {
        /// Expected kind.
        wanted: BlockKind,
        /// Kind of the block.
        found: BlockKind,
        /// Line in which the block begins.
        line: usize,
    },
    /// The file has another flaw.
    Malformed,
}

/// Kind of a block, by its label. The label itself is content of the file and is never shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BlockKind {
    /// A private key that can be read.
    PrivateKey,
    /// A private key that is protected by a password.
    EncryptedKey,
    /// A private key in OpenSSH's own format.
    OpenSshKey,
    /// A private key of another kind.
    OtherKey,
    /// A public key.
    PublicKey,
    /// A certificate.
    Certificate,
    /// A request for a certificate.
    Request,
    /// A CRL.
    Crl,
    /// Parameters of keys, which stand before some keys.
    Parameters,
    /// Anything else.
    Unknown,
}

impl BlockKind {
    fn from_label(label: &[u8]) -> Self {
        match label {
            b"PRIVATE KEY" | b"RSA PRIVATE KEY" | b"EC PRIVATE KEY" => Self::PrivateKey,
            b"ENCRYPTED PRIVATE KEY" => Self::EncryptedKey,
            b"OPENSSH PRIVATE KEY" => Self::OpenSshKey,
            b"PUBLIC KEY" | b"RSA PUBLIC KEY" | b"EC PUBLIC KEY" => Self::PublicKey,
            b"CERTIFICATE" => Self::Certificate,
            b"CERTIFICATE REQUEST" | b"NEW CERTIFICATE REQUEST" => Self::Request,
            b"X509 CRL" => Self::Crl,
            b"EC PARAMETERS" | b"DH PARAMETERS" | b"DSA PARAMETERS" => Self::Parameters,
            label if label.ends_with(b"PRIVATE KEY") || label.ends_with(b"PRIVATE KEY BLOCK") => {
                Self::OtherKey
            }
            _ => Self::Unknown,
        }
    }

    const fn name(self) -> &'static str {
        match self {
            Self::PrivateKey => "a private key",
            Self::EncryptedKey => "an encrypted private key",
            Self::OpenSshKey => "a private key in OpenSSH's format",
            Self::OtherKey => "a private key of a kind that is not supported",
            Self::PublicKey => "a public key",
            Self::Certificate => "a certificate",
            Self::Request => "a certificate request",
            Self::Crl => "a CRL",
            Self::Parameters => "parameters of keys",
            Self::Unknown => "a block with a label that is not known here",
        }
    }
}

impl fmt::Display for PemFlaw {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty => f.write_str("the file is empty"),
            Self::Utf16 => f.write_str("the file is text in UTF-16"),
            Self::Pkcs12 => f.write_str("the file is PKCS#12, which is binary"),
            Self::Der => f.write_str("the file is DER, which is binary"),
            Self::Binary => f.write_str("the file is binary, and no text"),
            Self::Base64OfPem => f.write_str("the file is the base64 of a PEM file"),
            Self::LostLineBreaks(line) => write!(f, "the line breaks of this file are lost (line {line})"),
            Self::JoinedLines(line) => write!(f, "an END line and a BEGIN line became one (line {line})"),
            Self::Indented(line) => write!(f, "line {line} is indented"),
            Self::Quoted(line) => write!(f, "a quote stands before BEGIN in line {line}"),
            Self::BadBegin(line) => write!(f, "line {line} is no proper BEGIN line"),
            Self::NoBegin => f.write_str("no line starts with -----BEGIN"),
            Self::BeginWithoutEnd(line) => write!(f, "the block that begins in line {line} has no END line"),
            Self::EndWithoutBegin(line) => write!(f, "the block that ends in line {line} has no BEGIN line"),
            Self::LabelMismatch(line, end) => {
                write!(f, "the block that begins in line {line} ends in line {end} with another label")
            }
            Self::NotBase64(line) => write!(f, "line {line} is no base64"),
            Self::Incomplete(line) => {
                write!(f, "the base64 of the block that begins in line {line} is incomplete")
            }
            Self::Encrypted(line) => write!(f, "the key in line {line} is protected by a password"),
            Self::SeveralKeys(count) => write!(f, "the file has {count} keys, and one is expected"),
            Self::WrongKind { wanted, found, line } => {
                write!(f, "{} begins in line {line}, and {} is nowhere", found.name(), wanted.name())
            }
            Self::Malformed => f.write_str("the file is no proper PEM"),
        }
    }
}

impl PemFlaw {
    /// Returns the remedy for an operator.
    #[must_use]
    pub const fn remedy(self) -> &'static str {
        match self {
            Self::Empty | Self::NoBegin => {
                "a PEM file has lines -----BEGIN …----- and -----END …-----, such as -----BEGIN PRIVATE KEY----- or -----BEGIN CERTIFICATE-----"
            }
            Self::Utf16 => "write it as ASCII: `iconv -f UTF-16 -t ASCII`",
            Self::Pkcs12 => {
                "write certificates and key as PEM files of their own: `openssl pkcs12 -in FILE -nodes`"
            }
            Self::Der => {
                "write it as PEM: `openssl x509 -inform DER -in FILE`, or `openssl pkey -inform DER -in FILE` for a key"
            }
            Self::Binary => "check the path, and write the file as PEM",
            Self::Base64OfPem => "decode it once: `base64 -d`",
            Self::LostLineBreaks(_) => {
                "write it with its line breaks, as `printf '%b' \"$KEY\"` does where they became `\\n`; a Secret that is mounted as a file keeps them, one in a variable often does not"
            }
            Self::JoinedLines(_) => "put a line break between files that are joined",
            Self::Indented(_) => "remove the blanks at the start of the lines",
            Self::Quoted(_) => "remove the quotes around the text",
            Self::BadBegin(_) => {
                "a BEGIN line is `-----BEGIN LABEL-----`, with five dashes on both sides and nothing else"
            }
            Self::BeginWithoutEnd(_)
            | Self::EndWithoutBegin(_)
            | Self::NotBase64(_)
            | Self::Incomplete(_)
            | Self::Malformed => {
                "write the PEM file again from where it came: it is cut off or was changed on its way"
            }
            Self::LabelMismatch(..) => {
                "BEGIN and END of a block have the same label; write the file again from where it came"
            }
            Self::Encrypted(_) => Self::ENCRYPTED,
            Self::SeveralKeys(_) => "leave the key that belongs to the certificate, and remove the others",
            Self::WrongKind { wanted: BlockKind::PrivateKey, found, .. } => Self::remedy_for_wrong_key(found),
            Self::WrongKind { .. } => "check the path: a certificate starts with -----BEGIN CERTIFICATE-----",
        }
    }

    const ENCRYPTED: &'static str =
        "write it without a password, readable by this user alone: `openssl pkey -in FILE -out tls.key`";

    const fn remedy_for_wrong_key(found: BlockKind) -> &'static str {
        match found {
            BlockKind::EncryptedKey => Self::ENCRYPTED,
            BlockKind::OpenSshKey => "write it as PEM: `ssh-keygen -p -m PKCS8 -f FILE`",
            _ => {
                "check the path: a key starts with -----BEGIN PRIVATE KEY----- (or RSA PRIVATE KEY, EC PRIVATE KEY)"
            }
        }
    }

    /// Returns the first flaw of a file that the library refused.
    fn of(bytes: &[u8]) -> Self {
        Self::of_whole_file(bytes).or_else(|| Scan::of(bytes).flaw).unwrap_or(Self::Malformed)
    }

    /// Returns the flaw of a file without a block of the expected kind.
    fn without_block(wanted: BlockKind, bytes: &[u8]) -> Self {
        let by_form = Self::of_whole_file(bytes);
        let scan = Scan::of(bytes);
        let instead = scan.blocks.iter().find(|(found, _)| *found != BlockKind::Parameters);
        let instead = instead.or(scan.blocks.first());
        let instead = instead.map(|(found, line)| Self::WrongKind { wanted, found: *found, line: *line });
        by_form.or(scan.flaw).or(instead).unwrap_or(Self::NoBegin)
    }

    /// Returns the flaw of a file that is not PEM at all.
    fn of_whole_file(bytes: &[u8]) -> Option<Self> {
        /// `-----BEGIN ` in base64, without its last bits.
        const BEGIN_IN_BASE64: &[u8] = b"LS0tLS1CRUdJTi";
        Some(match bytes.trim_ascii() {
            [] => Self::Empty,
            [0xff, 0xfe, ..] | [0xfe, 0xff, ..] | [b'-', 0, b'-', ..] | [0, b'-', 0, ..] => Self::Utf16,
            [0x30, 0x82, _, _, 0x02, 0x01, 0x03, ..] => Self::Pkcs12,
            der if is_der(der) => Self::Der,
            text if text.starts_with(BEGIN_IN_BASE64) => Self::Base64OfPem,
            text if text.contains(&0) => Self::Binary,
            _ => return None,
        })
    }
}

/// Scan of the lines of a file for its blocks and its first flaw.
#[derive(Debug, Default)]
struct Scan<'t> {
    blocks: Vec<(BlockKind, usize)>,
    flaw: Option<PemFlaw>,
    /// Label of the open block, and the line in which the block begins.
    open: Option<(&'t [u8], usize)>,
    /// Number of base64 characters in the open block.
    characters: usize,
    is_padded: bool,
}

const BEGIN: &[u8] = b"-----BEGIN ";
const END: &[u8] = b"-----END ";
const DASHES: &[u8] = b"-----";

impl<'t> Scan<'t> {
    fn of(bytes: &'t [u8]) -> Self {
        let mut scan = Self::default();
        let text = bytes.strip_prefix(BYTE_ORDER_MARK).unwrap_or(bytes);
        for (number, line) in (1..).zip(lines(text)) {
            if scan.flaw.is_some() {
                return scan;
            }
            scan.flaw = scan.line(line, number).err();
        }
        let unended = scan.open.map(|(_, line)| PemFlaw::BeginWithoutEnd(line));
        scan.flaw = scan.flaw.or(unended);
        scan
    }

    fn line(&mut self, line: &'t [u8], number: usize) -> Result<(), PemFlaw> {
        if let Some((before, after)) = split(line, BEGIN) {
            return self.begin(before, after, number);
        }
        match (split(line, END), self.open) {
            (Some((before, after)), Some(open)) => self.end(before, after, open, number),
            (Some(([], _)), None) => Err(PemFlaw::EndWithoutBegin(number)),
            (None, Some(_)) => self.body(line, number),
            (_, None) => Ok(()),
        }
    }

    fn begin(&mut self, before: &[u8], after: &'t [u8], number: usize) -> Result<(), PemFlaw> {
        let (label, rest) = split(after, DASHES).ok_or(PemFlaw::BadBegin(number))?;
        match before.trim_ascii() {
            _ if !rest.trim_ascii().is_empty() => Err(match rest.trim_ascii() {
                [b'-', ..] => PemFlaw::BadBegin(number),
                [b'"' | b'\'', ..] => PemFlaw::Quoted(number),
                _ => PemFlaw::LostLineBreaks(number),
            }),
            [] if !before.is_empty() => Err(PemFlaw::Indented(number)),
            [.., b'"' | b'\''] => Err(PemFlaw::Quoted(number)),
            [b'-', ..] if before.starts_with(END) => Err(PemFlaw::JoinedLines(number)),
            [b'-', ..] => Err(PemFlaw::BadBegin(number)),
            // Other text before BEGIN is a comment and not a BEGIN line.
            [_, ..] => Ok(()),
            [] => match self.open.replace((label, number)) {
                Some((_, unended)) => Err(PemFlaw::BeginWithoutEnd(unended)),
                None => {
                    self.blocks.push((BlockKind::from_label(label), number));
                    (self.characters, self.is_padded) = (0, false);
                    Ok(())
                }
            },
        }
    }

    fn end(
        &mut self,
        before: &[u8],
        after: &[u8],
        (label, begun): (&[u8], usize),
        number: usize,
    ) -> Result<(), PemFlaw> {
        self.open = None;
        match before.trim_ascii() {
            [] if !before.is_empty() => Err(PemFlaw::Indented(number)),
            [_, ..] => Err(PemFlaw::LostLineBreaks(number)),
            [] if split(after, DASHES).is_none_or(|(ended, _)| ended != label) => {
                Err(PemFlaw::LabelMismatch(begun, number))
            }
            [] if self.characters.is_multiple_of(4) => Ok(()),
            [] => Err(PemFlaw::Incomplete(begun)),
        }
    }

    fn body(&mut self, line: &[u8], number: usize) -> Result<(), PemFlaw> {
        if line.starts_with(b"Proc-Type:") || line.starts_with(b"DEK-Info:") {
            return Err(PemFlaw::Encrypted(self.open.map_or(number, |(_, line)| line)));
        }
        for byte in line.iter().filter(|byte| !byte.is_ascii_whitespace()) {
            match byte {
                b'=' => self.is_padded = true,
                b'+' | b'/' | b'0'..=b'9' | b'A'..=b'Z' | b'a'..=b'z' if !self.is_padded => {}
                b'\\' => return Err(PemFlaw::LostLineBreaks(number)),
                _ => return Err(PemFlaw::NotBase64(number)),
            }
            self.characters += 1;
        }
        Ok(())
    }
}

/// Returns the lines, which end with LF, CR or both.
fn lines(text: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = Some(text);
    std::iter::from_fn(move || {
        let text = rest?;
        let Some(end) = memchr::memchr2(b'\n', b'\r', text) else { return rest.take() };
        let (line, after) = text.split_at(end);
        rest = after.strip_prefix(b"\r\n").or_else(|| after.get(1..));
        Some(line)
    })
}

/// Returns the text before and after the first mark.
fn split<'t>(text: &'t [u8], mark: &[u8]) -> Option<(&'t [u8], &'t [u8])> {
    let at = memchr::memmem::find(text, mark)?;
    Some((text.get(..at)?, text.get(at + mark.len()..)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str = "-----BEGIN PRIVATE KEY-----\nMC4CAQAwBQYDK2VwBCIEIAAAAAAAAAAAAAAAAAAAAAAAAAAA\nAAAAAAAAAAAAAAAAAAAA\n-----END PRIVATE KEY-----\n";

    fn flaw(text: impl AsRef<[u8]>) -> PemFlaw {
        private_key(text.as_ref()).unwrap_err()
    }

    #[test]
    fn a_key_is_read_in_every_unambiguous_form() {
        let parameters = "-----BEGIN EC PARAMETERS-----\nBggqhkjOPQMBBw==\n-----END EC PARAMETERS-----\n";
        let certificate = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
        for text in [
            KEY.to_owned(),
            KEY.replace('\n', "\r\n"),
            KEY.replace('\n', "\r"),
            KEY.trim_end().to_owned(),
            format!("\u{feff}{KEY}"),
            format!("{parameters}{KEY}"),
            format!("{certificate}{KEY}"),
            format!("Bag Attributes\n    localKeyID: 01\n{KEY}and so on\n"),
        ] {
            assert_eq!(private_key(text.as_bytes()).map(|key| key.secret_der().len()), Ok(51), "{text}");
        }
    }

    #[test]
    fn each_damage_has_a_name_and_a_line() {
        let changed = |from: &str, to: &str| flaw(KEY.replacen(from, to, 1));
        assert_eq!(flaw(""), PemFlaw::Empty);
        assert_eq!(flaw(" \n"), PemFlaw::Empty);
        assert_eq!(flaw(KEY.replace('\n', "\\n")), PemFlaw::LostLineBreaks(1));
        assert_eq!(flaw(KEY.replace('\n', " ")), PemFlaw::LostLineBreaks(1));
        assert_eq!(flaw(KEY.replace('\n', "")), PemFlaw::LostLineBreaks(1));
        assert_eq!(changed("AAAA\nAAAA", "AAAA\\nAAAA"), PemFlaw::LostLineBreaks(2));
        assert_eq!(changed("AAAA\n-----END", "AAAA-----END"), PemFlaw::LostLineBreaks(3));
        assert_eq!(flaw(format!("\"{}\"", KEY.replace('\n', "\\n"))), PemFlaw::LostLineBreaks(1));
        assert_eq!(flaw(format!("\"{KEY}\"")), PemFlaw::Quoted(1));
        assert_eq!(flaw(KEY.replace("-----BEGIN", "  -----BEGIN")), PemFlaw::Indented(1));
        assert_eq!(
            changed("-----BEGIN PRIVATE KEY-----", "-----BEGIN PRIVATE KEY----"),
            PemFlaw::BadBegin(1)
        );
        assert_eq!(changed("-----BEGIN PRIVATE KEY-----\n", ""), PemFlaw::EndWithoutBegin(3));
        assert_eq!(changed("-----END PRIVATE KEY-----\n", ""), PemFlaw::BeginWithoutEnd(1));
        assert_eq!(changed("END PRIVATE", "END RSA PRIVATE"), PemFlaw::LabelMismatch(1, 4));
        assert_eq!(changed("BQYDK", "BQ*DK"), PemFlaw::NotBase64(2));
        assert_eq!(changed("BQYDK", "BQ\u{e4}DK"), PemFlaw::NotBase64(2));
        assert_eq!(changed("BQYDK", "BQ"), PemFlaw::Incomplete(1));
        assert_eq!(flaw(format!("{KEY}{KEY}")), PemFlaw::SeveralKeys(2));
        let headers = "KEY-----\nProc-Type: 4,ENCRYPTED\nDEK-Info: AES-128-CBC,00\n\nMC4C";
        assert_eq!(changed("KEY-----\nMC4C", headers), PemFlaw::Encrypted(1));
        assert_eq!(flaw("MC4CAQAwBQYDK2VwBCIEIAAA\n"), PemFlaw::NoBegin);
        assert_eq!(flaw("LS0tLS1CRUdJTiBQUklWQVRFIEtFWS0tLS0t"), PemFlaw::Base64OfPem);
        let joined = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----";
        assert_eq!(flaw(format!("{joined}{KEY}")), PemFlaw::JoinedLines(3));
    }

    #[test]
    fn files_of_another_kind_are_named() {
        let instead = |label: &str| {
            let text = KEY.replace("PRIVATE KEY", label);
            let PemFlaw::WrongKind { wanted: BlockKind::PrivateKey, found, line: 1 } = flaw(text) else {
                return None;
            };
            Some(found)
        };
        for (label, block) in [
            ("CERTIFICATE", BlockKind::Certificate),
            ("PUBLIC KEY", BlockKind::PublicKey),
            ("ENCRYPTED PRIVATE KEY", BlockKind::EncryptedKey),
            ("OPENSSH PRIVATE KEY", BlockKind::OpenSshKey),
            ("DSA PRIVATE KEY", BlockKind::OtherKey),
            ("CERTIFICATE REQUEST", BlockKind::Request),
            ("EC PARAMETERS", BlockKind::Parameters),
            ("SECRET PLAN", BlockKind::Unknown),
        ] {
            assert_eq!(instead(label), Some(block), "{label}");
        }
        let utf_16: Vec<u8> = KEY.encode_utf16().flat_map(u16::to_le_bytes).collect();
        assert_eq!(flaw(&utf_16), PemFlaw::Utf16);
        assert_eq!(flaw([&[0xff, 0xfe], utf_16.as_slice()].concat()), PemFlaw::Utf16);
        assert_eq!(flaw([0x30, 0x82, 1, 2, 2, 1, 3, 0x30, 0x80]), PemFlaw::Pkcs12);
        assert_eq!(flaw([0x30, 0x2e, 2, 1, 0, 0x80]), PemFlaw::Der);
        assert_eq!(flaw("a\0b"), PemFlaw::Binary);
        let certificate = certificates(KEY.as_bytes()).unwrap_err();
        assert!(
            matches!(certificate, PemFlaw::WrongKind { found: BlockKind::PrivateKey, .. }),
            "{certificate:?}"
        );
    }
}
