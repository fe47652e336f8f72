//! A call without a window: sources, sinks, statistics, a duration. People read standard error,
//! programs standard output.

use std::io::{IsTerminal, Write};
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use tokio::sync::mpsc;
use visavis_media::frame_log::FrameLog;
use visavis_media::sound::AudioSinkSpec;
use visavis_signaling::{LinkError, ServerUrl, Target};

use crate::call::End;
use crate::cli::{CallArgs, IcePolicy, VideoSinkSpec, exit};
use crate::engine::{Engine, EngineOptions, Report, Shown, Sources, StatsSink};
use crate::samples::Samples;
use crate::settings::Settings;
use crate::snapshot::{Command, Phase, Shared};
use crate::text::Language;

/// A server that does not answer after so many attempts is given up: nobody watches.
const ATTEMPTS: u32 = 4;

/// Runs the call to its end.
///
/// # Errors
/// Where a file for logs or statistics cannot be written, or the system refuses the basics.
pub async fn run(args: CallArgs) -> anyhow::Result<ExitCode> {
    if let Err(error) = check(&args.target, args.server.as_deref()) {
        eprintln!("{error}");
        return Ok(ExitCode::from(exit::USAGE));
    }
    let log = Arc::new(frame_log(args.frame_log.as_deref())?);
    let stats = args.stats.as_deref().map(stats_sink).transpose()?;
    let samples = match &args.video_sink {
        Some(VideoSinkSpec::Samples(spec)) => {
            Some(Samples::create(spec).map_err(Unwritable::from)?)
        }
        Some(VideoSinkSpec::None) | None => None,
    };
    let (reports, mut incoming) = mpsc::unbounded_channel();
    let (commands, receiver) = mpsc::unbounded_channel();
    let processing = Some(args.processing(Settings::default().processing));
    let engine = Engine::new(
        EngineOptions {
            sources: Sources {
                video: args.video_source,
                audio: args.audio_source,
                // Nobody listens to a headless run unless asked.
                sink: Some(args.audio_sink.unwrap_or(AudioSinkSpec::None)),
                sound_clock: args.sound_clock,
            },
            settings: None,
            remembered: Settings::default(),
            processing,
            warning: None,
            pictures: None,
            shown: Arc::new(Shown::new(Arc::clone(&log)).with_samples(samples)),
            shared: Shared::default(),
            log,
            stats,
            name: Some(args.name.unwrap_or_default()),
            join_running_server: true,
            give_up_after: Some(ATTEMPTS),
            trusted: args.trust_fingerprint,
            public_address: args.public_address.clone(),
            preview: false,
            relay_only: args.ice == IcePolicy::Relay,
        },
        reports,
    );
    let _ = commands.send(first_command(&args.target, args.server.as_deref()));
    let running = tokio::spawn(engine.run(receiver));
    let mut stop = std::pin::pin!(stop(args.duration)?);
    let code = loop {
        tokio::select! {
            () = &mut stop => break ExitCode::SUCCESS,
            report = incoming.recv() => match report {
                Some(Report::Ended(end)) => break end_code(end),
                Some(report) => {
                    if let Some(code) = say(&report, args.qr) {
                        break code;
                    }
                }
                None => break ExitCode::from(exit::FAILED),
            },
        }
    };
    let _ = commands.send(Command::Quit);
    tokio::time::timeout(Duration::from_secs(10), running)
        .await
        .context("the call did not end in time")?
        .context("the call ended by a fault of the program")?;
    while let Ok(report) = incoming.try_recv() {
        let _ = say(&report, args.qr);
    }
    Ok(code)
}

/// A file that was to be written cannot be.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct Unwritable(String);

impl From<std::io::Error> for Unwritable {
    /// The error names the file.
    fn from(error: std::io::Error) -> Self {
        Self(error.to_string())
    }
}

/// Opens the frame log, if one is wanted.
///
/// # Errors
/// Where it cannot be written.
pub fn frame_log(path: Option<&Path>) -> Result<FrameLog, Unwritable> {
    let log = path.map(FrameLog::create).transpose();
    Ok(log?.unwrap_or_default())
}

