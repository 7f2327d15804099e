#!/usr/bin/env bash
# Prepares .test/, what the tests need beside Rust: a Python venv with test servers, a browser, and Node packages that drive it.
#
#   tests/setup.sh           all parts; a second run takes a moment, since each part is stamped by what it was made from
#   tests/setup.sh venv      only the named parts: venv, chromium, firefox, node, postfix, nginx, fetchers, zips, tools, deploy; package, which only make package needs, and arm64, which it needs for ARCH=arm64; otlp, which only make otlp needs; and portal-peers, which only make bench needs
#
# As root on Debian it installs the system packages that are missing (python3-venv, chromium, firefox-esr, nodejs, postfix, nginx, wget, aria2, unzip, zip, p7zip-full,
# libarchive-tools, default-jdk-headless, prometheus for its promtool, sqlite3, lintian, man-db, mandoc, binutils); elsewhere it says which.
# Everything else stays below .test/, details in .test/setup.log. Exit 0 ready, 1 something is missing, 64 usage.
#
#   .test/venv     python with moto, aiosmtpd, boto3, awscli, cryptography, dkimpy, jsonschema, standardwebhooks   (tests/requirements.txt)
#   .test/node     playwright-core, axe-core, oidc-provider                             (tests/browser/package-lock.json)
#   .test/browser  one line: the path of the browser
#   .test/tools    cargo-deny, cargo-fuzz                                                             (tests/tools.txt)
#   .test/deploy   helm (built by Go 1.26 or later), kubernetes-validate, cfn-lint                 (tests/deploy/requirements.txt)
#   .test/otlp     opentelemetry-proto                                              (tests/otlp/requirements.txt)
#   .test/package  nfpm, cyclonedx-python-lib, zstandard, crane (built), and a root of Debian                 (tests/package/requirements.txt)
#   .test/arm64    Rust's standard library for arm64, and a root of Debian for it
#   .test/bench-node, .test/bench-venv  Express and FastAPI, beside which the portal is measured                 (benches/peers/portal)
#   .test/peers    servers that people run, made by tests/peers/servers.sh and not here
set -euo pipefail
cd "$(dirname "$0")/.."
export LC_ALL=C.UTF-8 DEBIAN_FRONTEND=noninteractive PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_INPUT=1

log=.test/setup.log
mkdir -p .test/stamps
exec 9>.test/setup.lock
flock 9 # one at a time; whoever waited finds the stamps of the other

# Only ASCII words to the terminal, all detail to the log.
say() { echo "setup: $*"; }
fail() {
    echo "setup: $*" >&2
    exit 1
}

# quietly WHAT COMMAND…: runs with its output in the log; on failure shows the end of it.
quietly() {
    local what=$1 begun=$SECONDS
    shift
    echo "--- $(date -u +%FT%TZ) $what: $*" >>"$log"
    if ! "$@" >>"$log" 2>&1 9>&- </dev/null; then
        echo "setup: $what failed; the end of $log:" >&2
        tail -n 15 "$log" | sed 's/^/    /' >&2
        exit 1
    fi
    say "$what ($((SECONDS - begun)) s)"
}

# A part is ready when its stamp holds the hash of what it was made from.
hash_of() { { cat "$@"; } | sha256sum | cut -d' ' -f1; }
is_ready() { [[ -f .test/stamps/$1 && $(<".test/stamps/$1") == "$2" ]]; }
stamp() { echo "$2" >".test/stamps/$1"; }

# debian WHY PACKAGE…: installs, or says what to install.
apt_is_fresh=
debian() {
    local why=$1
    shift
    if ! command -v apt-get >/dev/null; then
        fail "$why is missing and this is not Debian: please install the equivalent of: $*"
    elif [[ $(id -u) -ne 0 ]]; then
        fail "$why is missing; please run as root: apt-get update && apt-get install -y --no-install-recommends $*"
    fi
    if [[ -z $apt_is_fresh ]]; then
        quietly "apt-get update" apt-get -o DPkg::Lock::Timeout=120 update
        apt_is_fresh=yes
    fi
    quietly "apt-get install $*" apt-get -o DPkg::Lock::Timeout=120 install -y --no-install-recommends "$@"
}

# --- venv -----------------------------------------------------------------------------------------------------------------------------

good_python() { command -v "$1" >/dev/null && "$1" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; }

