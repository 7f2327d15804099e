//! Tests of `worker.rs`.

use super::*;

#[test]
fn failures_are_counted_by_message_until_it_is_gone_and_memory_is_bounded() {
    let failures = Failures::default();
    let counted = ["a", "a", "b", "a"].map(|message| failures.count(message));
    assert_eq!(counted, [1, 2, 1, 3]);
    failures.forget("a");
    assert_eq!(failures.count("a"), 1);
    for n in 0..=Failures::MAX_KEPT {
        failures.count(&n.to_string());
    }
    assert!(failures.by_message().len() <= Failures::MAX_KEPT);
}
