//! Pictures from PipeWire, in shared memory: the only user of `pipewire`.

use std::cell::RefCell;
use std::io::Cursor;
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::time::{Duration, Instant};

use pipewire as pw;
use pw::context::ContextRc;
use pw::core::Listener as CoreListener;
use pw::loop_::Timeout;
use pw::main_loop::MainLoopRc;
use pw::properties::properties;
use pw::spa::buffer::{Data, DataType};
use pw::spa::param::ParamType;
use pw::spa::param::format::{FormatProperties, MediaSubtype, MediaType};
use pw::spa::param::video::{VideoFormat, VideoInfoRaw};
use pw::spa::pod::serialize::PodSerializer;
use pw::spa::pod::{ChoiceValue, Object, Pod, Property, Value, object, property};
use pw::spa::utils::{Choice, ChoiceEnum, ChoiceFlags, Direction, Fraction, Rectangle, SpaTypes};
use pw::stream::{StreamFlags, StreamListener, StreamRc, StreamState};

use crate::frame::{Frame, FramePool};
use crate::picture::convert::{Converter, MAX_SIDE, RawFormat, RawPicture};
use crate::source::screen::FPS;

/// So long it waits for a picture when polled: most of the time between two looks, for what is
/// agreed on with PipeWire takes many steps, and who answers late gets no pictures from some.
const WAIT: Duration = Duration::from_millis(25);

/// A stream of pictures, read whenever it is polled.
pub(super) struct Stream {
    // Dropped in this order: a listener before what it listens to.
    _listener: StreamListener<()>,
    _stream: StreamRc,
    _core_listener: CoreListener,
    main_loop: MainLoopRc,
    received: Rc<RefCell<Received>>,
}

/// What the callbacks leave.
struct Received {
    format: VideoInfoRaw,
    converter: Converter,
    newest: Option<Frame>,
    runs: bool,
    /// Why no more will come.
    over: Option<String>,
}

impl Stream {
    /// Asks for the pictures of a node, which come later.
    pub fn open(remote: OwnedFd, node: u32, pool: FramePool) -> Result<Self, String> {
        Self::connect(remote, node, pool).map_err(|error| format!("PipeWire: {error}"))
    }

    fn connect(remote: OwnedFd, node: u32, pool: FramePool) -> Result<Self, pw::Error> {
        pw::init();
        let main_loop = MainLoopRc::new(None)?;
        let core = ContextRc::new(&main_loop, None)?.connect_fd_rc(remote, None)?;
        let received = Rc::new(RefCell::new(Received {
            format: VideoInfoRaw::default(),
            converter: Converter::new(pool),
            newest: None,
            runs: false,
            over: None,
        }));
        let failed = Rc::clone(&received);
        let core_listener = core
            .add_listener_local()
            .error(move |id, _, _, message| {
                tracing::debug!(id, message, "PipeWire");
                if id == pw::core::PW_ID_CORE {
                    failed.borrow_mut().end(&format!("PipeWire is gone: {message}"));
                }
            })
            .register();
        let properties = properties! {
            *pw::keys::MEDIA_TYPE => "Video",
            *pw::keys::MEDIA_CATEGORY => "Capture",
            *pw::keys::MEDIA_ROLE => "Screen",
        };
        let stream = StreamRc::new(core, "visavis-screen", properties)?;
        let (formats, states) = (Rc::clone(&received), Rc::clone(&received));
        let pictures = Rc::clone(&received);
        let listener = stream
            .add_local_listener::<()>()
            .state_changed(move |_, (), old, new| match new {
                StreamState::Error(reason) => {
                    states.borrow_mut().end(&format!("its pictures ended: {reason}"));
                }
                StreamState::Streaming => states.borrow_mut().runs = true,
                StreamState::Unconnected if old != StreamState::Unconnected => {
                    states.borrow_mut().end("its pictures ended");
                }
                _ => {}
            })
            .param_changed(move |stream, (), id, param| {
                let Some(param) = param.filter(|_| id == ParamType::Format.as_raw()) else {
                    return;
                };
                if formats.borrow_mut().format.parse(param).is_err() {
                    formats.borrow_mut().end("PipeWire offers pictures of an unknown kind");
                    return;
                }
                let wanted = bytes(&mapped_buffers()).and_then(|buffers| {
                    let pod = Pod::from_bytes(&buffers).ok_or(pw::Error::CreationFailed)?;
                    stream.update_params(&mut [pod])
                });
                if let Err(error) = wanted {
                    formats.borrow_mut().end(&format!("PipeWire: {error}"));
                }
            })
            .process(move |stream, ()| {
                // The newest of those that wait; the others go back unread.
                let mut newest = None;
                while let Some(buffer) = stream.dequeue_buffer() {
                    newest = Some(buffer);
                }
                if let Some(data) = newest.as_mut().and_then(|it| it.datas_mut().first_mut()) {
                    pictures.borrow_mut().picture(data);
                }
            })
            .register()?;
        // What sends at its own rate only, before what can be asked for ours.
        let offers = [bytes(&offer(true))?, bytes(&offer(false))?];
        let mut offers: Vec<&Pod> = offers.iter().filter_map(|it| Pod::from_bytes(it)).collect();
        // Another source, a camera perhaps, is never taken instead.
        let flags =
            StreamFlags::AUTOCONNECT | StreamFlags::MAP_BUFFERS | StreamFlags::DONT_RECONNECT;
        stream.connect(Direction::Input, Some(node), flags, &mut offers)?;
        Ok(Self {
            _listener: listener,
            _stream: stream,
            _core_listener: core_listener,
            main_loop,
            received,
        })
    }