find_python() {
    local candidate
    for candidate in python3 /usr/bin/python3 python3.11 python3.12 python3.13 python3.14; do
        if good_python "$candidate"; then
            "$candidate" -c 'import sys; print(sys.executable)'
            return
        fi
    done
}

prepare_venv() {
    local python wanted
    python=$(find_python)
    if [[ -z $python ]]; then
        debian "Python 3.11 or later" python3 python3-venv
        python=$(find_python)
        [[ -n $python ]] || fail "the tests need Python 3.11 or later; found $(python3 --version 2>&1)"
    fi
    wanted=$("$python" -VV | cat - tests/requirements.txt | sha256sum | cut -d' ' -f1)
    if is_ready venv "$wanted" && .test/venv/bin/python -c '' 2>/dev/null; then
        return
    fi
    if ! "$python" -c 'import ensurepip, venv' 2>/dev/null; then
        debian "the venv module of $python" python3-venv # Debian keeps it apart
    fi
    rm -rf .test/venv .test/stamps/venv
    quietly "making .test/venv with $("$python" -V)" "$python" -m venv .test/venv
    quietly "installing tests/requirements.txt" .test/venv/bin/python -m pip install --no-deps -r tests/requirements.txt
    quietly "checking the pins" .test/venv/bin/python -m pip check
    quietly "compiling" .test/venv/bin/python -c 'import moto.server, boto3, aiosmtpd.controller, cryptography, dkim, jsonschema'
    stamp venv "$wanted"
}

# --- chromium -------------------------------------------------------------------------------------------------------------------------

find_browser() {
    local candidate
    for candidate in ${TEST_BROWSER:+"$TEST_BROWSER"} chromium chromium-browser google-chrome-stable google-chrome; do
        if command -v "$candidate"; then return; fi
    done
}

prepare_chromium() {
    local browser
    browser=$(find_browser)
    if [[ -z $browser ]]; then
        # Pictures are taken of pages with emoji and umlauts in their file names: two small fonts belong to it.
        debian "chromium" chromium fonts-dejavu-core fonts-noto-color-emoji
        browser=$(find_browser)
        [[ -n $browser ]] || fail "chromium was installed but cannot be found in PATH"
    fi
    echo "$browser" >.test/browser
}

# --- firefox --------------------------------------------------------------------------------------------------------------------------

# The portal's readers have it, too. Debian keeps the release with long support under this name; that test skips without it.
prepare_firefox() {
    if command -v firefox-esr >/dev/null || command -v firefox >/dev/null; then return; fi
    if ! command -v apt-get >/dev/null || [[ $(id -u) -ne 0 ]]; then
        say "no firefox: the test with it will skip (as root on Debian, this installs it)"
        return
    fi
    debian "firefox" firefox-esr
}

# --- node -----------------------------------------------------------------------------------------------------------------------------

prepare_node() {
    local wanted
    # One after the other: some builds of nodejs bring npm along and conflict with the package of that name.
    command -v node >/dev/null || debian "node" nodejs
    command -v npm >/dev/null || debian "npm" npm
    if ! node -e 'process.exit(+process.versions.node.split(".")[0] < 18 ? 1 : 0)'; then
        fail "the browser tests need Node 18 or later; found $(node --version)"
    fi
    wanted=$(hash_of tests/browser/package.json tests/browser/package-lock.json)
    if is_ready node "$wanted" && [[ -d .test/node/node_modules/playwright-core ]]; then
        return
    fi
    rm -rf .test/node .test/stamps/node
    mkdir -p .test/node
    cp tests/browser/package.json tests/browser/package-lock.json .test/node/
    quietly "installing tests/browser/package-lock.json" \
        npm --prefix .test/node ci --ignore-scripts --no-audit --no-fund --no-update-notifier
    stamp node "$wanted"
}

# --- postfix --------------------------------------------------------------------------------------------------------------------------

# One test sends through a real mail server, and runs an own instance of it; the system's is neither configured nor started. That test
# skips where there is none, so nothing here fails.
prepare_postfix() {
    if [[ -x /usr/sbin/postfix ]]; then return; fi
    if ! command -v apt-get >/dev/null || [[ $(id -u) -ne 0 ]]; then
        say "no postfix: the test with a real mail server will skip (as root on Debian, this installs it)"
        return
    fi
    if [[ -x /usr/sbin/sendmail ]]; then
        say "no postfix, since another mail server is installed and would be removed: the test with a real one will skip"
        return
    fi
    echo "postfix postfix/main_mailer_type select No configuration" | debconf-set-selections
    # Without a configuration its service does not start; with this nobody tries to.
    without_services
    debian "postfix" postfix
}

