//! The notice to the operator about recipients that a job did not reach: a mail of its own, in plain text.
//!
//! A notice holds addresses, which no log does. It is sent once and belongs to no job, so its own outcome is only
//! logged. Notices beyond `mail.notify_rate` are held back, and the next notice names their jobs.

use std::borrow::Cow;
use std::collections::VecDeque;
use std::fmt::Write;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use tokio::time::Instant;

use super::{DeliverError, Letter, Mailer, Sender};
use crate::bounds::MAX_REASON_BYTES;
use crate::config::Config;
use crate::config_error::ConfigError;
use crate::job::{JobId, Recipient, RelayName};
use crate::ledger::Outcome;
use crate::ledger::people::words_behind_name;
use crate::quantity::Rate;
use crate::text::{counted, printable, shell_argument};

/// How long a notice may take; its job's message waits meanwhile.
const PATIENCE: Duration = Duration::from_secs(60);

/// How many recipients, and jobs, a notice names; more are counted.
const MAX_NAMED: usize = 100;

/// The address of the operator, if notices are configured.
#[derive(Debug, Clone, Default)]
pub struct Notices {
    desk: Option<Arc<NoticeDesk>>,
}

#[derive(Debug)]
struct NoticeDesk {
    sender: Sender,
    to: Recipient,
    rate: Rate,
    window: Mutex<NoticeWindow>,
}

/// What was sent within the rate's period, and what was not.
#[derive(Debug, Default)]
struct NoticeWindow {
    sent_at: VecDeque<Instant>,
    held_back: Vec<JobId>,
    held_back_more: u64,
}

/// What became of a notice.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NoticeEnd {
    /// The relay accepted it.
    Sent,
    /// It is not sent; the next notice names its job.
    HeldBack,
}

/// What a notice is about.
#[derive(Debug)]
pub struct Notice<'a> {
    /// The job.
    pub job: &'a JobId,
    /// How often it had been reopened.
    pub n: u32,
    /// How many mails were accepted.
    pub accepted: u64,
    /// How many mails failed.
    pub failed: u64,
    /// The failed recipients, with the outcome of their mails: addresses, or ids of recipients of a list.
    pub named: Vec<(String, Outcome)>,
    /// When the notice is sent.
    pub at: Timestamp,
}

impl Notices {
    /// The notices of a configuration.
    pub fn new(config: &Config, sender: &Sender) -> Result<Self, ConfigError> {
        let desk = config.notify()?.map(|to| NoticeDesk {
            sender: sender.clone(),
            to,
            rate: config.mail.notify_rate,
            window: Mutex::default(),
        });
        Ok(Self {
            desk: desk.map(Arc::new),
        })
    }

    /// Whether notices are configured.
    pub const fn are_wanted(&self) -> bool {
        self.desk.is_some()
    }

    /// Sends the notice, or holds it back for the next one.
    pub async fn tell(
        &self,
        notice: &Notice<'_>,
        mailer: &Mailer,
    ) -> Result<NoticeEnd, DeliverError> {
        let Some(desk) = &self.desk else {
            return Ok(NoticeEnd::HeldBack);
        };
        let Some(held_back) = desk.window().take(notice.job, desk.rate) else {
            tracing::warn!(job.id = %notice.job, "notice deferred (mail.notify_rate)");
            return Ok(NoticeEnd::HeldBack);
        };
        let letter = desk.letter(notice, &held_back);
        let sending = desk.send(&letter, notice.job, mailer);
        let told = match tokio::time::timeout(PATIENCE, sending).await {
            Ok(Ok(Outcome::Accepted { .. })) => Ok(NoticeEnd::Sent),
            Ok(Ok(outcome)) => Err(desk.refuse(outcome.words())),
            Ok(Err(error)) => Err(error),
            Err(_) => Err(desk.refuse("the relay did not accept it in time")),
        };
        if told.is_err() {
            desk.window().put_back(held_back, notice.job);
        }
        told
    }
}

impl NoticeWindow {
    /// What was held back before a notice that may be sent; `None` for a notice that is held back itself.
    fn take(&mut self, job: &JobId, rate: Rate) -> Option<HeldBack> {
        let now = Instant::now();
        let is_over = |at: &mut Instant| now.duration_since(*at) >= rate.period();
        while self.sent_at.pop_front_if(is_over).is_some() {}
        if self.sent_at.len() < rate.count() as usize {
            self.sent_at.push_back(now);
            return Some(HeldBack {
                jobs: std::mem::take(&mut self.held_back),
                more: std::mem::take(&mut self.held_back_more),
            });
        }
        self.hold_back(job);
        None
    }

    fn hold_back(&mut self, job: &JobId) {
        match self.held_back.len() < MAX_NAMED {
            true => self.held_back.push(job.clone()),
            false => self.held_back_more += 1,
        }
    }

