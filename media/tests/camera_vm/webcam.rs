//! A USB webcam in software, for the kernel's real driver: it can be unplugged, stop to film and
//! stop to answer (USB Device Class Definition for Video Devices 1.1, chapters 2 and 4).

use std::collections::VecDeque;
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};
use std::{fs, io};

use super::agreement::{Agreement, PAYLOAD};
use super::descriptors::{self, FORMAT_MJPEG, INTERVALS, STREAMING, descriptor};
use super::usbip::{self, Command, Submit};
use super::{pictures, wait_for};

// Standard requests (USB 2.0, table 9-4).
const GET_STATUS: u8 = 0;
const CLEAR_FEATURE: u8 = 1;
const GET_DESCRIPTOR: u8 = 6;
const GET_CONFIGURATION: u8 = 8;
const GET_INTERFACE: u8 = 10;
const RECIPIENT_ENDPOINT: u8 = 2;

// Requests of the class, and what they are about (UVC 1.1, tables ).
const SET_CUR: u8 = 0x01;
const GET_CUR: u8 = 0x81;
const GET_MIN: u8 = 0x82;
const GET_MAX: u8 = 0x83;
const GET_RES: u8 = 0x84;
const GET_LEN: u8 = 0x85;
const GET_INFO: u8 = 0x86;
const GET_DEF: u8 = 0x87;
const VS_PROBE_CONTROL: u8 = 1;
const VS_COMMIT_CONTROL: u8 = 2;

/// A webcam that is plugged in; dropping it unplugs it.
pub struct Webcam {
    name: String,
    inside: Arc<Inside>,
    threads: Vec<JoinHandle<()>>,
}

struct Inside {
    state: Mutex<State>,
    changed: Condvar,
}

struct State {
    /// To the host. Answers go out under the lock: one to a request that was taken back meanwhile
    /// would make the kernel cut the line.
    line: UnixStream,
    plugged: bool,
    proposal: Agreement,
    /// Set while the host wants pictures: what a webcam's light shows.
    filming: Option<Agreement>,
    stalled: bool,
    deaf: bool,
    /// Requests for a piece of a picture, and how long it may be.
    wanted: VecDeque<(u32, usize)>,
    /// Requests that were not heard.
    unheard: Vec<u32>,
}

impl Webcam {
    /// Returns when the system has made it a camera.
    pub fn plug_in(name: &str) -> Self {
        // Before anybody waits for them.
        pictures::album(FORMAT_MJPEG, 1);
        let mut plugged = Err(io::Error::other("not tried"));
        // Until the controller has noticed that the last one is gone.
        wait_for("a free USB port", || {
            plugged = usbip::attach(0);
            plugged.is_ok()
        });
        let mut line = plugged.expect("a USB port");
        let state = State {
            line: line.try_clone().expect("a descriptor"),
            plugged: true,
            proposal: Agreement { format: FORMAT_MJPEG, size: 1, interval: INTERVALS[0] },
            filming: None,
            stalled: false,
            deaf: false,
            wanted: VecDeque::new(),
            unheard: Vec::new(),
        };
        let inside = Arc::new(Inside { state: Mutex::new(state), changed: Condvar::new() });
        let (control, lens) = (Arc::clone(&inside), Arc::clone(&inside));
        let product = name.to_owned();
        let threads = vec![
            thread::spawn(move || {
                while let Ok(command) = usbip::read(&mut line) {
                    control.obey(command, &product);
                }
                control.lock().plugged = false;
                control.changed.notify_all();
            }),
            thread::spawn(move || lens.film()),
        ];
        let webcam = Self { name: name.to_owned(), inside, threads };
        // The node is there a moment before it can be opened.
        wait_for("the kernel to find the webcam", || {
            webcam.node().is_some_and(|node| fs::File::open(node).is_ok())
        });
        webcam
    }

    /// Stops to film (or goes on), while it answers everything else.
    pub fn stall(&self, stalled: bool) {
        self.inside.lock().stalled = stalled;
        self.inside.changed.notify_all();
    }

    /// Stops to answer at all (or goes on), as one whose firmware crashed.
    pub fn deafen(&self, deaf: bool) {
        self.inside.lock().deaf = deaf;
        self.inside.changed.notify_all();
    }

    /// What it films at, while its light is on.
    pub fn filming(&self) -> Option<Agreement> {
        self.inside.lock().filming
    }

    /// The node of `/dev` that its pictures come from.
    pub fn node(&self) -> Option<String> {
        let mut nodes: Vec<_> = fs::read_dir("/sys/class/video4linux").ok()?.flatten().collect();
        nodes.sort_by_key(fs::DirEntry::file_name);
        let ours = nodes.into_iter().find(|node| {
            let read = |file| fs::read_to_string(node.path().join(file)).unwrap_or_default();
            read("name").starts_with(&self.name) && read("index").trim() == "0"
        })?;
        Some(format!("/dev/{}", ours.file_name().to_string_lossy()))
    }
}

impl Drop for Webcam {
    fn drop(&mut self) {
        {
            let mut state = self.inside.lock();
            state.plugged = false;
            // It is gone already where the kernel cut the line.
            let _ = state.line.shutdown(Shutdown::Both);
        }
        self.inside.changed.notify_all();
        for thread in self.threads.drain(..) {
            // A panic in there has been printed.
            let _ = thread.join();
        }
    }
}