# What is installed from here on is not started as a service.
without_services() {
    local policy=/usr/sbin/policy-rc.d
    if [[ -e $policy ]]; then return; fi
    printf '#!/bin/sh\nexit 101\n' >$policy
    chmod +x $policy
    trap "rm -f $policy" EXIT
}

# --- nginx ----------------------------------------------------------------------------------------------------------------------------

# Tests of links behind a proxy run an own instance of it; the system's is neither configured nor started. They skip where there is none,
# so nothing here fails.
prepare_nginx() {
    if [[ -x /usr/sbin/nginx ]]; then return; fi
    if ! command -v apt-get >/dev/null || [[ $(id -u) -ne 0 ]]; then
        say "no nginx: the tests with a real proxy will skip (as root on Debian, this installs it)"
        return
    fi
    without_services
    debian "nginx" nginx
}

# --- fetchers -------------------------------------------------------------------------------------------------------------------------

# The programs that read a list of URLs. The test skips the one that is not there, so nothing here fails.
prepare_fetchers() {
    if command -v wget >/dev/null && command -v aria2c >/dev/null; then return; fi
    if ! command -v apt-get >/dev/null || [[ $(id -u) -ne 0 ]]; then
        say "no wget or no aria2c: the test that fetches with them will skip (as root on Debian, this installs them)"
        return
    fi
    (debian "wget or aria2c" wget aria2) || say "the test that fetches with wget and aria2c will skip the one that is missing"
}

# --- zips -----------------------------------------------------------------------------------------------------------------------------

# The programs that open a ZIP; tests/servers/judge_zip.py asks each of them.
prepare_zips() {
    local program missing=
    for program in unzip zip 7z bsdtar java; do
        command -v "$program" >/dev/null || missing+=" $program"
    done
    if [[ -z $missing ]]; then return; fi
    if ! command -v apt-get >/dev/null || [[ $(id -u) -ne 0 ]]; then
        say "no$missing: the tests of ZIPs will not ask these (as root on Debian, this installs them)"
        return
    fi
    (debian "$missing" unzip zip p7zip-full libarchive-tools default-jdk-headless) || say "the tests of ZIPs will not ask$missing"
}

# --- tools ----------------------------------------------------------------------------------------------------------------------------

# Programs in Rust, prebuilt and held to their hashes: to build them takes minutes.
prepare_tools() {
    local wanted
    wanted=$(hash_of tests/tools.txt)
    if is_ready tools "$wanted" && .test/tools/bin/cargo-deny --version >/dev/null 2>&1; then
        return
    fi
    prepare_venv # its Python makes the other environment
    rm -rf .test/tools .test/stamps/tools
    quietly "making .test/tools" .test/venv/bin/python -m venv .test/tools
    quietly "installing tests/tools.txt" .test/tools/bin/python -m pip install --no-deps --only-binary :all: --require-hashes -r tests/tools.txt
    stamp tools "$wanted"
}

# --- deploy ---------------------------------------------------------------------------------------------------------------------------

# What tests/deploy.sh judges deploy/ with. helm is built, since no registry that is asked here has it; that takes a minute or two.
helm=helm.sh/helm/v3/cmd/helm@v3.22.0

prepare_deploy() {
    local program missing= python wanted
    if ! command -v promtool >/dev/null; then
        without_services
        debian "promtool" prometheus
    fi
    command -v sqlite3 >/dev/null || debian "sqlite3" sqlite3
    for program in lintian man mandoc strip; do
        command -v "$program" >/dev/null || missing+=" $program"
    done
    if [[ -n $missing ]]; then debian "$missing" lintian man-db mandoc binutils; fi
    python=$(find_python)
    wanted=$({ "$python" -VV && echo "$helm" && cat tests/deploy/requirements.txt; } | sha256sum | cut -d' ' -f1)
    if is_ready deploy "$wanted" && .test/deploy/bin/python -c '' 2>/dev/null && [[ -x .test/deploy/bin/helm ]]; then
        return
    fi
    command -v go >/dev/null || fail "go is missing, which builds helm; please install Go 1.26 or later"
    rm -rf .test/deploy .test/stamps/deploy
    quietly "making .test/deploy" "$python" -m venv .test/deploy
    quietly "installing tests/deploy/requirements.txt" .test/deploy/bin/python -m pip install --no-deps -r tests/deploy/requirements.txt
    quietly "checking the pins" .test/deploy/bin/python -m pip check
    quietly "building $helm" nice env CGO_ENABLED=0 GOBIN="$PWD/.test/deploy/bin" go install -ldflags="-s -w" "$helm"
    stamp deploy "$wanted"
}

