//! A profile's `credential_process`: a program that prints credentials.
//!
//! The SDK runs such a program without limiting its output, and does not kill it when its caller gives up, so hanging programs
//! would accumulate with each request. Here the output is limited, and the program is killed with its process group when its
//! caller, the source of the credentials, reaches its deadline.
//!
//! This does not apply to a program behind a role of a profile (`source_profile`): the SDK runs it.

use std::fmt;
use std::process::Stdio;
use std::time::{Duration, SystemTime};

use aws_config::SdkConfig;
use aws_credential_types::Credentials;
use aws_credential_types::provider::error::CredentialsError;
use aws_credential_types::provider::{ProvideCredentials, future};
use jiff::Timestamp;
use rustix::process::{Pid, Signal, kill_process_group};
use serde_json::{Map, Value};
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::process::Command;

use crate::redact::redacted;

/// The maximum output of a program, in bytes. Session tokens have a few thousand.
const MAX_BYTES: u64 = 64 * 1024;

/// How much of its error output is read, in bytes.
const MAX_WORDS_BYTES: usize = 500;

/// How long output is awaited after the program has ended: a child process may hold the pipe open.
const LAST_WORDS: Duration = Duration::from_millis(500);

/// The fields of a profile that take precedence over its program.
const BEFORE_IT: [&str; 6] = [
    "role_arn",
    "credential_source",
    "web_identity_token_file",
    "sso_session",
    "sso_start_url",
    "login_session",
];

/// A program that prints credentials, run by a shell.
pub(super) struct Process {
    command: String,
}

impl fmt::Debug for Process {
    /// Its arguments may be secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Process").finish_non_exhaustive()
    }
}

/// The processes of a program, killed when this is dropped.
struct ProcessGroup(Option<Pid>);

impl Drop for ProcessGroup {
    fn drop(&mut self) {
        if let Some(group) = self.0 {
            // The group may have ended already.
            let _has_ended = kill_process_group(group, Signal::KILL);
        }
    }
}

impl Process {
    /// The program of the profile in `sdk`, if it is the source of the profile's credentials.
    pub(super) fn of(sdk: &SdkConfig) -> Option<Self> {
        let field = |name| super::of_profile(sdk, name);
        let is_of_another = BEFORE_IT.into_iter().any(|name| field(name).is_some());
        let command = field("credential_process").filter(|_| !is_of_another)?;
        Some(Self { command })
    }

    async fn ask(&self) -> Result<Credentials, CredentialsError> {
        let failed = |words: String| {
            CredentialsError::provider_error(format!("the profile's credential_process {words}"))
        };
        let printed = self.run().await.map_err(failed)?;
        read(&printed).map_err(|words| failed(format!("printed no credentials: {words}")))
    }

    async fn run(&self) -> Result<Vec<u8>, String> {
        let child = Command::new("sh")
            .args(["-c", &self.command])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0)
            .kill_on_drop(true)
            .spawn();
        let mut child = child.map_err(|error| format!("could not be run: {error}"))?;
        let pid = child.id().and_then(|id| Pid::from_raw(id.cast_signed()));
        let mut group = ProcessGroup(pid);
        let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
        let (mut printed, mut complaint) = (Vec::new(), Vec::new());
        let status = {
            let printing = read_to(stdout, &mut printed, MAX_BYTES + 1);
            let complaining = read_to(stderr, &mut complaint, MAX_BYTES);
            let reading = futures_util::future::join(printing, complaining);
            let mut reading = std::pin::pin!(reading);
            tokio::select! {
                // A program that exceeds the limit never ends, since its output is no longer read.
                _ = &mut reading => None,
                status = child.wait() => {
                    drop(tokio::time::timeout(LAST_WORDS, reading).await);
                    Some(status)
                }
            }
        };
        if printed.len() as u64 > MAX_BYTES {
            return Err(format!("printed more than {MAX_BYTES} bytes"));
        }
        let status = match status {
            Some(status) => status,
            None => child.wait().await,
        };
        let status = status.map_err(|error| format!("could not be waited for: {error}"))?;
        // The program ended by itself; child processes that it left running are kept.
        group.0 = None;
        match status.success() {
            true => Ok(printed),
            false => {
                let complaint = String::from_utf8_lossy(&complaint);
                let words = redacted(complaint.trim(), MAX_WORDS_BYTES);
                Err(format!("ended with {status}: {words}"))
            }
        }
    }
}

/// Reads up to a limit. The rest is not read, so that its writer blocks until it is killed with its group.
async fn read_to(from: Option<impl AsyncRead + Unpin>, into: &mut Vec<u8>, most: u64) {
    if let Some(from) = from {
        drop(from.take(most).read_to_end(into).await);
    }
}

