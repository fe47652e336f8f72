//! `visavis`: the window, a call from the command line, the signaling server, the device list.

use std::io::Write;
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use tracing_subscriber::EnvFilter;
use visavis::cli::{Cli, CliCommand, exit};
use visavis::{headless, window};
use visavis_signaling::cli::{ServeArgs, ServeError};

fn main() -> ExitCode {
    let cli = Cli::parse();
    // The server logs as its own settings say.
    if !matches!(cli.command, Some(CliCommand::Serve(_))) {
        // The stack's own chatter only on request: `RUST_LOG=debug`.
        let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| {
            EnvFilter::new("error,visavis=warn,visavis_media=warn,visavis_signaling=warn")
        });
        tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).init();
    }
    match run(cli) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("{error:#}");
            ExitCode::from(if error.is::<headless::Unwritable>() {
                exit::DEVICE
            } else {
                exit::FAILED
            })
        }
    }
}

/// A name look-up without an answer must not keep the process.
const LAST_WORK: Duration = Duration::from_secs(1);

fn run(cli: Cli) -> anyhow::Result<ExitCode> {
    if let Some(CliCommand::Devices { json }) = cli.command {
        return devices(json);
    }
    if let Some(CliCommand::Serve(args)) = &cli.command {
        let runtime = visavis_signaling::runtime::runtime()?;
        let code = runtime.block_on(serve(args));
        runtime.shutdown_timeout(LAST_WORK);
        return Ok(code);
    }
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .thread_name("runtime")
        .enable_all()
        .build()?;
    let code = match cli.command {
        None => window::run(&runtime, None),
        Some(CliCommand::Call(args)) if args.headless => runtime.block_on(headless::run(*args)),
        Some(CliCommand::Call(args)) => window::run(&runtime, Some(&args)),
        Some(CliCommand::Serve(_) | CliCommand::Devices { .. }) => unreachable!("done above"),
    };
    runtime.shutdown_timeout(LAST_WORK);
    code
}

async fn serve(args: &ServeArgs) -> ExitCode {
    match visavis_signaling::cli::serve(args).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::from(match error {
                ServeError::Config(_) => exit::USAGE,
                ServeError::Bind(_) | ServeError::Cluster(_) => exit::LISTEN,
                ServeError::Signal(_) => exit::FAILED,
            })
        }
    }
}

/// Prints nothing but what there is.
fn devices(json: bool) -> anyhow::Result<ExitCode> {
    let list = visavis_media::devices::list();
    let mut out = std::io::stdout().lock();
    if json {
        serde_json::to_writer_pretty(&mut out, &list)?;
        writeln!(out)?;
        return Ok(ExitCode::SUCCESS);
    }
    let kinds =
        [("camera", &list.cameras), ("microphone", &list.microphones), ("speaker", &list.speakers)];
    for (kind, devices) in kinds {
        for device in devices {
            let default = if device.default { " (default)" } else { "" };
            writeln!(out, "{kind}\t{}\t{}{default}", device.id, device.name)?;
        }
    }
    Ok(ExitCode::SUCCESS)
}
