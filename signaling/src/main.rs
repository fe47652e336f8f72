//! The headless server.

use std::{process::ExitCode, time::Duration};

use clap::Parser;
use visavis_signaling::{
    check::check,
    cli::{ServeArgs, ServeError, serve},
};

/// How long blocking work may still take when the server has ended.
const LAST_WORK: Duration = Duration::from_secs(1);

/// Rooms for two: the signaling server of Visavis, with the page for browsers.
#[derive(Debug, Parser)]
#[command(version)]
struct Arguments {
    #[command(flatten)]
    serve: ServeArgs,

    /// Do not serve, but ask a running server whether it is well, and succeed if it is; for
    /// instance http://127.0.0.1:8080/readyz
    #[arg(long, value_name = "URL")]
    check: Option<String>,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    if let Some(url) = &arguments.check {
        return match check(url) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                eprintln!("{error}");
                ExitCode::FAILURE
            }
        };
    }
    let runtime = match visavis_signaling::runtime::runtime() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("The system gives no threads: {error}.");
            return ExitCode::FAILURE;
        }
    };
    let served = runtime.block_on(serve(&arguments.serve));
    // A look-up of a name that never ends must not keep the program.
    runtime.shutdown_timeout(LAST_WORK);
    match served {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::from(if matches!(error, ServeError::Config(_)) { 2 } else { 1 })
        }
    }
}
