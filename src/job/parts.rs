//! A job in parts: each recipient gets what lies under their own prefix or key, as the part of the job that is about them.
//!
//! A part is a job of its own, with one recipient. Its id follows from the job's id and the recipient, so that each delivery of the
//! job makes the same parts, and the records that keep a job from being done twice keep each part from it.

use std::sync::Arc;

use super::place::{self, MAX_ID_IN_PARTS_BYTES};
use super::{
    EmailOrder, Job, JobId, ListName, ParseJobError, Phrase, PublishTo, Recipient, Selection,
    Visibility, parse_field,
};
use crate::bounds::MAX_KEYS;

/// The job that a part belongs to.
#[derive(Debug, Clone)]
pub struct PartOf {
    /// The job's id.
    pub job: JobId,
    /// The list that the recipient is from.
    pub list: Option<ListName>,
}

impl Job {
    /// Whether each recipient gets a part of the job: its objects, its page or its places name the recipient, or its recipients are
    /// those of a list.
    pub fn is_in_parts(&self) -> bool {
        self.part.is_none() && (self.list().is_some() || self.field_of_recipient().is_some())
    }

    /// The list with the job's recipients, if it names one.
    pub fn list(&self) -> Option<&ListName> {
        self.email.as_ref().and_then(|email| email.list.as_ref())
    }

    /// The first field that names the recipient and that the recipients of a whole job would share.
    fn field_of_recipient(&self) -> Option<&'static str> {
        let prefix = |place: Option<&PublishTo>| match place {
            Some(PublishTo::Bucket(_, prefix)) => prefix.names_recipient(),
            Some(PublishTo::Dir(_)) | None => false,
        };
        let named = |phrase: Option<&Phrase>| phrase.is_some_and(Phrase::names_recipient);
        let (gallery, zip) = (self.gallery.as_ref(), self.zip.as_ref());
        let manifest = self.manifest.as_ref();
        let message = gallery.and_then(|page| page.message.as_ref());
        let fields = [
            (
                "from.prefix",
                matches!(&self.from.selection, Selection::Prefix(prefix, _) if prefix.names_recipient()),
            ),
            (
                "from.keys",
                matches!(self.from.selection, Selection::KeysOfRecipient(_)),
            ),
            (
                "gallery.title",
                named(gallery.and_then(|page| page.title.as_ref())),
            ),
            (
                "gallery.message",
                message.is_some_and(|message| message.texts().any(Phrase::names_recipient)),
            ),
            (
                "gallery.publish.prefix",
                prefix(gallery.and_then(|page| page.publish.as_ref())),
            ),
            (
                "gallery.renditions.prefix",
                prefix(gallery.and_then(|page| page.renditions.as_ref())),
            ),
            (
                "manifest.publish.prefix",
                prefix(manifest.map(|list| &list.publish)),
            ),
            ("zip.name", named(zip.and_then(|zip| zip.name.as_ref()))),
            (
                "zip.publish.prefix",
                prefix(zip.and_then(|zip| zip.publish.as_ref())),
            ),
        ];
        let mut fields = fields.into_iter();
        fields.find_map(|(field, names)| names.then_some(field))
    }

    /// The job without its recipients, of which [`part`](Self::part) makes the parts: each would have a copy of all recipients.
    #[must_use]
    pub fn without_recipients(&self) -> Self {
        let email = self.email.as_ref().map(|email| EmailOrder {
            to: Vec::new(),
            reply_to: email.reply_to.clone(),
            list_id: email.list_id.clone(),
            subject: email.subject.clone(),
            message: email.message.clone(),
            template: email.template.clone(),
            relay: email.relay.clone(),
            list: email.list.clone(),
            cc: Vec::new(),
            ..*email
        });
        Self {
            id: self.id.clone(),
            time_zone: self.time_zone.clone(),
            from: self.from.clone(),
            links: self.links.clone(),
            email,
            gallery: self.gallery.clone(),
            manifest: self.manifest.clone(),
            zip: self.zip.clone(),
            vars: self.vars.clone(),
            rehearsal: self.rehearsal.clone(),
            event: self.event.clone(),
            part: None,
            // The event is served when the whole job is.
            occurrence: None,
            body_sha256: self.body_sha256.clone(),
            message: Arc::clone(&self.message),
            ..*self
        }
    }

    /// The job with its first recipients alone; `None` if it has no others.
    pub fn of_first(&self, most: usize) -> Option<Self> {
        let email = self.email.as_ref()?;
        if email.recipients().count() <= most {
            return None;
        }
        let mut job = self.clone();
        if let Some(email) = &mut job.email {
            email.to.truncate(most);
            email.cc.truncate(most - email.to.len());
        }
        Some(job)
    }

    /// The recipient's part of a job that has no recipients. `rid` is the recipient's id.
    #[must_use]
    pub fn part(&self, rid: &str, recipient: Recipient) -> Self {
        let mut part = self.clone();
        part.id = self.id.part(rid);
        if let Some(email) = &mut part.email {
            part.part = Some(PartOf {
                job: self.id.clone(),
                list: email.list.take(),
            });
            email.to.push(recipient);
        }
        part
    }
}

