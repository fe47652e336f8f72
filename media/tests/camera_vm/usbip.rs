//! USB/IP, the end with the device: what the kernel asks a device that is plugged into its
//! virtual host controller, and the answers (kernel documentation, "USB/IP protocol").

use std::io::{self, Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;

const CMD_SUBMIT: u32 = 1;
const CMD_UNLINK: u32 = 2;
const RET_SUBMIT: u32 = 3;
const RET_UNLINK: u32 = 4;
const DIR_IN: u32 = 1;
/// Every message begins with twelve numbers of four bytes, the highest byte first.
const HEADER: usize = 48;

/// `EPIPE`: the device does not know this request.
const REFUSED: i32 = -32;
/// `ECONNRESET`: taken back in time.
const TAKEN_BACK: i32 = -104;

/// What the kernel sends.
pub enum Command {
    /// A request to the device.
    Submit(Submit),
    /// A request that is no longer wanted.
    Unlink { sequence: u32, victim: u32 },
}

/// One USB request.
pub struct Submit {
    pub sequence: u32,
    pub endpoint: u32,
    /// From the device to the host.
    pub inward: bool,
    /// How much the host has room for, or sends.
    pub length: usize,
    /// The setup packet of a control request.
    pub setup: [u8; 8],
    /// What the host sends.
    pub data: Vec<u8>,
}

/// Plugs a device into `port` at high speed; what comes out at the other end of the line is for
/// [`read`]. Cutting the line unplugs it.
pub fn attach(port: u32) -> io::Result<UnixStream> {
    const SPEED_HIGH: u32 = 3;
    const DEVICE: u32 = 1 << 16 | 2;
    let (ours, kernels) = UnixStream::pair()?;
    let request = format!("{port} {} {DEVICE} {SPEED_HIGH}", kernels.as_raw_fd());
    std::fs::write("/sys/devices/platform/vhci_hcd.0/attach", request)?;
    Ok(ours)
}

/// Waits for the next command.
pub fn read(line: &mut UnixStream) -> io::Result<Command> {
    let mut header = [0; HEADER];
    line.read_exact(&mut header)?;
    let number = |index: usize| {
        let bytes = &header[4 * index..4 * index + 4];
        u32::from_be_bytes(bytes.try_into().expect("four bytes"))
    };
    let sequence = number(1);
    match number(0) {
        CMD_SUBMIT => {
            let inward = number(3) == DIR_IN;
            let length = number(6) as usize;
            let setup = header[40..].try_into().expect("eight bytes");
            let mut data = vec![0; if inward { 0 } else { length }];
            line.read_exact(&mut data)?;
            Ok(Command::Submit(Submit {
                sequence,
                endpoint: number(4),
                inward,
                length,
                setup,
                data,
            }))
        }
        CMD_UNLINK => Ok(Command::Unlink { sequence, victim: number(5) }),
        other => Err(io::Error::other(format!("command {other}"))),
    }
}

/// Sends what was asked for.
pub fn answer(line: &mut UnixStream, sequence: u32, data: &[u8]) -> io::Result<()> {
    let mut message = header(RET_SUBMIT, sequence, 0, data.len() as u32);
    message.extend(data);
    line.write_all(&message)
}

/// Took all `length` bytes that the host sent.
pub fn accept(line: &mut UnixStream, sequence: u32, length: usize) -> io::Result<()> {
    line.write_all(&header(RET_SUBMIT, sequence, 0, length as u32))
}

/// Does not know this request.
pub fn refuse(line: &mut UnixStream, sequence: u32) -> io::Result<()> {
    line.write_all(&header(RET_SUBMIT, sequence, REFUSED, 0))
}

/// A request was taken back: before it was answered, or too late.
pub fn unlinked(line: &mut UnixStream, sequence: u32, in_time: bool) -> io::Result<()> {
    line.write_all(&header(RET_UNLINK, sequence, if in_time { TAKEN_BACK } else { 0 }, 0))
}

fn header(command: u32, sequence: u32, status: i32, length: u32) -> Vec<u8> {
    let mut message = Vec::with_capacity(HEADER);
    for number in [command, sequence, 0, 0, 0, status as u32, length] {
        message.extend(number.to_be_bytes());
    }
    message.resize(HEADER, 0);
    message
}
