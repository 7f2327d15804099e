//! The body of a message that its sender put into an object, because it was too long for the queue.

use crate::assemble::Services;
use crate::cancellation::Cancellation;
use crate::edge::EdgeError;
use crate::error::JobError;
use crate::job::pointer::PayloadPointer;
use crate::job::{MAX_BODY_BYTES, ParseJobError};
use crate::links::connection::Connection;
use crate::run::delivery::Delivery;

impl Services {
    /// The body to which the body of a message points; `None` if the message is its own body, or if no configuration names the
    /// bucket. The object stays where it is.
    ///
    /// # Errors
    /// The store is down, or the object cannot be read or is no job's text.
    pub async fn payload(
        &self,
        body: &str,
        message_id: &str,
        delivery: &Delivery,
        stop: &Cancellation,
    ) -> Result<Option<String>, JobError> {
        let Some(pointer) = PayloadPointer::read(body).transpose()? else {
            return Ok(None);
        };
        let Some(connection) = self.payloads.connection_of(&pointer.bucket) else {
            return Ok(None);
        };
        let connection = self.signing.connection(connection)?;
        let edge = connection.s3.edge();
        let at = [edge.enter(message_id, self.share())?];
        let reading = stop.cut(read(connection, &pointer));
        let read = tokio::select! {
            read = reading => read?,
            outage = self.gives_way(&at, delivery) => return Err(outage.into()),
        };
        read.map(Some)
            .map_err(|error| error.or_outage(edge.outage()))
    }
}

async fn read(connection: &Connection, pointer: &PayloadPointer) -> Result<String, JobError> {
    let PayloadPointer { bucket, key } = pointer;
    let failed = |source: EdgeError| JobError::Payload {
        bucket: bucket.clone(),
        source,
    };
    let object = connection.store.head(bucket, key).await.map_err(failed)?;
    let length = usize::try_from(object.size_bytes).unwrap_or(usize::MAX);
    if length > MAX_BODY_BYTES {
        return Err(ParseJobError::TooLarge { length }.into());
    }
    if length == 0 {
        return Ok(String::new());
    }
    let bytes = connection.store.beginning(bucket, &object, length);
    let bytes = bytes.await.map_err(failed)?;
    let wrong = |reason| ParseJobError::Payload {
        bucket: bucket.clone(),
        reason,
    };
    let not_text = |_| wrong("not UTF-8: write the job as JSON in UTF-8");
    let body = String::from_utf8(bytes).map_err(not_text)?;
    match PayloadPointer::read(&body) {
        Some(_) => Err(wrong("a pointer itself: let the message point to the job").into()),
        None => Ok(body),
    }
}