    /// Whether there is a picture that was not taken yet. Waits a little for it.
    pub fn poll(&mut self) -> Result<bool, String> {
        let until = Instant::now() + WAIT;
        loop {
            let left = until.saturating_duration_since(Instant::now());
            self.main_loop.loop_().iterate(Timeout::Finite(left));
            let received = self.received.borrow();
            if let Some(reason) = &received.over {
                return Err(reason.clone());
            }
            // It counts in whole milliseconds.
            if received.newest.is_some() || left < Duration::from_millis(1) {
                return Ok(received.newest.is_some());
            }
        }
    }

    /// Whether it has begun.
    pub fn runs(&self) -> bool {
        self.received.borrow().runs
    }

    /// The newest picture.
    pub fn take(&mut self) -> Option<Frame> {
        self.received.borrow_mut().newest.take()
    }
}

impl Received {
    /// The first reason is the best one.
    fn end(&mut self, reason: &str) {
        self.over.get_or_insert_with(|| reason.to_owned());
    }

    fn picture(&mut self, data: &mut Data) {
        let chunk = data.chunk();
        let offset = chunk.offset() as usize;
        // Upside down where it is negative; nobody sends that.
        let Ok(stride) = usize::try_from(chunk.stride()) else { return };
        // One that is empty or damaged only brings news of the pointer, say.
        let empty = chunk.size() == 0 || !chunk.flags().is_empty();
        let Some(pixels) = data.data().and_then(|all| all.get(offset..)).filter(|_| !empty) else {
            return;
        };
        let format = match self.format.format() {
            VideoFormat::RGBx | VideoFormat::RGBA => RawFormat::Rgbx,
            _ => RawFormat::Bgrx,
        };
        let Rectangle { width, height } = self.format.size();
        let raw = RawPicture { format, width, height, stride, data: pixels };
        match self.converter.convert(&raw) {
            Ok(frame) => self.newest = Some(frame),
            Err(error) => tracing::debug!(%error, "a picture of the screen is left out"),
        }
    }
}

/// The pictures that we can read. A modifier would invite buffers of the graphics card, which only
/// it can read quickly.
fn offer(at_our_rate: bool) -> Object {
    let mut offer = object!(
        SpaTypes::ObjectParamFormat,
        ParamType::EnumFormat,
        property!(FormatProperties::MediaType, Id, MediaType::Video),
        property!(FormatProperties::MediaSubtype, Id, MediaSubtype::Raw),
        property!(
            FormatProperties::VideoFormat,
            Choice,
            Enum,
            Id,
            VideoFormat::BGRx,
            VideoFormat::BGRx,
            VideoFormat::BGRA,
            VideoFormat::RGBx,
            VideoFormat::RGBA
        ),
        property!(
            FormatProperties::VideoSize,
            Choice,
            Range,
            Rectangle,
            Rectangle { width: 1920, height: 1080 },
            Rectangle { width: 1, height: 1 },
            Rectangle { width: MAX_SIDE, height: MAX_SIDE }
        ),
        // 0: whenever something changes.
        property!(
            FormatProperties::VideoFramerate,
            Choice,
            Range,
            Fraction,
            Fraction { num: 0, denom: 1 },
            Fraction { num: 0, denom: 1 },
            Fraction { num: 1000, denom: 1 }
        ),
    );
    if at_our_rate {
        offer.properties.push(property!(
            FormatProperties::VideoMaxFramerate,
            Choice,
            Range,
            Fraction,
            Fraction { num: FPS, denom: 1 },
            Fraction { num: 1, denom: 1 },
            Fraction { num: FPS, denom: 1 }
        ));
    }
    offer
}

/// Buffers of shared memory only.
fn mapped_buffers() -> Object {
    let kinds = [DataType::MemPtr, DataType::MemFd].map(|kind| 1 << kind.as_raw());
    let kinds = kinds.iter().fold(0, |all, kind| all | kind);
    let kinds = ChoiceEnum::Flags { default: kinds, flags: vec![] };
    let kinds = Value::Choice(ChoiceValue::Int(Choice(ChoiceFlags::empty(), kinds)));
    let mut buffers = object!(SpaTypes::ObjectParamBuffers, ParamType::Buffers,);
    buffers.properties.push(Property::new(pw::spa::sys::SPA_PARAM_BUFFERS_dataType, kinds));
    buffers
}

fn bytes(object: &Object) -> Result<Vec<u8>, pw::Error> {
    let value = Value::Object(object.clone());
    let written = PodSerializer::serialize(Cursor::new(Vec::new()), &value);
    written.map(|(cursor, _)| cursor.into_inner()).map_err(|_| pw::Error::CreationFailed)
}
