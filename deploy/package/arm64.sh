#!/usr/bin/env bash
# Runs a command on amd64 with what it takes to build for arm64, and to run what was built: `tests/setup.sh arm64` installs it.
#
#   deploy/package/arm64.sh cargo build --profile dist --locked
#
# cargo then builds into target/aarch64-unknown-linux-gnu. Libraries in C are compiled by aarch64-linux-gnu-gcc, which their build scripts find by its name.
set -euo pipefail
root=$(cd "$(dirname "$0")/../.." && pwd)
if [[ $# -eq 0 ]]; then
    echo "usage: deploy/package/arm64.sh COMMAND..." >&2
    exit 64
fi
export CARGO_BUILD_TARGET=aarch64-unknown-linux-gnu
export CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_LINKER=aarch64-linux-gnu-gcc
# Without it, the toolchain has the standard library. With a target, cargo gives this flag to no build script and no procedural macro.
if [[ -d $root/.test/arm64/sysroot ]]; then export CARGO_ENCODED_RUSTFLAGS=--sysroot=$root/.test/arm64/sysroot; fi
# Where the emulator finds the C library outside of a root for arm64.
export QEMU_LD_PREFIX=/usr/aarch64-linux-gnu
exec "$@"
