//! Samples of what a headless run shows, for measuring how good it looks: of a looped clip whose
//! pictures are numbered by their strip, every so-manieth. A picture that was never shown is judged
//! by the one that stood in its place, so that one is kept instead.

use std::fmt::Write as _;
use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::SystemTime;

use visavis_media::frame::Frame;
use visavis_media::strip;
use visavis_media::units::unix_us;

/// What is sampled, and where it goes: `EVERY/PERIOD:FILE`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SamplesSpec {
    /// Every so-manieth picture of the clip.
    pub every: u32,
    /// How many pictures the clip has, numbered from 0.
    pub period: u32,
    /// The file.
    pub path: PathBuf,
}

impl SamplesSpec {
    /// Reads `EVERY/PERIOD:FILE`.
    pub fn parse(text: &str) -> Option<Self> {
        let (numbers, path) = text.split_once(':')?;
        let (every, period) = numbers.split_once('/')?;
        let (every, period) = (every.parse().ok()?, period.parse().ok()?);
        let good = every > 0 && period > 1 && !path.is_empty();
        good.then(|| Self { every, period, path: path.into() })
    }
}

/// A picture, and the numbers of the sampled pictures in whose place it was shown.
struct Sample<T> {
    picture: T,
    number: u32,
    stands_for: Vec<u32>,
}

/// Decides what is kept. Pure.
struct Sampler<T> {
    every: u32,
    period: u32,
    /// The picture on show, its number, and that number counted on over the clip's repetitions.
    on_show: Option<(T, u32, u64)>,
    /// The next one sampled, counted on likewise.
    next: u64,
}

impl<T: Clone> Sampler<T> {
    fn new(every: u32, period: u32) -> Self {
        Self { every, period, on_show: None, next: 0 }
    }

    /// A picture is shown: what of it and of its predecessor is to be kept.
    fn handle_shown(&mut self, picture: T, number: u32) -> [Option<Sample<T>>; 2] {
        let number = number % self.period;
        let Some((before, before_number, before_at)) = self.on_show.take() else {
            self.next = u64::from(number) + u64::from(self.every);
            self.on_show = Some((picture, number, u64::from(number)));
            return [None, None];
        };
        let at = before_at + u64::from((number + self.period - before_number) % self.period);
        let stands_for = self.due(at);
        let missed = (!stands_for.is_empty()).then_some(Sample {
            picture: before,
            number: before_number,
            stands_for,
        });
        let stands_for = self.due(at + 1);
        let shown = (!stands_for.is_empty()).then(|| Sample {
            picture: picture.clone(),
            number,
            stands_for,
        });
        self.on_show = Some((picture, number, at));
        [missed, shown]
    }

    /// The sampled numbers before `end`, once.
    fn due(&mut self, end: u64) -> Vec<u32> {
        let mut due = Vec::new();
        while self.next < end {
            due.push((self.next % u64::from(self.period)) as u32);
            self.next += u64::from(self.every);
        }
        due
    }

    /// The picture on show at the end.
    fn last(&mut self) -> Option<Sample<T>> {
        let (picture, number, _) = self.on_show.take()?;
        Some(Sample { picture, number, stands_for: Vec::new() })
    }
}

/// Writes samples: a line `unix_us,shown,width,height,numbers` and the luma plane for each, the
/// numbers parted by blanks. The last line has none: what was on show at the end.
pub struct Samples {
    sampler: Sampler<Arc<Frame>>,
    file: BufWriter<File>,
}

impl Samples {
    /// Opens the file.
    ///
    /// # Errors
    /// Where it cannot be written; names it.
    pub fn create(spec: &SamplesSpec) -> io::Result<Self> {
        let file = File::create(&spec.path).map_err(|error| {
            let path = spec.path.display();
            io::Error::new(error.kind(), format!("cannot write the samples {path}: {error}"))
        })?;
        let sampler = Sampler::new(spec.every, spec.period);
        Ok(Self { sampler, file: BufWriter::new(file) })
    }

    /// A picture is shown. One without a strip cannot be placed, and is passed over.
    pub fn handle_shown(&mut self, frame: &Arc<Frame>) {
        let Some(number) = frame.strip.or_else(|| strip::read(frame)) else {
            return;
        };
        for sample in self.sampler.handle_shown(Arc::clone(frame), number).into_iter().flatten() {
            self.write(&sample);
        }
    }

    fn write(&mut self, sample: &Sample<Arc<Frame>>) {
        let Sample { picture, number, stands_for } = sample;
        let [luma, ..] = picture.planes();
        let mut line = format!("{},{number},", unix_us(SystemTime::now()));
        let _ = write!(line, "{},{},", picture.width(), picture.height());
        let numbers: Vec<String> = stands_for.iter().map(u32::to_string).collect();
        line += &numbers.join(" ");
        // A full disk must not end a call; the file is then short.
        let _ = writeln!(self.file, "{line}");
        let _ = self.file.write_all(luma);
    }
}

impl Drop for Samples {
    fn drop(&mut self) {
        if let Some(last) = self.sampler.last() {
            self.write(&last);
        }
        let _ = self.file.flush();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Which picture was kept for which numbers.
    fn kept(every: u32, period: u32, shown: &[u32]) -> Vec<(u32, Vec<u32>)> {
        let mut sampler = Sampler::new(every, period);
        shown
            .iter()
            .flat_map(|&number| sampler.handle_shown(number, number))
            .flatten()
            .map(|sample| {
                assert_eq!(sample.picture, sample.number);
                (sample.number, sample.stands_for)
            })
            .collect()
    }

    #[test]
    fn every_so_manieth_picture_is_kept() {
        assert_eq!(kept(3, 100, &[0, 1, 2, 3, 4, 5, 6, 7]), [(3, vec![3]), (6, vec![6])]);
    }

    #[test]
    fn a_picture_that_was_not_shown_is_judged_by_the_one_before() {
        assert_eq!(kept(3, 100, &[0, 1, 2, 4, 5, 6]), [(2, vec![3]), (6, vec![6])]);
        // A long freeze: one picture stood for several.
        assert_eq!(kept(3, 100, &[0, 1, 9]), [(1, vec![3, 6]), (9, vec![9])]);
    }

    #[test]
    fn counting_goes_on_over_the_clips_end() {
        assert_eq!(kept(4, 10, &[6, 7, 8, 9, 0, 1, 2, 3, 4, 5, 6]), [(0, vec![0]), (4, vec![4])]);
        assert_eq!(kept(4, 10, &[6, 9, 1, 3]), [(9, vec![0])]);
    }

    #[test]
    fn specs_are_read_as_documented() {
        let spec = SamplesSpec { every: 47, period: 150, path: "a:b".into() };
        assert_eq!(SamplesSpec::parse("47/150:a:b"), Some(spec));
        for wrong in ["", "47:a", "0/150:a", "47/1:a", "47/150:", "47/150"] {
            assert_eq!(SamplesSpec::parse(wrong), None, "{wrong}");
        }
    }
}