# --- otlp -----------------------------------------------------------------------------------------------------------------------------

# What tests/otlp/otlp.py decodes spans with.
prepare_otlp() {
    local python wanted
    python=$(find_python)
    wanted=$({ "$python" -VV && cat tests/otlp/requirements.txt; } | sha256sum | cut -d' ' -f1)
    if is_ready otlp "$wanted" && .test/otlp/bin/python -c '' 2>/dev/null; then
        return
    fi
    rm -rf .test/otlp .test/stamps/otlp
    quietly "making .test/otlp" "$python" -m venv .test/otlp
    quietly "installing tests/otlp/requirements.txt" .test/otlp/bin/python -m pip install --no-deps -r tests/otlp/requirements.txt
    quietly "checking the pins" .test/otlp/bin/python -m pip check
    stamp otlp "$wanted"
}

# --- package --------------------------------------------------------------------------------------------------------------------------

# What makes and judges the packages of `make package`. crane has a registry to push the image to; it is built, which takes half a minute.
crane=github.com/google/go-containerregistry/cmd/crane@v0.22.1

prepare_package() {
    local program missing= python wanted release
    for program in lintian man mandoc strip umoci skopeo mmdebstrap zsh fish; do
        command -v "$program" >/dev/null || missing+=" $program"
    done
    if [[ -n $missing ]]; then debian "$missing" lintian man-db mandoc binutils umoci skopeo mmdebstrap zsh fish; fi
    # A root as one has it after an installation of Debian, in which the package is installed. It is made anew each week, for its packages.
    release=$(. /etc/os-release && echo "$VERSION_CODENAME")
    wanted="$release $(date -u +%G-%V)"
    if ! is_ready debian-root "$wanted" || [[ ! -s .test/package/root.tar ]]; then
        mkdir -p .test/package
        quietly "making a root of Debian $release" mmdebstrap --variant=apt "$release" .test/package/root.tar
        stamp debian-root "$wanted"
    fi
    python=$(find_python)
    wanted=$({ "$python" -VV && echo "$crane" && cat tests/package/requirements.txt; } | sha256sum | cut -d' ' -f1)
    if is_ready package "$wanted" && .test/package/bin/python -c '' 2>/dev/null && [[ -x .test/package/bin/crane ]]; then
        return
    fi
    command -v go >/dev/null || fail "go is missing, which builds crane; please install Go 1.26 or later"
    rm -f .test/stamps/package
    rm -rf .test/package/{bin,include,lib,lib64,share,pyvenv.cfg}
    quietly "making .test/package" "$python" -m venv .test/package
    quietly "installing tests/package/requirements.txt" .test/package/bin/python -m pip install --no-deps -r tests/package/requirements.txt
    quietly "checking the pins" .test/package/bin/python -m pip check
    quietly "building $crane" nice env CGO_ENABLED=0 GOBIN="$PWD/.test/package/bin" go install -ldflags="-s -w" "$crane"
    stamp package "$wanted"
}

# --- arm64 ----------------------------------------------------------------------------------------------------------------------------

# What `make package ARCH=arm64` needs besides, on amd64: a compiler for C, an emulator, Rust's standard library and a root of Debian.
# Where rustup has added the target to the toolchain, its library is used. Otherwise it is that of one release, held to its hash (the .sha256
# beside it says the same), since it works with the compiler of that release alone.
rust_std=https://static.rust-lang.org/dist/rust-std-1.95.0-aarch64-unknown-linux-gnu.tar.xz
rust_std_release=1.95.0
rust_std_sha256=3a21b271b1ff973b94d69b25e7a39992f9fbcae1ab6d9475844a23e6ad3908ac

fetch_rust_std() {
    curl -sSf --retry 3 -o .test/arm64/rust-std.tar.xz "$rust_std"
    echo "$rust_std_sha256  .test/arm64/rust-std.tar.xz" | sha256sum --check --quiet
    mkdir .test/arm64/sysroot
    tar -xJf .test/arm64/rust-std.tar.xz -C .test/arm64/sysroot --strip-components=2 --wildcards '*/rust-std-aarch64-unknown-linux-gnu/lib'
    rm .test/arm64/rust-std.tar.xz
}

