//! What the emulated webcam says of itself (USB 2.0, chapter 9; USB Device Class Definition for
//! Video Devices 1.1, chapter 3; its payload documents for MJPEG and uncompressed video).

use super::agreement::largest_picture;

/// Numbered from 1, as the host names them.
pub const FORMAT_MJPEG: u8 = 1;
pub const FORMAT_YUY2: u8 = 2;

/// The frame sizes of each format, numbered from 1 likewise.
pub fn sizes(format: u8) -> &'static [(u32, u32)] {
    match format {
        FORMAT_MJPEG => &[(640, 480), (1280, 720)],
        _ => &[(640, 480)],
    }
}

/// Between two pictures, in units of 100 ns: 30, 15 and 7.5 a second.
pub const INTERVALS: [u32; 3] = [333_333, 666_666, 1_333_333];

/// Interfaces.
pub const CONTROL: u8 = 0;
pub const STREAMING: u8 = 1;
/// The endpoint that pictures come from, in bulk.
pub const PICTURES: u8 = 1;

// Descriptor types.
const DEVICE: u8 = 1;
const CONFIGURATION: u8 = 2;
const STRING: u8 = 3;
const INTERFACE: u8 = 4;
const ENDPOINT: u8 = 5;
const INTERFACE_ASSOCIATION: u8 = 11;
const CS_INTERFACE: u8 = 0x24;

// Class and subclasses.
const CC_VIDEO: u8 = 0x0e;
const SC_VIDEOCONTROL: u8 = 1;
const SC_VIDEOSTREAMING: u8 = 2;
const SC_VIDEO_INTERFACE_COLLECTION: u8 = 3;

// Subtypes of class-specific descriptors.
const VC_HEADER: u8 = 1;
const VC_INPUT_TERMINAL: u8 = 2;
const VC_OUTPUT_TERMINAL: u8 = 3;
const VS_INPUT_HEADER: u8 = 1;
const VS_FORMAT_UNCOMPRESSED: u8 = 4;
const VS_FRAME_UNCOMPRESSED: u8 = 5;
const VS_FORMAT_MJPEG: u8 = 6;
const VS_FRAME_MJPEG: u8 = 7;
const VS_COLORFORMAT: u8 = 13;

const ITT_CAMERA: u16 = 0x0201;
const TT_STREAMING: u16 = 0x0101;

/// Where this device keeps its product's name.
const PRODUCT_STRING: u8 = 1;

/// Puts a descriptor together from its fields, lowest byte first.
struct Descriptor(Vec<u8>);

impl Descriptor {
    fn new(kind: u8) -> Self {
        Self(vec![0, kind])
    }

    fn class(subtype: u8) -> Self {
        Self::new(CS_INTERFACE).bytes(&[subtype])
    }

    fn bytes(mut self, fields: &[u8]) -> Self {
        self.0.extend(fields);
        self
    }

    fn word(self, field: u16) -> Self {
        self.bytes(&field.to_le_bytes())
    }

    fn long(self, field: u32) -> Self {
        self.bytes(&field.to_le_bytes())
    }

    /// Its first field is its length.
    fn end(mut self) -> Vec<u8> {
        self.0[0] = self.0.len() as u8;
        self.0
    }
}

/// Answers GET_DESCRIPTOR, where there is such a descriptor.
pub fn descriptor(kind: u8, index: u8, product: &str) -> Option<Vec<u8>> {
    match (kind, index) {
        (DEVICE, _) => Some(device()),
        (CONFIGURATION, _) => Some(configuration()),
        // The languages of the strings: English.
        (STRING, 0) => Some(Descriptor::new(STRING).word(0x0409).end()),
        (STRING, PRODUCT_STRING) => {
            let letters = product.encode_utf16();
            Some(letters.fold(Descriptor::new(STRING), Descriptor::word).end())
        }
        _ => None,
    }
}

fn device() -> Vec<u8> {
    // Its class stands in an interface association; these three say so.
    const MISCELLANEOUS: [u8; 3] = [0xef, 2, 1];
    const CONTROL_PACKET: u8 = 64;
    Descriptor::new(DEVICE)
        .word(0x0200)
        .bytes(&MISCELLANEOUS)
        .bytes(&[CONTROL_PACKET])
        .word(0x1d6b) // The Linux Foundation,
        .word(0x0102) // a webcam gadget.
        .word(0x0100)
        .bytes(&[0, PRODUCT_STRING, 0, 1])
        .end()
}

