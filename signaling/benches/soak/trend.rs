//! Whether memory was flat.

use std::fmt;

/// Memory may grow by this share of its mean over the watched time,
const GROWTH: f64 = 0.05;
/// or by so many bytes: a server that holds little is not measured finer.
const GROWTH_BYTES: f64 = 1024.0 * 1024.0;

/// A straight line through samples (least squares).
#[derive(Debug, Clone, Copy)]
pub struct Trend {
    pub mean: f64,
    /// From the first sample to the last.
    pub growth: f64,
    /// The standard error of `growth`.
    pub error: f64,
}

impl Trend {
    /// Through samples taken at equal intervals; none for fewer than four.
    pub fn of(samples: &[f64]) -> Option<Self> {
        if samples.len() < 4 {
            return None;
        }
        let count = samples.len() as f64;
        let mean = samples.iter().sum::<f64>() / count;
        let middle = (count - 1.0) / 2.0;
        let at = |index: usize| index as f64 - middle;
        let spread: f64 = (0..samples.len()).map(|index| at(index).powi(2)).sum();
        let slope =
            samples.iter().enumerate().map(|(i, y)| at(i) * (y - mean)).sum::<f64>() / spread;
        let residual: f64 = samples
            .iter()
            .enumerate()
            .map(|(index, y)| (y - mean - slope * at(index)).powi(2))
            .sum::<f64>();
        let error = (residual / (count - 2.0) / spread).sqrt();
        Some(Self { mean, growth: slope * (count - 1.0), error: error * (count - 1.0) })
    }

    /// The growth is small, or not to be told from noise.
    pub fn is_flat(&self) -> bool {
        self.growth <= (self.mean * GROWTH).max(GROWTH_BYTES) || self.growth <= 2.0 * self.error
    }
}

impl fmt::Display for Trend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [mean, growth, error] =
            [self.mean, self.growth, self.error].map(|bytes| bytes / f64::from(1 << 20));
        write!(
            f,
            "{mean:.2} MiB on average in the second half, over which it grew by {growth:.2} MiB \
             (standard error {error:.2})"
        )
    }
}
