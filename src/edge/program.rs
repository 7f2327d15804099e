//! Runs a program of the operator that answers with what it prints: credentials, a token, or a word about a mail.
//!
//! Its output is limited. It is killed with its process group when the future is dropped, so that programs that hang do not
//! accumulate.

use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process_group};
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::process::Command;

use crate::redact::redacted;

/// The maximum output of a program, in bytes. Session tokens have a few thousand.
const MAX_BYTES: u64 = 64 * 1024;

/// How much of its error output is read, in bytes.
const MAX_WORDS_BYTES: usize = 500;

/// How long output is awaited after the program has ended: a child process may hold the pipe open.
const LAST_WORDS: Duration = Duration::from_millis(500);

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

/// What a program with these arguments and additional variables printed, if it ended with success.
///
/// # Errors
/// What went wrong, as the continuation of a sentence about the program. It has the program's own words from its error output,
/// without secrets, and nothing of what it printed.
pub(crate) async fn output(
    program: &Path,
    arguments: &[&str],
    variables: &[(&str, &str)],
) -> Result<Vec<u8>, String> {
    let child = Command::new(program)
        .args(arguments)
        .envs(variables.iter().copied())
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

/// Reads up to a limit. The rest is not read, so that its writer blocks until it is killed with its group.
async fn read_to(from: Option<impl AsyncRead + Unpin>, into: &mut Vec<u8>, most: u64) {
    if let Some(from) = from {
        drop(from.take(most).read_to_end(into).await);
    }
}
