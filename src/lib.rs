//! Handout hands files out of S3 as links.
//!
//! Somebody puts a *job* on a queue: "give what lies under this prefix to these people". This is what becomes of it,
//! and each word is a module:
//!
//! ```text
//! Message ─parse▶ Job ─draw▶ Plan ─gather▶ Links ─record▶ AuditedLinks ─render▶ Rendered ─deliver▶ JobReport ─settle▶
//!  queue     job        plan      links       audit           render          deliver          worker
//! ```
//!
//! Four promises decide every argument about the code. A link works for as long as the mail says ([`plan::expiry`]).
//! Nobody is mailed twice, and no job is lost, whatever crashes ([`ledger`]). No link leaves without a durable line that
//! says who got it ([`audit`]): [`render`] takes [`audit::AuditedLinks`] and nothing else. And signing is cheap enough
//! ([`presign`]) that everybody gets links of their own.
//!
//! Start with [`distribute`]: it is the story, step by step.

// The story, in the order in which it happens.
pub mod audit;
pub mod deliver;
pub mod distribute;
pub mod job;
pub mod links;
pub(crate) mod mail_trial;
pub mod media;
pub mod mounted;
pub mod plan;
pub mod preview;
pub mod publication;
pub mod render;
pub mod report;
pub mod run;

// The machine that runs it.
pub mod assemble;
pub mod bounds;
pub mod cancellation;
pub mod clock;
pub mod config;
pub mod config_error;
pub mod environment;
pub mod error;
pub mod failpoint;
pub mod keyring;
pub mod ledger;
pub(crate) mod pem;
pub mod progress;
pub mod quantity;
pub mod rate_limit;
pub mod redact;
pub mod results;
pub(crate) mod stamp;
pub mod telemetry;
pub mod text;
pub mod worker;

// The edges, where the outside begins.
pub mod database;
pub mod edge;
pub mod queue;
pub mod store;