/// Whether the text of a key is a phrase that names the recipient. Other keys are literal.
pub(super) fn names_recipient(key: &str) -> bool {
    key.contains("{{") && key.parse::<Phrase>().is_ok_and(|key| key.names_recipient())
}

/// Reads keys of which one names the recipient.
pub(super) fn key_phrases(keys: &[String]) -> Result<Vec<Phrase>, ParseJobError> {
    if keys.len() > MAX_KEYS {
        let reason = format!(
            "names {} keys: at most {MAX_KEYS} are allowed; give from.prefix, or make several jobs of it",
            keys.len()
        );
        return Err(ParseJobError::field("from.keys", reason));
    }
    let keys = keys.iter().enumerate().map(|(index, text)| {
        let field = format!("from.keys[{index}]");
        place::refuse_control(text).map_err(|error| ParseJobError::field(&field, error))?;
        parse_field(&field, text)
    });
    keys.collect()
}

/// Checks a job that may be in parts: nothing of it may need all recipients at once, and no prefix may begin with another
/// recipient's.
pub(super) fn check(job: &Job) -> Result<(), ParseJobError> {
    let field = job.field_of_recipient();
    if field.is_none() && job.list().is_none() {
        return Ok(());
    }
    let why = field.map_or_else(
        || "email.to names a list".to_owned(),
        |field| format!("{field} names the recipient"),
    );
    let wrong = |field: &str, reason: String| Err(ParseJobError::field(field, reason));
    let Some(email) = &job.email else {
        let reason = format!("is missing, and {why}: name the recipients in email.to");
        return wrong("email", reason);
    };
    let length = job.id.as_str().len();
    if length > MAX_ID_IN_PARTS_BYTES {
        let reason = format!(
            "has {length} bytes: at most {MAX_ID_IN_PARTS_BYTES} are allowed where {why}, since each recipient's part has a longer id"
        );
        return wrong("id", reason);
    }
    if !email.cc.is_empty() {
        let reason = format!(
            "is set, and {why}: each recipient gets files of their own, which a copy would show to others; leave it out"
        );
        return wrong("email.cc", reason);
    }
    if email.visibility == Visibility::To {
        let reason =
            format!("is \"to\", and {why}: no mail shows the other recipients; leave it out");
        return wrong("email.visibility", reason);
    }
    let separated = |field: &str, phrase: &Phrase, to_its_end: bool| {
        if phrase.separates_recipients(to_its_end) {
            return Ok(());
        }
        let reason = "names the recipient without a \"/\" after the name, as in \"customers/{{recipient.vars.customer}}/\": the prefix of customer 1 would have the files of customer 12";
        Err(ParseJobError::field(field, reason))
    };
    match &job.from.selection {
        Selection::Prefix(prefix, _) => separated("from.prefix", prefix, true)?,
        Selection::KeysOfRecipient(keys) => {
            for (index, key) in keys.iter().enumerate() {
                separated(&format!("from.keys[{index}]"), key, false)?;
            }
        }
        Selection::Keys(_) => {}
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use jiff::tz::TimeZone;
    use serde_json::{Value, json};

    fn job(change: impl FnOnce(&mut Value)) -> Value {
        let mut job = json!({
            "v": 1, "id": "weekly",
            "from": { "connection": "local", "bucket": "reports", "prefix": "customers/{{recipient.vars.customer}}/" },
            "email": { "to": [{ "address": "ann@acme.example", "vars": { "customer": "4711" } }, "bo@acme.example"] },
        });
        change(&mut job);
        job
    }

    fn read(change: impl FnOnce(&mut Value)) -> Result<Job, String> {
        Job::parse(&job(change).to_string()).map_err(|error| error.to_string())
    }

    #[test]
    fn a_job_is_in_parts_if_what_its_recipients_would_share_names_the_recipient() {
        assert!(read(|_| ()).unwrap().is_in_parts());
        let shared = |job: &mut Value| {
            job["from"]["prefix"] = json!("all/");
            job["email"]["subject"] = json!("For {{recipient.name}}");
        };
        assert!(!read(shared).unwrap().is_in_parts());
        let changes: [fn(&mut Value); 4] = [
            |job| job["email"]["to"] = json!({ "list": "customers" }),
            |job| {
                job["from"] = json!({ "connection": "local", "bucket": "reports", "keys": ["a/{{recipient.name}}.pdf"] });
            },
            |job| {
                job["gallery"] =
                    json!({ "title": "{{recipient.name}}", "publish": { "bucket": "pages" } });
            },
            |job| {
                job["zip"] =
                    json!({ "publish": { "bucket": "out", "prefix": "{{recipient.name}}/" } });
            },
        ];
        for change in changes {
            let job = read(|job| {
                shared(job);
                change(job);
            });
            let job = job.unwrap();
            assert!(job.is_in_parts());
            let part = job
                .without_recipients()
                .part(&"0".repeat(32), Recipient::parse("a@x.example").unwrap());
            assert!(!part.is_in_parts());
        }
        let literal = read(|job| {
            job["from"] =
                json!({ "connection": "local", "bucket": "reports", "keys": ["{{literal}}"] });
        });
        assert!(matches!(
            literal.unwrap().from.selection,
            Selection::Keys(_)
        ));
    }

    #[test]
    fn a_part_has_one_recipient_whom_its_phrases_name() {
        let job = read(|job| job["gallery"] = json!({ "title": "{{job.id}} {{recipient.vars.customer}}", "publish": { "bucket": "pages" } })).unwrap();
        let ann = job.email.as_ref().unwrap().to[0].clone();
        let part = job.without_recipients().part(&"0a".repeat(16), ann);
        assert_eq!(part.id.whole(), Some(job.id));
        assert_eq!(part.email.as_ref().unwrap().to.len(), 1);
        let title = part.gallery.as_ref().unwrap().title.as_ref().unwrap();
        let title = title.fill(&part.scope(&TimeZone::UTC), 100);
        assert_eq!(title.unwrap(), "weekly 4711");
    }

    #[test]
    fn what_needs_all_recipients_or_mixes_their_prefixes_is_refused() {
        type Change = fn(&mut Value);
        let table: [(Change, &str); 8] = [
            (
                |job| job["from"]["prefix"] = json!("customers/{{recipient.vars.customer}}"),
                "the job's field from.prefix names the recipient without a \"/\" after the name",
            ),
            (
                |job| job["from"]["prefix"] = json!("{{recipient.vars.a}}{{recipient.vars.b}}/"),
                "without a \"/\"",
            ),
            (
                |job| job["from"]["prefix"] = json!("{{recipient.vars.a}}-{{recipient.name}}/"),
                "without a \"/\"",
            ),
            (
                |job| job["email"]["cc"] = json!(["boss@acme.example"]),
                "the job's field email.cc is set, and from.prefix names the recipient",
            ),
            (
                |job| job["email"]["visibility"] = json!("to"),
                "the job's field email.visibility is \"to\"",
            ),
            (
                |job| job["id"] = json!("i".repeat(219)),
                "the job's field id has 219 bytes: at most 218 are allowed",
            ),
            (
                |job| job["email"]["to"] = json!({ "list": "a b" }),
                "the job's field email.to.list holds the character ' '",
            ),
            (
                |job| {
                    job["email"] = Value::Null;
                    job["manifest"] = json!({ "publish": { "bucket": "out", "prefix": "x/" } });
                },
                "the job's field email is missing, and from.prefix names the recipient",
            ),
        ];
        for (change, wanted) in table {
            let error = read(change).unwrap_err();
            assert!(error.contains(wanted), "{wanted}: {error}");
        }
        let fine = read(|job| job["from"]["prefix"] = json!("{{recipient.vars.a}}-{{job.id}}/x"));
        assert!(fine.is_ok());
    }
}
