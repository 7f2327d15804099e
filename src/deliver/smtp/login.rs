//! The user name and the password for a relay, as its file has them now.
//!
//! The file is checked before each session, ten times a second at most. Kubernetes replaces a mounted secret while the
//! program runs, and the relay may accept the old password for a while or reject it at once.

use std::path::PathBuf;
use std::time::Duration;

use tokio::sync::Mutex;
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout};

use crate::config::Secret;
use crate::config_error::ConfigError;
use crate::environment::Environment;
use crate::stamp::Stamps;

/// How long the result of a check of the file is reused.
const LOOK_COUNTS: Duration = Duration::from_millis(100);

/// How long until a file that cannot be read is checked again; the last password is used meanwhile.
const LEFT_ALONE: Duration = Duration::from_secs(5);

/// How long to wait for a check of the file: its file system may hang, and the last password is good.
const PATIENCE: Duration = Duration::from_secs(1);

/// The user name and the password.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Login {
    pub(super) username: String,
    pub(super) password: Secret,
}

/// The login of a relay, and the file that it is read from.
pub(super) struct Logins {
    section: String,
    username: String,
    password_file: PathBuf,
    environment: Environment,
    /// Held while the file is checked: concurrent callers want the same answer.
    state: Mutex<LoginState>,
}

struct LoginState {
    login: Login,
    seen: Stamps,
    /// A check that timed out; the next call waits for it.
    looking: Option<JoinHandle<Stamps>>,
    next_look: Instant,
    is_unreadable: bool,
}

impl Logins {
    /// Reads the file of a relay's section.
    ///
    /// # Errors
    /// The file cannot be read, or is empty.
    pub(super) fn open(
        section: &str,
        username: &str,
        password_file: &PathBuf,
        environment: &Environment,
    ) -> Result<Self, ConfigError> {
        let seen = Stamps::of(std::slice::from_ref(password_file));
        let login = read(section, username, password_file, environment)?;
        Ok(Self {
            section: section.to_owned(),
            username: username.to_owned(),
            password_file: password_file.clone(),
            environment: environment.clone(),
            state: Mutex::new(LoginState {
                login,
                seen,
                looking: None,
                next_look: Instant::now() + LOOK_COUNTS,
                is_unreadable: false,
            }),
        })
    }

    /// The login for a session that begins now: the file's content, or the last content that could be read.
    pub(super) async fn now(&self) -> Login {
        let mut state = self.state.lock().await;
        if state.next_look <= Instant::now() {
            self.look(&mut state, false).await;
        }
        state.login.clone()
    }

    /// The login in the file after a relay rejected another one, if the two differ. The file is read even if it looks
    /// unchanged.
    pub(super) async fn other_than(&self, refused: &Login) -> Option<Login> {
        let mut state = self.state.lock().await;
        if state.login == *refused {
            self.look(&mut state, true).await;
        }
        Some(state.login.clone()).filter(|login| login != refused)
    }

    async fn look(&self, state: &mut LoginState, must_read: bool) {
        let file = &self.password_file;
        let looking = state
            .looking
            .get_or_insert_with(|| Stamps::looking(vec![file.clone()]));
        let Ok(looked) = timeout(PATIENCE, looking).await else {
            state.next_look = Instant::now() + LEFT_ALONE;
            return self.stay(state, &format!("no answer within {} s", PATIENCE.as_secs()));
        };
        state.looking = None;
        let seen = looked.unwrap_or_default();
        state.next_look = Instant::now() + LOOK_COUNTS;
        if seen == state.seen && !must_read {
            return;
        }
        match self.read_again().await {
            Ok(login) => {
                state.seen = seen;
                self.take_over(state, login);
            }
            Err(words) => {
                state.next_look = Instant::now() + LEFT_ALONE;
                self.stay(state, &words);
            }
        }
    }

    /// Reads the file on a blocking thread.
    async fn read_again(&self) -> Result<Login, String> {
        let (section, username) = (self.section.clone(), self.username.clone());
        let (file, environment) = (self.password_file.clone(), self.environment.clone());
        let reading = move || read(&section, &username, &file, &environment);
        let login = tokio::task::spawn_blocking(reading).await;
        let login = login.map_err(|error| error.to_string())?;
        login.map_err(|error| crate::text::chain(&error))
    }

    fn take_over(&self, state: &mut LoginState, login: Login) {
        let section = &self.section;
        if login != state.login {
            tracing::info!(
                section,
                "the password file of the relay changed; the next session logs in with the new password"
            );
        } else if state.is_unreadable {
            tracing::info!(section, "the password file of the relay can be read again");
        }
        state.login = login;
        state.is_unreadable = false;
    }

    /// The file cannot be read: it may be in the middle of a replacement.
    fn stay(&self, state: &mut LoginState, words: &str) {
        if !std::mem::replace(&mut state.is_unreadable, true) {
            tracing::warn!(
                section = self.section,
                error = words,
                "the password file of the relay cannot be read; the password that it held before stays in use"
            );
        }
    }
}

fn read(
    section: &str,
    username: &str,
    file: &std::path::Path,
    environment: &Environment,
) -> Result<Login, ConfigError> {
    Ok(Login {
        username: username.to_owned(),
        password: Secret::read(&format!("{section}.password_file"), file, environment)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[tokio::test]
    async fn a_password_file_that_is_exchanged_gone_or_half_written_gives_the_next_session_what_it_last_said()
     {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("password");
        fs::write(&file, "one\n").unwrap();
        let logins = Logins::open("mail.smtp", "u", &file, &Environment::default()).unwrap();
        let now = async || {
            // Pretends that the time until the next check has passed: a tenth of a second, or five after a failure.
            logins.state.lock().await.next_look = Instant::now();
            logins.now().await.password.expose().to_owned()
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
        let refused = logins.now().await;
        assert!(logins.other_than(&refused).await.is_none(), "the same");
        fs::write(&file, "four").unwrap();
        let other = logins.other_than(&refused).await.unwrap();
        assert_eq!(other.password.expose(), "four");
    }
}
