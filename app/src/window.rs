//! Starts the window and the engine behind it.

use std::process::ExitCode;
use std::sync::Arc;

use anyhow::Context;
use tokio::runtime::Runtime;
use tokio::sync::mpsc;

use crate::cli::{CallArgs, IcePolicy, exit};
use crate::engine::{Engine, EngineOptions, Report, Shown, Sources};
use crate::headless::{first_command, frame_log, invite_picture, phase_line, stats_sink};
use crate::settings::SettingsFile;
use crate::snapshot::{Command, Pictures, Shared};
use crate::text::Language;
use crate::ui::{self, WindowError, WindowInit, WindowOptions};

/// Opens the window, in the lobby or straight into a call, until it is closed.
///
/// # Errors
/// Where a file for logs or statistics cannot be written.
pub fn run(runtime: &Runtime, call: Option<&CallArgs>) -> anyhow::Result<ExitCode> {
    if !ui::display_is_there() {
        eprintln!("{}", WindowError::NoDisplay);
        return Ok(ExitCode::from(exit::NO_DISPLAY));
    }
    let file = SettingsFile::of_this_user();
    let loaded = file.as_ref().map(SettingsFile::load);
    let (remembered, warning) = match loaded {
        Some(loaded) => {
            let language = Language::chosen(loaded.settings.language);
            let warning = loaded.warning.map(|warning| language.words().settings_warning(&warning));
            (loaded.settings, warning)
        }
        None => Default::default(),
    };
    let log = Arc::new(frame_log(call.and_then(|call| call.frame_log.as_deref()))?);
    let stats = call.and_then(|call| call.stats.as_deref()).map(stats_sink).transpose()?;
    let shown = Arc::new(Shown::new(Arc::clone(&log)));
    let shared = Shared::default();
    let pictures = Pictures::default();
    let (reports, told) = mpsc::unbounded_channel();
    let (commands, receiver) = mpsc::unbounded_channel();
    let engine = Engine::new(
        EngineOptions {
            sources: Sources {
                video: call.and_then(|call| call.video_source.clone()),
                audio: call.and_then(|call| call.audio_source.clone()),
                sink: call.and_then(|call| call.audio_sink.clone()),
                sound_clock: call.map_or(0, |call| call.sound_clock),
            },
            settings: file,
            processing: call.map(|call| call.processing(remembered.processing)),
            remembered,
            warning,
            pictures: Some(pictures.clone()),
            shown: Arc::clone(&shown),
            shared: shared.clone(),
            log,
            stats,
            name: call.and_then(|call| call.name.clone()),
            // From the command line as without a window; from the window a call of one's own.
            join_running_server: call.is_some(),
            give_up_after: None,
            trusted: call.and_then(|call| call.trust_fingerprint),
            public_address: call.and_then(|call| call.public_address.clone()),
            preview: true,
            relay_only: call.is_some_and(|call| call.ice == IcePolicy::Relay),
        },
        reports,
    );
    if let Some(call) = call {
        let _ = commands.send(first_command(&call.target, call.server.as_deref()));
        runtime.spawn(say_phases(told, call.qr));
    }
    let running = runtime.spawn(engine.run(receiver));
    let closing = commands.clone();
    let limit = call.and_then(|call| call.duration);
    close_at_the_end(runtime, shared.clone(), limit);
    let opened = ui::run(
        WindowInit {
            snapshot: shared,
            commands: Box::new(move |command| {
                let _ = commands.send(command);
            }),
            pictures,
            on_shown: Some(Arc::new(move |frame| shown.note(frame))),
        },
        &WindowOptions::default(),
    );
    let _ = closing.send(Command::Quit);
    runtime
        .block_on(async { tokio::time::timeout(std::time::Duration::from_secs(10), running).await })
        .context("the call did not end in time")?
        .context("the call ended by a fault of the program")?;
    match opened {
        Ok(()) => Ok(ExitCode::SUCCESS),
        Err(error) => {
            eprintln!("{error}");
            Ok(ExitCode::from(exit::NO_DISPLAY))
        }
    }
}

/// A call from the command line says there how it goes, the invite link above all.
async fn say_phases(mut told: mpsc::UnboundedReceiver<Report>, qr: bool) {
    while let Some(report) = told.recv().await {
        if let Report::Phase(phase) = report
            && let Some(line) = phase_line(&phase)
        {
            eprintln!("{line}");
            if let Some(picture) = invite_picture(&phase, qr) {
                eprint!("{picture}");
            }
        }
    }
}

/// Closes the window at the end of `--duration`, at Ctrl-C or SIGTERM, as its own button would.
fn close_at_the_end(runtime: &Runtime, shared: Shared, duration: Option<f64>) {
    runtime.spawn(async move {
        if let Ok(stop) = crate::headless::stop(duration) {
            stop.await;
            shared.close();
        }
    });
}
