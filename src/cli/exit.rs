//! Maps errors to exit codes (sysexits.h), for systemd and scripts.

use std::process::ExitCode;

use handout::assemble::OpenError;
use handout::audit::RecordError;
use handout::config::ConfigError;
use handout::database::DatabaseError;
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
/// What a mail server takes for "try again later".
pub(super) const TRY_AGAIN: u8 = 75;
const CONFIG: u8 = 78;

/// What an exit code means.
pub(super) struct ExitMeaning {
    pub(super) code: u8,
    pub(super) meaning: &'static str,
    /// Whether systemd starts the daemon again; `None` for a code that the daemon does not end with.
    #[cfg_attr(
        not(test),
        expect(dead_code, reason = "a test holds a page and the unit to it")
    )]
    pub(super) is_restarted: Option<bool>,
}

/// All exit codes. The help of the program and the table in `docs/operating/systemd.md` are made from it.
pub(super) const TABLE: [ExitMeaning; 10] = [
    ExitMeaning {
        code: SUCCESS,
        meaning: "done",
        is_restarted: Some(false),
    },
    ExitMeaning {
        code: FOUND,
        meaning: "the check or the job found something, or what was named is not known",
        is_restarted: None,
    },
    ExitMeaning {
        code: USAGE,
        meaning: "usage",
        is_restarted: Some(false),
    },
    ExitMeaning {
        code: DATA,
        meaning: "damaged audit data, or a replaced database",
        is_restarted: Some(false),
    },
    ExitMeaning {
        code: UNAVAILABLE,
        meaning: "a service is down",
        is_restarted: Some(true),
    },
    ExitMeaning {
        code: SOFTWARE,
        meaning: "another error, which the message names",
        is_restarted: Some(true),
    },
    ExitMeaning {
        code: CANNOT_CREATE,
        meaning: "cannot create, or in use",
        is_restarted: Some(true),
    },
    ExitMeaning {
        code: DISK,
        meaning: "I/O error",
        is_restarted: Some(true),
    },
    ExitMeaning {
        code: TRY_AGAIN,
        meaning: "the mail on stdin was not taken in, and the mail server tries again",
        is_restarted: None,
    },
    ExitMeaning {
        code: CONFIG,
        meaning: "configuration",
        is_restarted: Some(false),
    },
];

/// The help below the list of all commands.
pub(super) fn root_help() -> String {
    let codes = TABLE.map(|row| format!("{} {}", row.code, row.meaning));
    format!(
        "\
Start here:
  handout demo                          everything on this machine, without an account
  handout check --config config.toml    finds problems before a job does
  handout run --config config.toml      the daemon

Exit codes: {}.",
        codes.join("; ")
    )
}

/// Why a command did not do what was asked, by the exit code that follows.
#[derive(Debug, thiserror::Error)]
pub(super) enum CommandError {
    /// An argument is wrong.
    #[error("{0}")]
    Usage(String),
    /// The configuration lacks what the command needs.
    #[error("{0}")]
    Config(String),
    /// What was named is not known, or cannot be changed.
    #[error("{0}")]
    Found(String),
}

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

