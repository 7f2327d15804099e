//! The schedules of the configuration, each with the job of its file.

use crate::config::Config;
use crate::config_error::ConfigError;
use crate::mounted;
use crate::schedule::ScheduledJob;

impl Config {
    /// The schedules with their jobs. Reads the files of the jobs.
    ///
    /// # Errors
    ///
    /// A schedule is not valid, or the file of its job cannot be read or is no job without `id` and `scheduled_at`.
    pub fn scheduled_jobs(&self) -> Result<Vec<ScheduledJob>, ConfigError> {
        let schedules = self.schedules()?;
        let mut jobs = Vec::with_capacity(schedules.len());
        for (index, schedule) in schedules.into_iter().enumerate() {
            let key = format!("schedule[{index}].job_file");
            let path = &self.schedule[index].job_file;
            let text = mounted::read_text(path).map_err(|error| {
                ConfigError::unread(&key, error, |error| {
                    format!("names {}, which cannot be read: {error}", path.display())
                })
            })?;
            let job = ScheduledJob::parse(schedule, &text).map_err(|error| {
                ConfigError::value(
                    &key,
                    format!("names {}: the file {}", path.display(), words(&error)),
                )
            })?;
            jobs.push(job);
        }
        Ok(jobs)
    }
}

/// An error about a file's job, as the end of a sentence about the file.
fn words(error: &crate::schedule::ScheduledJobError) -> String {
    use crate::schedule::ScheduledJobError::{Job, NotAnObject, OwnField};
    match error {
        NotAnObject | OwnField(_) => error.to_string(),
        Job(error) => format!("is not a valid job: {}", crate::text::chain(error)),
    }
}
