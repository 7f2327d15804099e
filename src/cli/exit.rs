//! Maps errors to exit codes (sysexits.h), for systemd and scripts.

use std::process::ExitCode;

use handout::assemble::OpenError;
use handout::audit::RecordError;
use handout::config::ConfigError;
use handout::edge::ErrorKind;
use handout::error::{FailureClass, JobError};
use handout::ledger::LedgerError;
use handout::text::chain;

#[cfg(feature = "embedded")]
use super::demo::DemoError;
use super::presign::PresignError;
use super::templates::ExportError;

/// Everything was done.
pub(super) const SUCCESS: u8 = 0;
/// The check or the job has findings.
pub(crate) const FOUND: u8 = 1;
const USAGE: u8 = 64;
const DATA: u8 = 65;
/// A service is down.
pub(crate) const UNAVAILABLE: u8 = 69;
const SOFTWARE: u8 = 70;
const CANNOT_CREATE: u8 = 73;
/// The disk failed.
pub(crate) const DISK: u8 = 74;
const CONFIG: u8 = 78;

/// A command was stopped by a signal.
#[derive(Debug, thiserror::Error)]
#[error("stopped by a signal: the same command goes on from there")]
pub(super) struct Interrupted;

/// Prints clap's message; help and version are not errors.
pub(crate) fn usage(error: &clap::Error) -> ExitCode {
    // An error of the terminal cannot be reported.
    drop(error.print());
    if error.use_stderr() {
        USAGE.into()
    } else {
        ExitCode::SUCCESS
    }
}

/// Prints an error with its causes, in one sentence, and returns its exit code.
pub(crate) fn failed(error: &anyhow::Error) -> ExitCode {
    if is_closed_pipe(error) {
        return ExitCode::SUCCESS;
    }
    if let Some(error) = error.downcast_ref::<clap::Error>() {
        return usage(error);
    }
    let sentence = chain(&**error);
    super::terminal::complain(&sentence);
    if let Some(JobError::Parse(error)) = error.downcast_ref()
        && let Some(said) = error.said().filter(|said| !sentence.contains(said))
    {
        super::terminal::complain(format_args!("the job says: {said}"));
    }
    code(error).into()
}

fn is_closed_pipe(error: &anyhow::Error) -> bool {
    error
        .downcast_ref::<std::io::Error>()
        .is_some_and(|error| error.kind() == std::io::ErrorKind::BrokenPipe)
}

fn code(error: &anyhow::Error) -> u8 {
    if error.is::<ConfigError>() || error.is::<handout::render::TemplateError>() {
        return CONFIG;
    }
    #[cfg(feature = "embedded")]
    if let Some(error) = error.downcast_ref::<DemoError>() {
        return match error {
            DemoError::PortTaken(_) => UNAVAILABLE,
            DemoError::Unsettled => FOUND,
        };
    }
    if let Some(error) = error.downcast_ref::<ExportError>() {
        return match error {
            ExportError::Exists { .. } => CANNOT_CREATE,
            ExportError::Unknown { .. } => USAGE,
        };
    }
    if let Some(error) = error.downcast_ref::<OpenError>() {
        return open_code(error);
    }
    if let Some(error) = error.downcast_ref::<PresignError>() {
        return match error {
            PresignError::NoPlace { .. } => CANNOT_CREATE,
            PresignError::NoRegion
            | PresignError::NoCredentials(_)
            | PresignError::NoState
            | PresignError::NoCloudFront { .. } => CONFIG,
            PresignError::Filename(_) => USAGE,
            PresignError::TooShort { .. } | PresignError::CloudFront(_) => FOUND,
            PresignError::NoRegionFound(_) => UNAVAILABLE,
        };
    }
    if let Some(error) = error.downcast_ref::<RecordError>() {
        return audit_code(error);
    }
    if let Some(JobError::Record(error)) = error.downcast_ref::<JobError>() {
        return audit_code(error);
    }
    if let Some(error) = error.downcast_ref::<JobError>() {
        return match error.class() {
            _ if error.is_of_configuration() => CONFIG,
            FailureClass::Permanent | FailureClass::Policy => FOUND,
            FailureClass::Transient
            | FailureClass::Deferred
            | FailureClass::Edge
            | FailureClass::Busy => UNAVAILABLE,
            FailureClass::Disk => DISK,
        };
    }
    if error.is::<handout::queue::QueueError>() || error.is::<Interrupted>() {
        return UNAVAILABLE;
    }
    // A file error decides, whatever errors wrap it, such as one about the secret.
    let of_system = |cause: &(dyn std::error::Error + 'static)| {
        let error = cause.downcast_ref::<std::io::Error>();
        error.map(std::io::Error::kind)
    };
    match error.chain().find_map(of_system) {
        Some(std::io::ErrorKind::InvalidData) => DATA,
        Some(_) => DISK,
        None => SOFTWARE,
    }
}

/// The exit code for a broken audit log: damaged data, or a disk error.
pub(super) fn audit_code(error: &RecordError) -> u8 {
    match error.is_damage() {
        true => DATA,
        false => DISK,
    }
}

fn open_code(error: &OpenError) -> u8 {
    match error {
        OpenError::Config(_) | OpenError::Template(_) => CONFIG,
        OpenError::Audit(error) => audit_code(error),
        OpenError::Keyring(_) | OpenError::Database(_) => DISK,
        OpenError::Ledger(
            LedgerError::ConditionalWritesUnsupported { .. }
            | LedgerError::OtherSecret { .. }
            | LedgerError::Newer { .. },
        ) => CONFIG,
        OpenError::Ledger(LedgerError::Database { .. }) => DISK,
        OpenError::Ledger(LedgerError::Damaged { .. } | LedgerError::Unreadable { .. }) => DATA,
        OpenError::Ledger(LedgerError::Store(error)) if error.fact == ErrorKind::Elsewhere => {
            CONFIG
        }
        OpenError::Ledger(LedgerError::Store(_)) => UNAVAILABLE,
        OpenError::NoLedger { .. } => FOUND,
        OpenError::Directory { .. } | OpenError::StateDir { .. } | OpenError::Locked { .. } => {
            CANNOT_CREATE
        }
        #[cfg(feature = "embedded")]
        OpenError::Embedded(_) => UNAVAILABLE,
    }
}
