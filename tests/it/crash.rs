//! Once, under `kill -9`: the short form of `make crash`.
//!
//! Real workers are killed at named places and at random instants, and a checker that knows nothing of them judges what they
//! left: see `tests/crash/`. Only debug builds can be killed at named places.

use std::fs;
use std::path::Path;
use std::process::Command;

use handout::failpoint::Failpoint;

use crate::support::program;
use crate::support::servers::Parts;

fn script(parts: &Parts, name: &str) -> Command {
    let mut command = parts.tool("python");
    let scripts = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/crash");
    command.arg(scripts.join(name));
    command
}

/// Plays it to its end; its words.
fn played(command: &mut Command) -> String {
    let output = command.output().unwrap();
    let words = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(
        output.status.success(),
        "{words}{}",
        String::from_utf8_lossy(&output.stderr)
    );
    words
}

#[test]
fn every_failpoint_is_a_place_in_the_code_and_known_to_the_harness() {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut code = String::new();
    let mut folders = vec![source];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            match path.is_dir() {
                true => folders.push(path),
                false => code.push_str(&fs::read_to_string(path).unwrap()),
            }
        }
    }
    for failpoint in Failpoint::ALL {
        let passed = code
            .matches(&format!("failpoint::pass(Failpoint::{failpoint:?})"))
            .count();
        assert_eq!(passed, 1, "{failpoint:?}");
    }
    let Some(parts) = Parts::or_skip("every_failpoint_is_known_to_the_harness") else {
        return;
    };
    let known = played(script(&parts, "crash.py").arg("--places"));
    let names: Vec<&str> = Failpoint::ALL.iter().map(|point| point.name()).collect();
    assert_eq!(known.trim(), names.join(" "));
}

#[test]
fn the_checker_finds_whatever_is_wrong_with_the_evidence() {
    let Some(parts) = Parts::or_skip("the_checker_finds_whatever_is_wrong") else {
        return;
    };
    let words = played(
        script(&parts, "selftest.py")
            .arg("--program")
            .arg(program()),
    );
    assert!(words.contains("a doubled mail"), "{words}");
}

#[test]
fn after_a_hundred_kills_nothing_is_lost_and_nobody_is_mailed_twice_unknown() {
    let Some(parts) = Parts::or_skip("after_a_hundred_kills") else {
        return;
    };
    kill(&parts, "sqlite", 100);
}

#[test]
fn after_kills_of_three_workers_on_one_queue_neither() {
    let Some(parts) = Parts::or_skip("after_kills_of_three_workers") else {
        return;
    };
    kill(&parts, "s3", 20);
}

#[test]
fn after_kills_of_portals_no_link_is_without_its_line_and_none_opens_after_its_revocation() {
    let Some(parts) = Parts::or_skip("after_kills_of_portals") else {
        return;
    };
    // Without opens and changes, nothing was proved. Chance decides what visitors ask for, and a few kills may go by without a
    // refusal: another round then.
    let mut unproved = vec!["redirects", "refused", "changes"];
    for (round, ledger) in ["sqlite", "s3", "sqlite", "s3", "sqlite"]
        .iter()
        .enumerate()
    {
        if round >= 2 && unproved.is_empty() {
            break;
        }
        let mut portals = script(&parts, "portals.py");
        portals.arg("--program").arg(program());
        let words = played(portals.args(["--ledger", ledger, "--kills", "8"]));
        assert!(words.contains("; 0 violations"), "{words}");
        unproved.retain(|counted| words.contains(&format!(" 0 {counted}")));
    }
    assert!(unproved.is_empty(), "no {unproved:?} in any round");
}

#[test]
fn three_portals_refuse_a_revoked_link_within_moments() {
    let Some(parts) = Parts::or_skip("three_portals_refuse_a_revoked_link") else {
        return;
    };
    // The times of a busy machine decide nothing here: `make crash` judges them.
    let mut portals = script(&parts, "portals.py");
    portals.arg("--program").arg(program());
    let words = played(portals.args(["--trials", "12", "--slow-machine"]));
    assert!(words.contains("12 revocations at three portals"), "{words}");
}

fn kill(parts: &Parts, ledger: &str, kills: u32) {
    let words = played(
        script(parts, "crash.py")
            .arg("--program")
            .arg(program())
            .args(["--ledger", ledger, "--kills", &kills.to_string()]),
    );
    let killed: u32 = words
        .lines()
        .find_map(|line| line.split_once(" kills in ")?.0.parse().ok())
        .expect("it says how often it killed");
    assert!(killed >= kills, "{words}");
}
