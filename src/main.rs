//! The program: arguments, configuration, edges, run until a signal, exit code.

mod cli;

use std::process::ExitCode;

use clap::Parser;
use handout::config::Environment;
use handout::telemetry;

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
    match runtime.block_on(cli::run(arguments, &environment)) {
        Ok(code) => code,
        Err(error) => cli::exit::failed(&error),
    }
}
