//! Distributions in few words.

use std::time::Duration;

/// The value below which `share` of `values` lie. Sorts them.
pub fn percentile(values: &mut [u32], share: f64) -> Option<Duration> {
    values.sort_unstable();
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
    let rank = (values.len() as f64 * share).ceil() as usize;
    let micros = values.get(rank.saturating_sub(1))?;
    Some(Duration::from_micros(u64::from(*micros)))
}

pub fn median(values: impl IntoIterator<Item = f64>) -> Option<f64> {
    let mut values: Vec<f64> = values.into_iter().collect();
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    let upper = *values.get(middle)?;
    if values.len() % 2 == 1 { Some(upper) } else { Some(f64::midpoint(values[middle - 1], upper)) }
}

pub fn millis(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e3
}
