//! The few V4L2 calls that nokhwa lacks or does badly
//! (`linux/videodev2.h`; kernel documentation, "Video for Linux API").
#![allow(unsafe_code)] // ioctl(2) takes a raw pointer; each call passes one to its own struct.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::mem::size_of;
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use nokhwa::utils::{CameraFormat, FrameFormat};

const CAP_VIDEO_CAPTURE: u32 = 1;
const CAP_STREAMING: u32 = 0x0400_0000;
const CAP_DEVICE_CAPS: u32 = 0x8000_0000;
const BUF_TYPE_VIDEO_CAPTURE: u32 = 1;

const READ: u32 = 2;
const WRITE: u32 = 1;

/// `_IOC` for the magic 'V'.
const fn request(direction: u32, number: u32, size: usize) -> u32 {
    direction << 30 | (size as u32) << 16 | (b'V' as u32) << 8 | number
}

#[repr(C)]
#[derive(Default)]
struct Capability {
    driver: [u8; 16],
    card: [u8; 32],
    bus_info: [u8; 32],
    version: u32,
    capabilities: u32,
    device_caps: u32,
    reserved: [u32; 3],
}

/// `struct v4l2_format` with a `v4l2_pix_format` inside; the union is aligned like a pointer.
#[repr(C)]
struct Format {
    kind: u32,
    padding: [u32; (size_of::<usize>() - 4) / 4],
    width: u32,
    height: u32,
    pixel_format: u32,
    field: u32,
    bytes_per_line: u32,
    rest: [u32; 45],
}

/// `struct v4l2_streamparm` with a `v4l2_captureparm` inside.
#[repr(C)]
struct StreamParameters {
    kind: u32,
    capability: u32,
    capture_mode: u32,
    numerator: u32,
    denominator: u32,
    rest: [u32; 46],
}

impl Format {
    fn capture() -> Self {
        Self {
            kind: BUF_TYPE_VIDEO_CAPTURE,
            padding: Default::default(),
            width: 0,
            height: 0,
            pixel_format: 0,
            field: 0,
            bytes_per_line: 0,
            rest: [0; 45],
        }
    }
}

impl StreamParameters {
    fn capture() -> Self {
        Self {
            kind: BUF_TYPE_VIDEO_CAPTURE,
            capability: 0,
            capture_mode: 0,
            numerator: 0,
            denominator: 0,
            rest: [0; 46],
        }
    }
}

const _: () = assert!(size_of::<Capability>() == 104);
const _: () = assert!(size_of::<StreamParameters>() == 204);
const _: () = assert!(size_of::<Format>() == 200 + size_of::<usize>());

/// Calls ioctl; `T` must be the struct that `number` belongs to.
fn call<T>(fd: RawFd, direction: u32, number: u32, argument: &mut T) -> io::Result<()> {
    // An unsigned long with glibc, an int with musl.
    #[allow(clippy::cast_lossless)]
    let request = request(direction, number, size_of::<T>()) as _;
    loop {
        // SAFETY: `argument` is a live, initialised, plain struct of the size that the request
        // carries, and the kernel writes no more than that.
        let result = unsafe { libc::ioctl(fd, request, std::ptr::from_mut(argument)) };
        if result >= 0 {
            return Ok(());
        }
        let error = io::Error::last_os_error();
        if error.kind() != io::ErrorKind::Interrupted {
            return Err(error);
        }
    }
}

/// A node of `/dev` that really delivers pictures.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CaptureNode {
    pub number: u32,
    pub name: String,
}

impl CaptureNode {
    pub fn path(&self) -> String {
        format!("/dev/video{}", self.number)
    }
}

/// The cameras by number. Looks into sysfs rather than `/dev`, where links of any name lie.
pub fn capture_nodes() -> Vec<CaptureNode> {
    find(Path::new("/sys/class/video4linux"), Path::new("/dev"))
}

fn find(sysfs: &Path, dev: &Path) -> Vec<CaptureNode> {
    let Ok(entries) = fs::read_dir(sysfs) else {
        return Vec::new();
    };
    let mut nodes: Vec<CaptureNode> = entries
        .flatten()
        .filter_map(|entry| {
            let file_name = entry.file_name();
            let number = file_name.to_str()?.strip_prefix("video")?.parse().ok()?;
            let text = |file| fs::read_to_string(entry.path().join(file)).ok();
            let card = match open(&dev.join(&file_name)) {
                Ok(device) => Some(capture_card(&device)?),
                // Listed nonetheless, so that opening it can say what to do. Each camera's
                // first node is the one with the pictures.
                Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
                    (text("index")?.trim() == "0").then_some(())?;
                    None
                }
                Err(_) => return None,
            };
            let named = text("name").map(|name| name.trim().to_owned());
            let name = named.filter(|name| !name.is_empty()).or(card);
            Some(CaptureNode { number, name: name.unwrap_or_else(|| format!("video{number}")) })
        })
        .collect();
    nodes.sort_by_key(|node| node.number);
    nodes
}

/// The card's name if it captures pictures (rather than metadata, radio or output).
fn capture_card(device: &File) -> Option<String> {
    let mut capability = Capability::default();
    call(device.as_raw_fd(), READ, 0, &mut capability).ok()?;
    let caps = if capability.capabilities & CAP_DEVICE_CAPS != 0 {
        capability.device_caps
    } else {
        capability.capabilities
    };
    if caps & CAP_VIDEO_CAPTURE == 0 || caps & CAP_STREAMING == 0 {
        return None;
    }
    let card = capability.card.split(|byte| *byte == 0).next().unwrap_or_default();
    Some(String::from_utf8_lossy(card).into_owned())
}

