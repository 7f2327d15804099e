//! The program: arguments, configuration, services, run until a signal, exit code.

mod cli;

use std::os::unix::process::CommandExt;
use std::process::{Command, ExitCode};
use std::time::Duration;

use clap::Parser;
use handout::environment::Environment;
use handout::telemetry;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::signal::unix::{SignalKind, signal};

/// A fifth of the CPU of a small job is allocations, and this allocator takes a seventh less of the whole than that of glibc: see ADR 92.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// How long a shutdown waits for threads.
const LAST_THREADS: Duration = Duration::from_secs(1);

/// The stack of the thread that works: that of the first thread, as Linux has it.
const STACK_BYTES: usize = 8 << 20;

/// Variables that libraries read from the process's environment themselves, treating an empty value as a path.
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
    // The kernel gives a signal to the first thread of a process, and one that waits for a disk that hangs does not take it: that
    // thread does nothing but wait.
    let worker = std::thread::Builder::new().name("work".to_owned());
    let worker = worker.stack_size(STACK_BYTES);
    let working = move || work(arguments, &environment);
    match worker.spawn(working).map(std::thread::JoinHandle::join) {
        Ok(Ok(code)) => code,
        Ok(Err(panic)) => std::panic::resume_unwind(panic),
        Err(error) => cli::exit::failed(&anyhow::Error::new(error)),
    }
}

/// How many files may be open at the most: twice as many as the portal and the intake have connections. Programs that Handout starts
/// inherit the limit, and some close each number below it.
const MAX_OPEN_FILES: u64 = 65_536;

/// Raises the limit of open files. The usual limit of 1,024 is for programs that use `select`; each connection of the portal is a
/// descriptor. <https://0pointer.net/blog/file-descriptor-limits.html>
fn more_descriptors() {
    let limits = getrlimit(Resource::Nofile);
    let allowed = limits
        .maximum
        .map_or(MAX_OPEN_FILES, |most| most.min(MAX_OPEN_FILES));
    let raised = Rlimit {
        // `None` is without a limit.
        current: limits.current.map(|current| current.max(allowed)),
        maximum: limits.maximum,
    };
    if let Err(error) = setrlimit(Resource::Nofile, raised) {
        tracing::debug!(%error, "the limit of open files stays as it is");
    }
}

/// Runs the command to its end.
fn work(arguments: cli::Cli, environment: &Environment) -> ExitCode {
    let runtime = match tokio::runtime::Runtime::new() {
        Ok(runtime) => runtime,
        Err(error) => return cli::exit::failed(&anyhow::Error::new(error)),
    };
    more_descriptors();
    // A write beyond the limit of a file's size (`LimitFSIZE=`, `ulimit -f`) kills the process, unless the signal has a handler: then it
    // fails with `EFBIG`, as on a full disk (setrlimit(2)).
    let beyond_the_limit = {
        let _entered = runtime.enter();
        let of_file_size = rustix::process::Signal::XFSZ.as_raw();
        signal(SignalKind::from_raw(of_file_size))
    };
    if let Err(error) = beyond_the_limit {
        return cli::exit::failed(&anyhow::Error::new(error));
    }
    let ended = runtime.block_on(cli::run(arguments, environment));
    // A thread that still waits, such as for a DNS answer, holds no state: everything that must be complete was awaited.
    runtime.shutdown_timeout(LAST_THREADS);
    match ended {
        Ok(code) => {
            telemetry::flush();
            code
        }
        Err(error) => cli::exit::failed(&error),
    }
}

/// Restarts the program without those of these variables that are empty: with `SSL_CERT_FILE=`, no certificate would be trusted.
/// An environment cannot be changed safely in place. If the restart fails, the program continues unchanged.
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
    // Returns only with an error.
    drop(command.exec());
}
