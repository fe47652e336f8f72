//! What must hold for any text presented as a token. Run by the fuzzer and by `tests/random.rs`.

use std::time::{Duration, SystemTime};

use visavis_signaling::{
    protocol::{PeerId, Role, RoomName},
    token::{Claim, TokenKey},
};

const SECRET: [u8; TokenKey::LENGTH] = [7; TokenKey::LENGTH];

/// A genuine token, to be spoiled.
pub fn genuine() -> String {
    TokenKey::new(&SECRET).seal(&Claim {
        room: RoomName::parse("tea").expect("a room's name"),
        id: PeerId::from("0123456789abcdef"),
        role: Role::Initiator,
        peer: None,
        epoch: 3,
        run: 5,
        expires: SystemTime::UNIX_EPOCH + Duration::from_secs(60),
    })
}

/// Panics if `data`, which is not the genuine token, is taken for one, or cannot be looked at.
pub fn check(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let key = TokenKey::new(&SECRET);
    let result = key.open(&text, SystemTime::UNIX_EPOCH);
    match result {
        Ok(claim) => assert_eq!(key.seal(&claim), genuine(), "forged: {text}"),
        Err(error) => assert!(!error.to_string().is_empty()),
    }
}
