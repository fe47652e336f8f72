//! Which packets of the stream came, and what their timestamps mean.

/// 32-bit RTP timestamps to growing ones; holds the last.
#[derive(Debug)]
pub(super) struct TimestampUnwrapper(i64);

impl TimestampUnwrapper {
    pub fn new(first: u32) -> Self {
        Self(i64::from(first))
    }

    pub fn unwrap(&mut self, timestamp: u32) -> i64 {
        let step = timestamp.wrapping_sub(self.0 as u32) as i32;
        self.0 += i64::from(step);
        self.0
    }
}

/// The newest 128 indices: which of them came, or came as a copy.
#[derive(Debug, Default)]
pub(super) struct Arrivals {
    newest: u64,
    /// Bit `n` is index `newest - n`.
    came: u128,
}

impl Arrivals {
    pub fn add(&mut self, index: u64) {
        if self.came == 0 {
            (self.newest, self.came) = (index, 1);
        } else if index > self.newest {
            let step = index - self.newest;
            self.came =
                u32::try_from(step).ok().and_then(|step| self.came.checked_shl(step)).unwrap_or(0);
            self.came |= 1;
            self.newest = index;
        } else if let Some(bit) = self.bit(index) {
            self.came |= bit;
        }
    }

    /// Whether it came. What is older than the window is taken to have come.
    pub fn contains(&self, index: u64) -> bool {
        if self.came == 0 || index > self.newest {
            return false;
        }
        self.bit(index).is_none_or(|bit| self.came & bit != 0)
    }

    fn bit(&self, index: u64) -> Option<u128> {
        let back = u32::try_from(self.newest.checked_sub(index)?).ok()?;
        1u128.checked_shl(back)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_came_is_known_for_128_packets() {
        let mut arrivals = Arrivals::default();
        assert!(!arrivals.contains(7));
        for index in [1000, 1003, 1001] {
            arrivals.add(index);
        }
        let known: Vec<bool> = (999..1005).map(|index| arrivals.contains(index)).collect();
        assert_eq!(known, [false, true, true, false, true, false]);
        arrivals.add(1003 + 127);
        assert!(arrivals.contains(1003) && !arrivals.contains(1004));
        arrivals.add(1_000_000);
        assert!(arrivals.contains(1003), "long ago");
        assert!(!arrivals.contains(999_999) && arrivals.contains(1_000_000));
    }

    #[test]
    fn time_goes_on_past_the_wrap() {
        let mut timestamps = TimestampUnwrapper::new(u32::MAX - 100);
        assert_eq!(timestamps.unwrap(99), i64::from(u32::MAX) + 100);
        assert_eq!(timestamps.unwrap(u32::MAX), i64::from(u32::MAX));
    }
}
