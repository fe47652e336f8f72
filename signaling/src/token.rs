//! The token with which a client takes its own seat back: what the server must know of the seat,
//! under an HMAC (RFC 2104, with SHA-256), in base64url. Pure.

use std::{
    fmt,
    time::{Duration, SystemTime},
};

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use ring::hmac;
use thiserror::Error;

use crate::protocol::{PeerId, Role, RoomName};

/// The first byte of every token; another layout would be another number.
const VERSION: u8 = 1;

/// The length of the tag at a token's end, in bytes.
const TAG: usize = 32;

/// No token of ours is longer, in characters; a longer text is not even decoded.
const MAX_CHARS: usize = 1024;

/// A token may be used for so long: longer than calls last.
pub const TOKEN_LIFETIME: Duration = Duration::from_secs(24 * 3600);

/// Seals and opens tokens.
#[derive(Clone)]
pub struct TokenKey(hmac::Key);

/// What a token says. Only its server can have made it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claim {
    /// The room.
    pub room: RoomName,
    /// Who sits in the seat.
    pub id: PeerId,
    /// Which seat.
    pub role: Role,
    /// Who sat opposite when the token was made.
    pub peer: Option<PeerId>,
    /// Counts the tokens of this seat.
    pub epoch: u32,
    /// Which run of the server made it.
    pub run: u32,
    /// From then on it is worth nothing.
    pub expires: SystemTime,
}

/// Why a text is no token.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum TokenError {
    /// Not base64url, too short, too long, or of another version.
    #[error("This is no token of this server.")]
    Malformed,
    /// Not sealed with this key, or changed since.
    #[error("The token was not made by this server.")]
    Forged,
    /// Too old.
    #[error("The token has expired.")]
    Expired,
}

impl TokenKey {
    /// The key's length, in bytes.
    pub const LENGTH: usize = 32;

    /// Takes secret random bytes.
    pub fn new(secret: &[u8; Self::LENGTH]) -> Self {
        Self(hmac::Key::new(hmac::HMAC_SHA256, secret))
    }

    /// Makes a token of what `claim` says. Whole seconds of its expiry are kept.
    pub fn seal(&self, claim: &Claim) -> String {
        let expires = claim.expires.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let mut bytes = vec![VERSION, u8::from(claim.role == Role::Responder)];
        bytes.extend(claim.epoch.to_be_bytes());
        bytes.extend(claim.run.to_be_bytes());
        bytes.extend(expires.as_secs().to_be_bytes());
        let peer = claim.peer.as_ref().map_or("", PeerId::as_str);
        for text in [claim.room.as_str(), claim.id.as_str(), peer] {
            // Names have 64 characters and ids 16: a length always fits.
            bytes.extend(u16::try_from(text.len()).unwrap_or(u16::MAX).to_be_bytes());
            bytes.extend(text.as_bytes());
        }
        let tag = hmac::sign(&self.0, &bytes);
        bytes.extend(tag.as_ref());
        URL_SAFE_NO_PAD.encode(bytes)
    }

    /// What `token` says, at the time `now`. The tag is compared in constant time, before
    /// anything else is looked at.
    ///
    /// # Errors
    /// Why it is worth nothing.
    pub fn open(&self, token: &str, now: SystemTime) -> Result<Claim, TokenError> {
        if token.len() > MAX_CHARS {
            return Err(TokenError::Malformed);
        }
        let bytes = URL_SAFE_NO_PAD.decode(token).map_err(|_| TokenError::Malformed)?;
        let body = bytes.len().checked_sub(TAG).ok_or(TokenError::Malformed)?;
        let (body, tag) = bytes.split_at(body);
        hmac::verify(&self.0, body, tag).map_err(|_| TokenError::Forged)?;
        let claim = parse(body).ok_or(TokenError::Malformed)?;
        if claim.expires <= now { Err(TokenError::Expired) } else { Ok(claim) }
    }
}

impl fmt::Debug for TokenKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TokenKey")
    }
}

