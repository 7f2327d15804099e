#!/usr/bin/env bash
# Judges which libraries a program needs of the system: those of libc6 and libgcc-s1, in no newer version than its package and the documentation promise.
#
#   tests/package/libraries.sh PROGRAM DEPENDS
#
# DEPENDS is the field of the Debian package. A program of another processor is read, too. Exit 0 good, 1 bad, 64 usage.
set -euo pipefail
cd "$(dirname "$0")/../.."

if [[ $# -ne 2 || ! -f $1 ]]; then
    echo "usage: tests/package/libraries.sh PROGRAM DEPENDS" >&2
    exit 64
fi
bad() {
    echo "libraries: $*" >&2
    exit 1
}
program=$1 depends=$2
guide=docs/operating/packages.md

# promised PACKAGE: the version that the package wants at least.
promised() { sed -n "s/.*\b$1 (>= \([0-9.]*\)).*/\1/p" <<<"$depends"; }
# highest PREFIX: of the versions of symbols that the program needs.
highest() { sed -n "s/.*Name: $1_\([0-9.]*\) .*/\1/p" <<<"$versions" | sort -uV | tail -n 1; }
# exceeds A B: whether the version A is above B.
exceeds() { [[ $1 != "$2" && $(printf '%s\n' "$1" "$2" | sort -V | tail -n 1) == "$1" ]]; }
if ! exceeds 2.36 2.34 || exceeds 2.34 2.34 || exceeds 2.4 2.34; then bad "versions are not compared as versions"; fi

libraries=$(LC_ALL=C readelf -dW "$program" | sed -n 's/.*(NEEDED).*\[\(.*\)\]/\1/p' | sort)
[[ -n $libraries ]] || bad "$program needs no library: readelf says another thing than before"
unknown=$(grep -vxE 'libc\.so\.6|libm\.so\.6|libgcc_s\.so\.1|ld-linux-(x86-64\.so\.2|aarch64\.so\.1)' <<<"$libraries" || true)
[[ -z $unknown ]] || bad "$program needs ${unknown//$'\n'/, }, which the package does not depend on"
versions=$(LC_ALL=C readelf -VW "$program" | grep 'Name: ')
# Such as GLIBC_ABI_DT_RELR, which is in no order with the others.
unknown=$(grep -vE 'Name: (GLIBC|GCC)_[0-9.]+ ' <<<"$versions" || true)
[[ -z $unknown ]] || bad "$program needs versions that are no numbers: $unknown"

libc=$(promised libc6) gcc=$(promised libgcc-s1)
[[ -n $libc && -n $gcc ]] || bad "the package does not say which libc6 and libgcc-s1 it wants: $depends"
if exceeds "$(highest GLIBC)" "$libc"; then bad "the program needs glibc $(highest GLIBC), and the package promises $libc"; fi
if exceeds "$(highest GCC)" "$gcc.0"; then bad "the program needs libgcc $(highest GCC), and the package promises $gcc"; fi
grep -q "glibc $libc or later" "$guide" || bad "$guide does not say glibc $libc or later, as the package does"
echo "libraries: ${libraries//$'\n'/ }, with glibc $(highest GLIBC) (promised: $libc) and libgcc $(highest GCC) (promised: $gcc)"
