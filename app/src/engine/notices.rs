//! The few sentences the window shows for a while. Pure.

use std::time::{Duration, Instant};

use crate::snapshot::Notice;

/// How long a sentence stays: an error longer than news.
const NEWS_STAY: Duration = Duration::from_secs(6);
const ERRORS_STAY: Duration = Duration::from_secs(20);

/// More sentences at once help nobody.
const MAX: usize = 3;

/// Newest last.
#[derive(Debug, Default)]
pub(super) struct Notices {
    shown: Vec<(Notice, Instant)>,
    last_id: u64,
}

impl Notices {
    /// Says a sentence; one that is said already starts its time anew.
    pub(super) fn push(&mut self, now: Instant, text: String, error: bool) {
        self.shown.retain(|(notice, _)| notice.text != text);
        if self.shown.len() == MAX {
            self.shown.remove(0);
        }
        self.last_id += 1;
        let stay = if error { ERRORS_STAY } else { NEWS_STAY };
        self.shown.push((Notice { id: self.last_id, error, text }, now + stay));
    }

    /// The user has read it.
    pub(super) fn dismiss(&mut self, id: u64) {
        self.shown.retain(|(notice, _)| notice.id != id);
    }

    /// When the next one goes by itself.
    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        self.shown.iter().map(|(_, until)| *until).min()
    }

    /// Drops those whose time is over.
    pub(super) fn handle_timeout(&mut self, now: Instant) {
        self.shown.retain(|(_, until)| *until > now);
    }

    /// As the window shows them.
    pub(super) fn list(&self) -> Vec<Notice> {
        self.shown.iter().map(|(notice, _)| notice.clone()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn news_goes_before_errors_do() {
        let mut notices = Notices::default();
        let now = Instant::now();
        notices.push(now, "left".to_owned(), false);
        notices.push(now, "broken".to_owned(), true);
        assert_eq!(notices.poll_timeout(), Some(now + NEWS_STAY));
        notices.handle_timeout(now + NEWS_STAY);
        assert_eq!(notices.list().len(), 1);
        assert_eq!(notices.poll_timeout(), Some(now + ERRORS_STAY));
    }

    #[test]
    fn the_oldest_gives_way_and_repetition_does_not_pile_up() {
        let mut notices = Notices::default();
        let now = Instant::now();
        for text in ["a", "b", "b", "c", "d"] {
            notices.push(now, text.to_owned(), true);
        }
        let texts: Vec<String> = notices.list().into_iter().map(|notice| notice.text).collect();
        assert_eq!(texts, ["b", "c", "d"]);
        notices.dismiss(notices.list()[0].id);
        assert_eq!(notices.list().len(), 2);
    }
}