/// Parses the program's output. Field names are matched in lower or upper case, like in the SDKs.
/// <https://docs.aws.amazon.com/sdkref/latest/guide/feature-process-credentials.html>
fn read(printed: &[u8]) -> Result<Credentials, String> {
    // Errors do not use serde's texts, which quote parts of the input.
    let parsed = serde_json::from_slice::<Map<String, Value>>(printed);
    let fields = parsed.map_err(|_| "it is not a JSON object".to_owned())?;
    let field = |name: &str| {
        let mut fields = fields.iter();
        fields.find_map(|(key, value)| key.eq_ignore_ascii_case(name).then_some(value))
    };
    let text = |name: &str| field(name).and_then(Value::as_str);
    let needed = |name: &str| text(name).ok_or_else(|| format!("{name} is missing"));
    if field("Version").and_then(Value::as_u64) != Some(1) {
        return Err("Version is not 1".to_owned());
    }
    let end = text("Expiration").map(instant).transpose()?;
    let mut credentials = Credentials::builder()
        .access_key_id(needed("AccessKeyId")?)
        .secret_access_key(needed("SecretAccessKey")?)
        .provider_name("CredentialProcess");
    credentials.set_session_token(text("SessionToken").map(ToOwned::to_owned));
    credentials.set_expiry(end);
    Ok(credentials.build())
}

fn instant(text: &str) -> Result<SystemTime, String> {
    let parsed = text.parse::<Timestamp>().ok();
    let seconds = parsed.and_then(|parsed| u64::try_from(parsed.as_second()).ok());
    let seconds = seconds.ok_or("Expiration is not a time")?;
    Ok(SystemTime::UNIX_EPOCH + Duration::from_secs(seconds))
}

impl ProvideCredentials for Process {
    fn provide_credentials<'a>(&'a self) -> future::ProvideCredentials<'a>
    where
        Self: 'a,
    {
        future::ProvideCredentials::new(self.ask())
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use tokio::time::{Instant, timeout};

    use super::*;

    const GIVEN: &str = r#"{"version":1,"AccessKeyId":"AKIA","SecretAccessKey":"s","Expiration":"2027-01-01T00:00:00+00:00"}"#;

    fn process(command: &str) -> Process {
        let command = command.to_owned();
        Process { command }
    }

    async fn words(command: &str) -> String {
        let error = process(command).ask().await.unwrap_err();
        crate::text::chain(&error)
    }

    #[tokio::test]
    async fn what_a_program_prints_is_credentials_or_a_sentence_without_them() {
        let given = process(&format!("echo '{GIVEN}'")).ask().await.unwrap();
        assert_eq!(
            (given.access_key_id(), given.secret_access_key()),
            ("AKIA", "s")
        );
        let end: Timestamp = given.expiry().unwrap().try_into().unwrap();
        assert_eq!(end.to_string(), "2027-01-01T00:00:00Z");
        for (command, said) in [
            ("echo secret", "it is not a JSON object"),
            ("echo '{\"Version\":2}'", "Version is not 1"),
            ("echo '{\"Version\":1}'", "AccessKeyId is missing"),
            (
                "echo not logged in >&2; exit 3",
                "exit status: 3: not logged in",
            ),
        ] {
            let words = words(command).await;
            assert!(words.ends_with(said), "{words}");
        }
    }

    #[tokio::test]
    async fn a_program_that_prints_without_end_is_ended() {
        let began = Instant::now();
        let words = words("exec yes").await;
        assert!(words.contains("printed more than"), "{words}");
        let words = self::words("yes >&2").await;
        assert!(
            words.contains("no credentials") || words.contains("ended with"),
            "{words}"
        );
        assert!(began.elapsed() < Duration::from_secs(5));
    }

    #[tokio::test]
    async fn a_program_that_left_something_running_has_answered_when_it_ended() {
        let began = Instant::now();
        let command = format!("sleep 5 & echo '{GIVEN}'");
        assert!(process(&command).ask().await.is_ok());
        assert!(began.elapsed() < Duration::from_secs(4));
    }

    #[tokio::test]
    async fn a_program_that_is_not_waited_for_any_more_ends_with_all_that_it_started() {
        let dir = tempfile::tempdir().unwrap();
        let noted = dir.path().join("pids");
        let command = format!(
            "sleep 600 & echo $! >> {0}; echo $$ >> {0}; wait",
            noted.display()
        );
        let asked = process(&command);
        assert!(timeout(Duration::from_secs(1), asked.ask()).await.is_err());
        let pids = std::fs::read_to_string(&noted).unwrap();
        assert_eq!(pids.lines().count(), 2);
        let lives = |pid: &str| {
            let stat = std::fs::read_to_string(Path::new("/proc").join(pid).join("stat"));
            stat.is_ok_and(|stat| !stat.contains(") Z "))
        };
        let began = Instant::now();
        while pids.lines().any(lives) {
            assert!(began.elapsed() < Duration::from_secs(5), "{pids}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}
