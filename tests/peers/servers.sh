#!/usr/bin/env bash
# Prepares the real servers of `make peers` and `make faults`, and the peer of `make share`, below .test/peers; they run as processes of their own,
# and nothing of them is linked.
#
#   tests/peers/servers.sh [versitygw] [elasticmq] [minio] [mailpit] [garage] [mc] [weed] [keycloak]
#
# Each is pinned here and stamped by its pin; a second run takes a moment. The first takes minutes: versitygw 3, MinIO 10, Mailpit 2, mc 3, Garage
# 20 of one core. Wants Go 1.26 or later (versitygw, minio, mailpit, mc, weed), Maven with Java 17 (elasticmq, keycloak), Cargo (garage). Details are in .test/peers/servers.log.
# Exit 0 ready, 1 a build failed, 64 usage, 77 a tool is missing.
set -euo pipefail
cd "$(dirname "$0")/../.."

versitygw=github.com/versity/versitygw/cmd/versitygw@v1.8.0
# MinIO's releases have no version that Go knows: this is the commit of its last one.
minio=github.com/minio/minio@v0.0.0-20260212201848-7aac2a2c5b7c
mailpit=github.com/axllent/mailpit@v1.33.1
mc=github.com/minio/mc@v0.0.0-20250313080218-cf909e1063a9
# SeaweedFS 4.53, whose module has no versions either.
weed=github.com/seaweedfs/seaweedfs@v0.0.0-20261109003541-7506e5f91cd6
elasticmq=org.elasticmq:elasticmq-server_2.13:1.6.12
copier=org.apache.maven.plugins:maven-dependency-plugin:3.8.1
garage=garage@2.5.0
keycloak=org.keycloak:keycloak-quarkus-dist:26.0.7:zip

root=$PWD/.test/peers
log=$root/servers.log
mkdir -p "$root/stamps"

fail() {
    echo "servers: $*" >&2
    exit 1
}

wants() {
    command -v "$1" >/dev/null && return
    echo "servers: $1 is missing; please install $2" >&2
    exit 77
}

# quietly WHAT COMMAND…: runs with its output in the log; on failure shows the end of it.
quietly() {
    local what=$1 begun=$SECONDS
    shift
    echo "--- $(date -u +%FT%TZ) $what: $*" >>"$log"
    if ! "$@" >>"$log" 2>&1 9>&- </dev/null; then
        tail -n 15 "$log" | sed 's/^/    /' >&2
        fail "$what failed; more is in $log"
    fi
    echo "servers: $what ($((SECONDS - begun)) s)"
}

# is_ready PART PIN FILE
is_ready() { [[ -f $root/stamps/$1 && $(<"$root/stamps/$1") == "$2" && -e $root/$3 ]]; }

# from_go PART MODULE
from_go() {
    wants go "Go 1.26 or later"
    quietly "building $2" nice env GOBIN="$root/bin" go install "$2"
}

prepare_versitygw() { is_ready versitygw "$versitygw" bin/versitygw || from_go versitygw "$versitygw"; }
prepare_minio() { is_ready minio "$minio" bin/minio || from_go minio "$minio"; }
prepare_mc() { is_ready mc "$mc" bin/mc || from_go mc "$mc"; }
prepare_mailpit() { is_ready mailpit "$mailpit" bin/mailpit || from_go mailpit "$mailpit"; }

# `go install` refuses a module that replaces others; a module of our own replaces the same one.
prepare_weed() {
    local module=$root/weed-module
    if is_ready weed "$weed" bin/weed; then return; fi
    wants go "Go 1.26 or later"
    rm -rf "$module"
    mkdir -p "$module"
    cat >"$module/go.mod" <<END
module peers

go 1.26

require ${weed/@/ }

replace github.com/tyler-smith/go-bip39 => github.com/cosmos/go-bip39 v1.0.0
END
    quietly "building $weed" nice go build -C "$module" -mod=mod -p 1 -ldflags="-s -w" -o "$root/bin/weed" "${weed%@*}/weed"
    rm -rf "$module"
}

prepare_garage() {
    if is_ready garage "$garage" bin/garage; then return; fi
    wants cargo "Rust"
    # One job: its largest crates take the memory of a small machine otherwise.
    quietly "building $garage" nice env CARGO_TARGET_DIR="$root/garage-target" cargo install --locked --jobs 1 --root "$root" \
        --no-default-features --features bundled-libs,lmdb "$garage"
    rm -rf "$root/garage-target"
}

prepare_elasticmq() {
    local group artifact version
    if is_ready elasticmq "$elasticmq" elasticmq; then return; fi
    wants mvn "Maven"
    wants java "Java 17"
    IFS=: read -r group artifact version <<<"$elasticmq"
    rm -rf "$root/elasticmq" "$root/pom"
    mkdir -p "$root/pom"
    cat >"$root/pom/pom.xml" <<END
<project xmlns="http://maven.apache.org/POM/4.0.0">
  <modelVersion>4.0.0</modelVersion>
  <groupId>handout</groupId><artifactId>peers</artifactId><version>1</version><packaging>pom</packaging>
  <dependencies><dependency>
    <groupId>$group</groupId><artifactId>$artifact</artifactId><version>$version</version>
  </dependency></dependencies>
</project>
END
    quietly "fetching $elasticmq" mvn --batch-mode --file "$root/pom/pom.xml" \
        "$copier:copy-dependencies" "-DoutputDirectory=$root/elasticmq" -DincludeScope=runtime
}

# The distribution as its users unpack it, 147 MB.
prepare_keycloak() {
    if is_ready keycloak "$keycloak" keycloak/bin/kc.sh; then return; fi
    wants mvn "Maven"
    wants java "Java 17"
    rm -rf "$root/keycloak" "$root/keycloak-zip"
    quietly "fetching $keycloak" mvn --batch-mode "$copier:copy" "-Dartifact=$keycloak" "-DoutputDirectory=$root/keycloak-zip"
    mkdir -p "$root/keycloak"
    quietly "unpacking $keycloak" python3 -m zipfile -e "$root"/keycloak-zip/*.zip "$root/keycloak"
    mv "$root"/keycloak/keycloak-*/* "$root/keycloak/"
    chmod +x "$root/keycloak/bin/kc.sh"
    rm -rf "$root/keycloak-zip"
}

if [[ $# -eq 0 ]]; then
    set -- versitygw elasticmq
fi
for part in "$@"; do
    case $part in
    versitygw | elasticmq | minio | mailpit | garage | mc | weed | keycloak)
        exec 9>"$root/$part.lock"
        flock 9 # one at a time; the second finds the stamp of the first
        "prepare_$part"
        echo "${!part}" >"$root/stamps/$part"
        ;;
    *)
        echo "usage: tests/peers/servers.sh [versitygw] [elasticmq] [minio] [mailpit] [garage] [mc] [weed] [keycloak]" >&2
        exit 64
        ;;
    esac
done
echo "servers: ready ($*)"
