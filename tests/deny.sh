#!/usr/bin/env bash
# Holds the dependencies of this crate and of fuzz/ to deny.toml: licences, duplicates, sources, and the advisories of RustSec.
#
# The advisories need RustSec's database: a clone that ADVISORY_DB names, or the one on GitHub. Exit 0 passed, 1 refused, 77 all but the
# advisories passed, since their database cannot be had or is older than 90 days.
set -euo pipefail
cd "$(dirname "$0")/.."
export GIT_TERMINAL_PROMPT=0

deny=.test/tools/bin/cargo-deny
database=https://github.com/RustSec/advisory-db
most_days=90

# check MANIFEST CHECK…: what is allowed and has no use in one of the two crates has one in the other.
check() {
    local manifest=$1 unused=(license-exception-not-encountered)
    shift
    if [[ $manifest == fuzz/* ]]; then unused+=(license-not-encountered unmatched-skip advisory-not-detected); fi
    "$deny" --locked --manifest-path "$manifest" --config deny.toml check "${unused[@]/#/--allow=}" --hide-inclusion-graph "$@"
}

unchecked() {
    echo "deny: the advisories were NOT checked: $*" >&2
    exit 77
}

for manifest in Cargo.toml fuzz/Cargo.toml; do
    check "$manifest" licenses bans sources
done

scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
from=${ADVISORY_DB:+file://$(realpath -- "$ADVISORY_DB")}
if ! git clone --quiet --depth 1 "${from:-$database}" "$scratch/database" 2>"$scratch/error"; then
    unchecked "no RustSec database: $(tail -n 1 "$scratch/error"). Name a clone of it in ADVISORY_DB, or connect to GitHub."
fi
# cargo-deny wants to fetch it, too: git gives it the same.
export GIT_CONFIG_COUNT=1 GIT_CONFIG_KEY_0="url.file://$scratch/database.insteadOf" GIT_CONFIG_VALUE_0=$database
written=$(git -C "$scratch/database" log -1 --format=%ct)
day=$(date -u -d "@$written" +%F)
for manifest in Cargo.toml fuzz/Cargo.toml; do
    check "$manifest" advisories
done
if (($(date +%s) - written > most_days * 86400)); then
    unchecked "the RustSec database is of $day, older than $most_days days: update it."
fi
echo "deny: advisories checked with RustSec's database of $day"