/// Opens where statistics go.
///
/// # Errors
/// Where it cannot be written.
pub fn stats_sink(path: &Path) -> Result<StatsSink, Unwritable> {
    let out: Box<dyn Write + Send> = if path.as_os_str() == "-" {
        Box::new(std::io::stdout())
    } else {
        let file = std::fs::File::create(path).map_err(|error| {
            let path = path.display();
            Unwritable(format!("cannot write the statistics {path}: {error}"))
        })?;
        Box::new(file)
    };
    Ok(StatsSink::new(out))
}

/// Whether these name a room, and the server an address.
fn check(target: &str, server: Option<&str>) -> Result<(), LinkError> {
    if let Target::Room(_) = target.parse()?
        && let Some(server) = server
    {
        server.parse::<ServerUrl>()?;
    }
    Ok(())
}

/// A link is joined, a name with a server too; a bare name is hosted.
pub fn first_command(target: &str, server: Option<&str>) -> Command {
    if server.is_some() || target.contains('/') {
        Command::Join { target: target.to_owned(), server: server.map(str::to_owned) }
    } else {
        Command::Host { room: target.to_owned() }
    }
}

/// Resolves at the end of the duration, at Ctrl-C, or at SIGTERM.
pub(crate) fn stop(duration: Option<f64>) -> anyhow::Result<impl Future<Output = ()>> {
    let limit = async move {
        match duration {
            Some(seconds) => tokio::time::sleep(Duration::from_secs_f64(seconds)).await,
            None => std::future::pending().await,
        }
    };
    #[cfg(unix)]
    let terminated = {
        use tokio::signal::unix::{SignalKind, signal};
        let mut terminate = signal(SignalKind::terminate()).context("cannot wait for SIGTERM")?;
        let mut interrupt = signal(SignalKind::interrupt()).context("cannot wait for Ctrl-C")?;
        async move {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
        }
    };
    #[cfg(not(unix))]
    let terminated = async {
        let _ = tokio::signal::ctrl_c().await;
    };
    Ok(async move {
        tokio::select! {
            () = limit => {}
            () = terminated => {}
        }
    })
}

/// Says a report to people; an exit code where it ends the run.
fn say(report: &Report, qr: bool) -> Option<ExitCode> {
    let mut err = std::io::stderr();
    let line = match report {
        Report::Told(news) => news.sentence(Language::English),
        Report::Device { sentence, .. } | Report::Said(sentence) => sentence.clone(),
        Report::Phase(phase) => phase_line(phase)?,
        Report::Ended(_) => return None,
    };
    let _ = writeln!(err, "{line}");
    if let Report::Phase(phase) = report
        && let Some(picture) = invite_picture(phase, qr)
    {
        let _ = write!(err, "{picture}");
    }
    // What a command line asks for must be there; what fails later does not end the call.
    matches!(report, Report::Device { asked: true, .. }).then(|| ExitCode::from(exit::DEVICE))
}

/// What a phase is called on standard error.
pub(crate) fn phase_line(phase: &Phase) -> Option<String> {
    Some(match phase {
        Phase::Lobby => return None,
        Phase::Joining { room, held: false } => format!("Joining {room}"),
        Phase::Joining { held: true, .. } => "Waiting for the seat".to_owned(),
        Phase::Waiting { invite: Some(invite), .. } => {
            format!("Waiting for the other person. Invite: {invite}")
        }
        Phase::Waiting { room, .. } => format!("Waiting for the other person in {room}"),
        Phase::Connecting { .. } => "Connecting".to_owned(),
        Phase::InCall { server_lost: false, .. } => "In call".to_owned(),
        Phase::InCall { server_lost: true, .. } => "In call; reconnecting to the server".to_owned(),
        Phase::Reconnecting { .. } => "Reconnecting".to_owned(),
    })
}

/// The invite link for a telephone's camera: on a terminal, or where asked for.
pub(crate) fn invite_picture(phase: &Phase, asked: bool) -> Option<String> {
    match phase {
        Phase::Waiting { invite: Some(invite), .. } if asked || std::io::stderr().is_terminal() => {
            visavis_signaling::qr::half_blocks(invite)
        }
        _ => None,
    }
}

fn end_code(end: End) -> ExitCode {
    match end {
        End::HungUp => ExitCode::SUCCESS,
        End::RoomFull => ExitCode::from(exit::ROOM_FULL),
        End::ServerRefused => ExitCode::from(exit::SERVER),
        End::HostFailed => ExitCode::from(exit::LISTEN),
    }
}
