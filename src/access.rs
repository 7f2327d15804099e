//! Access reports: who opened what, read from the logs of stores and joined with the audit log.
//!
//! A store logs each request with its URL, and each link has ids signed into its URL: `x-handout` is the link, `x-handout-open` an open
//! of the portal. [`parse`] reads the lines of all formats, [`known`] has the ids that this installation issued, and [`join`] keeps
//! what both agree on in [`book`]. [`opens`] answers questions with [`verdict`] (what arrived) and [`person`] (who asked for it).
//!
//! Only the target of a request counts. A Referer or a User-Agent can have any text, so an id in them is ignored.

pub mod book;
pub mod client;
pub mod events;
pub mod identity;
pub mod join;
pub mod known;
pub mod lines;
pub mod opens;
mod packed;
pub mod page;
pub mod parse;
pub mod person;
pub mod reading;
pub mod row;
mod trail;
pub mod verdict;
