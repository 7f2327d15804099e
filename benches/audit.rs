//! The audit log, measured.
fn main() {}
