//! The user name for a relay, and the password or token that proves it, as its file or program has it now.
//!
//! The file is checked before each session, ten times a second at most. Kubernetes replaces a mounted secret while the
//! program runs, and the relay may accept the old password for a while or reject it at once. A program that prints a
//! token is run again after a minute, and when the relay rejects the token.

use std::path::Path;
use std::time::Duration;

use tokio::sync::Mutex;
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout};

use crate::config::{LoginSource, Secret};
use crate::config_error::ConfigError;
use crate::edge::program;
use crate::environment::Environment;
use crate::mounted;
use crate::stamp::Stamps;

/// How long the result of a check of the file is reused.
const LOOK_COUNTS: Duration = Duration::from_millis(100);

/// How long a token that a program printed is reused: tokens live for an hour, and their programs keep them.
const TOKEN_COUNTS: Duration = Duration::from_secs(60);

/// How long until a file that cannot be read is checked again, or a program that failed is run again; the last login is
/// used meanwhile.
const LEFT_ALONE: Duration = Duration::from_secs(5);

/// How long to wait for a check of the file: its file system may hang, and the last login is good.
const PATIENCE: Duration = Duration::from_secs(1);

/// How long a program may run.
const PROGRAM_PATIENCE: Duration = Duration::from_secs(10);

/// The user name, and what proves it.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Login {
    pub(super) username: String,
    pub(super) proof: Proof,
}

/// What proves a user name.
#[derive(Clone, PartialEq, Eq)]
pub(super) enum Proof {
    Password(Secret),
    /// An OAuth 2.0 access token (RFC 6750).
    Token(Secret),
}

/// The login of a relay, and where it comes from.
pub(super) struct Logins {
    section: String,
    username: String,
    source: LoginSource,
    environment: Environment,
    /// Held while the source is asked: concurrent callers want the same answer.
    state: Mutex<LoginState>,
}

struct LoginState {
    /// `None` until a program printed its first token.
    login: Option<Login>,
    seen: Stamps,
    /// A check that timed out; the next call waits for it.
    looking: Option<JoinHandle<Stamps>>,
    next_look: Instant,
    /// Why the source gave nothing, if it did not.
    trouble: Option<String>,
}

impl Logins {
    /// Reads the file of a relay's section. A program is run at the first session.
    ///
    /// # Errors
    /// The file cannot be read, or is empty.
    pub(super) fn open(
        section: &str,
        username: &str,
        source: LoginSource,
        environment: &Environment,
    ) -> Result<Self, ConfigError> {
        let seen = match &source {
            LoginSource::PasswordFile(file) | LoginSource::TokenFile(file) => {
                // Without a stamp, the error is that of the read below.
                mounted::stamp(file).unwrap_or_default()
            }
            LoginSource::TokenCommand(_) => Stamps::default(),
        };
        let proof = read(section, &source, environment)?;
        let login = proof.map(|proof| Login {
            username: username.to_owned(),
            proof,
        });
        let look_counts = login.as_ref().map(|_| LOOK_COUNTS).unwrap_or_default();
        Ok(Self {
            section: section.to_owned(),
            username: username.to_owned(),
            source,
            environment: environment.clone(),
            state: Mutex::new(LoginState {
                login,
                seen,
                looking: None,
                next_look: Instant::now() + look_counts,
                trouble: None,
            }),
        })
    }

