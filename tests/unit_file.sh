#!/usr/bin/env bash
# Judges systemd/handout.service without a running systemd.
#
#   tests/unit_file.sh target/debug/handout
#
# `systemd-analyze verify` exits 0 on an unknown value and only grumbles, so any output is a failure. It also wants the program to exist,
# so a copy is judged whose ExecStart= points to the binary given, with the drop-in of docs/quick-start/aws.md. Each LoadCredential= line of the
# documents must name the file beside the configuration, where the same key finds it by hand. Exit 0 good, 1 bad, 64 usage, 77
# systemd-analyze is not here.
set -euo pipefail
cd "$(dirname "$0")/.."

unit=systemd/handout.service
threshold=15 # tenths: an exposure of 1.5

if [[ $# -ne 1 || ! -x $1 ]]; then
    echo "usage: tests/unit_file.sh PATH-OF-AN-EXECUTABLE" >&2
    exit 64
fi
program=$(realpath "$1")

# A secret has one place: /etc/handout/NAME, and the key in the configuration says NAME.
if grep -rnoE --include='*.md' --include='config.toml' --include='handout.service' 'LoadCredential=[a-z][^ `]*' README.md docs config.toml "$unit" |
    grep -vE 'LoadCredential=([a-z.0-9-]+):/etc/handout/\1$' >&2; then
    echo "unit file: these credentials are not the files of the same name in /etc/handout" >&2
    exit 1
fi
guide=$(<docs/quick-start/aws.md)
for name in $(grep -oP '_file = "\K[^"]+' <<<"$guide"); do
    if ! grep -q "^LoadCredential=$name:/etc/handout/$name$" <<<"$guide"; then
        echo "unit file: the guide's configuration names the secret $name, and its drop-in does not load it" >&2
        exit 1
    fi
done

if ! command -v systemd-analyze >/dev/null; then
    echo "unit file: not judged, systemd-analyze is missing (Debian: apt-get install systemd)" >&2
    exit 77
fi

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# By a link, since a path with a space would have to be quoted as systemd does.
ln -s "$program" "$work/handout"
if [[ $(grep -c '^ExecStart=' "$unit") -ne 1 ]]; then
    echo "unit file: expected one ExecStart= line in $unit" >&2
    exit 1
fi
sed "s|^ExecStart=[^ ]*|ExecStart=$work/handout|" "$unit" >"$work/handout.service"

mkdir "$work/handout.service.d"
sed -n '/^\[Service\]$/,/^END$/p' <<<"$guide" | grep -v '^END$' >"$work/handout.service.d/secrets.conf"
if ! grep -q '^LoadCredential=' "$work/handout.service.d/secrets.conf"; then
    echo "unit file: docs/quick-start/aws.md has no drop-in with LoadCredential=" >&2
    exit 1
fi

# The units of the documents, under the names in their first lines.
awk -v dir="$work" '/^```ini$/ { getline; sub(/^# \/etc\/systemd\/system\//, ""); file = dir "/" $0; next } /^```$/ { file = "" } file { print > file }' docs/jobs/schedules.md
timers=("$work"/*.timer)
[[ -s ${timers[0]} && -s ${timers[0]%.timer}.service ]] || {
    echo "unit file: docs/jobs/schedules.md has no timer with its service" >&2
    exit 1
}
systemd-analyze calendar --iterations=1 "$(sed -n 's/^OnCalendar=//p' "${timers[0]}")" >/dev/null
said=$(systemd-analyze verify --man=no "$work/handout.service" "$work"/*.timer 2>&1) || true
if [[ -n $said ]]; then
    echo "unit file: systemd-analyze verify is not content:" >&2
    sed 's/^/  /' <<<"$said" >&2
    exit 1
fi

if ! report=$(systemd-analyze security --offline=yes --no-pager --threshold=$threshold "$work/handout.service" 2>&1); then
    echo "unit file: exposed more than $((threshold / 10)).$((threshold % 10)):" >&2
    grep -v '✓' <<<"$report" >&2
    exit 1
fi
grep -o 'Overall exposure level.*[0-9.]\+' <<<"$report" | sed "s/^/unit file: verified; /"
