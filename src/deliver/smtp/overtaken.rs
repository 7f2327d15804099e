//! The mails that gave up a connection without a reply while another connection got replies.
//!
//! A mail does so once: a relay may take minutes over one address. Another mail to the same recipient may do so too, since its
//! connection may have died in another outage.

use std::collections::{HashMap, HashSet};
use std::hash::{DefaultHasher, Hasher};

use super::refusals::Addressee;

/// How many are remembered.
const MAX_OVERTAKEN: usize = 10_000;

/// The job of a mail, as a hash.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct JobHash(u64);

impl JobHash {
    pub(super) fn of(job: &str) -> Self {
        let mut hasher = DefaultHasher::new();
        hasher.write(job.as_bytes());
        Self(hasher.finish())
    }
}

/// The mails of a relay that gave up a connection.
#[derive(Debug, Default)]
pub(super) struct OvertakenMails {
    jobs: HashMap<Addressee, HashSet<JobHash>>,
    count: usize,
}

impl OvertakenMails {
    pub(super) fn has(&self, (to, job): (Addressee, JobHash)) -> bool {
        self.jobs.get(&to).is_some_and(|jobs| jobs.contains(&job))
    }

    pub(super) fn add(&mut self, (to, job): (Addressee, JobHash)) {
        if self.count >= MAX_OVERTAKEN {
            *self = Self::default();
        }
        if self.jobs.entry(to).or_default().insert(job) {
            self.count += 1;
        }
    }

    /// Forgets the mails to a recipient.
    pub(super) fn forget(&mut self, to: Addressee) {
        let forgotten = self.jobs.remove(&to);
        self.count -= forgotten.map_or(0, |jobs| jobs.len());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use lettre::address::Envelope;

    #[test]
    fn each_mail_to_a_recipient_gives_up_one_connection_until_a_mail_to_them_is_accepted() {
        let to = |address: &str| {
            Addressee::of(&Envelope::new(None, vec![address.parse().unwrap()]).unwrap())
        };
        let (ann, bo) = (to("ann@acme.example"), to("bo@acme.example"));
        let [first, second] = ["a", "b"].map(JobHash::of);
        let mut overtaken = OvertakenMails::default();
        for mail in [(ann, first), (ann, first), (bo, first)] {
            overtaken.add(mail);
        }
        assert!(overtaken.has((ann, first)));
        assert!(!overtaken.has((ann, second)), "another job's mail");
        overtaken.forget(ann);
        assert!(!overtaken.has((ann, first)));
        assert!(overtaken.has((bo, first)));
        overtaken.forget(bo);
        assert_eq!(overtaken.count, 0);
        for job in 0..=MAX_OVERTAKEN {
            overtaken.add((ann, JobHash::of(&job.to_string())));
        }
        assert_eq!(overtaken.count, 1);
    }
}
