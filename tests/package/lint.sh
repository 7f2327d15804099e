#!/usr/bin/env bash
# Judges a Debian package: lintian has no error and no warning, and neither have its manual pages.
#
#   tests/package/lint.sh target/package/handout_0.1.0-1_amd64.deb
#
# Exit 0 good, 1 bad.
set -euo pipefail
package=$1
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
# A package for a registry of one's own has a maintainer of one's own and closes no bug of Debian.
lintian --allow-root --fail-on error,warning --suppress-tags bogus-mail-host,bogus-mail-host-in-debian-changelog,initial-upload-closes-no-bugs "$package"
dpkg-deb -x "$package" "$work"
pages=("$work"/usr/share/man/man1/*.gz)
if ((${#pages[@]} < 10)); then
    echo "lint: ${#pages[@]} manual pages, expected one for each command" >&2
    exit 1
fi
gunzip "${pages[@]}"
for page in "${pages[@]%.gz}"; do
    said=$(LC_ALL=C.UTF-8 MANROFFSEQ='' man --warnings -E UTF-8 -l -Tutf8 -Z "$page" 2>&1 >/dev/null)
    said+=$(mandoc -T lint -W warning "$page" 2>&1) || true
    if [[ -n $said ]]; then
        echo "lint: ${page##*/}: $said" >&2
        exit 1
    fi
done
