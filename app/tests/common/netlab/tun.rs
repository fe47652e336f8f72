//! A TUN interface: what a host sends into it is read from the file, what is written to the file the
//! host receives (Linux, Documentation/networking/tuntap.rst).
// `TUNSETIFF` is an ioctl, whose argument only we can promise to be right.
#![allow(unsafe_code)]

use std::fs::{File, OpenOptions};

use anyhow::{Context, Result, ensure};
use rustix::ioctl::{Opcode, Setter, ioctl};

/// `_IOW('T', 202, int)`
const TUNSETIFF: Opcode = 0x4004_54ca;
/// Whole IP packets, nothing before them: `IFF_TUN | IFF_NO_PI`.
const FLAGS: i16 = 0x0001 | 0x1000;
const NAME: usize = 16;

/// `struct ifreq` (netdevice(7)) as far as the call reads it, and as long as it may be.
#[repr(C)]
struct Request {
    name: [u8; NAME],
    flags: i16,
    rest: [u8; 22],
}

/// An interface of this name in the network namespace of the calling thread, there until the file is
/// closed. Reads and writes do not block.
pub fn open(name: &str) -> Result<File> {
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .open("/dev/net/tun")
        .context("/dev/net/tun, of the kernel's module tun")?;
    let mut request = Request { name: [0; NAME], flags: FLAGS, rest: [0; 22] };
    ensure!(name.len() < NAME, "{name} is too long for an interface");
    request.name[..name.len()].copy_from_slice(name.as_bytes());
    // SAFETY: TUNSETIFF reads a `struct ifreq`, whose size and layout `Request` has.
    unsafe { ioctl(&file, Setter::<TUNSETIFF, Request>::new(request)) }.context("TUNSETIFF")?;
    rustix::io::ioctl_fionbio(&file, true)?;
    Ok(file)
}