fn open(path: &Path) -> io::Result<File> {
    OpenOptions::new().read(true).write(true).custom_flags(libc::O_NONBLOCK).open(path)
}

/// Sets format and frame rate, and tells the bytes from row to row.
///
/// # Errors
/// Where the device cannot be opened or set, or chose another format.
pub fn prepare(path: &str, rung: CameraFormat) -> io::Result<usize> {
    let device = open(Path::new(path))?;
    let fd = device.as_raw_fd();
    let mut format = Format {
        width: rung.width(),
        height: rung.height(),
        pixel_format: four_cc(rung.format()),
        ..Format::capture()
    };
    call(fd, READ | WRITE, 5, &mut format)?;
    if (format.width, format.height, format.pixel_format)
        != (rung.width(), rung.height(), four_cc(rung.format()))
    {
        return Err(io::Error::other(format!("it does not offer {rung}")));
    }
    let mut parameters = StreamParameters {
        numerator: 1,
        denominator: rung.frame_rate(),
        ..StreamParameters::capture()
    };
    call(fd, READ | WRITE, 22, &mut parameters)?;
    if parameters.denominator != rung.frame_rate() * parameters.numerator {
        return Err(io::Error::other(format!("it does not offer {rung}")));
    }
    Ok(if rung.format() == FrameFormat::MJPEG { 0 } else { format.bytes_per_line as usize })
}

/// What the device is set to, where that can be used at all.
pub fn current_format(path: &str) -> Option<CameraFormat> {
    let device = open(Path::new(path)).ok()?;
    let mut format = Format::capture();
    call(device.as_raw_fd(), READ | WRITE, 4, &mut format).ok()?;
    let mut parameters = StreamParameters::capture();
    call(device.as_raw_fd(), READ | WRITE, 21, &mut parameters).ok()?;
    let known = [
        FrameFormat::MJPEG,
        FrameFormat::YUYV,
        FrameFormat::NV12,
        FrameFormat::RAWRGB,
        FrameFormat::RAWBGR,
    ];
    let layout = known.into_iter().find(|known| four_cc(*known) == format.pixel_format)?;
    let fps = parameters.denominator.checked_div(parameters.numerator).filter(|fps| *fps > 0)?;
    Some(CameraFormat::new_from(format.width, format.height, layout, fps))
}

fn four_cc(format: FrameFormat) -> u32 {
    u32::from_le_bytes(*match format {
        FrameFormat::MJPEG => b"MJPG",
        FrameFormat::YUYV => b"YUYV",
        FrameFormat::NV12 => b"NV12",
        FrameFormat::GRAY => b"GREY",
        FrameFormat::RAWRGB => b"RGB3",
        FrameFormat::RAWBGR => b"BGR3",
    })
}

/// Stops the stream on every descriptor this process has of the device, so that a thread that
/// waits for a picture wakes with an error (poll reports one on a queue that does not stream).
pub fn stop_stream(path: &str) {
    let Ok(descriptors) = fs::read_dir("/proc/self/fd") else {
        return;
    };
    for entry in descriptors.flatten() {
        if !fs::read_link(entry.path()).is_ok_and(|target| target == Path::new(path)) {
            continue;
        }
        let Some(fd) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else {
            continue;
        };
        let mut kind = BUF_TYPE_VIDEO_CAPTURE;
        if let Err(error) = call(fd, WRITE, 19, &mut kind) {
            tracing::debug!("stopping {path}: {error}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_have_the_kernels_numbers() {
        assert_eq!(request(READ, 0, size_of::<Capability>()), 0x8068_5600);
        assert_eq!(request(READ | WRITE, 22, size_of::<StreamParameters>()), 0xc0cc_5616);
        assert_eq!(request(WRITE, 19, size_of::<u32>()), 0x4004_5613);
        assert_eq!(request(READ | WRITE, 21, size_of::<StreamParameters>()), 0xc0cc_5615);
        #[cfg(target_pointer_width = "64")]
        assert_eq!(request(READ | WRITE, 5, size_of::<Format>()), 0xc0d0_5605);
    }

    #[test]
    fn what_is_no_camera_is_not_listed_and_odd_names_do_no_harm() {
        let root = std::env::temp_dir().join(format!("visavis-v4l2-{}", std::process::id()));
        let (sysfs, dev) = (root.join("sys"), root.join("dev"));
        fs::create_dir_all(&dev).expect("dev");
        for name in ["video0", "video", "video-link", "vbi0", "v4l-subdev0", "video99999999999"] {
            fs::create_dir_all(sysfs.join(name)).expect("sysfs");
            fs::write(sysfs.join(name).join("name"), "A camera\n").expect("name");
            // A plain file knows no VIDIOC_QUERYCAP.
            fs::write(dev.join(name), "").expect("node");
        }
        let found = find(&sysfs, &dev);
        fs::remove_dir_all(&root).expect("clean up");
        assert_eq!(found, []);
    }

    #[test]
    fn a_machine_without_the_subsystem_has_no_cameras() {
        assert_eq!(find(Path::new("/nonexistent"), Path::new("/dev")), []);
    }

    #[test]
    fn preparing_what_is_not_a_camera_names_the_system_error() {
        let format = CameraFormat::new_from(640, 480, FrameFormat::YUYV, 30);
        let missing = prepare("/dev/video-missing", format).expect_err("missing");
        assert_eq!(missing.kind(), io::ErrorKind::NotFound);
        assert!(prepare("/dev/null", format).is_err());
        assert_eq!(current_format("/dev/null"), None);
    }
}