prepare_arm64() {
    local program libraries wanted release missing=
    for program in aarch64-linux-gnu-gcc qemu-aarch64-static update-binfmts arch-test curl xz; do
        command -v "$program" >/dev/null || missing+=" $program"
    done
    if [[ -n $missing ]]; then debian "$missing" gcc-aarch64-linux-gnu libc6-dev-arm64-cross qemu-user-static binfmt-support arch-test curl xz-utils; fi
    # The kernel starts programs for arm64 by the emulator, which it holds open, and so in any root. It has to be told after each boot.
    if [[ ! -e /proc/sys/fs/binfmt_misc/qemu-aarch64 ]]; then
        [[ $(id -u) -eq 0 ]] || fail "programs for arm64 do not run; please run as root: update-binfmts --enable qemu-aarch64"
        quietly "update-binfmts --enable qemu-aarch64" update-binfmts --enable qemu-aarch64
        arch-test arm64 >/dev/null || fail "programs for arm64 do not run: this kernel has no binfmt_misc"
    fi
    mkdir -p .test/arm64
    libraries=$(rustc --print target-libdir --target aarch64-unknown-linux-gnu)
    wanted=$({ rustc -V && echo "$rust_std_sha256"; } | sha256sum | cut -d' ' -f1)
    if [[ -d $libraries ]]; then
        rm -rf .test/arm64/sysroot .test/stamps/rust-std
    elif ! is_ready rust-std "$wanted" || [[ ! -d .test/arm64/sysroot ]]; then
        [[ $(rustc -V) == "rustc $rust_std_release "* ]] ||
            fail "$(rustc -V) has no standard library for arm64; please run: rustup target add aarch64-unknown-linux-gnu"
        rm -rf .test/arm64/sysroot .test/stamps/rust-std
        quietly "fetching Rust's standard library for arm64" fetch_rust_std
        stamp rust-std "$wanted"
    fi
    release=$(. /etc/os-release && echo "$VERSION_CODENAME")
    wanted="$release $(date -u +%G-%V)"
    if ! is_ready arm64-root "$wanted" || [[ ! -s .test/arm64/root.tar ]]; then
        quietly "making a root of Debian $release for arm64" mmdebstrap --architectures=arm64 --variant=apt "$release" .test/arm64/root.tar
        stamp arm64-root "$wanted"
    fi
}

# --- portal-peers ---------------------------------------------------------------------------------------------------------------------

# The web applications of `cargo bench --bench portal`. better-sqlite3 is compiled, which takes two minutes.
prepare_portal_peers() {
    local python wanted peers=benches/peers/portal
    prepare_node
    python=$(find_python)
    wanted=$({ "$python" -VV && cat $peers/package.json $peers/package-lock.json $peers/requirements.txt; } | sha256sum | cut -d' ' -f1)
    if is_ready portal-peers "$wanted" && .test/bench-venv/bin/python -c '' 2>/dev/null; then
        return
    fi
    rm -rf .test/bench-node .test/bench-venv .test/stamps/portal-peers
    mkdir -p .test/bench-node
    cp $peers/package.json $peers/package-lock.json .test/bench-node/
    # Scripts of packages run for the one that compiles, and is named in package.json; npm 11 runs no others by itself.
    quietly "installing $peers/package-lock.json" npm --prefix .test/bench-node ci --ignore-scripts --no-audit --no-fund --no-update-notifier
    quietly "compiling better-sqlite3" env -C .test/bench-node npm rebuild --no-update-notifier better-sqlite3
    quietly "making .test/bench-venv" "$python" -m venv .test/bench-venv
    quietly "installing $peers/requirements.txt" .test/bench-venv/bin/python -m pip install --no-deps -r $peers/requirements.txt
    stamp portal-peers "$wanted"
}

# --------------------------------------------------------------------------------------------------------------------------------------

if [[ $# -eq 0 ]]; then
    set -- venv chromium firefox node postfix nginx fetchers zips tools deploy
fi
for part in "$@"; do
    case $part in
    venv | chromium | firefox | node | postfix | nginx | fetchers | zips | tools | deploy | package | arm64 | otlp) "prepare_$part" ;;
    portal-peers) prepare_portal_peers ;;
    *)
        echo "usage: tests/setup.sh [venv] [chromium] [firefox] [node] [postfix] [nginx] [fetchers] [zips] [tools] [deploy] [package] [arm64] [portal-peers]" >&2
        exit 64
        ;;
    esac
done
say "ready ($*)"