    /// The key in the relay's section that says where it comes from.
    pub(super) const fn key(&self) -> &'static str {
        self.source.key()
    }

    /// The login for a session that begins now: what the source says, or the last thing that it said.
    ///
    /// # Errors
    /// Why a program has printed no token yet, as the continuation of its key's name.
    pub(super) async fn now(&self) -> Result<Login, String> {
        let mut state = self.state.lock().await;
        if state.next_look <= Instant::now() {
            self.look(&mut state, false).await;
        }
        let login = state.login.clone();
        login.ok_or_else(|| state.trouble.clone().unwrap_or_default())
    }

    /// The login after a relay rejected another one, if the two differ. The source is asked even if it looks unchanged.
    pub(super) async fn other_than(&self, refused: &Login) -> Option<Login> {
        let mut state = self.state.lock().await;
        if state.login.as_ref() == Some(refused) {
            self.look(&mut state, true).await;
        }
        state.login.clone().filter(|login| login != refused)
    }

    async fn look(&self, state: &mut LoginState, must_read: bool) {
        match &self.source {
            LoginSource::PasswordFile(file) | LoginSource::TokenFile(file) => {
                self.look_at(file, state, must_read).await;
            }
            LoginSource::TokenCommand(program) => match self.run(program).await {
                Ok(proof) => {
                    state.next_look = Instant::now() + TOKEN_COUNTS;
                    self.take_over(state, proof);
                }
                Err(words) => {
                    state.next_look = Instant::now() + LEFT_ALONE;
                    self.stay(state, words);
                }
            },
        }
    }

    async fn look_at(&self, file: &Path, state: &mut LoginState, must_read: bool) {
        let looking = state
            .looking
            .get_or_insert_with(|| Stamps::looking(vec![file.to_owned()]));
        let Ok(looked) = timeout(PATIENCE, looking).await else {
            state.next_look = Instant::now() + LEFT_ALONE;
            return self.stay(state, format!("no answer within {} s", PATIENCE.as_secs()));
        };
        state.looking = None;
        let seen = looked.unwrap_or_default();
        state.next_look = Instant::now() + LOOK_COUNTS;
        if seen == state.seen && !must_read {
            return;
        }
        match self.read_again().await {
            Ok(proof) => {
                state.seen = seen;
                self.take_over(state, proof);
            }
            Err(words) => {
                state.next_look = Instant::now() + LEFT_ALONE;
                self.stay(state, words);
            }
        }
    }

    /// Reads the file on a blocking thread.
    async fn read_again(&self) -> Result<Proof, String> {
        let (section, source) = (self.section.clone(), self.source.clone());
        let environment = self.environment.clone();
        let reading = move || read(&section, &source, &environment);
        let proof = tokio::task::spawn_blocking(reading).await;
        let proof = proof.map_err(|error| error.to_string())?;
        let proof = proof.map_err(|error| crate::text::chain(&error))?;
        Ok(proof.expect("it is a file"))
    }

    /// Runs the program, with the user name as its argument.
    async fn run(&self, program: &Path) -> Result<Proof, String> {
        let arguments = [self.username.as_str()];
        let running = program::output(program, &arguments, &[]);
        let printed = timeout(PROGRAM_PATIENCE, running).await;
        let printed = printed
            .map_err(|_| format!("did not end within {} s", PROGRAM_PATIENCE.as_secs()))??;
        let printed = String::from_utf8(printed).unwrap_or_default();
        let token = printed.trim();
        match is_token(token) {
            true => Ok(Proof::Token(Secret::new(token.to_owned()))),
            false => Err(format!("printed {NO_TOKEN}")),
        }
    }

    fn take_over(&self, state: &mut LoginState, proof: Proof) {
        let (section, key) = (&self.section, self.source.key());
        let login = Login {
            username: self.username.clone(),
            proof,
        };
        let is_new = state.login.as_ref() != Some(&login);
        let is_file = !matches!(self.source, LoginSource::TokenCommand(_));
        if is_new && is_file {
            tracing::info!(
                section,
                key,
                "the file with the relay's login changed; the next session logs in with its new content"
            );
        } else if state.trouble.is_some() {
            tracing::info!(section, key, "the relay's login can be read again");
        }
        state.login = Some(login);
        state.trouble = None;
    }

    /// The file cannot be read, or the program failed: the file may be in the middle of a replacement.
    fn stay(&self, state: &mut LoginState, words: String) {
        if state.trouble.is_none() {
            tracing::warn!(
                section = self.section,
                key = self.source.key(),
                error = words,
                "the relay's login cannot be read; the last one stays in use"
            );
        }
        state.trouble = Some(words);
    }
}

/// Reads the file of a source; `None` for a program.
fn read(
    section: &str,
    source: &LoginSource,
    environment: &Environment,
) -> Result<Option<Proof>, ConfigError> {
    let key = format!("{section}.{}", source.key());
    Ok(match source {
        LoginSource::PasswordFile(file) => {
            Some(Proof::Password(Secret::read(&key, file, environment)?))
        }
        LoginSource::TokenFile(file) => {
            let token = Secret::read(&key, file, environment)?;
            let token = token.expose().trim();
            if !is_token(token) {
                let reason = format!("names {}, which holds {NO_TOKEN}", file.display());
                return Err(ConfigError::value(key, reason));
            }
            Some(Proof::Token(Secret::new(token.to_owned())))
        }
        LoginSource::TokenCommand(_) => None,
    })
}

