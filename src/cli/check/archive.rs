//! Checks the archive of the audit log: its bucket takes segments, and locks them if it is asked to.

use std::io;

use handout::config::{AuditArchivePlace, Config};
use handout::links::connection::Connections;
use handout::store::ErrorKind;
use handout::store::s3::WriteTrial;
use handout::text::chain;

use super::report::{CheckOutcome, CheckReport, bounded};

/// Checks the bucket without putting a segment there.
pub(super) async fn check(
    config: &Config,
    connections: &Connections,
    report: &CheckReport,
) -> io::Result<()> {
    // Errors of the configuration were reported.
    let Ok(Some(place)) = config.audit_archive() else {
        return Ok(());
    };
    let what = format!("audit archive s3://{}/{}", place.bucket, place.prefix);
    report.look(&*what, takes(connections, &place)).await?;
    let Some(connection) = connections.get(&place.connection) else {
        return Ok(());
    };
    if config.audit.archive_lock.is_none() {
        return Ok(());
    }
    match bounded(connection.s3.has_object_lock(&place.bucket)).await {
        Ok(Ok(true)) => report.tell(what, Ok("locks objects (Object Lock)".to_owned())),
        Ok(Ok(false)) => {
            let reason = "the bucket has no Object Lock, which audit.archive_lock needs: create a bucket that has it, or leave the key out";
            report.tell(what, Err(reason.into()))
        }
        Ok(Err(error)) if error.fact == ErrorKind::Denied => report.warn(
            what,
            format!(
                "{} may not ask whether the bucket has Object Lock, which takes s3:GetBucketObjectLockConfiguration: {}",
                place.connection,
                chain(&error)
            ),
        ),
        Ok(Err(error)) => report.tell(what, Err(error.into())),
        Err(error) => report.tell(what, Err(error)),
    }
}

async fn takes(connections: &Connections, place: &AuditArchivePlace) -> CheckOutcome {
    let AuditArchivePlace {
        connection: name,
        bucket,
        prefix,
    } = place;
    let connection = connections
        .get(name)
        .ok_or_else(|| format!("unknown connection {name}"))?;
    Ok(match connection.s3.try_put(bucket, prefix).await? {
        WriteTrial::Taken => format!("takes the segments that {name} puts there"),
        WriteTrial::Left(key) => format!(
            "takes the segments that {name} puts there; the server ignores If-Match and Content-MD5, so this check left s3://{bucket}/{key} there: remove it"
        ),
    })
}
