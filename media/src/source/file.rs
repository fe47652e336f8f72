//! Clips from Y4M files (YUV4MPEG2), looped in real time.

use super::{FrameSink, SourceError, SourceEvent, SourceEvents, VideoSource};
use crate::frame::{Frame, FramePool};
use crate::paced::{PacedThread, Schedule, Stop};
use crate::strip;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom};
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

/// Longer header lines are no Y4M.
const LONGEST_LINE: u64 = 1024;

/// Sides that make sense for a call, in pixels.
const SIDES: std::ops::RangeInclusive<u32> = 16..=4096;

/// Disk reads of this many bytes, about one 720p frame.
const READ_AHEAD: usize = 1 << 20;

/// Plays the clip at `path` over and over. Its header and the presence of one whole frame are
/// checked before this returns.
pub fn open(
    path: &Path,
    frames: FrameSink,
    events: SourceEvents,
) -> Result<VideoSource, SourceError> {
    let clip = Clip::open(path)?;
    let name = clip.name.clone();
    let thread = PacedThread::spawn("clip", move |stop| play(clip, stop, &frames, &events))
        .map_err(|error| SourceError::File { path: name, reason: error.to_string() })?;
    Ok(VideoSource::new(thread))
}

fn play(mut clip: Clip, stop: &Stop, frames: &FrameSink, events: &SourceEvents) {
    let Header { width, height, rate } = clip.header;
    let fps = rate.0 as f32 / rate.1 as f32;
    events(SourceEvent::Started { name: clip.name.clone(), width, height, fps });
    let pool = FramePool::new();
    let mut schedule = Schedule::new(Instant::now(), rate);
    loop {
        // Read before the deadline, so that a slow disk delays nothing.
        let mut frame = match clip.next(&pool) {
            Ok(frame) => frame,
            Err(error) => return events(SourceEvent::Lost(error)),
        };
        frame.strip = strip::read(&frame);
        if !stop.sleep_until(schedule.deadline()) {
            return;
        }
        frame.captured_at = Instant::now();
        frames(Arc::new(frame));
        schedule.advance();
        for _ in 0..schedule.skip_missed(Instant::now()) {
            if let Err(error) = clip.skip() {
                return events(SourceEvent::Lost(error));
            }
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Header {
    width: u32,
    height: u32,
    /// Frames in so many seconds.
    rate: (u32, u32),
}

impl Header {
    fn parse(line: &[u8]) -> Result<Self, String> {
        let text = String::from_utf8_lossy(line);
        let mut words = text.split_ascii_whitespace();
        if words.next() != Some("YUV4MPEG2") {
            return Err("it is no Y4M file (it does not begin with YUV4MPEG2); \
                        `ffmpeg -i CLIP -pix_fmt yuv420p CLIP.y4m` makes one"
                .into());
        }
        let (mut width, mut height, mut rate) = (None, None, None);
        for word in words {
            let mut rest = word.chars();
            let key = rest.next();
            let value = rest.as_str();
            match key {
                Some('W') => width = Some(side("width", value)?),
                Some('H') => height = Some(side("height", value)?),
                Some('F') => rate = Some(frame_rate(value)?),
                Some('I') if !matches!(value, "p" | "?") => {
                    return Err(format!("it is interlaced (I{value}): deinterlace it first"));
                }
                Some('C') if !matches!(value, "420" | "420jpeg" | "420mpeg2" | "420paldv") => {
                    return Err(format!(
                        "its colour space is {value}: only 8-bit 4:2:0 (C420) can be played"
                    ));
                }
                _ => {}
            }
        }
        Ok(Self {
            width: width.ok_or("its header gives no width (W)")?,
            height: height.ok_or("its header gives no height (H)")?,
            rate: rate.ok_or("its header gives no frame rate (F)")?,
        })
    }

    fn frame_len(&self) -> u64 {
        let chroma = u64::from(self.width.div_ceil(2)) * u64::from(self.height.div_ceil(2));
        u64::from(self.width) * u64::from(self.height) + 2 * chroma
    }
}

fn side(name: &str, value: &str) -> Result<u32, String> {
    value.parse().ok().filter(|side| SIDES.contains(side)).ok_or_else(|| {
        format!(
            "its {name} is {value:?}: {} to {} pixels can be played",
            SIDES.start(),
            SIDES.end()
        )
    })
}

fn frame_rate(value: &str) -> Result<(u32, u32), String> {
    value
        .split_once(':')
        .and_then(|(events, seconds)| Some((events.parse().ok()?, seconds.parse().ok()?)))
        .filter(|&(events, seconds): &(u32, u32)| {
            seconds > 0 && events >= seconds && u64::from(events) <= 240 * u64::from(seconds)
        })
        .ok_or_else(|| format!("its frame rate is {value:?}: 1 to 240 frames/s can be played"))
}

struct Clip {
    name: String,
    reader: BufReader<File>,
    header: Header,
    /// Where the first frame's own header begins, in bytes.
    first: u64,
    /// Where reading stands.
    at: u64,
    /// Frames read since the clip began.
    read: u64,
    warned: bool,
}

/// Why one frame could not be read.
enum Trouble {
    /// The file ended, in the middle of a frame or not.
    End {
        whole: bool,
    },
    Broken(String),
}

impl From<io::Error> for Trouble {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::UnexpectedEof => Self::End { whole: false },
            _ => Self::Broken(error.to_string()),
        }
    }
}

impl Clip {
    fn open(path: &Path) -> Result<Self, SourceError> {
        let name = path.display().to_string();
        let failed = |reason: String| SourceError::File { path: name.clone(), reason };
        let file = File::open(path).map_err(|error| failed(error.to_string()))?;
        let len = file.metadata().map_err(|error| failed(error.to_string()))?.len();
        let mut reader = BufReader::with_capacity(READ_AHEAD, file);
        let line = read_line(&mut reader).map_err(|error| failed(error.to_string()))?;
        let header = Header::parse(&line).map_err(failed)?;
        let first = line.len() as u64;
        if len < first + "FRAME\n".len() as u64 + header.frame_len() {
            return Err(failed(format!(
                "it ends in its first frame: {len} bytes, where one frame of {}x{} takes {}",
                header.width,
                header.height,
                header.frame_len()
            )));
        }
        Ok(Self { name, reader, header, first, at: first, read: 0, warned: false })
    }

    /// The next frame, the first again after the last.
    fn next(&mut self, pool: &FramePool) -> Result<Frame, SourceError> {
        let mut frame = pool.take(self.header.width, self.header.height);
        self.go_on(|clip| {
            for plane in frame.planes_mut() {
                clip.reader.read_exact(plane)?;
            }
            Ok(())
        })?;
        Ok(frame)
    }

    /// Passes over one frame.
    fn skip(&mut self) -> Result<(), SourceError> {
        self.go_on(|clip| {
            let len = clip.header.frame_len();
            // Seeking succeeds beyond the end as well.
            let skipped = io::copy(&mut (&mut clip.reader).take(len), &mut io::sink())?;
            if skipped < len { Err(Trouble::End { whole: false }) } else { Ok(()) }
        })
    }

    fn go_on(
        &mut self,
        mut body: impl FnMut(&mut Self) -> Result<(), Trouble>,
    ) -> Result<(), SourceError> {
        loop {
            let start = self.at;
            match self.frame_header().and_then(|()| body(self)) {
                Ok(()) => {
                    self.at += self.header.frame_len();
                    self.read += 1;
                    return Ok(());
                }
                Err(Trouble::End { whole }) if self.read > 0 => {
                    if !whole && !self.warned {
                        self.warned = true;
                        tracing::warn!(
                            "{} ends within frame {} (byte {start}); it is played up to there",
                            self.name,
                            self.read
                        );
                    }
                    self.rewind()?;
                }
                Err(Trouble::End { .. }) => {
                    return Err(self.failed(start, "the file ends here"));
                }
                Err(Trouble::Broken(reason)) => return Err(self.failed(start, &reason)),
            }
        }
    }

    fn frame_header(&mut self) -> Result<(), Trouble> {
        let line = read_line(&mut self.reader)?;
        self.at += line.len() as u64;
        if line.is_empty() {
            return Err(Trouble::End { whole: true });
        }
        let named = line
            .strip_prefix(b"FRAME")
            .is_some_and(|rest| matches!(rest.first(), Some(b' ' | b'\n' | b'\r')));
        match (named, line.ends_with(b"\n")) {
            (true, true) => Ok(()),
            (_, false) if line.len() < LONGEST_LINE as usize => Err(Trouble::End { whole: false }),
            _ => Err(Trouble::Broken("no FRAME begins here: the file is damaged".into())),
        }
    }

    fn rewind(&mut self) -> Result<(), SourceError> {
        self.reader
            .seek(SeekFrom::Start(self.first))
            .map_err(|error| self.failed(0, &format!("it cannot be rewound: {error}")))?;
        self.at = self.first;
        self.read = 0;
        Ok(())
    }

    fn failed(&self, byte: u64, reason: &str) -> SourceError {
        SourceError::File {
            path: self.name.clone(),
            reason: format!("frame {} (byte {byte}): {reason}", self.read),
        }
    }
}

/// One line with its end, or what there is of it within bounds.
fn read_line(reader: &mut impl BufRead) -> io::Result<Vec<u8>> {
    let mut line = Vec::new();
    reader.by_ref().take(LONGEST_LINE).read_until(b'\n', &mut line)?;
    Ok(line)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::PathBuf;
    use std::sync::Mutex;
    use std::sync::mpsc::{Receiver, channel};
    use std::time::Duration;

    struct Scratch(PathBuf);

    impl Scratch {
        fn new(name: &str, bytes: &[u8]) -> Self {
            let path = std::env::temp_dir().join(format!("visavis-{}-{name}", std::process::id()));
            std::fs::write(&path, bytes).unwrap();
            Self(path)
        }
    }

    impl Drop for Scratch {
        fn drop(&mut self) {
            let _ = std::fs::remove_file(&self.0);
        }
    }

    fn clip(header: &str, count: u32) -> Vec<u8> {
        let pool = FramePool::new();
        let mut bytes = format!("YUV4MPEG2 {header}\n").into_bytes();
        for number in 0..count {
            let mut frame = pool.black(80, 36);
            strip::write(&mut frame, number);
            bytes.extend_from_slice(b"FRAME\n");
            for plane in frame.planes() {
                bytes.extend_from_slice(plane);
            }
        }
        bytes
    }

    fn strips(clip: &mut Clip, count: usize) -> Vec<Option<u32>> {
        let pool = FramePool::new();
        (0..count).map(|_| strip::read(&clip.next(&pool).unwrap())).collect()
    }

    fn refusal(name: &str, bytes: &[u8]) -> String {
        let file = Scratch::new(name, bytes);
        let refused = Clip::open(&file.0).err().expect("refused").to_string();
        assert!(refused.contains(name), "{refused} names the file");
        refused
    }

    #[test]
    fn a_clip_begins_again_after_its_last_frame() {
        let file = Scratch::new("loop.y4m", &clip("W80 H36 F30000:1001 Ip A1:1 C420mpeg2 XA=B", 3));
        let mut clip = Clip::open(&file.0).unwrap();
        assert_eq!(clip.header, Header { width: 80, height: 36, rate: (30_000, 1001) });
        assert_eq!(strips(&mut clip, 4), [Some(0), Some(1), Some(2), Some(0)]);
        clip.skip().unwrap();
        clip.skip().unwrap();
        assert_eq!(strips(&mut clip, 2), [Some(0), Some(1)], "frames that come late are skipped");
    }

    #[test]
    fn a_truncated_last_frame_ends_the_loop() {
        for (cut, name) in [(1, "cut1.y4m"), (4319, "cut2.y4m"), (4323, "cut3.y4m")] {
            let mut bytes = clip("W80 H36 F30:1", 3);
            bytes.truncate(bytes.len() - cut);
            let file = Scratch::new(name, &bytes);
            let mut clip = Clip::open(&file.0).unwrap();
            assert_eq!(strips(&mut clip, 5), [Some(0), Some(1), Some(0), Some(1), Some(0)]);
            clip.skip().unwrap();
            clip.skip().unwrap();
            assert_eq!(strips(&mut clip, 1), [Some(1)]);
        }
    }

    #[test]
    fn a_damaged_frame_is_named_with_its_place() {
        let mut bytes = clip("W80 H36 F30:1", 3);
        let second = bytes.len() - 2 * 4326;
        bytes[second] = b'X';
        let file = Scratch::new("damaged.y4m", &bytes);
        let mut clip = Clip::open(&file.0).unwrap();
        let pool = FramePool::new();
        clip.next(&pool).unwrap();
        let error = clip.next(&pool).unwrap_err().to_string();
        assert!(
            error.contains("damaged.y4m") && error.contains(&format!("frame 1 (byte {second})"))
        );
    }

    #[test]
    fn what_cannot_be_played_is_refused_with_the_reason() {
        let tenbit = clip("W80 H36 F30:1 C420p10", 1);
        assert!(refusal("tenbit.y4m", &tenbit).contains("420p10"));
        assert!(refusal("full.y4m", &clip("W80 H36 F30:1 C444", 1)).contains("444"));
        assert!(refusal("laced.y4m", &clip("W80 H36 F30:1 It", 1)).contains("interlaced"));
        assert!(refusal("norate.y4m", &clip("W80 H36", 1)).contains("frame rate"));
        assert!(refusal("zero.y4m", &clip("W80 H36 F0:0", 1)).contains("\"0:0\""));
        assert!(refusal("big.y4m", &clip("W80000 H36 F30:1", 1)).contains("80000"));
        assert!(refusal("short.y4m", &clip("W80 H36 F30:1", 1)[..900]).contains("first frame"));
        assert!(refusal("riff.y4m", b"RIFF....WAVE").contains("ffmpeg"));
        assert!(refusal("empty.y4m", b"").contains("no Y4M"));
        let missing = Clip::open(Path::new("/no/such.y4m")).err().expect("missing").to_string();
        assert!(missing.contains("/no/such.y4m"), "{missing}");
    }

    #[test]
    fn a_running_clip_delivers_its_frames_in_order_and_tells_of_its_end() {
        let mut bytes = clip("W80 H36 F200:1", 40);
        bytes.extend_from_slice(b"garbage\n");
        let file = Scratch::new("run.y4m", &bytes);
        let (tell, told): (_, Receiver<SourceEvent>) = channel();
        let seen = Arc::new(Mutex::new(Vec::new()));
        let numbers = Arc::clone(&seen);
        let source = open(
            &file.0,
            Arc::new(move |frame| numbers.lock().unwrap().push(frame.strip.unwrap())),
            Arc::new(move |event| tell.send(event).unwrap()),
        )
        .unwrap();
        let limit = Duration::from_secs(20);
        let started = told.recv_timeout(limit).unwrap();
        assert!(matches!(started, SourceEvent::Started { width: 80, height: 36, fps: 200.0, .. }));
        assert!(matches!(told.recv_timeout(limit).unwrap(), SourceEvent::Lost(_)));
        drop(source);
        let seen = seen.lock().unwrap();
        assert!(!seen.is_empty() && seen.is_sorted());
    }
}
