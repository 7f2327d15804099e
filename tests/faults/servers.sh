#!/usr/bin/env bash
# Prepares the real servers of `make faults` below .test/faults: versitygw (an S3 gateway) and ElasticMQ (an SQS server).
#
#   tests/faults/servers.sh [versitygw] [elasticmq]
#
# Each is pinned here and stamped by its pin; a second run takes a moment. Wants Go 1.25 or later, and Maven with Java 17. The details are in
# .test/faults/servers.log. Exit 0 ready, 1 something is missing, 64 usage.
set -euo pipefail
cd "$(dirname "$0")/../.."

versitygw=github.com/versity/versitygw/cmd/versitygw@v1.8.0
elasticmq=org.elasticmq:elasticmq-server_2.13:1.6.12
copier=org.apache.maven.plugins:maven-dependency-plugin:3.8.1

root=$PWD/.test/faults
log=$root/servers.log
mkdir -p "$root/stamps"
exec 9>"$root/servers.lock"
flock 9 # one at a time; the second finds the stamps of the first

fail() {
    echo "servers: $*" >&2
    exit 1
}

wants() { command -v "$1" >/dev/null || fail "$1 is missing; please install $2"; }

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

is_ready() { [[ -f $root/stamps/$1 && $(<"$root/stamps/$1") == "$2" ]]; }

prepare_versitygw() {
    if is_ready versitygw "$versitygw" && [[ -x $root/bin/versitygw ]]; then return; fi
    wants go "Go 1.25 or later"
    GOBIN=$root/bin quietly "building $versitygw" go install "$versitygw"
    echo "$versitygw" >"$root/stamps/versitygw"
}

prepare_elasticmq() {
    local group artifact version
    if is_ready elasticmq "$elasticmq" && [[ -d $root/elasticmq ]]; then return; fi
    wants mvn "Maven"
    wants java "Java 17"
    IFS=: read -r group artifact version <<<"$elasticmq"
    rm -rf "$root/elasticmq" "$root/pom"
    mkdir -p "$root/pom"
    cat >"$root/pom/pom.xml" <<END
<project xmlns="http://maven.apache.org/POM/4.0.0">
  <modelVersion>4.0.0</modelVersion>
  <groupId>handout</groupId><artifactId>faults</artifactId><version>1</version><packaging>pom</packaging>
  <dependencies><dependency>
    <groupId>$group</groupId><artifactId>$artifact</artifactId><version>$version</version>
  </dependency></dependencies>
</project>
END
    quietly "fetching $elasticmq" mvn --batch-mode --file "$root/pom/pom.xml" \
        "$copier:copy-dependencies" "-DoutputDirectory=$root/elasticmq" -DincludeScope=runtime
    echo "$elasticmq" >"$root/stamps/elasticmq"
}

if [[ $# -eq 0 ]]; then
    set -- versitygw elasticmq
fi
for part in "$@"; do
    case $part in
    versitygw | elasticmq) "prepare_$part" ;;
    *)
        echo "usage: tests/faults/servers.sh [versitygw] [elasticmq]" >&2
        exit 64
        ;;
    esac
done
echo "servers: ready ($*)"