fn parse(mut body: &[u8]) -> Option<Claim> {
    let [version, role] = take(&mut body)?;
    let role = match (version, role) {
        (VERSION, 0) => Role::Initiator,
        (VERSION, 1) => Role::Responder,
        _ => return None,
    };
    let epoch = u32::from_be_bytes(take(&mut body)?);
    let run = u32::from_be_bytes(take(&mut body)?);
    let expires = Duration::from_secs(u64::from_be_bytes(take(&mut body)?));
    let expires = SystemTime::UNIX_EPOCH.checked_add(expires)?;
    let room = RoomName::parse(text(&mut body)?).ok()?;
    let id = PeerId::from(text(&mut body)?);
    let peer = Some(text(&mut body)?).filter(|peer| !peer.is_empty()).map(PeerId::from);
    body.is_empty().then_some(Claim { room, id, role, peer, epoch, run, expires })
}

fn take<const N: usize>(body: &mut &[u8]) -> Option<[u8; N]> {
    let (head, rest) = body.split_first_chunk::<N>()?;
    *body = rest;
    Some(*head)
}

fn text<'a>(body: &mut &'a [u8]) -> Option<&'a str> {
    let length = usize::from(u16::from_be_bytes(take(body)?));
    let (head, rest) = body.split_at_checked(length)?;
    *body = rest;
    std::str::from_utf8(head).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: SystemTime = SystemTime::UNIX_EPOCH;

    fn claim() -> Claim {
        Claim {
            room: RoomName::parse("茶室").unwrap(),
            id: PeerId::from("0123456789abcdef"),
            role: Role::Responder,
            peer: Some(PeerId::from("fedcba9876543210")),
            epoch: 7,
            run: 0xdead_beef,
            expires: NOW + Duration::from_secs(100),
        }
    }

    fn key(byte: u8) -> TokenKey {
        TokenKey::new(&[byte; TokenKey::LENGTH])
    }

    #[test]
    fn what_was_sealed_is_read_again() {
        for role in [Role::Initiator, Role::Responder] {
            for peer in [None, claim().peer] {
                let claim = Claim { role, peer, ..claim() };
                assert_eq!(key(1).open(&key(1).seal(&claim), NOW), Ok(claim));
            }
        }
    }

    #[test]
    fn a_token_of_another_key_or_with_any_bit_changed_is_forged() {
        let token = key(1).seal(&claim());
        assert_eq!(key(2).open(&token, NOW), Err(TokenError::Forged));
        let bytes = URL_SAFE_NO_PAD.decode(&token).unwrap();
        for bit in 0..bytes.len() * 8 {
            let mut changed = bytes.clone();
            changed[bit / 8] ^= 1 << (bit % 8);
            let changed = URL_SAFE_NO_PAD.encode(changed);
            assert_eq!(key(1).open(&changed, NOW), Err(TokenError::Forged), "bit {bit}");
        }
    }

    #[test]
    fn what_is_no_token_is_said_to_be_none() {
        let short = "AQ".repeat(10);
        let long = "A".repeat(MAX_CHARS + 1);
        for text in ["", "=", "茶", "not a token", &short, &long] {
            assert_eq!(key(1).open(text, NOW), Err(TokenError::Malformed), "{text}");
        }
        let sealed = |body: &[u8]| {
            let tag = hmac::sign(&key(1).0, body);
            URL_SAFE_NO_PAD.encode([body, tag.as_ref()].concat())
        };
        let body = URL_SAFE_NO_PAD.decode(key(1).seal(&claim())).unwrap();
        let body = &body[..body.len() - TAG];
        for length in 0..body.len() {
            assert!(key(1).open(&sealed(&body[..length]), NOW).is_err(), "{length} bytes");
        }
        let longer = sealed(&[body, b"x"].concat());
        assert_eq!(key(1).open(&longer, NOW), Err(TokenError::Malformed));
        let newer = sealed(&[&[VERSION + 1], &body[1..]].concat());
        assert_eq!(key(1).open(&newer, NOW), Err(TokenError::Malformed));
    }

    #[test]
    fn a_token_expires() {
        let token = key(1).seal(&claim());
        let last = NOW + Duration::from_secs(99);
        assert!(key(1).open(&token, last).is_ok());
        assert_eq!(key(1).open(&token, claim().expires), Err(TokenError::Expired));
    }

    #[test]
    fn the_longest_name_fits() {
        let room = RoomName::parse(&"\u{20000}".repeat(64)).unwrap();
        let claim = Claim { room, ..claim() };
        let token = key(1).seal(&claim);
        assert!(token.len() <= MAX_CHARS);
        assert_eq!(key(1).open(&token, NOW), Ok(claim));
    }
}
