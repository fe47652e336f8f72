//! The root window of an X server through shared memory: the only user of `x11rb` here.

#![allow(unsafe_code)] // memory shared with the X server; each block says why it is sound.

use std::ffi::c_void;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::ptr::{self, NonNull};

use x11rb::connection::{Connection, RequestConnection};
use x11rb::protocol::damage::{self, ConnectionExt as _, ReportLevel};
use x11rb::protocol::shm::{self, ConnectionExt as _};
use x11rb::protocol::xfixes::{ConnectionExt as _, GetCursorImageReply};
use x11rb::protocol::xproto::{
    ChangeWindowAttributesAux, ConnectionExt as _, EventMask, ImageFormat, ImageOrder, Window,
};
use x11rb::protocol::{Event, xfixes};
use x11rb::rust_connection::RustConnection;

use super::Capture;
use super::cursor::{self, Canvas, Cursor};
use crate::frame::{Frame, FramePool};
use crate::picture::convert::{Converter, RawFormat, RawPicture};
use crate::source::DeviceSelector;

/// A screen of an X server.
pub(super) struct Display {
    connection: RustConnection,
    root: Window,
    name: String,
    size: (u16, u16),
    shared: Option<Shared>,
    /// Tells of changes; without it every look is taken for one.
    damage: Option<damage::Damage>,
    dirty: bool,
    /// The pointer's picture, and what it was when it was last drawn.
    cursor: Option<GetCursorImageReply>,
    converter: Converter,
}

impl Display {
    /// Connects to the server that is named, or that `DISPLAY` names.
    pub fn open(selector: &DeviceSelector, pool: FramePool) -> Result<Self, String> {
        let named = match selector {
            DeviceSelector::Name(name) => Some(name.as_str()),
            DeviceSelector::Default | DeviceSelector::Index(_) => None,
        };
        if !plausible(named) {
            return Err("there is no display of this number".to_owned());
        }
        let (connection, number) = x11rb::connect(named).map_err(|error| error.to_string())?;
        let number = match selector {
            DeviceSelector::Index(index) => *index,
            _ => number,
        };
        let setup = connection.setup();
        let screen = setup.roots.get(number).ok_or("the X server has no such screen")?;
        let masks = screen
            .allowed_depths
            .iter()
            .flat_map(|depth| &depth.visuals)
            .find(|visual| visual.visual_id == screen.root_visual)
            .map(|visual| (visual.red_mask, visual.green_mask, visual.blue_mask));
        let pixel_bits = setup
            .pixmap_formats
            .iter()
            .find(|format| format.depth == screen.root_depth)
            .map(|format| format.bits_per_pixel);
        let usual = masks == Some((0xff_0000, 0xff00, 0xff)) && pixel_bits == Some(32);
        if !usual || setup.image_byte_order != ImageOrder::LSB_FIRST {
            return Err("its colours are not 24 bits of red, green and blue".to_owned());
        }
        let (root, size) = (screen.root, (screen.width_in_pixels, screen.height_in_pixels));
        let mut this = Self {
            connection,
            root,
            name: format!("screen {number}"),
            size,
            shared: None,
            damage: None,
            dirty: true,
            cursor: None,
            converter: Converter::new(pool),
        };
        this.prepare().map_err(|error| error.to_string())?;
        Ok(this)
    }

    /// Asks for what helps; the server may have none of it.
    fn prepare(&mut self) -> Result<(), x11rb::errors::ReplyOrIdError> {
        let connection = &self.connection;
        // Changes of the screen's size.
        let wanted = ChangeWindowAttributesAux::new().event_mask(EventMask::STRUCTURE_NOTIFY);
        connection.change_window_attributes(self.root, &wanted)?.check()?;
        if connection.extension_information(xfixes::X11_EXTENSION_NAME)?.is_some() {
            connection.xfixes_query_version(5, 0)?.reply()?;
        }
        if connection.extension_information(damage::X11_EXTENSION_NAME)?.is_some() {
            connection.damage_query_version(1, 1)?.reply()?;
            let id = connection.generate_id()?;
            connection.damage_create(id, self.root, ReportLevel::NON_EMPTY)?.check()?;
            self.damage = Some(id);
        }
        Ok(())
    }

