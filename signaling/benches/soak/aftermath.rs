//! What is found when everybody is gone, and whether it may be so.

use std::{process::ExitCode, time::Duration};

use anyhow::{Context, Result};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};

use crate::{
    guests,
    rig::{
        server::Server,
        wire::{Dialect, Wire},
    },
    tally::Tally,
    trend::Trend,
};

/// For one answer.
const ANSWER_LIMIT: Duration = Duration::from_secs(10);

/// Rooms that a newcomer does not enter as the first one.
pub async fn rooms_still_taken(server: &Server, rooms: usize) -> Result<Vec<String>> {
    let mut taken = Vec::new();
    for number in 0..rooms {
        let room = guests::room(number);
        let wire = Wire::open(server.address, None, Dialect::Plain).await?;
        wire.send(Dialect::Plain.join(&room).as_bytes())?;
        let mut created = false;
        let answered = wire.wait_for(|text| {
            created = Dialect::Plain.is(text, "created");
            created || ["joined", "full", "error"].iter().any(|kind| Dialect::Plain.is(text, kind))
        });
        timeout(ANSWER_LIMIT, answered).await.context("no answer to a join")??;
        if !created {
            taken.push(room);
        }
    }
    Ok(taken)
}

/// What the server's own metrics say, if it has any.
pub async fn gauges(server: &Server) -> String {
    let ask = async {
        let mut stream = TcpStream::connect(server.address).await?;
        stream.write_all(b"GET /metrics HTTP/1.0\r\nHost: localhost\r\n\r\n").await?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await?;
        std::io::Result::Ok(answer)
    };
    let Ok(Ok(answer)) = timeout(ANSWER_LIMIT, ask).await else {
        return String::new();
    };
    if answer.split(' ').nth(1) != Some("200") {
        return String::new();
    }
    let wanted = ["connections", "rooms", "seats"];
    let gauges: Vec<&str> = answer
        .lines()
        .filter(|line| !line.starts_with('#') && !line.contains("total"))
        .filter(|line| wanted.iter().any(|word| line.contains(word)))
        .collect();
    format!(" [{}]", gauges.join(", "))
}

pub struct Findings<'a> {
    pub trend: Option<Trend>,
    pub files_before: usize,
    pub files_after: usize,
    pub rooms: usize,
    pub taken: Vec<String>,
    pub tally: &'a Tally,
    pub stopped: Result<Duration>,
}

impl Findings<'_> {
    /// Says what holds and what does not; fails when anything does not.
    pub fn judge(&self) -> ExitCode {
        let Self { trend, files_before, files_after, rooms, taken, tally, stopped } = self;
        let flat = trend.as_ref().is_some_and(Trend::is_flat);
        let memory = trend.map_or("too few samples".to_owned(), |trend| trend.to_string());
        let stop = match stopped {
            Ok(took) => format!("stopped {:.1} s after SIGTERM", took.as_secs_f64()),
            Err(error) => error.to_string(),
        };
        let free = rooms - taken.len();
        let verdicts = [
            (flat, format!("memory is flat: {memory}")),
            (taken.is_empty(), format!("{free} of {rooms} rooms are free again; not: {taken:?}")),
            (
                files_after <= files_before,
                format!("open files: {files_before} before, {files_after} after"),
            ),
            (tally.strays.get() == 0, format!("{} messages in a wrong room", tally.strays.get())),
            (tally.errors.get() == 0, format!("{} errors without cause", tally.errors.get())),
            (tally.heard.get() > 0, format!("{} messages heard", tally.heard.get())),
            (stopped.is_ok(), stop),
        ];
        for (holds, what) in &verdicts {
            println!("{}: {what}", if *holds { "holds" } else { "FAILED" });
        }
        let all = verdicts.iter().all(|(holds, _)| *holds);
        if all { ExitCode::SUCCESS } else { ExitCode::FAILURE }
    }
}
