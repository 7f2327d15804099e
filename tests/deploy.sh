#!/usr/bin/env bash
# Judges the files of deploy/ without a cluster and without an account: the Helm chart and the plain manifests, the CloudFormation
# template, the alerts and the dashboard, and the Debian package with its manual pages; and the backup that the documentation prints.
#
#   tests/deploy.sh target/debug/handout
#
# Wants `tests/setup.sh venv deploy`. UPDATE=1 writes what is generated. Exit 0 good, 1 bad, 64 usage.
set -euo pipefail
cd "$(dirname "$0")/.."

if [[ $# -ne 1 || ! -x $1 ]]; then
    echo "usage: tests/deploy.sh PATH-OF-AN-EXECUTABLE" >&2
    exit 64
fi
python=${TEST_VENV:-.test/venv}/bin/python
for tool in "$python" promtool sqlite3 lintian man mandoc strip .test/deploy/bin/{helm,kubernetes-validate,cfn-lint,nfpm}; do
    if ! command -v "$tool" >/dev/null; then
        echo "deploy: $tool is missing; run tests/setup.sh venv deploy" >&2
        exit 1
    fi
done

begun=$SECONDS
# A minute of waiting for a schedule, beside the others.
"$python" tests/deploy/metrics.py "$1" &
metrics=$!
packages=$(mktemp -d)
trap 'kill "$metrics" 2>/dev/null || true; rm -rf "$packages"' EXIT
.test/deploy/bin/python deploy/package/build.py --deb "$1" "$packages"
tests/package/lint.sh "$packages"/*.deb
"$python" tests/deploy/backup.py "$1"
"$python" tests/deploy/stack.py "$1"
"$python" tests/deploy/chart.py "$1"
if ! wait "$metrics"; then exit 1; fi
trap 'rm -rf "$packages"' EXIT
echo "deploy: passed in $((SECONDS - begun)) s"
