//! The program: arguments, configuration, edges, run until a signal, exit code.

mod cli;

use std::os::unix::process::CommandExt;
use std::process::{Command, ExitCode};
use std::time::Duration;

use clap::Parser;
use handout::environment::Environment;
use handout::telemetry;

/// How long threads that still work are waited for at the end.
const LAST_THREADS: Duration = Duration::from_secs(1);

/// Variables that libraries read from the process's environment by themselves, and of which they take an empty one for a path.
const READ_BY_LIBRARIES: [&str; 5] = [
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
    "AWS_CONFIG_FILE",
    "AWS_SHARED_CREDENTIALS_FILE",
    "AWS_PROFILE",
];

fn main() -> ExitCode {
    without_empty_variables();
    let arguments = match cli::Cli::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => return cli::exit::usage(&error),
    };
    let environment = Environment::of_process();
    #[cfg(debug_assertions)]
    if let Some(wanted) = environment.get(handout::failpoint::VARIABLE) {
        handout::failpoint::arm(wanted);
    }
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

/// Starts the program again without the empty ones among these variables: with `SSL_CERT_FILE=`, no certificate would be trusted.
/// An environment cannot be changed safely in place. Where the program cannot be started again, it goes on as it is.
fn without_empty_variables() {
    let is_empty = |name: &&str| std::env::var_os(name).is_some_and(|value| value.is_empty());
    let empty: Vec<&str> = READ_BY_LIBRARIES.into_iter().filter(is_empty).collect();
    if empty.is_empty() {
        return;
    }
    let Ok(program) = std::env::current_exe() else {
        return;
    };
    let mut arguments = std::env::args_os();
    let mut command = Command::new(program);
    if let Some(name) = arguments.next() {
        command.arg0(name);
    }
    command.args(arguments);
    for name in empty {
        command.env_remove(name);
    }
    // Comes back with an error only.
    drop(command.exec());
}