    /// A notice was not sent: the next one names its job and the jobs that it would have named.
    fn put_back(&mut self, held_back: HeldBack, job: &JobId) {
        let meanwhile = std::mem::replace(&mut self.held_back, held_back.jobs);
        self.held_back_more += held_back.more;
        for job in std::iter::once(job).chain(&meanwhile) {
            self.hold_back(job);
        }
    }
}

#[derive(Debug, Default, PartialEq, Eq)]
struct HeldBack {
    jobs: Vec<JobId>,
    more: u64,
}

impl NoticeDesk {
    fn window(&self) -> MutexGuard<'_, NoticeWindow> {
        self.window.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn refuse(&self, reason: &str) -> DeliverError {
        DeliverError::Notice {
            masked: self.to.masked(),
            reason: reason.to_owned(),
        }
    }

    async fn send(
        &self,
        letter: &Letter,
        job: &JobId,
        mailer: &Mailer,
    ) -> Result<Outcome, DeliverError> {
        let way = mailer.turn(&RelayName::default(), job, &self.to).await?;
        way.send_unrecorded(letter).await
    }

    fn letter(&self, notice: &Notice<'_>, held_back: &HeldBack) -> Letter {
        let parts: [&[u8]; 3] = [
            b"notice",
            notice.job.as_str().as_bytes(),
            &notice.n.to_be_bytes(),
        ];
        let (subject, text) = (notice.subject(), notice.text(held_back));
        self.sender
            .notice(&parts, &self.to, subject, &text, notice.at)
    }
}

impl Notice<'_> {
    fn subject(&self) -> String {
        let Self { job, failed, .. } = self;
        let all = counted(failed + self.accepted, "mail");
        format!("{failed} of {all} failed or in doubt: {}", shown_id(job))
    }

    fn text(&self, held_back: &HeldBack) -> String {
        let Self {
            job,
            accepted,
            failed,
            named,
            ..
        } = self;
        let mut text = format!(
            "The job {} is done, but {failed} of its {} failed or {} in doubt:\n\n",
            shown_id(job),
            counted(failed + accepted, "mail"),
            if *failed == 1 { "is" } else { "are" }
        );
        let mut line = |line: std::fmt::Arguments<'_>| {
            writeln!(text, "{line}").expect("writing to a string does not fail");
        };
        for (address, outcome) in named.iter().take(MAX_NAMED) {
            let what = match outcome {
                Outcome::Unknown { .. } => "in doubt",
                Outcome::Suppressed { .. } => "suppressed",
                Outcome::Accepted { .. } | Outcome::Rejected { .. } | Outcome::NotSent { .. } => {
                    "rejected"
                }
            };
            let words = words_behind_name(outcome.words());
            line(format_args!("  {address}\n      {what}: {words}"));
        }
        let shown = named.len().min(MAX_NAMED) as u64;
        if *failed > shown {
            line(format_args!("  and {} more", failed - shown));
        }
        line(format_args!(
            "\nWhen the cause is repaired, this sends these mails again, and no others:\n\n  handout job resend --failed -- {}",
            shell_argument(job.as_str())
        ));
        if shown_id(job) != job.as_str() {
            line(format_args!(
                "\nThe job's id holds characters that are not printed: where it says \\u{{…}}, the command needs the character."
            ));
        }
        held_back.tell(line);
        text
    }
}

/// A job's id, which the job's sender chose.
fn shown_id(job: &JobId) -> Cow<'_, str> {
    printable(job.as_str(), MAX_REASON_BYTES)
}

