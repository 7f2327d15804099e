//! Handout hands files out of S3 as links.
//!
//! A program puts a *job* on a queue: "give the objects under this prefix to these people". These are its steps, and
//! each word is a module:
//!
//! ```text
//! Message ─parse▶ Job ─plan▶ Plan ─gather▶ Links ─record▶ AuditedLinks ─render▶ Rendered ─deliver▶ JobReport ─settle▶
//!  queue     job        plan      links       audit           render          deliver          worker
//! ```
//!
//! Four promises decide every argument about the code. A link works for as long as the mail says ([`plan::expiry`]).
//! No recipient is mailed twice and no job is lost, whatever crashes ([`ledger`]). Every link has a durable audit line
//! that names its recipient before it leaves ([`audit`]): [`render`] takes [`audit::AuditedLinks`] and nothing else.
//! Signing is cheap enough ([`presign`]) that each recipient gets links of their own.
//!
//! Start with [`distribute`]: it has the story, step by step.

// The story, in the order in which it happens.
pub mod access;
pub mod archive;
pub mod audit;
pub mod deliver;
pub mod distribute;
pub mod job;
pub mod links;
pub(crate) mod mail_trial;
pub mod media;
pub mod mounted;
pub mod plan;
pub mod portal;
pub mod preview;
pub mod publication;
pub mod render;
pub mod renditions;
pub mod report;
pub mod run;

// The machine that runs the steps.
pub mod assemble;
pub mod bounds;
pub mod cancellation;
pub mod clock;
pub mod config;
pub mod config_error;
pub mod environment;
pub mod error;
pub mod failpoint;
pub mod feedback;
pub mod feedback_intake;
pub mod intake;
pub mod keyring;
pub mod ledger;
pub(crate) mod pem;
pub mod person_token;
pub mod portal_access;
pub mod portal_token;
pub mod progress;
pub mod quantity;
pub mod rate_limit;
pub mod redact;
pub(crate) mod repeated;
pub mod results;
pub mod schedule;
pub mod scheduler;
pub mod serving;
pub mod spans;
pub(crate) mod stamp;
pub mod telemetry;
pub mod text;
pub mod traceparent;
pub mod worker;

// The edges, where the outside begins.
pub mod database;
pub mod edge;
pub mod queue;
pub mod store;
