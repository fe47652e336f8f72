//! `--tls auto|off|CERT,KEY|acme:DOMAIN`.

use std::{fmt, path::PathBuf, str::FromStr};

use rustls::pki_types::DnsName;
use serde::{Deserialize, Serialize};
use thiserror::Error;

/// Where a server's certificate comes from.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum TlsMode {
    /// No TLS.
    #[default]
    Off,
    /// From nobody: the server makes one, and links tell its fingerprint.
    Auto,
    /// From two PEM files.
    Files {
        /// The server's certificate, and those that vouch for it.
        certificate: PathBuf,
        /// Its private key.
        key: PathBuf,
    },
    /// From Let's Encrypt (RFC 8555), which has to reach the server at port 443 (RFC 8737).
    Acme {
        /// The name to be certified.
        domain: String,
    },
}

/// Not a way to do TLS.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum TlsModeError {
    /// Not in the list.
    #[error("“{0}” is not understood: write auto, off, CERTIFICATE.pem,KEY.pem or acme:DOMAIN")]
    Unknown(String),
    /// Not a name.
    #[error(
        "“{0}” is no domain name that can be certified: write acme: and one such as tea.example"
    )]
    Domain(String),
}

impl TlsMode {
    /// Whether browsers recognise the certificate by themselves.
    pub fn is_verifiable(&self) -> bool {
        matches!(self, Self::Files { .. } | Self::Acme { .. })
    }
}

impl FromStr for TlsMode {
    type Err = TlsModeError;

    fn from_str(text: &str) -> Result<Self, TlsModeError> {
        let text = text.trim();
        if let Some(domain) = text.strip_prefix("acme:") {
            let good = DnsName::try_from(domain).is_ok()
                && domain.contains('.')
                && domain.parse::<std::net::IpAddr>().is_err();
            let domain = domain.trim_end_matches('.').to_ascii_lowercase();
            return if good {
                Ok(Self::Acme { domain })
            } else {
                Err(TlsModeError::Domain(domain))
            };
        }
        match (text, text.split_once(',')) {
            ("auto", _) => Ok(Self::Auto),
            ("off", _) => Ok(Self::Off),
            (_, Some((certificate, key))) if !certificate.trim().is_empty() => {
                let key = key.trim();
                if key.is_empty() || key.contains(',') {
                    return Err(TlsModeError::Unknown(text.to_owned()));
                }
                Ok(Self::Files { certificate: certificate.trim().into(), key: key.into() })
            }
            _ => Err(TlsModeError::Unknown(text.to_owned())),
        }
    }
}

impl fmt::Display for TlsMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Off => f.write_str("off"),
            Self::Auto => f.write_str("auto"),
            Self::Files { certificate, key } => {
                write!(f, "{},{}", certificate.display(), key.display())
            }
            Self::Acme { domain } => write!(f, "acme:{domain}"),
        }
    }
}

impl TryFrom<String> for TlsMode {
    type Error = TlsModeError;

    fn try_from(text: String) -> Result<Self, TlsModeError> {
        text.parse()
    }
}

impl From<TlsMode> for String {
    fn from(mode: TlsMode) -> Self {
        mode.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_way_is_read_and_written() {
        for text in ["auto", "off", "/etc/c.pem,/etc/k.pem", "acme:tea.example"] {
            assert_eq!(text.parse::<TlsMode>().unwrap().to_string(), text);
        }
        let spaced = " c.pem , k.pem ".parse::<TlsMode>().unwrap();
        assert_eq!(spaced.to_string(), "c.pem,k.pem");
    }

    #[test]
    fn what_is_none_says_which_there_are() {
        for text in ["", "on", "c.pem", "c.pem,", ",k.pem", "a,b,c"] {
            let error = text.parse::<TlsMode>().expect_err(text);
            assert!(error.to_string().contains("acme:DOMAIN"), "{error}");
        }
        for text in ["acme:", "acme:localhost", "acme:192.0.2.1", "acme:a b.example"] {
            let error = text.parse::<TlsMode>().expect_err(text);
            assert!(matches!(error, TlsModeError::Domain(_)), "{error}");
        }
    }
}
