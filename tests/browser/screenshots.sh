#!/usr/bin/env bash
# Takes the pictures of the README: runs `handout demo`, waits until it has made its mails and pages, and looks at them.
#
#   tests/browser/screenshots.sh target/release/handout docs
#
# Writes gallery.png, mail.png, digest.png and brand.png. Wants tests/setup.sh to have run.
set -euo pipefail

program=$(realpath "$1")
out=$(realpath -m "$2")
cd "$(dirname "$0")/../.."
python=${TEST_VENV:-.test/venv}/bin/python

work=$(mktemp -d)
"$program" demo --dir "$work/demo" >"$work/said" 2>&1 </dev/null &
demo=$!
trap 'kill $demo 2>/dev/null || true; wait $demo 2>/dev/null || true; rm -rf "$work"' EXIT

# A mail and a gallery, and nothing new for two seconds.
gallery() { sed -n 's|^ *\(http://.*/index.html?.*\)$|\1|p' "$work/said" | sed -n 1p; }
mail() { { grep -l "ann@acme.example" "$work"/demo/outbox/*.eml 2>/dev/null || true; } | sed -n 1p; }
made() { { find "$work/demo" -type f 2>/dev/null || true; } | wc -l; }
before=-1
for _ in {1..30}; do
    kill -0 $demo 2>/dev/null || break
    now=$(made)
    if [[ $now -eq $before && -n $(gallery) && -n $(mail) ]]; then break; fi
    before=$now
    sleep 2
done
if ! kill -0 $demo 2>/dev/null || [[ -z $(gallery) || -z $(mail) ]]; then
    echo "screenshots: the demo did not make a mail and a gallery; it said:" >&2
    tail -n 20 "$work/said" >&2
    exit 1
fi

mkdir -p "$out"
shot() {
    node tests/browser/shot.mjs "$@" >"$work/shot.json"
    "$python" - "$2" "$work/shot.json" <<'PYTHON'
import json, os, sys
said = json.load(open(sys.argv[2]))
wrong = {key: said[key] for key in ("console_errors", "csp_violations", "failed_requests", "broken_images") if said[key]}
print(f"screenshots: {os.path.basename(sys.argv[1])}: {said['title']!r}", wrong or "")
PYTHON
}

shot "$(gallery)" "$out/gallery.png" --width 1100 --height 1000 --full
"$python" tests/servers/parse_mail.py "$(mail)" >"$work/mail.json"
"$python" -c 'import json, sys; print(json.load(open(sys.argv[1]))["html"] or "no HTML part")' "$work/mail.json" >"$work/mail.html"
shot "$work/mail.html" "$out/mail.png" --width 760 --height 600 --full

# What a digest of the same photos would look like.
cat >"$work/digest.json" <<'JSON'
{ "v": 1, "id": "digest", "from": { "connection": "local", "bucket": "photos", "prefix": "shoot/" },
  "email": { "to": ["Carla Núñez <carla@client.example>"], "subject": "Two days in the mountains", "template": "digest" } }
JSON
"$program" job preview "$work/digest.json" --config "$work/demo/config.toml" --out "$work/preview" --open >"$work/written"
shot "$(grep -m 1 '\.html$' "$work/written")" "$out/digest.png" --width 760 --height 600 --full

# The mail of a studio: its logo, its colours, its address, and what it says to its clients.
cat "$work/demo/config.toml" - >"$work/demo/studio.toml" <<TOML

[brand]
name = "Studio Nord"
logo_file = "$PWD/tests/fixtures/brand/logo.png"
accent = "#c2410c"
background = "#fff7ed"
footer = ["Studio Nord GmbH · Hafenstraße 3 · 20457 Hamburg", "studio-nord.example"]
personal_note = false
TOML
cat >"$work/studio.json" <<'JSON'
{ "v": 1, "id": "studio", "from": { "connection": "local", "bucket": "photos", "prefix": "shoot/" }, "links": { "expires_in": "7d" },
  "email": { "to": ["Carla Núñez <carla@client.example>"],
    "message": "the pictures of our two days are ready.\n\nWith best wishes from the harbour,\nJule & Tom" },
  "gallery": { "title": "Two days in the mountains", "publish": { "bucket": "published", "prefix": "galleries/" } } }
JSON
"$program" job preview "$work/studio.json" --config "$work/demo/studio.toml" --out "$work/studio" --open >"$work/written"
shot "$(grep -m 1 '/mail-.*\.html$' "$work/written")" "$out/brand.png" --width 760 --height 600 --full
