//! What this machine's audit log says of the revocation of a link that S3 or CloudFront answers.

use handout::access::opens::{RecordedRevocation, recorded_link};
use handout::audit::source::LogSource;
use handout::config::Config;
use presign::explain::Explanation;

/// The revocations of a link that stand; `None` if the log is not at hand, or has no line of the link.
pub(super) fn of(explanation: &Explanation, config: &Config) -> Option<Vec<RecordedRevocation>> {
    let link_id = explanation.link_id.as_deref()?;
    let source = LogSource::from(config.audit_place());
    // The log may belong to another user, or to no installation of this machine.
    let read = || recorded_link(&source, link_id);
    let recorded = tokio::task::block_in_place(read).ok()?;
    super::tell_removed(config, "revocations in them are not known");
    let recorded = recorded?;
    // Anyone can write an id into a URL.
    is_of(explanation, &recorded.key).then_some(recorded.revocations)
}

/// Whether a URL opens a key, by one of its readings. A distribution puts the path of its origin before that of the URL.
fn is_of(explanation: &Explanation, key: &str) -> bool {
    let opens = explanation.opens.as_ref();
    opens.is_some_and(|place| {
        let otherwise = place.otherwise.as_ref();
        let in_url = place.key.as_str();
        in_url == key
            || key
                .strip_suffix(in_url)
                .is_some_and(|path| path.ends_with('/'))
            || otherwise.is_some_and(|place| place.key == key)
    })
}

/// Whether stores refuse the link by a revocation: they do not ask the ledger.
pub(super) fn is_of_store(recorded: &RecordedRevocation) -> bool {
    recorded.means.is_some()
}

/// For people, below what the URL says itself.
pub(super) fn in_words(recorded: &[RecordedRevocation]) -> String {
    if recorded.is_empty() {
        return "  revoked      no, by the audit log of this machine".to_owned();
    }
    let lines = recorded.iter().map(|recorded| {
        let reason = recorded.reason.as_deref();
        let reason = reason.map_or(String::new(), |reason| format!(" ({reason})"));
        let how = match is_of_store(recorded) {
            true => "its object got the tag handout-revoked=true",
            false => "at the portal alone, so that the store goes on to answer it",
        };
        format!(
            "  revoked      at {} by {}, with its {}{reason}: {how}",
            recorded.at, recorded.by, recorded.what
        )
    });
    lines.collect::<Vec<_>>().join("\n")
}