impl Inside {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wait<'a>(&self, state: MutexGuard<'a, State>) -> MutexGuard<'a, State> {
        self.changed.wait(state).unwrap_or_else(PoisonError::into_inner)
    }

    fn obey(&self, command: Command, product: &str) {
        let mut state = self.lock();
        let sent = match command {
            // The host controller's business: works with a device that does not answer.
            Command::Unlink { sequence, victim } => {
                let before = state.wanted.len() + state.unheard.len();
                state.wanted.retain(|(wanted, _)| *wanted != victim);
                state.unheard.retain(|unheard| *unheard != victim);
                let in_time = state.wanted.len() + state.unheard.len() < before;
                usbip::unlinked(&mut state.line, sequence, in_time)
            }
            Command::Submit(request) if request.endpoint == u32::from(descriptors::PICTURES) => {
                state.wanted.push_back((request.sequence, request.length));
                Ok(())
            }
            Command::Submit(request) if state.deaf => {
                state.unheard.push(request.sequence);
                Ok(())
            }
            Command::Submit(request) => state.control(&request, product),
        };
        if sent.is_err() {
            state.plugged = false;
        }
        drop(state);
        self.changed.notify_all();
    }

    /// Sends pictures as long as the host wants any.
    fn film(&self) {
        let mut number = 0;
        let mut due = Instant::now();
        loop {
            let mut state = self.lock();
            let agreed = loop {
                if !state.plugged {
                    return;
                }
                match state.filming {
                    Some(agreed) if !state.stalled && !state.deaf => break agreed,
                    _ => state = self.wait(state),
                }
            };
            drop(state);
            thread::sleep(due.saturating_duration_since(Instant::now()));
            let interval = Duration::from_nanos(u64::from(agreed.interval) * 100);
            // Late ones are not made up for.
            due = Instant::now().max(due + interval);
            self.send(number, agreed);
            number += 1;
        }
    }

    /// Sends one picture, each payload in answer to one request; gives up where the host does.
    fn send(&self, number: usize, agreed: Agreement) {
        const END_OF_HEADER: u8 = 0x80;
        const END_OF_FRAME: u8 = 0x02;
        const FRAME_ID: u8 = 0x01;
        let album = pictures::album(agreed.format, agreed.size);
        let mut rest = album[number % album.len()].as_slice();
        while !rest.is_empty() {
            let mut state = self.lock();
            let (sequence, room) = loop {
                if !state.plugged || state.filming != Some(agreed) {
                    return;
                }
                match state.wanted.pop_front() {
                    Some(wanted) => break wanted,
                    None => state = self.wait(state),
                }
            };
            let (piece, later) = rest.split_at(rest.len().min(room.min(PAYLOAD) - 2));
            rest = later;
            let mut flags = END_OF_HEADER | if number.is_multiple_of(2) { 0 } else { FRAME_ID };
            if rest.is_empty() {
                flags |= END_OF_FRAME;
            }
            let payload = [&[2, flags], piece].concat();
            if usbip::answer(&mut state.line, sequence, &payload).is_err() {
                state.plugged = false;
            }
        }
    }
}

impl State {
    fn control(&mut self, request: &Submit, product: &str) -> io::Result<()> {
        let [kind, code, value_low, value_high, index_low, index_high, ..] = request.setup;
        let answer = match (kind >> 5 & 3, code) {
            (0, GET_DESCRIPTOR) => descriptor(value_high, value_low, product),
            (0, GET_STATUS) => Some(vec![0, 0]),
            (0, GET_CONFIGURATION) => Some(vec![1]),
            (0, GET_INTERFACE) => Some(vec![0]),
            // Linux says so when it ends a stream that came in bulk.
            (0, CLEAR_FEATURE) if kind & 0x1f == RECIPIENT_ENDPOINT => {
                self.filming = None;
                Some(Vec::new())
            }
            // Others have nothing to change here.
            (0, _) if !request.inward => Some(Vec::new()),
            (1, _) if index_low == STREAMING && index_high == 0 => {
                self.stream_control(code, value_high, &request.data)
            }
            _ => None,
        };
        match answer {
            None => usbip::refuse(&mut self.line, request.sequence),
            Some(_) if !request.inward => {
                usbip::accept(&mut self.line, request.sequence, request.length)
            }
            Some(mut data) => {
                data.truncate(request.length);
                usbip::answer(&mut self.line, request.sequence, &data)
            }
        }
    }

    /// Proposals are bent to what there is; a commitment starts the stream.
    fn stream_control(&mut self, code: u8, selector: u8, data: &[u8]) -> Option<Vec<u8>> {
        const SUPPORTS_GET_AND_SET: u8 = 3;
        if selector != VS_PROBE_CONTROL && selector != VS_COMMIT_CONTROL {
            return None;
        }
        let at = |interval| Agreement { interval, ..self.proposal };
        Some(match code {
            SET_CUR => {
                self.proposal = Agreement::read(data)?;
                if selector == VS_COMMIT_CONTROL {
                    self.filming = Some(self.proposal);
                }
                Vec::new()
            }
            GET_CUR => self.proposal.write(),
            GET_MIN | GET_DEF => at(INTERVALS[0]).write(),
            GET_MAX => at(INTERVALS[INTERVALS.len() - 1]).write(),
            GET_RES => vec![0; Agreement::LENGTH],
            GET_LEN => (Agreement::LENGTH as u16).to_le_bytes().to_vec(),
            GET_INFO => vec![SUPPORTS_GET_AND_SET],
            _ => return None,
        })
    }
}