/// The exit code of an error.
fn code(error: &anyhow::Error) -> u8 {
    if let Some(error) = error.downcast_ref::<CommandError>() {
        return match error {
            CommandError::Usage(_) => USAGE,
            CommandError::Config(_) => CONFIG,
            CommandError::Found(_) => FOUND,
        };
    }
    if error.is::<ConfigError>() || error.is::<handout::render::TemplateError>() {
        return CONFIG;
    }
    #[cfg(feature = "embedded")]
    if let Some(error) = error.downcast_ref::<DemoError>() {
        return match error {
            DemoError::PortTaken(_) => CANNOT_CREATE,
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
        // Another program has the port, or no interface has the address.
        Some(std::io::ErrorKind::AddrInUse | std::io::ErrorKind::AddrNotAvailable) => CANNOT_CREATE,
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

/// The exit code for a database that cannot be used: a start would go on with another file, or a disk error.
pub(super) fn database_code(error: &DatabaseError) -> u8 {
    match error {
        DatabaseError::Replaced { .. } => DATA,
        DatabaseError::Locked { .. } => CANNOT_CREATE,
        DatabaseError::Open { .. }
        | DatabaseError::File { .. }
        | DatabaseError::TooOld(_)
        | DatabaseError::Newer { .. }
        | DatabaseError::Statement(_)
        | DatabaseError::Closed => DISK,
    }
}

fn open_code(error: &OpenError) -> u8 {
    match error {
        OpenError::Config(_) | OpenError::Template(_) => CONFIG,
        OpenError::Audit(error) => audit_code(error),
        OpenError::Database(error) => database_code(error),
        OpenError::Keyring(_) => DISK,
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
        OpenError::Embedded(error) => match error {
            localstore::EndpointError::AddressInUse { .. }
            | localstore::EndpointError::Listen { .. } => CANNOT_CREATE,
            _ => UNAVAILABLE,
        },
    }
}

#[cfg(test)]
mod tests {
    use std::fmt::Write;
    use std::path::Path;
    use std::{env, io};

    use anyhow::Context;

    use super::*;

    #[test]
    fn the_kind_of_an_error_decides_the_code_also_below_a_context() {
        let of_io = |kind: io::ErrorKind| anyhow::Error::from(io::Error::from(kind));
        let text = String::new;
        let table = [
            (CommandError::Usage(text()).into(), USAGE),
            (CommandError::Config(text()).into(), CONFIG),
            (CommandError::Found(text()).into(), FOUND),
            (of_io(io::ErrorKind::AddrInUse), CANNOT_CREATE),
            (of_io(io::ErrorKind::AddrNotAvailable), CANNOT_CREATE),
            (of_io(io::ErrorKind::InvalidData), DATA),
            (of_io(io::ErrorKind::NotFound), DISK),
            (anyhow::anyhow!("another"), SOFTWARE),
        ];
        for (error, expected) in table {
            assert_eq!(code(&error), expected, "{error:?}");
            let wrapped = Err::<(), _>(error).context("a step failed");
            assert_eq!(wrapped.map_err(|error| code(&error)), Err(expected));
        }
    }

    #[test]
    fn each_code_stands_in_the_table_once_and_in_the_help() {
        let help = root_help();
        for pair in TABLE.windows(2) {
            assert!(pair[0].code < pair[1].code);
        }
        for row in &TABLE {
            let entry = format!("{} {}", row.code, row.meaning);
            assert!(help.contains(&entry), "{entry}");
        }
    }

    /// The table of exit codes, as `docs/operating/systemd.md` has it.
    fn exit_codes() -> String {
        let mut table = "| code | meaning | systemd restarts it |\n|---|---|---|\n".to_owned();
        for row in &TABLE {
            let restarts = match row.is_restarted {
                Some(true) => "yes",
                Some(false) => "no",
                None => "–",
            };
            let (code, meaning) = (row.code, row.meaning);
            writeln!(table, "| {code} | {meaning} | {restarts} |")
                .expect("writing to a string does not fail");
        }
        table
    }

    #[test]
    fn the_table_of_exit_codes_in_the_reference_is_the_programs() {
        const PAGE: &str = "docs/operating/systemd.md";
        let file = Path::new(env!("CARGO_MANIFEST_DIR")).join(PAGE);
        let text = std::fs::read_to_string(&file).unwrap();
        let (before, rest) = text.split_once("\n## Exit codes\n\n").unwrap();
        let after = rest.split_once("\n\n").map_or("", |(_, after)| after);
        let gap = if after.is_empty() { "" } else { "\n" };
        let wanted = format!("{before}\n## Exit codes\n\n{}{gap}{after}", exit_codes());
        if env::var_os("UPDATE").is_some() {
            std::fs::write(&file, &wanted).unwrap();
        }
        let committed = std::fs::read_to_string(&file).unwrap();
        assert!(
            committed == wanted,
            "the exit codes in {PAGE} differ from the program's: write them with `UPDATE=1 cargo test --locked reference`"
        );
    }

    #[test]
    fn the_unit_of_systemd_restarts_after_the_codes_of_the_table() {
        let unit = Path::new(env!("CARGO_MANIFEST_DIR")).join("systemd/handout.service");
        let unit = std::fs::read_to_string(unit).unwrap();
        let line = unit
            .lines()
            .find_map(|line| line.strip_prefix("RestartPreventExitStatus="));
        let of_unit: Vec<&str> = line.unwrap().split(' ').collect();
        let is_final = TABLE
            .iter()
            .filter(|row| row.is_restarted == Some(false) && row.code != SUCCESS);
        let of_table: Vec<String> = is_final.map(|row| row.code.to_string()).collect();
        assert_eq!(of_unit, of_table);
    }
}
