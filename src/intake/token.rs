//! The tokens of callers: one a line of a file, which is read again when it changes.

use std::path::PathBuf;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use aws_lc_rs::constant_time::verify_slices_are_equal;
use sha2::{Digest, Sha256};
use tokio::time::sleep;

use crate::bounds::{MAX_INTAKE_TOKEN_BYTES, MAX_INTAKE_TOKENS, MIN_INTAKE_TOKEN_BYTES};
use crate::config::IntakeConfig;
use crate::config_error::ConfigError;
use crate::mounted;
use crate::text::chain;

/// How often the file is read.
const READ_EVERY: Duration = Duration::from_secs(5);

/// The key that names the file.
const KEY: &str = "intake.token_file";

/// A file with tokens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TokenFile(PathBuf);

/// The hashes of the tokens: neither their bytes nor their lengths can be measured by the time of a comparison.
#[derive(Clone, PartialEq, Eq)]
struct TokenHashes(Vec<[u8; 32]>);

impl std::fmt::Debug for TokenHashes {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("TokenHashes(****)")
    }
}

impl TokenFile {
    /// The file that the configuration names.
    ///
    /// # Errors
    /// It names none.
    pub fn of(config: &IntakeConfig) -> Result<Self, ConfigError> {
        match &config.token_file {
            Some(path) => Ok(Self(path.clone())),
            None => Err(ConfigError::value(
                KEY,
                "is missing: name a file with the token that callers send",
            )),
        }
    }

    /// How many tokens the file has, if all of them can be used.
    ///
    /// # Errors
    /// Why the file cannot be used.
    pub fn check(&self) -> Result<usize, ConfigError> {
        self.read().map(|tokens| tokens.0.len())
    }

    fn read(&self) -> Result<TokenHashes, ConfigError> {
        let path = self.0.display();
        let text = mounted::read_text(&self.0).map_err(|error| {
            let unreadable = |error: &_| format!("names {path}, which cannot be read: {error}");
            ConfigError::unread(KEY, error, unreadable)
        })?;
        let wrong =
            |reason: String| Err(ConfigError::value(KEY, format!("names {path}, {reason}")));
        let lines = text.lines().map(str::trim).enumerate();
        let lines = lines.filter(|(_, line)| !line.is_empty());
        let mut tokens = Vec::new();
        for (index, line) in lines {
            let is_token = |c: u8| c.is_ascii_graphic();
            let lengths = MIN_INTAKE_TOKEN_BYTES..=MAX_INTAKE_TOKEN_BYTES;
            if !line.bytes().all(is_token) || !lengths.contains(&line.len()) {
                return wrong(format!(
                    "whose line {} is no token: write {MIN_INTAKE_TOKEN_BYTES} to {MAX_INTAKE_TOKEN_BYTES} letters, digits and signs without spaces, such as from `openssl rand -hex 32`",
                    index + 1
                ));
            }
            tokens.push(Sha256::digest(line.as_bytes()).into());
        }
        match tokens.len() {
            0 => wrong(
                "which has no token: write one, such as from `openssl rand -hex 32`".to_owned(),
            ),
            1..=MAX_INTAKE_TOKENS => Ok(TokenHashes(tokens)),
            count => wrong(format!(
                "which has {count} tokens: at most {MAX_INTAKE_TOKENS} are allowed"
            )),
        }
    }
}

/// The tokens of the file as it was when it could be used last.
#[derive(Debug)]
pub(super) struct FollowedTokens {
    file: TokenFile,
    tokens: RwLock<Arc<TokenHashes>>,
}

impl FollowedTokens {
    /// # Errors
    /// Why the file cannot be used.
    pub(super) fn open(file: TokenFile) -> Result<Self, ConfigError> {
        let tokens = RwLock::new(Arc::new(file.read()?));
        Ok(Self { file, tokens })
    }

    fn tokens(&self) -> Arc<TokenHashes> {
        let tokens = self.tokens.read().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(&tokens)
    }

    /// Whether a token is among them. All of them are compared, each in the same time.
    pub(super) fn have(&self, token: &[u8]) -> bool {
        let hash = Sha256::digest(token);
        let tokens = self.tokens();
        let is_it = |ours: &&[u8; 32]| verify_slices_are_equal(*ours, &hash).is_ok();
        let found = tokens.0.iter().filter(is_it).count();
        found > 0
    }

    /// Reads the file now and then, while it is polled. While it cannot be used, the tokens before stay in use.
    pub(super) async fn follow(&self) {
        let mut is_told = false;
        loop {
            sleep(READ_EVERY).await;
            let file = self.file.clone();
            let Ok(read) = tokio::task::spawn_blocking(move || file.read()).await else {
                continue;
            };
            match read {
                Ok(read) => {
                    is_told = false;
                    if *self.tokens() != read {
                        let count = read.0.len();
                        let mut tokens =
                            self.tokens.write().unwrap_or_else(PoisonError::into_inner);
                        *tokens = Arc::new(read);
                        drop(tokens);
                        tracing::info!(tokens = count, "the tokens of the intake were replaced");
                    }
                }
                Err(error) if !is_told => {
                    is_told = true;
                    tracing::error!(
                        error = chain(&error),
                        "could not replace the tokens of the intake; the previous ones stay in use"
                    );
                }
                Err(_) => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_line_is_a_token_and_a_weak_one_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("tokens");
        let file = TokenFile(path.clone());
        let (first, second) = ("a".repeat(32), "b".repeat(20));
        std::fs::write(&path, format!("{first}\n\n  {second}\r\n")).unwrap();
        let tokens = FollowedTokens::open(file.clone()).unwrap();
        for (token, is_one) in [
            (&*first, true),
            (&*second, true),
            ("", false),
            (&first[1..], false),
            (&*format!("{first}a"), false),
        ] {
            assert_eq!(tokens.have(token.as_bytes()), is_one, "{token}");
        }
        for (text, word) in [
            ("", "has no token"),
            ("short", "line 1 is no token"),
            ("\nspaces are not allowed here\n", "line 2 is no token"),
        ] {
            std::fs::write(&path, text).unwrap();
            let said = file.check().unwrap_err().to_string();
            assert!(said.contains(word), "{said}");
            assert!(text.is_empty() || !said.contains(text.trim()), "{said}");
        }
        std::fs::remove_file(&path).unwrap();
        assert!(
            file.check()
                .unwrap_err()
                .to_string()
                .contains("intake.token_file")
        );
    }
}
