//! The pair of addresses that our end, the controlling one, names is in use at once.
//!
//! A pair may carry data as soon as a check has shown that it works (RFC 8445 section 12.1). The
//! crate names such a pair in a further check (section 8.1.1) and waits for that one's answer: a
//! round trip. So it is answered here, and sent again until the other end has answered it, too.
//! Through a relay everything is as ever.

use std::sync::Arc;
use std::time::Duration;

use rtc::crypto::RTCCryptoProvider;
use rtc::stun::fingerprint::FINGERPRINT;
use rtc::stun::integrity::MessageIntegrity;
use rtc::stun::message::{BINDING_SUCCESS, Message, TransactionId};

use super::checks::{BINDING_REQUEST, BINDING_RESPONSE, USE_CANDIDATE, attribute, message_type};

/// How long the other end is waited for before the naming check is sent again, the first time, then
/// twice as long up to the second (RFC 8489 section 6.2.1), until the third: as long as the crate
/// would look for a path.
const FIRST_AGAIN: Duration = Duration::from_millis(50);
const LONGEST: Duration = Duration::from_millis(200);
const IN_ALL: Duration = Duration::from_secs(30);

/// Checks that are waited for: more than there are at a time.
const MOST: usize = 16;

/// Of one message.
pub(super) type Transaction = [u8; 12];

/// One socket's.
#[derive(Debug, Default)]
pub(super) struct Nomination {
    unanswered: Vec<Transaction>,
}

impl Nomination {
    /// This left: the answer to it, where it names a pair.
    pub fn handle_sent(
        &mut self,
        datagram: &[u8],
        password: impl FnOnce() -> Option<String>,
        provider: &Arc<dyn RTCCryptoProvider>,
    ) -> Option<(Transaction, Vec<u8>)> {
        if message_type(datagram) != Some(BINDING_REQUEST) {
            return None;
        }
        attribute(datagram, USE_CANDIDATE)?;
        let transaction = transaction(datagram)?;
        let answer = answer(transaction, password()?, provider)?;
        if self.unanswered.len() >= MOST {
            self.unanswered.remove(0);
        }
        self.unanswered.push(transaction);
        Some((transaction, answer))
    }

    /// This came. Whether it is the other end's own answer, which the crate has no use for.
    pub fn handle_received(&mut self, datagram: &[u8]) -> bool {
        if self.unanswered.is_empty() || message_type(datagram) != Some(BINDING_RESPONSE) {
            return false;
        }
        let before = self.unanswered.len();
        let answered = transaction(datagram);
        self.unanswered.retain(|unanswered| Some(*unanswered) != answered);
        self.unanswered.len() < before
    }

    /// Whether the other end has not answered this one yet.
    pub fn is_unanswered(&self, transaction: &Transaction) -> bool {
        self.unanswered.contains(transaction)
    }
}

/// How long after each time a naming check is sent again.
pub(super) fn again() -> impl Iterator<Item = Duration> {
    let mut passed = Duration::ZERO;
    let double = |last: &Duration| Some((*last * 2).min(LONGEST));
    std::iter::successors(Some(FIRST_AGAIN), double).take_while(move |next| {
        passed += *next;
        passed <= IN_ALL
    })
}

/// Of a STUN message.
pub(super) fn transaction(datagram: &[u8]) -> Option<Transaction> {
    datagram.get(8..20)?.try_into().ok()
}

/// What the crate takes for the other end's (it looks at no address in it).
fn answer(
    transaction: Transaction,
    password: String,
    provider: &Arc<dyn RTCCryptoProvider>,
) -> Option<Vec<u8>> {
    let integrity =
        MessageIntegrity::new_short_term_integrity_with_provider(password, provider.crypto());
    let mut message = Message::new();
    message
        .build(&[
            Box::new(BINDING_SUCCESS),
            Box::new(TransactionId(transaction)),
            Box::new(integrity),
            Box::new(FINGERPRINT),
        ])
        .ok()?;
    Some(message.raw)
}

