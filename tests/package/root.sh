#!/usr/bin/env bash
# Installs a Debian package in a root that has Debian and nothing else, upgrades, removes and purges it.
#
#   tests/package/root.sh FILE.deb
#
# The commands of docs/operating/packages.md are typed as they are printed: from the package to the first mail in five commands and two minutes. Wants root, the network for apt, and
# .test/package/root.tar; for a package of arm64 on amd64, .test/arm64/root.tar (`tests/setup.sh arm64`), whose programs an emulator runs. Exit 0 good, 1 bad, 64 usage.
set -euo pipefail
cd "$(dirname "$0")/../.."

if [[ $# -ne 1 || ! -f $1 ]]; then
    echo "usage: tests/package/root.sh FILE.deb" >&2
    exit 64
fi
bad() {
    echo "package: $*" >&2
    exit 1
}
package=$1 name=$(basename "$1") machine=$(dpkg-deb -f "$1" Architecture)
debian=.test/package/root.tar limit=120
# An emulator takes many times as long: the two minutes are not for it.
if [[ $machine != "$(dpkg --print-architecture)" ]]; then debian=.test/$machine/root.tar limit=1200; fi
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
root=$work/root
mkdir "$root"
tar -xpf "$debian" -C "$root"
cp --dereference /etc/resolv.conf "$root/etc/resolv.conf"
cp "$package" "$root/root/"

# inside NET COMMANDS: as root of that system, in namespaces that end with it. NET is `--net`, or nothing for apt.
inside() {
    local enter='mount --make-rprivate /; mount -t proc proc "$1/proc"; ip link set lo up 2>/dev/null || true
        exec chroot "$1" /usr/bin/env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LC_ALL=C.UTF-8 DEBIAN_FRONTEND=noninteractive sh -euc "cd /root; $2"'
    # shellcheck disable=SC2086
    unshare --mount --pid --ipc --uts $1 --fork --kill-child sh -euc "$enter" sh "$root" "$2" >"$work/said" 2>&1 || bad "in a clean root: $2: $(tail -n 30 "$work/said")"
}

mapfile -t commands < <(sed -n '/^## The first mail$/,/^## /{/^```sh$/,/^```$/{/^```/!p}}' docs/operating/packages.md)
[[ ${#commands[@]} -eq 5 ]] || bad "docs/operating/packages.md has ${#commands[@]} commands to the first mail, and not five"
begun=$SECONDS
inside '' "${commands[0]//handout_0.1.0-1_amd64.deb/$name}; ! grep -x handout /proc/[0-9]*/comm"
installed=$((SECONDS - begun))
[[ -z $(find "$root/etc/systemd" -name '*handout*' 2>/dev/null) ]] || bad "the service is enabled by the installation"
printf '%s\n' "${commands[@]:1}" >"$root/root/commands"
# Without a network: the mail, its link and the log need none.
inside --net '. ./commands; for i in $(seq 1000); do ls /var/lib/handout/outbox/*.eml >/dev/null 2>&1 && break; sleep 0.1; done
    grep -q "^To: .*ann@acme.example" /var/lib/handout/outbox/*.eml
    handout audit verify; handout health; kill %1 2>/dev/null || kill $!; wait || true'
took=$((SECONDS - begun))
grep -q ': whole$' "$work/said" || bad "no audit log that is whole: $(<"$work/said")"
[[ $took -le $limit ]] || bad "the first mail took $took s"

# The configuration of the package: the service's, read as it is.
[[ $(stat -c '%a %U' "$root/usr/bin/handout") == '755 root' && $(stat -c '%a %U' "$root/etc/handout/config.toml") == '644 root' ]] || bad "modes of the files"
grep -q '^ExecStart=/usr/bin/handout run ' "$root/usr/lib/systemd/system/handout.service" || bad "the unit does not start /usr/bin/handout"
cmp -s config.toml "$root/etc/handout/config.toml" || bad "the configuration is not config.toml"
inside --net 'handout audit key --config /etc/handout/config.toml; bash -c ". /usr/share/bash-completion/completions/handout; complete -p handout"'

# later VERSION: the same package as a later one, with another configuration.
later() {
    rm -rf "$work/later"
    dpkg-deb -R "$package" "$work/later"
    sed -i "s/^Version: .*/Version: $1/" "$work/later/DEBIAN/control"
    echo "# of version $1" >>"$work/later/etc/handout/config.toml"
    rm -f "$work/later/DEBIAN/md5sums"
    dpkg-deb --root-owner-group -Znone -b "$work/later" "$root/root/later_$1.deb" >/dev/null
}
later 0.9.1-1
inside '' 'apt-get install -qy ./later_0.9.1-1.deb'
grep -q '^# of version 0.9.1-1$' "$root/etc/handout/config.toml" || bad "an upgrade leaves a configuration without edits as it was"
echo '# edited' >>"$root/etc/handout/config.toml"
later 0.9.2-1
inside '' 'apt-get install -qy -o Dpkg::Options::=--force-confdef -o Dpkg::Options::=--force-confold ./later_0.9.2-1.deb'
grep -q '^# edited$' "$root/etc/handout/config.toml" && ! grep -q 0.9.2 "$root/etc/handout/config.toml" || bad "an upgrade overwrites the configuration"
[[ -e $root/etc/handout/config.toml.dpkg-dist ]] || bad "the new configuration is not beside the edited one"
# Without what Debian stops services with, where systemd seems to run: as in a container whose image was made smaller.
rm -f "$root"/usr/bin/{deb-systemd-helper,deb-systemd-invoke,systemctl}
mkdir -p "$root/run/systemd/system"
inside --net 'dpkg --remove handout'
[[ ! -e $root/usr/bin/handout && -e $root/etc/handout/config.toml ]] || bad "a removal leaves the program, or takes the configuration"
inside --net 'dpkg --purge handout'
[[ ! -e $root/etc/handout/config.toml ]] || bad "a purge leaves the configuration"
[[ -n $(find "$root/var/lib/handout/audit" -name '*.jsonl') && -e $root/var/lib/handout/secret.key ]] || bad "a purge takes the audit log"
# And all of it in one step, without systemd.
rmdir "$root/run/systemd/system"
inside --net "dpkg --install $name; dpkg --purge handout"
[[ ! -e $root/usr/bin/handout && ! -e $root/etc/handout/config.toml ]] || bad "a purge leaves the program or its configuration"
echo "package: in a clean root, installed in $installed s, the first mail after $took s; upgraded, removed and purged, also without deb-systemd-helper"
