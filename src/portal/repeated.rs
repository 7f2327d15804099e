//! The log lines of a portal that requests repeat.

use crate::repeated::RepeatedLine;

/// The lines of a portal that requests repeat.
#[derive(Debug, Default)]
pub(super) struct PortalLines {
    /// A link could not be opened.
    pub(super) opens: RepeatedLine,
    /// A file could not be streamed.
    pub(super) streams: RepeatedLine,
    /// A page could not be made with its template.
    pub(super) templates: RepeatedLine,
    /// A refusal could not be recorded.
    pub(super) refusals: RepeatedLine,
    /// A recipient could not leave a list.
    pub(super) leaves: RepeatedLine,
    /// A reader was not signed in at an OpenID provider; each kind of cause has a line of its own.
    pub(super) sign_ins: [RepeatedLine; 5],
}
