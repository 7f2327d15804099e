//! The ZIP of all files that a job asks for.

use presign::disposition::clean_name;

use super::policy::Policy;
use super::{PlanError, PublishTarget, Refusal, fill, overflow};
use crate::bounds::MAX_TITLE_BYTES;
use crate::job::{Job, PhraseScope, ZipOrder};

/// The name of a ZIP about which nothing is known.
const UNNAMED: &str = "files";

/// The ZIP that will be published, or several.
#[derive(Debug, Clone)]
pub struct ZipPlan {
    /// Its name without the extension.
    pub stem: String,
    /// Where it goes; `None` if it is stored nowhere, and the portal makes it as it is downloaded.
    pub place: Option<PublishTarget>,
    /// The most bytes of one ZIP.
    pub split_bytes: Option<u64>,
}

impl ZipPlan {
    /// Whether links of the portal open it, in a job whose links are the portal's. A web server serves one in a directory.
    pub const fn is_opened_by_portal(&self) -> bool {
        matches!(self.place, None | Some(PublishTarget::Bucket(..)))
    }

    /// The ZIP of a job, at an allowed place.
    pub(super) fn new(
        order: &ZipOrder,
        place: Option<PublishTarget>,
        scope: &PhraseScope<'_>,
        named: (&Job, Option<&str>, Option<&str>),
        policy: &Policy,
    ) -> Result<Self, PlanError> {
        let (job, page_title, topic) = named;
        let name = order.name.as_ref();
        let name = name.map(|name| fill("zip.name", name, scope, MAX_TITLE_BYTES));
        let name = match name.transpose()? {
            Some(name) => name,
            None => {
                let title = match page_title.map(ToOwned::to_owned) {
                    None => overflow::title(job, policy)?,
                    titled => titled,
                };
                let title = title.or_else(|| topic.map(ToOwned::to_owned));
                title.unwrap_or_else(|| UNNAMED.to_owned())
            }
        };
        let name = name.trim();
        let stem = match name
            .len()
            .checked_sub(4)
            .and_then(|at| name.split_at_checked(at))
        {
            Some((stem, end)) if end.eq_ignore_ascii_case(".zip") => stem,
            Some(_) | None => name,
        };
        let stem = match stem.is_empty() {
            true => UNNAMED.to_owned(),
            false => clean_name(stem),
        };
        if let Some(place) = &place
            && policy.triggers_by(place, &[&format!("{stem}.zip")])
        {
            let target = place.to_string();
            return Err(Refusal::Loop { target }.into());
        }
        Ok(Self {
            stem,
            place,
            split_bytes: order.split.map(|split| split.as_bytes()),
        })
    }
}
