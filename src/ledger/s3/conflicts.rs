//! Writes that a store rejects because of another request for the same key, one key after the other: no writes at all.

use std::sync::{Arc, Mutex, PoisonError};

use crate::edge::EdgeError;

/// The codes of a conflict with another request for the same key.
/// <https://docs.aws.amazon.com/AmazonS3/latest/userguide/conditional-writes.html#conditional-error-response>
const CODES: [&str; 2] = ["ConditionalRequestConflict", "OperationAborted"];

/// The key whose write failed last because of a conflict, if no write was carried out since. Clones share it.
#[derive(Debug, Clone, Default)]
pub(super) struct Conflicts {
    key: Arc<Mutex<Option<String>>>,
}

impl Conflicts {
    /// Records how a write ended after all its attempts. Returns what the store said if the write before, of another key, ended in
    /// a conflict too: two processes may write one key at the same time, and no other process writes both for so long.
    pub(super) fn note<T>(&self, key: &str, put: &Result<T, EdgeError>) -> Option<String> {
        let mut last = self.key.lock().unwrap_or_else(PoisonError::into_inner);
        let Err(error) = put else {
            *last = None;
            return None;
        };
        let answer = error.answer.as_deref()?;
        let code = answer.code.as_deref().filter(|code| CODES.contains(code))?;
        let is_other = last.as_deref().is_some_and(|last| last != key);
        *last = Some(key.to_owned());
        is_other.then(|| format!("status {}: {code}", answer.status))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::edge::{ErrorKind, ServiceAnswer};

    fn ended(status: u16, code: &str) -> Result<(), EdgeError> {
        let error = EdgeError::new("write", ErrorKind::Failed, "");
        let answer = ServiceAnswer {
            status,
            code: Some(code.to_owned()),
            place: None,
            retry_after: None,
            section: None,
        };
        Err(EdgeError {
            answer: Some(Box::new(answer)),
            ..error
        })
    }

    #[test]
    fn conflicts_on_two_keys_in_a_row_are_an_outage_and_on_one_key_are_not() {
        let conflicts = Conflicts::default();
        let conflict = || ended(409, "ConditionalRequestConflict");
        assert_eq!(conflicts.note("a", &conflict()), None);
        assert_eq!(conflicts.note("a", &conflict()), None);
        assert_eq!(conflicts.note("b", &Ok(())), None);
        assert_eq!(
            conflicts.note("b", &conflict()),
            None,
            "a write came between"
        );
        assert_eq!(conflicts.note("c", &ended(500, "InternalError")), None);
        let said = conflicts.note("c", &conflict());
        assert_eq!(
            said.as_deref(),
            Some("status 409: ConditionalRequestConflict")
        );
    }
}
