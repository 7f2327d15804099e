//! The program: arguments, configuration, edges, run until a signal, exit code.

mod cli;

use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use handout::config::Environment;
use handout::telemetry;

/// How long threads that still work are waited for at the end.
const LAST_THREADS: Duration = Duration::from_secs(1);

fn main() -> ExitCode {
    let arguments = match cli::Cli::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => return cli::exit::usage(&error),
    };
    let environment = Environment::of_process();
    #[cfg(debug_assertions)]
    handout::failpoint::arm(&environment);
    telemetry::start_logging(&environment, arguments.verbosity());
    let runtime = match tokio::runtime::Runtime::new() {
        Ok(runtime) => runtime,
        Err(error) => return cli::exit::failed(&anyhow::Error::new(error)),
    };
    let ended = runtime.block_on(cli::run(arguments, &environment));
    // A thread that still waits, say for the name of a host, has nothing to lose: what must be whole was waited for.
    runtime.shutdown_timeout(LAST_THREADS);
    match ended {
        Ok(code) => {
            telemetry::flush();
            code
        }
        Err(error) => cli::exit::failed(&error),
    }
}