fn configuration() -> Vec<u8> {
    const BUS_POWERED: u8 = 0x80;
    const MILLIAMPERES: u8 = (500 / 2) as u8;
    let rest = [
        Descriptor::new(INTERFACE_ASSOCIATION)
            .bytes(&[CONTROL, 2, CC_VIDEO, SC_VIDEO_INTERFACE_COLLECTION, 0, 0])
            .end(),
        interface(CONTROL, 0, SC_VIDEOCONTROL),
        control(),
        interface(STREAMING, 1, SC_VIDEOSTREAMING),
        streaming(),
        Descriptor::new(ENDPOINT).bytes(&[0x80 | PICTURES, 2]).word(512).bytes(&[0]).end(),
    ]
    .concat();
    let first = Descriptor::new(CONFIGURATION)
        .word(9 + rest.len() as u16)
        .bytes(&[2, 1, 0, BUS_POWERED, MILLIAMPERES])
        .end();
    [first, rest].concat()
}

fn interface(number: u8, endpoints: u8, subclass: u8) -> Vec<u8> {
    Descriptor::new(INTERFACE).bytes(&[number, 0, endpoints, CC_VIDEO, subclass, 0, 0]).end()
}

/// A camera (unit 1) whose pictures leave over USB (unit 2); no knobs.
fn control() -> Vec<u8> {
    let units = [
        Descriptor::class(VC_INPUT_TERMINAL)
            .bytes(&[1])
            .word(ITT_CAMERA)
            .bytes(&[0, 0])
            .word(0) // Focal lengths: it does not zoom.
            .word(0)
            .word(0)
            .bytes(&[3, 0, 0, 0])
            .end(),
        Descriptor::class(VC_OUTPUT_TERMINAL)
            .bytes(&[2])
            .word(TT_STREAMING)
            .bytes(&[0, 1, 0])
            .end(),
    ]
    .concat();
    let header = Descriptor::class(VC_HEADER)
        .word(0x0110)
        .word(13 + units.len() as u16)
        .long(48_000_000)
        .bytes(&[1, STREAMING])
        .end();
    [header, units].concat()
}

fn streaming() -> Vec<u8> {
    const OUTPUT_TERMINAL: u8 = 2;
    /// `YUY2` and what all GUIDs of video formats end with.
    const GUID_YUY2: [u8; 16] = *b"YUY2\0\0\x10\0\x80\0\0\xaa\0\x38\x9b\x71";
    let colours = || Descriptor::class(VS_COLORFORMAT).bytes(&[1, 1, 4]).end();
    let formats = [
        Descriptor::class(VS_FORMAT_MJPEG)
            .bytes(&[FORMAT_MJPEG, sizes(FORMAT_MJPEG).len() as u8, 1, 1, 0, 0, 0, 0])
            .end(),
        frames(VS_FRAME_MJPEG, FORMAT_MJPEG),
        colours(),
        Descriptor::class(VS_FORMAT_UNCOMPRESSED)
            .bytes(&[FORMAT_YUY2, sizes(FORMAT_YUY2).len() as u8])
            .bytes(&GUID_YUY2)
            .bytes(&[16, 1, 0, 0, 0, 0])
            .end(),
        frames(VS_FRAME_UNCOMPRESSED, FORMAT_YUY2),
        colours(),
    ]
    .concat();
    let header = Descriptor::class(VS_INPUT_HEADER)
        .bytes(&[2])
        .word(15 + formats.len() as u16)
        .bytes(&[0x80 | PICTURES, 0, OUTPUT_TERMINAL, 0, 0, 0, 1, 0, 0])
        .end();
    [header, formats].concat()
}

fn frames(subtype: u8, format: u8) -> Vec<u8> {
    let mut all = Vec::new();
    for (index, &(width, height)) in sizes(format).iter().enumerate() {
        let bits = width * height * 16;
        let frame = Descriptor::class(subtype)
            .bytes(&[index as u8 + 1, 0])
            .word(width as u16)
            .word(height as u16)
            .long(bits * 8) // At the slowest and at the fastest, a second.
            .long(bits * 30)
            .long(largest_picture(width, height))
            .long(INTERVALS[0])
            .bytes(&[INTERVALS.len() as u8]);
        all.extend(INTERVALS.into_iter().fold(frame, Descriptor::long).end());
    }
    all
}
