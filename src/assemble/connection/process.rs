//! A profile's `credential_process`: a program that prints credentials.
//!
//! The SDK runs such a program without limiting its output, and does not kill it when its caller gives up, so hanging programs
//! would accumulate with each request. [`program::output`] limits the output, and kills the program when the source of the
//! credentials reaches its deadline.
//!
//! This does not apply to a program behind a role of a profile (`source_profile`): the SDK runs it.

use std::fmt;
use std::path::Path;
use std::time::{Duration, SystemTime};

use aws_config::SdkConfig;
use aws_credential_types::Credentials;
use aws_credential_types::provider::error::CredentialsError;
use aws_credential_types::provider::{ProvideCredentials, future};
use jiff::Timestamp;
use serde_json::{Map, Value};

use crate::edge::program;

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
        let printed = program::output(Path::new("sh"), &["-c", &self.command], &[]).await;
        let printed = printed.map_err(failed)?;
        read(&printed).map_err(|words| failed(format!("printed no credentials: {words}")))
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
