//! Asks a server whether it is well: for containers and scripts that have no HTTP client.

use std::{
    io::{self, Read, Write},
    net::{TcpStream, ToSocketAddrs},
    time::Duration,
};

use thiserror::Error;
use url::Url;

/// For connecting, and again for the answer.
const LIMIT: Duration = Duration::from_secs(3);

/// More than a health check answers.
const MAX_ANSWER_BYTES: u64 = 16 * 1024;

/// Why a server is not well, or cannot be asked.
#[derive(Debug, Error)]
pub enum CheckError {
    /// Not an address that can be asked.
    #[error("“{0}” cannot be checked: write http://HOST:PORT/readyz.")]
    NotAnAddress(String),
    /// Nobody answers.
    #[error("{url} does not answer: {error}.")]
    NoAnswer {
        /// What was asked.
        url: String,
        /// What the system said.
        #[source]
        error: io::Error,
    },
    /// It answers that it is not.
    #[error("{url} answers {status}: {text}")]
    NotWell {
        /// What was asked.
        url: String,
        /// The first line's number, or nothing where it is no HTTP.
        status: String,
        /// What it says.
        text: String,
    },
}

/// Succeeds when `GET url` is answered 200. Blocks for six seconds at most.
///
/// # Errors
/// Why not.
pub fn check(url: &str) -> Result<(), CheckError> {
    let not_an_address = || CheckError::NotAnAddress(url.into());
    let parsed = Url::parse(url).map_err(|_| not_an_address())?;
    let host =
        parsed.host_str().filter(|_| parsed.scheme() == "http").ok_or_else(not_an_address)?;
    let port = parsed.port_or_known_default().ok_or_else(not_an_address)?;
    let answer = ask(host, port, parsed.path())
        .map_err(|error| CheckError::NoAnswer { url: url.into(), error })?;
    let (head, text) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
    match head.split(' ').nth(1).unwrap_or_default() {
        "200" => Ok(()),
        status => Err(CheckError::NotWell {
            url: url.into(),
            status: status.into(),
            text: text.trim().into(),
        }),
    }
}

fn ask(host: &str, port: u16, path: &str) -> io::Result<String> {
    let name = host.trim_start_matches('[').trim_end_matches(']');
    let mut last = io::Error::new(io::ErrorKind::NotFound, "the host has no address");
    for address in (name, port).to_socket_addrs()? {
        match TcpStream::connect_timeout(&address, LIMIT) {
            Ok(mut stream) => {
                stream.set_read_timeout(Some(LIMIT))?;
                stream.set_write_timeout(Some(LIMIT))?;
                // HTTP/1.0, so that the answer ends with the connection.
                write!(stream, "GET {path} HTTP/1.0\r\nHost: {host}:{port}\r\n\r\n")?;
                let mut answer = Vec::new();
                stream.take(MAX_ANSWER_BYTES).read_to_end(&mut answer)?;
                return Ok(String::from_utf8_lossy(&answer).into_owned());
            }
            Err(error) => last = error,
        }
    }
    Err(last)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_asked_is_said() {
        for wrong in ["localhost:8080", "https://localhost/readyz", "x", ""] {
            let error = check(wrong).expect_err(wrong).to_string();
            assert!(error.contains("write http://HOST:PORT/readyz"), "{error}");
        }
    }
}
