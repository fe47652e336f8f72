//! Messages that may have to be sent again: the newest of what was sent, and all that waits
//! while the line is down. Both ends keep one. Pure.

use std::collections::VecDeque;

use crate::protocol::Payload;

/// So many messages are kept while the line is up; so many more may wait while it is down.
pub const MAX_KEPT: usize = 64;

/// The same, in bytes.
pub const MAX_KEPT_BYTES: usize = 256 * 1024;

/// Keeping a message costs about so much beside its text, in bytes.
const EVERY: usize = 16;

/// Messages sent in one direction, in the order of their numbers.
#[derive(Debug, Default)]
pub(crate) struct Outbox {
    kept: VecDeque<Kept>,
    bytes: usize,
    /// The number of the newest message no longer kept.
    forgotten: u64,
    /// Of the messages that came while the line was down, if it is.
    waiting: Option<Waiting>,
}

#[derive(Debug)]
struct Kept {
    seq: u64,
    bytes: usize,
    message: Payload,
}

#[derive(Debug)]
struct Waiting {
    messages: usize,
    bytes: usize,
    /// How many times the usual may wait.
    share: usize,
}

/// More waits than may; messages would be lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Overflow;

impl Outbox {
    /// The line is down: from now on messages wait.
    pub(crate) fn hold(&mut self) {
        self.wait(1);
    }

    /// The line is down, and the other end will send again all that it keeps: twice as much may
    /// wait.
    pub(crate) fn hold_all(&mut self) {
        self.wait(2);
    }

    fn wait(&mut self, share: usize) {
        if self.waiting.is_none() {
            self.waiting = Some(Waiting { messages: 0, bytes: 0, share });
        }
    }

    /// Keeps `message` under its number, which is higher than any before.
    ///
    /// # Errors
    /// When the line is down and too much waits already.
    pub(crate) fn push(&mut self, seq: u64, message: &Payload) -> Result<(), Overflow> {
        let bytes = EVERY + message.as_str().len();
        if let Some(waiting) = &mut self.waiting {
            waiting.messages += 1;
            waiting.bytes += bytes;
            if waiting.messages > MAX_KEPT * waiting.share
                || waiting.bytes > MAX_KEPT_BYTES * waiting.share
            {
                return Err(Overflow);
            }
        }
        self.kept.push_back(Kept { seq, bytes, message: message.clone() });
        self.bytes += bytes;
        // What waits displaces nothing: the other end may still need all of it.
        while self.waiting.is_none()
            && (self.kept.len() > MAX_KEPT || self.bytes > MAX_KEPT_BYTES)
            && let Some(oldest) = self.kept.pop_front()
        {
            self.bytes -= oldest.bytes;
            self.forgotten = oldest.seq;
        }
        Ok(())
    }

    /// Whether everything after the message `last_seq` is still there.
    pub(crate) fn reaches(&self, last_seq: u64) -> bool {
        self.forgotten <= last_seq
    }

    /// The line is up again, and the other end has everything up to `last_seq`: what it has
    /// not, in order. All is kept on: a server that crashes later may need it once more.
    pub(crate) fn resume(&mut self, last_seq: u64) -> impl Iterator<Item = (u64, &Payload)> {
        self.waiting = None;
        let missing = self.kept.iter().filter(move |kept| kept.seq > last_seq);
        missing.map(|kept| (kept.seq, &kept.message))
    }

    /// Forgets everything: the other end is another one now. Whether the line is down stays.
    pub(crate) fn clear(&mut self) {
        self.kept.clear();
        self.bytes = 0;
        self.forgotten = 0;
        if let Some(waiting) = &mut self.waiting {
            *waiting = Waiting { messages: 0, bytes: 0, share: waiting.share };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filled(count: u64) -> Outbox {
        let mut outbox = Outbox::default();
        for seq in 1..=count {
            outbox.push(seq, &seq.into()).unwrap();
        }
        outbox
    }

    fn resent(outbox: &mut Outbox, last_seq: u64) -> Vec<u64> {
        outbox.resume(last_seq).map(|(seq, _)| seq).collect()
    }

    #[test]
    fn what_the_other_end_has_not_is_sent_again_in_order() {
        let mut outbox = filled(10);
        outbox.hold();
        outbox.push(11, &"late".into()).unwrap();
        assert_eq!(resent(&mut outbox, 8), [9, 10, 11]);
        assert_eq!(resent(&mut outbox, 6)[0], 7, "what was sent again is kept on");
        assert_eq!(resent(&mut outbox, 11), [0; 0]);
    }

    #[test]
    fn a_long_call_does_not_fill_the_memory() {
        let mut outbox = filled(10_000);
        assert_eq!(outbox.kept.len(), MAX_KEPT);
        assert!(outbox.reaches(10_000 - MAX_KEPT as u64));
        assert!(!outbox.reaches(10_000 - MAX_KEPT as u64 - 1));
        let big = Payload::from("x".repeat(60_000));
        for seq in 10_001..10_100 {
            outbox.push(seq, &big).unwrap();
            assert!(outbox.bytes <= MAX_KEPT_BYTES);
        }
        outbox.clear();
        assert_eq!((outbox.bytes, outbox.reaches(0)), (0, true));
    }

    #[test]
    fn so_much_may_wait_and_no_more() {
        let mut outbox = filled(200);
        outbox.hold();
        for seq in 201..=264 {
            outbox.push(seq, &Payload::from(0)).unwrap();
        }
        assert_eq!(outbox.push(265, &Payload::from(0)), Err(Overflow));
        assert!(outbox.reaches(136), "what waits displaces nothing");
        let mut outbox = Outbox::default();
        outbox.hold();
        let big = Payload::from("x".repeat(60_000));
        let taken = (1..).take_while(|seq| outbox.push(*seq, &big).is_ok()).count();
        assert_eq!(taken, 4);
    }

    #[test]
    fn one_who_sends_all_it_keeps_again_does_not_overflow() {
        let mut outbox = Outbox::default();
        outbox.hold_all();
        outbox.hold();
        for seq in 1..=2 * MAX_KEPT as u64 {
            outbox.push(seq, &Payload::from(0)).unwrap();
        }
        assert!(outbox.push(1000, &Payload::from(0)).is_err());
    }
}