#[cfg(test)]
mod tests {
    use rtc::ice::attributes::use_candidate::UseCandidateAttr;
    use rtc::stun::message::{BINDING_REQUEST, Setter};

    use super::*;

    const PASSWORD: &str = "a password of the other end";

    fn provider() -> Arc<dyn RTCCryptoProvider> {
        rtc::crypto::default_provider().unwrap()
    }

    fn password() -> Option<String> {
        Some(PASSWORD.to_owned())
    }

    fn message(kind: rtc::stun::message::MessageType, number: u8, names: bool) -> Vec<u8> {
        let mut setters: Vec<Box<dyn Setter>> =
            vec![Box::new(kind), Box::new(TransactionId([number; 12]))];
        if names {
            setters.push(Box::<UseCandidateAttr>::default());
        }
        setters.push(Box::new(FINGERPRINT));
        let mut message = Message::new();
        message.build(&setters).unwrap();
        message.raw
    }

    #[test]
    fn a_check_that_names_a_pair_is_answered_as_by_the_other_end() {
        let (mut nomination, provider) = (Nomination::default(), provider());
        let check = message(BINDING_REQUEST, 1, true);
        let (transaction, raw) =
            nomination.handle_sent(&check, password, &provider).expect("an answer");
        assert_eq!(transaction, [1; 12]);
        let mut answer = Message { raw, ..Message::default() };
        answer.decode().unwrap();
        assert_eq!((answer.typ, answer.transaction_id.0), (BINDING_SUCCESS, [1; 12]));
        MessageIntegrity::check(&mut answer, PASSWORD.as_bytes(), provider.crypto()).unwrap();
        FINGERPRINT.check(&answer).unwrap();
    }

    #[test]
    fn no_other_is() {
        let (mut nomination, provider) = (Nomination::default(), provider());
        let mut answered =
            |datagram: &[u8]| nomination.handle_sent(datagram, password, &provider).is_some();
        assert!(!answered(&message(BINDING_REQUEST, 1, false)));
        assert!(!answered(&message(BINDING_SUCCESS, 1, true)));
        for other in [&[][..], &[0, 1], &[22; 40]] {
            assert!(!answered(other));
        }
        let check = message(BINDING_REQUEST, 1, true);
        assert!(nomination.handle_sent(&check, || None, &provider).is_none(), "no password yet");
    }

    #[test]
    fn the_other_ends_own_answer_ends_the_waiting() {
        let (mut nomination, provider) = (Nomination::default(), provider());
        let check = message(BINDING_REQUEST, 1, true);
        nomination.handle_sent(&check, password, &provider).unwrap();
        assert!(!nomination.handle_received(&message(BINDING_SUCCESS, 2, false)), "unasked");
        assert!(nomination.is_unanswered(&[1; 12]));
        assert!(nomination.handle_received(&message(BINDING_SUCCESS, 1, false)));
        assert!(!nomination.is_unanswered(&[1; 12]));
        assert!(!nomination.handle_received(&message(BINDING_SUCCESS, 1, false)), "once");
    }

    #[test]
    fn it_is_waited_for_as_long_as_for_a_path() {
        let ms: Vec<u128> = again().map(|wait| wait.as_millis()).collect();
        assert_eq!(ms[..4], [50, 100, 200, 200]);
        assert!((29_800..=30_000).contains(&ms.iter().sum::<u128>()));
    }

    #[test]
    fn what_is_waited_for_is_bounded() {
        let (mut nomination, provider) = (Nomination::default(), provider());
        for number in 0..100 {
            let check = message(BINDING_REQUEST, number, true);
            nomination.handle_sent(&check, password, &provider).unwrap();
        }
        assert_eq!(nomination.unanswered.len(), MOST);
        assert!(nomination.is_unanswered(&[99; 12]));
    }
}