    fn look_up_cursor(&self) -> Result<Option<GetCursorImageReply>, String> {
        let has_xfixes = self
            .connection
            .extension_information(xfixes::X11_EXTENSION_NAME)
            .map_err(|error| error.to_string())?
            .is_some();
        if !has_xfixes {
            return Ok(None);
        }
        let cookie =
            self.connection.xfixes_get_cursor_image().map_err(|error| error.to_string())?;
        match cookie.reply() {
            Ok(cursor) => Ok(Some(cursor)),
            // No pointer at the moment.
            Err(x11rb::errors::ReplyError::X11Error(_)) => Ok(None),
            Err(error) => Err(error.to_string()),
        }
    }

    /// It has the wrong size.
    fn forget_memory(&mut self) {
        if let Some(shared) = self.shared.take() {
            // A server that is gone has forgotten it too.
            let _ = self.connection.shm_detach(shared.segment);
        }
    }

    fn try_capture(&mut self) -> Result<Frame, String> {
        let (width, height) = self.size;
        let len = usize::from(width) * usize::from(height) * 4;
        if self.shared.is_none() {
            self.shared = Shared::new(&self.connection, len);
        }
        let mut sent;
        let pixels = match &mut self.shared {
            Some(shared) => shared.fill(&self.connection, self.root, self.size)?,
            None => {
                // A server on another machine: slow, but it works.
                let all = u32::MAX;
                let format = ImageFormat::Z_PIXMAP;
                let image = self.connection.get_image(format, self.root, 0, 0, width, height, all);
                let image = image.map_err(|error| error.to_string())?.reply();
                sent = image.map_err(|error| error.to_string())?.data;
                &mut sent[..]
            }
        };
        let (width, height) = (u32::from(width), u32::from(height));
        let stride = width as usize * 4;
        if let Some(image) = &self.cursor {
            let mut canvas = Canvas { pixels, width: width as usize, stride };
            let cursor = Cursor {
                pixels: &image.cursor_image,
                width: usize::from(image.width),
                left: i32::from(image.x) - i32::from(image.xhot),
                top: i32::from(image.y) - i32::from(image.yhot),
            };
            cursor::draw(&mut canvas, &cursor);
        }
        let raw = RawPicture { format: RawFormat::Bgrx, width, height, stride, data: pixels };
        self.converter.convert(&raw).map_err(|error| error.to_string())
    }
}

impl Capture for Display {
    fn name(&self) -> &str {
        &self.name
    }

    fn changed(&mut self) -> Result<bool, String> {
        let gone = |error: x11rb::errors::ConnectionError| error.to_string();
        while let Some(event) = self.connection.poll_for_event().map_err(gone)? {
            match event {
                Event::DamageNotify(_) => self.dirty = true,
                Event::ConfigureNotify(event) if event.window == self.root => {
                    self.size = (event.width, event.height);
                    self.forget_memory();
                    self.dirty = true;
                }
                _ => {}
            }
        }
        // Before the picture is taken, so that no change falls between.
        if self.dirty
            && let Some(damage) = self.damage
        {
            self.connection.damage_subtract(damage, x11rb::NONE, x11rb::NONE).map_err(gone)?;
        }
        let cursor = self.look_up_cursor()?;
        let moved = match (&cursor, &self.cursor) {
            (Some(new), Some(old)) => {
                (new.x, new.y, new.cursor_serial) != (old.x, old.y, old.cursor_serial)
            }
            (new, old) => new.is_some() != old.is_some(),
        };
        self.cursor = cursor;
        Ok(std::mem::replace(&mut self.dirty, self.damage.is_none()) || moved)
    }

