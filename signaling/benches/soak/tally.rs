//! What happened so far.

use std::{cell::Cell, fmt};

#[derive(Default)]
pub struct Tally {
    /// Stays in a room begun.
    pub stays: Cell<u64>,
    /// Seats taken: `created` to a newcomer, `joined`.
    pub seats: Cell<u64>,
    /// Seats taken back after a cut.
    pub resumed: Cell<u64>,
    /// Told that a room is full.
    pub full: Cell<u64>,
    pub sent: Cell<u64>,
    pub heard: Cell<u64>,
    /// Heard in another room than it was said in. Never.
    pub strays: Cell<u64>,
    /// Errors the server sent to well-behaved guests.
    pub errors: Cell<u64>,
    pub closed: Cell<u64>,
    pub vanished: Cell<u64>,
    pub cut: Cell<u64>,
    pub frozen: Cell<u64>,
    pub restarts: Cell<u64>,
}

pub fn count(cell: &Cell<u64>) {
    cell.set(cell.get() + 1);
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let all = [
            ("stays", &self.stays),
            ("seats", &self.seats),
            ("resumed", &self.resumed),
            ("full", &self.full),
            ("sent", &self.sent),
            ("heard", &self.heard),
            ("strays", &self.strays),
            ("errors", &self.errors),
            ("closed", &self.closed),
            ("vanished", &self.vanished),
            ("cut", &self.cut),
            ("frozen", &self.frozen),
            ("restarts", &self.restarts),
        ];
        let words: Vec<_> =
            all.iter().map(|(name, value)| format!("{} {name}", value.get())).collect();
        f.write_str(&words.join(", "))
    }
}
