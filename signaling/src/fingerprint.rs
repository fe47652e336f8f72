//! What a server is recognised by: the SHA-256 of its public key.

use std::{fmt, str::FromStr};

use base64::{
    Engine as _, alphabet,
    engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig},
};
use rustls::pki_types::CertificateDer;
use thiserror::Error;

/// SHA-256 over the SubjectPublicKeyInfo (RFC 5280, section 4.1.2.7) of a server's certificate.
///
/// Over the key and not the whole certificate, so that a certificate made anew for the same key
/// (its time ran out, the machine's addresses changed) is still the one that a link names.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Fingerprint([u8; 32]);

/// Not a fingerprint.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error(
    "This is no fingerprint: one has 43 letters, digits, “-” and “_”, as after “#fp=” in a link, \
     or 64 hexadecimal digits."
)]
pub struct FingerprintError;

/// base64url (RFC 4648, section 5); what is read may be padded.
const BASE64URL: GeneralPurpose = GeneralPurpose::new(
    &alphabet::URL_SAFE,
    GeneralPurposeConfig::new()
        .with_encode_padding(false)
        .with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

impl Fingerprint {
    /// The hash itself.
    pub fn into_bytes(self) -> [u8; 32] {
        self.0
    }

    /// Of a key, as a DER-encoded SubjectPublicKeyInfo.
    pub fn of_public_key(spki: &[u8]) -> Self {
        let digest = ring::digest::digest(&ring::digest::SHA256, spki);
        let mut bytes = [0; 32];
        bytes.copy_from_slice(digest.as_ref());
        Self(bytes)
    }

    /// Of the key in a certificate; `None` where it is not one that can be read (X.509, version 3).
    pub fn of_certificate(certificate: &CertificateDer<'_>) -> Option<Self> {
        let certificate = webpki::EndEntityCert::try_from(certificate).ok()?;
        Some(Self::of_public_key(&certificate.subject_public_key_info()))
    }

    /// For people to compare: 16 groups of 4 hexadecimal digits.
    pub fn grouped(&self) -> String {
        let groups: Vec<String> =
            self.0.chunks_exact(2).map(|pair| format!("{:02X}{:02X}", pair[0], pair[1])).collect();
        groups.join(" ")
    }

    /// In base64 with padding (RFC 4648, section 4), as Chromium's
    /// `--ignore-certificate-errors-spki-list` wants it.
    pub fn to_base64(&self) -> String {
        base64::engine::general_purpose::STANDARD.encode(self.0)
    }
}

impl fmt::Display for Fingerprint {
    /// As in a link: base64url without padding, 43 characters.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&BASE64URL.encode(self.0))
    }
}

impl fmt::Debug for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Fingerprint({self})")
    }
}

impl FromStr for Fingerprint {
    type Err = FingerprintError;

    /// Reads base64url, or hexadecimal digits with or without blanks and colons between.
    fn from_str(text: &str) -> Result<Self, FingerprintError> {
        let text = text.trim();
        let digits: String =
            text.chars().filter(|c| !c.is_whitespace() && !matches!(c, ':')).collect();
        let bytes = if digits.len() == 64 && digits.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            (0..64).step_by(2).map(|at| u8::from_str_radix(&digits[at..at + 2], 16)).collect()
        } else {
            Ok(BASE64URL.decode(text).map_err(|_| FingerprintError)?)
        };
        let bytes: Vec<u8> = bytes.map_err(|_| FingerprintError)?;
        bytes.try_into().map(Self).map_err(|_| FingerprintError)
    }
}

impl serde::Serialize for Fingerprint {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> serde::Deserialize<'de> for Fingerprint {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_survives_being_written_in_every_form() {
        let fingerprint = Fingerprint::of_public_key(b"a key");
        assert_eq!(fingerprint.to_string().len(), 43);
        for text in [
            fingerprint.to_string(),
            format!(" {fingerprint}= "),
            fingerprint.grouped(),
            fingerprint.grouped().replace(' ', ":").to_lowercase(),
        ] {
            assert_eq!(text.parse(), Ok(fingerprint), "{text}");
        }
        assert_eq!(fingerprint.grouped().len(), 64 + 15);
    }

    #[test]
    fn what_is_none_is_refused() {
        for text in ["", "abc", "AAAA", &"A".repeat(44), &"0".repeat(63), "ü", &"+".repeat(43)] {
            assert_eq!(text.parse::<Fingerprint>(), Err(FingerprintError), "{text}");
        }
    }

    #[test]
    fn it_is_the_known_digest() {
        // SHA-256 of nothing (FIPS 180-4).
        let empty = Fingerprint::of_public_key(b"");
        assert!(empty.grouped().starts_with("E3B0 C442 98FC 1C14"), "{}", empty.grouped());
    }
}