    fn capture(&mut self) -> Result<Frame, String> {
        match self.try_capture() {
            Ok(frame) => Ok(frame),
            // It may just have changed its size, which the next events will tell.
            Err(_) => {
                let geometry = self.connection.get_geometry(self.root);
                let geometry = geometry.map_err(|error| error.to_string())?.reply();
                let geometry = geometry.map_err(|error| error.to_string())?;
                self.size = (geometry.width, geometry.height);
                self.forget_memory();
                self.try_capture()
            }
        }
    }
}

/// `x11rb` adds a display's number to a port without looking, and panics where that overflows.
fn plausible(named: Option<&str>) -> bool {
    let name = named.map(str::to_owned).or_else(|| std::env::var("DISPLAY").ok());
    let number =
        name.as_deref().and_then(|name| name.rsplit_once(':')).map_or("", |(_, rest)| rest);
    let number = number.split('.').next().unwrap_or_default();
    number.parse::<u64>().map_or(true, |number| number <= 9_999)
}

/// Memory that the server writes pictures to.
struct Shared {
    segment: shm::Seg,
    memory: NonNull<c_void>,
    len: usize,
}

// SAFETY: the mapping is owned, and reached through `&mut self` only.
unsafe impl Send for Shared {}

impl Shared {
    /// None where the server does not share memory with us.
    fn new(connection: &RustConnection, len: usize) -> Option<Self> {
        connection.extension_information(shm::X11_EXTENSION_NAME).ok()??;
        let version = connection.shm_query_version().ok()?.reply().ok()?;
        if (version.major_version, version.minor_version) < (1, 2) || len == 0 {
            return None;
        }
        // SAFETY: the name is a C string; the descriptor returned is ours.
        let file = unsafe {
            let fd = libc::memfd_create(c"visavis-screen".as_ptr(), libc::MFD_CLOEXEC);
            (fd >= 0).then(|| OwnedFd::from_raw_fd(fd))
        }?;
        // SAFETY: the descriptor is open; a new mapping of `len` bytes of it touches no other
        // memory, and is unmapped on drop.
        let memory = unsafe {
            if libc::ftruncate(file.as_raw_fd(), libc::off_t::try_from(len).ok()?) != 0 {
                return None;
            }
            let (protection, flags) = (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_SHARED);
            libc::mmap(ptr::null_mut(), len, protection, flags, file.as_raw_fd(), 0)
        };
        let memory = NonNull::new(memory).filter(|at| at.as_ptr() != libc::MAP_FAILED)?;
        let segment = connection.generate_id().ok()?;
        let this = Self { segment, memory, len };
        connection.shm_attach_fd(segment, file, false).ok()?.check().ok()?;
        Some(this)
    }

    /// The pixels of now.
    fn fill(
        &mut self,
        connection: &RustConnection,
        root: Window,
        (width, height): (u16, u16),
    ) -> Result<&mut [u8], String> {
        if usize::from(width) * usize::from(height) * 4 > self.len {
            return Err("the screen has grown".to_owned());
        }
        let format = u8::from(ImageFormat::Z_PIXMAP);
        connection
            .shm_get_image(root, 0, 0, width, height, u32::MAX, format, self.segment, 0)
            .map_err(|error| error.to_string())?
            .reply()
            .map_err(|error| error.to_string())?;
        // SAFETY: `len` bytes are mapped as long as we live, and reached through us alone. The
        // server writes only between a request and its reply.
        Ok(unsafe { std::slice::from_raw_parts_mut(self.memory.as_ptr().cast::<u8>(), self.len) })
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        // SAFETY: mapped by us with this length, once. The server keeps its own mapping until the
        // connection ends or is told.
        unsafe { libc::munmap(self.memory.as_ptr(), self.len) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_display_number_that_no_server_has_is_not_tried() {
        for name in [":0", "host:10.0", "unix:99", "nonsense", ""] {
            assert!(plausible(Some(name)), "{name}");
        }
        for name in [":64999", "host:99999.0", ":18446744073709551615"] {
            assert!(!plausible(Some(name)), "{name}");
        }
    }
}