impl HeldBack {
    fn tell(&self, mut line: impl FnMut(std::fmt::Arguments<'_>)) {
        if self.jobs.is_empty() {
            return;
        }
        line(format_args!(
            "\nSince the last notice, mails of these jobs failed or are in doubt, too (mail.notify_rate):\n"
        ));
        for job in &self.jobs {
            line(format_args!("  {}", shown_id(job)));
        }
        if self.more > 0 {
            line(format_args!("  and {} more", self.more));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keyring::Keyring;
    use crate::text::is_printable;

    fn desk() -> NoticeDesk {
        let config = Config {
            mail: crate::config::MailConfig {
                notify: Some("ops@sender.example".to_owned()),
                ..crate::config::MailConfig::default()
            },
            ..Config::default()
        };
        let sender = Sender::new(config.sender().unwrap(), Keyring::new([1; 32]));
        let notices = Notices::new(&config, &sender).unwrap();
        Arc::into_inner(notices.desk.unwrap()).unwrap()
    }

    fn notice(job: &JobId) -> Notice<'_> {
        let rejected = Outcome::Rejected {
            code: 550,
            words: "550 5.1.1 (address) no such user".to_owned(),
        };
        Notice {
            job,
            n: 0,
            accepted: 12,
            failed: 414,
            named: vec![
                ("bo@acme.example".to_owned(), rejected),
                ("cy@acme.example".to_owned(), Outcome::held()),
            ],
            at: Timestamp::UNIX_EPOCH,
        }
    }

    #[test]
    fn a_notice_says_who_why_and_what_to_do() {
        let held_back = HeldBack {
            jobs: vec!["acme-weekly".parse().unwrap()],
            more: 3,
        };
        let job = "acme-daily".parse().unwrap();
        let notice = notice(&job);
        insta::assert_snapshot!(format!("{}\n\n{}", notice.subject(), notice.text(&held_back)), @r"
        414 of 426 mails failed or in doubt: acme-daily

        The job acme-daily is done, but 414 of its 426 mails failed or are in doubt:

          bo@acme.example
              rejected: 550 5.1.1 (address) no such user
          cy@acme.example
              in doubt: the in-doubt delivery is not resolved
          and 412 more

        When the cause is repaired, this sends these mails again, and no others:

          handout job resend --failed -- 'acme-daily'

        Since the last notice, mails of these jobs failed or are in doubt, too (mail.notify_rate):

          acme-weekly
          and 3 more
        ");
    }

    #[test]
    fn a_notice_repeats_an_id_so_that_a_shell_and_a_terminal_take_it_for_one() {
        let held_back = HeldBack {
            jobs: vec!["held\u{202e}back".parse().unwrap()],
            more: 0,
        };
        let table = [
            (
                "a'; curl x | sh; echo '",
                r"-- 'a'\''; curl x | sh; echo '\'''",
            ),
            ("--config=/tmp/evil.toml", "-- '--config=/tmp/evil.toml'"),
            ("$(id)", "-- '$(id)'"),
            ("a\u{202e}b", r"-- 'a\u{202e}b'"),
        ];
        for (id, command) in table {
            let job = id.parse().unwrap();
            let notice = notice(&job);
            let text = format!("{}\n{}", notice.subject(), notice.text(&held_back));
            let command = format!("  handout job resend --failed {command}\n");
            assert!(text.contains(&command), "{text}");
            assert!(text.chars().all(|c| c == '\n' || is_printable(c)), "{text}");
            let is_told = text.contains("holds characters that are not printed");
            assert_eq!(is_told, id.contains('\u{202e}'));
        }
    }

    #[test]
    fn a_notice_is_a_mail_that_no_program_answers() {
        let (desk, job) = (desk(), "acme-daily".parse().unwrap());
        let letter = desk.letter(&notice(&job), &HeldBack::default());
        let text = String::from_utf8(letter.bytes).unwrap();
        assert!(
            text.contains("Auto-Submitted: auto-generated\r\n"),
            "{text}"
        );
        assert!(text.contains("To: ops@sender.example\r\n"), "{text}");
        assert!(
            text.contains("Content-Type: text/plain; charset=utf-8\r\n"),
            "{text}"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn so_many_an_hour_are_sent_and_the_next_names_the_others() {
        let (mut window, rate) = (NoticeWindow::default(), Rate::per_hour(2));
        let mut take = |job: &str| window.take(&job.parse().unwrap(), rate);
        assert!(take("a").is_some() && take("b").is_some());
        assert_eq!((take("c"), take("d")), (None, None));
        tokio::time::sleep(Duration::from_secs(3599)).await;
        assert_eq!(take("e"), None);
        tokio::time::sleep(Duration::from_secs(1)).await;
        let jobs = ["c", "d", "e"].map(|job| job.parse().unwrap()).to_vec();
        assert_eq!(take("f"), Some(HeldBack { jobs, more: 0 }));
        assert_eq!(take("g"), Some(HeldBack::default()));
    }
    #[tokio::test(start_paused = true)]
    async fn a_notice_that_did_not_leave_is_told_of_by_the_next() {
        let (mut window, rate) = (NoticeWindow::default(), Rate::per_hour(1));
        let job = |id: &str| id.parse::<JobId>().unwrap();
        assert!(window.take(&job("a"), rate).is_some());
        assert_eq!(window.take(&job("b"), rate), None);
        tokio::time::sleep(rate.period()).await;
        let held_back = window.take(&job("c"), rate).unwrap();
        assert_eq!(
            window.take(&job("d"), rate),
            None,
            "while c's is on its way"
        );
        window.put_back(held_back, &job("c"));
        tokio::time::sleep(rate.period()).await;
        let jobs = ["b", "c", "d"].map(job).to_vec();
        assert_eq!(
            window.take(&job("e"), rate),
            Some(HeldBack { jobs, more: 0 })
        );
    }
}
