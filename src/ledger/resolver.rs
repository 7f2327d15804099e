//! A program of the operator that resolves doubts: it searches the relay's log, or asks the provider.
//!
//! The program gets the mail's Message-ID, which every relay logs, and never an address. An id of a job that begins with `-` is in
//! `HANDOUT_JOB` alone. It exits with 0 and prints one
//! word: `sent`, `resend` or `hold`. Anything else is no answer, and then `on_doubt` applies.

use std::path::PathBuf;
use std::time::Duration;

use crate::edge::program;
use crate::job::JobId;

/// How long the program may run.
const PATIENCE: Duration = Duration::from_secs(30);

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
            Ok(Err(words)) => no_answer(&format!("it {words}")),
            Ok(Ok(words)) => match words.trim() {
                "sent" => return Some(ResolverReply::Sent),
                "resend" => return Some(ResolverReply::Resend),
                "hold" => return Some(ResolverReply::Hold),
                _ => no_answer("it printed none of sent, resend and hold"),
            },
        }
        None
    }

    /// What the program printed. It is killed with all that it started when this is dropped.
    async fn run(&self, question: &DoubtQuestion<'_>) -> Result<String, String> {
        let job = question.job.as_str();
        // The job's sender chose its id, which the program must not take for an option.
        let shown = if job.starts_with('-') { "" } else { job };
        let arguments = [shown, question.rid, question.message_id];
        let variables = [
            ("HANDOUT_JOB", job),
            ("HANDOUT_RID", question.rid),
            ("HANDOUT_MESSAGE_ID", question.message_id),
            ("HANDOUT_INTENDED_AT", question.intended_at),
        ];
        let printed = program::output(&self.program, &arguments, &variables).await?;
        Ok(String::from_utf8_lossy(&printed).into_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;
    use std::path::Path;

    async fn says(script: &str) -> Option<ResolverReply> {
        says_of("daily", script).await
    }

    async fn says_of(job: &str, script: &str) -> Option<ResolverReply> {
        let dir = tempfile::tempdir().unwrap();
        let resolver = resolver(dir.path(), script);
        let job = job.parse().unwrap();
        let question = DoubtQuestion {
            job: &job,
            rid: "k3v",
            message_id: "<m@sender.example>",
            intended_at: "",
        };
        resolver.ask(&question).await
    }

    fn resolver(dir: &Path, script: &str) -> Resolver {
        let program = dir.join("resolve");
        std::fs::write(&program, format!("#!/bin/sh\n{script}\n")).unwrap();
        std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
        Resolver::new(program)
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

    #[tokio::test]
    async fn an_id_that_looks_like_an_option_is_no_argument() {
        let only_in_variable =
            "[ \"$#:$1:$2\" = '3::k3v' ] && [ \"$HANDOUT_JOB\" = '--config=/tmp/x' ] && echo sent";
        let reply = says_of("--config=/tmp/x", only_in_variable).await;
        assert_eq!(reply, Some(ResolverReply::Sent));
    }

    #[tokio::test]
    async fn a_program_that_is_not_waited_for_any_more_ends_with_all_that_it_started() {
        let dir = tempfile::tempdir().unwrap();
        let noted = dir.path().join("pids");
        let script = format!("sleep 600 & echo $! $$ > {}; wait", noted.display());
        let (job, resolver) = ("daily".parse().unwrap(), resolver(dir.path(), &script));
        let question = DoubtQuestion {
            job: &job,
            rid: "k3v",
            message_id: "<m@sender.example>",
            intended_at: "",
        };
        let asking = resolver.ask(&question);
        let waited = tokio::time::timeout(Duration::from_secs(1), asking).await;
        assert!(waited.is_err());
        let pids = std::fs::read_to_string(&noted).unwrap();
        assert_eq!(pids.split_whitespace().count(), 2);
        let lives = |pid: &str| {
            let stat = std::fs::read_to_string(Path::new("/proc").join(pid).join("stat"));
            stat.is_ok_and(|stat| !stat.contains(") Z "))
        };
        for _ in 0..250 {
            if !pids.split_whitespace().any(lives) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        panic!("still running: {pids}");
    }
}
