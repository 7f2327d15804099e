//! Where the audit lines of reports go: the daemon's log, or a stream of a command's own.

use tokio::sync::Mutex;

use crate::assemble::PROGRAM;
use crate::audit::log::Writer;
use crate::audit::{AuditLog, AuditRecord, AuditSettings, RecordError};
use crate::clock::Clock;

/// Where the audit lines of reports go.
#[derive(Debug)]
pub(super) enum FeedbackLines {
    /// The daemon's log.
    Daemon(AuditLog),
    /// A stream of a command's own.
    Command(CommandLines),
}

/// A stream that begins with its first line: most mails that a mail server pipes are no reports, and make none.
#[derive(Debug)]
pub(super) struct CommandLines {
    settings: AuditSettings,
    clock: Clock,
    opened: Mutex<Option<(AuditLog, Writer)>>,
}

impl FeedbackLines {
    /// The log of a daemon.
    pub(super) const fn daemon(log: AuditLog) -> Self {
        Self::Daemon(log)
    }

    /// A stream of a command's own in the log with these settings.
    pub(super) fn of_command(settings: AuditSettings, clock: Clock) -> Self {
        Self::Command(CommandLines {
            settings,
            clock,
            opened: Mutex::default(),
        })
    }

    /// Writes a line. Durable when it returns.
    pub(super) async fn append(&self, line: AuditRecord) -> Result<(), RecordError> {
        match self {
            Self::Daemon(log) => log.append(vec![line]).await,
            Self::Command(lines) => lines.log().await?.append(vec![line]).await,
        }
    }

    /// Ends the stream of a command; the daemon ends its own.
    pub(super) async fn close(self) {
        let Self::Command(lines) = self else {
            return;
        };
        if let Some((log, writer)) = lines.opened.into_inner() {
            drop(log);
            // The writer's thread ends when its last handle is dropped; joining it would block the runtime.
            drop(tokio::task::spawn_blocking(move || writer.close()).await);
        }
    }
}

impl CommandLines {
    async fn log(&self) -> Result<AuditLog, RecordError> {
        let mut opened = self.opened.lock().await;
        if let Some((log, _)) = &*opened {
            return Ok(log.clone());
        }
        let (log, writer) = AuditLog::open(&self.settings, PROGRAM, self.clock)?;
        *opened = Some((log.clone(), writer));
        Ok(log)
    }
}
