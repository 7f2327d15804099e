//! A program of the operator that resolves doubts: it searches the relay's log, or asks the provider.
//!
//! The program gets the mail's Message-ID, which every relay logs, and never an address. It exits with 0 and prints one
//! word: `sent`, `resend` or `hold`. Anything else is no answer, and then `on_doubt` applies.

use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use tokio::io::AsyncReadExt;
use tokio::process::Command;

use crate::job::JobId;

/// How long the program may run.
const PATIENCE: Duration = Duration::from_secs(30);

/// How much of its output is read, in bytes.
const MAX_ANSWER: u64 = 64;

/// The program.
#[derive(Debug, Clone)]
pub struct Resolver {
    program: PathBuf,
}

/// The mail in question.
#[derive(Debug, Clone, Copy)]
pub struct DoubtQuestion<'a> {
    /// The job.
    pub job: &'a JobId,
    /// The recipient's id.
    pub rid: &'a str,
    /// The mail's `Message-ID`, with its brackets.
    pub message_id: &'a str,
    /// When the mail was about to be sent (RFC 3339); empty if unknown.
    pub intended_at: &'a str,
}

/// The program's answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ResolverReply {
    /// The mail left.
    Sent,
    /// The mail did not leave: send it.
    Resend,
    /// The program does not know, and an operator must decide.
    Hold,
}

impl Resolver {
    /// A resolver that runs `program`.
    pub const fn new(program: PathBuf) -> Self {
        Self { program }
    }

    /// Runs the program; `None` if there is no answer, which is logged.
    pub async fn ask(&self, question: &DoubtQuestion<'_>) -> Option<ResolverReply> {
        let (job, rid) = (question.job, question.rid);
        let no_answer = |reason: &str| {
            tracing::warn!(job.id = %job, rid, reason, "ledger.resolve_cmd failed; on_doubt decides");
        };
        match tokio::time::timeout(PATIENCE, self.run(question)).await {
            Err(_) => no_answer("it took too long"),
            Ok(Err(error)) => no_answer(&error.to_string()),
            Ok(Ok(words)) => match words.trim() {
                "sent" => return Some(ResolverReply::Sent),
                "resend" => return Some(ResolverReply::Resend),
                "hold" => return Some(ResolverReply::Hold),
                _ => no_answer("it printed none of sent, resend and hold"),
            },
        }
        None
    }

    async fn run(&self, question: &DoubtQuestion<'_>) -> std::io::Result<String> {
        let mut child = Command::new(&self.program)
            .args([question.job.as_str(), question.rid, question.message_id])
            .env("HANDOUT_JOB", question.job.as_str())
            .env("HANDOUT_RID", question.rid)
            .env("HANDOUT_MESSAGE_ID", question.message_id)
            .env("HANDOUT_INTENDED_AT", question.intended_at)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()?;
        let stdout = child.stdout.take().expect("it is piped");
        let mut words = Vec::new();
        stdout.take(MAX_ANSWER).read_to_end(&mut words).await?;
        let status = child.wait().await?;
        if !status.success() {
            return Err(std::io::Error::other(format!("it ended with {status}")));
        }
        Ok(String::from_utf8_lossy(&words).into_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    async fn says(script: &str) -> Option<ResolverReply> {
        let dir = tempfile::tempdir().unwrap();
        let program = dir.path().join("resolve");
        std::fs::write(&program, format!("#!/bin/sh\n{script}\n")).unwrap();
        std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
        let job = "daily".parse().unwrap();
        let question = DoubtQuestion {
            job: &job,
            rid: "k3v",
            message_id: "<m@sender.example>",
            intended_at: "",
        };
        Resolver::new(program).ask(&question).await
    }

    #[tokio::test]
    async fn one_word_is_an_answer_and_a_failure_is_none() {
        assert_eq!(says("echo sent").await, Some(ResolverReply::Sent));
        assert_eq!(says("echo resend").await, Some(ResolverReply::Resend));
        assert_eq!(says("printf hold").await, Some(ResolverReply::Hold));
        assert_eq!(says("echo perhaps").await, None);
        assert_eq!(says("echo resend; exit 1").await, None);
        assert_eq!(says("yes | head -c 100000").await, None);
        let missing = Resolver::new("/nonexistent/resolve".into());
        let job = "daily".parse().unwrap();
        let question = DoubtQuestion {
            job: &job,
            rid: "",
            message_id: "",
            intended_at: "",
        };
        assert_eq!(missing.ask(&question).await, None);
    }

    #[tokio::test]
    async fn it_is_told_which_mail_twice_over() {
        let same = "[ \"$1 $2 $3\" = \"$HANDOUT_JOB $HANDOUT_RID $HANDOUT_MESSAGE_ID\" ] && \
                    [ \"$3\" = '<m@sender.example>' ] && echo sent";
        assert_eq!(says(same).await, Some(ResolverReply::Sent));
    }
}
