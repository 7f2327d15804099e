//! Measures small jobs: ten links and one mail each, with both ledgers, beside a Python script that does the same work.
//!
//! `cargo bench --bench jobs`. Real processes do the work: this build of `handout`, versitygw, `ElasticMQ` and an SMTP sink. The harness
//! is `benches/peers/jobs.py`, since it shares its servers with `tests/peers`; `TEST_VENV` names its environment, and `make bench` sets it.

#![expect(
    clippy::disallowed_methods,
    clippy::print_stderr,
    reason = "a bench is told by the environment where its parts are"
)]

use std::process::{Command, ExitCode};

fn main() -> ExitCode {
    let Ok(environment) = std::env::var("TEST_VENV") else {
        eprintln!("jobs: skipped, TEST_VENV is not set: run make bench ARGS=\"--bench jobs\"");
        return ExitCode::SUCCESS;
    };
    let harness = concat!(env!("CARGO_MANIFEST_DIR"), "/benches/peers/jobs.py");
    let ended = Command::new(format!("{environment}/bin/python"))
        .args([harness, "--program", env!("CARGO_BIN_EXE_handout")])
        .status();
    match ended {
        Ok(status) if status.success() => ExitCode::SUCCESS,
        Ok(_) | Err(_) => ExitCode::FAILURE,
    }
}