/// Why a text is no token, after what it is the text of.
const NO_TOKEN: &str = "no token: it must be one word of printable ASCII";

/// Whether a text may be a token: any other character could end the field of the login that carries it (RFC 6750, section
/// 2.1).
fn is_token(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_graphic())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    #[tokio::test]
    async fn a_password_file_that_is_exchanged_gone_or_half_written_gives_the_next_session_what_it_last_said()
     {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("password");
        fs::write(&file, "one\n").unwrap();
        let source = LoginSource::PasswordFile(file.clone());
        let logins = Logins::open("mail.smtp", "u", source, &Environment::default()).unwrap();
        let now = async || {
            // Pretends that the time until the next check has passed: a tenth of a second, or five after a failure.
            logins.state.lock().await.next_look = Instant::now();
            match logins.now().await.unwrap().proof {
                Proof::Password(password) => password.expose().to_owned(),
                Proof::Token(_) => panic!("it is a password"),
            }
        };
        assert_eq!(now().await, "one");
        fs::write(dir.path().join("new"), "two").unwrap();
        fs::rename(dir.path().join("new"), &file).unwrap();
        assert_eq!(now().await, "two", "exchanged");
        fs::remove_file(&file).unwrap();
        assert_eq!(now().await, "two", "gone");
        fs::write(&file, "").unwrap();
        assert_eq!(now().await, "two", "half written");
        fs::write(&file, "three").unwrap();
        assert_eq!(now().await, "three");
        let refused = logins.now().await.unwrap();
        assert!(logins.other_than(&refused).await.is_none(), "the same");
        fs::write(&file, "four").unwrap();
        let other = logins.other_than(&refused).await.unwrap();
        let four = Proof::Password(Secret::new("four".to_owned()));
        assert!(other.proof == four);
    }

    /// A program that prints what is in a file beside it, and counts how often it ran.
    fn program(dir: &Path) -> LoginSource {
        let (program, here) = (dir.join("program"), dir.display());
        let script = format!("#!/bin/sh\necho $1 >> {here}/runs\n. {here}/does\n");
        fs::write(&program, script).unwrap();
        fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
        LoginSource::TokenCommand(program)
    }

    #[tokio::test]
    async fn a_program_is_asked_for_a_token_at_most_once_a_minute_or_when_the_relay_rejects_it() {
        let dir = tempfile::tempdir().unwrap();
        let does = |script: &str| fs::write(dir.path().join("does"), script).unwrap();
        does("echo not logged in >&2; exit 3");
        let source = program(dir.path());
        let logins = Logins::open("mail.smtp", "u@x", source, &Environment::default()).unwrap();
        let said = logins.now().await.err().unwrap();
        assert_eq!(said, "ended with exit status: 3: not logged in");
        let again = async || {
            logins.state.lock().await.next_look = Instant::now();
            logins.now().await
        };
        for (script, reason) in [
            ("true", "printed no token"),
            ("echo one; echo two", "printed no token"),
            ("printf 'a\\001b'", "printed no token"),
            ("printf '\\377'", "printed no token"),
        ] {
            does(script);
            let said = again().await.err().unwrap();
            assert!(said.starts_with(reason), "{script}: {said}");
        }
        does("echo one");
        let one = again().await.unwrap();
        does("echo two");
        assert!(logins.now().await.unwrap() == one, "it counts for a minute");
        let two = logins.other_than(&one).await.unwrap();
        assert!(two.proof == Proof::Token(Secret::new("two".to_owned())));
        does("exit 1");
        assert!(again().await.unwrap() == two, "the last one stays");
        let runs = fs::read_to_string(dir.path().join("runs")).unwrap();
        assert_eq!(runs, "u@x\n".repeat(8));
    }

    #[test]
    fn a_file_without_a_token_is_refused_and_not_repeated() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("token");
        let source = LoginSource::TokenFile(file.clone());
        for text in ["two words", "a\u{1}b", "tökén", " "] {
            fs::write(&file, text).unwrap();
            let error = read("mail.smtp", &source, &Environment::default());
            let error = error.err().unwrap().to_string();
            assert!(error.contains("mail.smtp.token_file"), "{error}");
            assert!(
                error.contains("no token") && !error.contains(text.trim_start_matches(' '))
                    || text == " ",
                "{error}"
            );
        }
        fs::write(&file, " ya29.a0-b_c~d/e+f== \r\n").unwrap();
        assert!(read("mail.smtp", &source, &Environment::default()).is_ok());
    }
}
