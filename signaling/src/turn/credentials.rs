//! Who may use the relay: credentials that run out (draft-uberti-behave-turn-rest), and nonces
//! that need no memory. Pure.

use std::{
    net::IpAddr,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use base64::{Engine, prelude::BASE64_STANDARD};
use ring::hmac;

/// How long a nonce is good for (RFC 8656 section 5 advises at least an hour).
pub const NONCE_LIFETIME: Duration = Duration::from_secs(3600);

/// A user name and password for a TURN server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Credential {
    /// `EXPIRY:USER`, the expiry in seconds of Unix time.
    pub username: String,
    /// The username's HMAC-SHA1 under the secret, in Base64.
    pub password: String,
}

/// Makes and checks credentials and nonces.
#[derive(Clone)]
pub struct Authority {
    secret: hmac::Key,
    nonces: hmac::Key,
}

impl std::fmt::Debug for Authority {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Authority")
    }
}

impl Authority {
    /// `secret` is what an external server shares with this one (`static-auth-secret` there).
    pub fn new(secret: &[u8]) -> Self {
        let secret = hmac::Key::new(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, secret);
        // From the secret, so that a restarted server knows its nonces again.
        let seed = hmac::sign(&secret, b"visavis turn nonce");
        Self { secret, nonces: hmac::Key::new(hmac::HMAC_SHA256, seed.as_ref()) }
    }

    /// A credential for `user`, good until `expiry`.
    pub fn mint(&self, user: &str, expiry: SystemTime) -> Credential {
        let username = format!("{}:{user}", unix(expiry));
        let password = self.password(&username);
        Credential { username, password }
    }

    /// The password that belongs to `username`.
    pub fn password(&self, username: &str) -> String {
        BASE64_STANDARD.encode(hmac::sign(&self.secret, username.as_bytes()))
    }

    /// A nonce for the client at `address`.
    pub fn nonce(&self, address: IpAddr, now: SystemTime) -> String {
        self.nonce_until(address, unix(now + NONCE_LIFETIME))
    }

    /// Whether `nonce` was made for `address` and is still good.
    pub fn knows_nonce(&self, nonce: &[u8], address: IpAddr, now: SystemTime) -> bool {
        let expiry = std::str::from_utf8(nonce).ok().and_then(|nonce| nonce.get(..12));
        let Some(expiry) = expiry.and_then(|hex| u64::from_str_radix(hex, 16).ok()) else {
            return false;
        };
        // Forging one only saves a round trip: no need for constant time.
        expiry > unix(now) && self.nonce_until(address, expiry).as_bytes() == nonce
    }

    fn nonce_until(&self, address: IpAddr, expiry: u64) -> String {
        let tag = hmac::sign(&self.nonces, format!("{expiry} {address}").as_bytes());
        let tag = u128::from_be_bytes(tag.as_ref()[..16].try_into().unwrap_or_default());
        format!("{expiry:012x}{tag:032x}")
    }
}

/// The parts of a username: until when it may allocate, and who it is.
pub fn split(username: &str) -> Option<(SystemTime, &str)> {
    let (expiry, user) = username.split_once(':')?;
    let expiry = Duration::from_secs(expiry.parse().ok()?);
    Some((UNIX_EPOCH.checked_add(expiry)?, user)).filter(|(_, user)| !user.is_empty())
}

fn unix(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Duration = Duration::from_secs(1_800_000_000);

    fn at(seconds: u64) -> SystemTime {
        UNIX_EPOCH + NOW + Duration::from_secs(seconds)
    }

    #[test]
    fn a_credential_is_what_other_servers_expect() {
        // printf 1800000600:me | openssl dgst -sha1 -hmac north -binary | base64
        let credential = Authority::new(b"north").mint("me", at(600));
        assert_eq!(credential.username, "1800000600:me");
        assert_eq!(credential.password, "JHQUTJmCEzRsKVSxo1z5pNdstGs=");
        assert_eq!(split(&credential.username), Some((at(600), "me")));
        assert_ne!(Authority::new(b"south").mint("me", at(600)), credential);
    }

    #[test]
    fn a_username_without_its_parts_is_none() {
        for username in ["", "me", ":me", "x:me", "12:", "-1:me", "99999999999999999999:me"] {
            assert_eq!(split(username), None, "{username}");
        }
        assert_eq!(split("18446744073709551615:me"), None);
    }

    #[test]
    fn a_nonce_serves_its_own_client_for_an_hour() {
        let authority = Authority::new(b"north");
        let (here, there) = ([192, 0, 2, 1].into(), [192, 0, 2, 2].into());
        let nonce = authority.nonce(here, at(0));
        assert!(authority.knows_nonce(nonce.as_bytes(), here, at(3599)));
        assert!(!authority.knows_nonce(nonce.as_bytes(), here, at(3600)));
        assert!(!authority.knows_nonce(nonce.as_bytes(), there, at(0)));
        assert!(!Authority::new(b"south").knows_nonce(nonce.as_bytes(), here, at(0)));
        for forged in [&b""[..], b"\xff\xff", b"00006b49d20000000000", "é".repeat(20).as_bytes()] {
            assert!(!authority.knows_nonce(forged, here, at(0)));
        }
    }
}
