//! Sessions of jobs: a connection with `assume_role_session = "job"` signs each job's links with a session of its own.
//!
//! A policy can name a session, so that the links of one job can be revoked alone. Each session costs a request to STS; the store
//! and the portal go on with the session that all jobs share.

use std::collections::VecDeque;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use super::credentials::{CredentialSource, Origin};
use crate::bounds::MAX_JOB_SESSIONS;
use crate::job::session_name::session_name;

/// The origin of credentials that have a session.
pub(crate) trait SessionOrigin: Send + Sync + fmt::Debug {
    /// The same origin with another name of the session.
    fn of_session(&self, session: &str) -> Arc<dyn Origin>;
}

/// The sessions of jobs, the one that was used last at the end. Clones share them.
#[derive(Debug, Clone)]
pub(crate) struct JobSessions {
    shared: CredentialSource,
    origin: Arc<dyn SessionOrigin>,
    kept: Arc<Mutex<VecDeque<(String, CredentialSource)>>>,
}

impl JobSessions {
    /// No sessions yet; `shared` is the source whose health and clock they share.
    pub(crate) fn new(shared: CredentialSource, origin: Arc<dyn SessionOrigin>) -> Self {
        Self {
            shared,
            origin,
            kept: Arc::default(),
        }
    }

    /// The source of the credentials of a job.
    pub(crate) fn of(&self, job: &str) -> CredentialSource {
        let name = session_name(job);
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let known = kept.iter().position(|(known, _)| *known == name);
        let entry = known.and_then(|at| kept.remove(at)).unwrap_or_else(|| {
            let origin = self.origin.of_session(&name);
            (name, self.shared.with_origin(origin))
        });
        // The job that was idle for longest gets another session when it signs again.
        if kept.len() >= MAX_JOB_SESSIONS {
            kept.pop_front();
        }
        let source = entry.1.clone();
        kept.push_back(entry);
        source
    }
}

#[cfg(test)]
mod tests {
    use aws_credential_types::Credentials;
    use aws_credential_types::provider::SharedCredentialsProvider;
    use jiff::Timestamp;

    use super::*;

    /// Gives each session its own name as the id of its key.
    #[derive(Debug)]
    struct Named;

    impl SessionOrigin for Named {
        fn of_session(&self, session: &str) -> Arc<dyn Origin> {
            let keys = Credentials::new(session, "secret", None, None, "test");
            Arc::new(SharedCredentialsProvider::new(keys))
        }
    }

    #[tokio::test]
    async fn each_job_has_its_session_and_their_number_is_bounded() {
        let shared = CredentialSource::new(
            "test",
            "connections.test".to_owned(),
            Named.of_session("shared"),
            None,
        );
        let sessions = JobSessions::new(shared, Arc::new(Named));
        for job in ["daily", "weekly", "daily"] {
            let kept = sessions.of(job).lasting(Timestamp::UNIX_EPOCH).await;
            assert_eq!(kept.unwrap().credentials.access_key_id(), job);
        }
        let count = || sessions.kept.lock().unwrap().len();
        assert_eq!(count(), 2);
        for number in 0..2 * MAX_JOB_SESSIONS {
            sessions.of(&format!("job-{number}"));
            sessions.of("daily");
        }
        assert_eq!(count(), MAX_JOB_SESSIONS);
        assert!(
            sessions
                .kept
                .lock()
                .unwrap()
                .iter()
                .any(|(name, _)| name == "daily")
        );
    }
}
