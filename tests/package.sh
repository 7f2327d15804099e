#!/usr/bin/env bash
# Judges the packages that `make package` made.
#
#   tests/package.sh target/package
#
# lintian has no error and no warning, the manual page no warning. In a root of its own the package is installed, installed again over a configuration that was edited, removed and
# purged: the edited configuration stays until the purge, and the state stays after it. The program in it reads the configuration in it. Wants Debian, and root.
# Exit 0 good, 1 bad, 64 usage.
set -euo pipefail
cd "$(dirname "$0")/.."

if [[ $# -ne 1 || ! -d $1 ]]; then
    echo "usage: tests/package.sh DIRECTORY" >&2
    exit 64
fi
bad() {
    echo "package: $*" >&2
    exit 1
}
packages=("$1"/*.deb) archives=("$1"/*.tar.gz)
[[ ${#packages[@]} -eq 1 && -f ${packages[0]} && ${#archives[@]} -eq 1 && -f ${archives[0]} ]] || bad "expected one .deb and one .tar.gz in $1"
package=${packages[0]} archive=${archives[0]}

# A package for a registry of one's own has a maintainer of one's own and closes no bug of Debian.
said=$(lintian --allow-root --fail-on error,warning --suppress-tags bogus-mail-host,bogus-mail-host-in-debian-changelog,initial-upload-closes-no-bugs "$package" 2>&1) ||
    bad "lintian is not content: $said"

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
dpkg-deb --fsys-tarfile "$package" | tar -xO ./usr/share/man/man1/handout.1.gz | gunzip >"$work/handout.1"
said=$(LC_ALL=C.UTF-8 MANROFFSEQ='' man --warnings -E UTF-8 -l -Tutf8 -Z "$work/handout.1" 2>&1 >/dev/null)
[[ -z $said ]] || bad "the manual page: $said"
grep -q '^Runs the daemon: .* exits$' "$work/handout.1" || bad "the manual page does not describe handout run"

# Maintainer scripts run here and not in the root, which has no shell; they do something only where systemd runs.
root=$work/root
mkdir -p "$root"/var/lib/dpkg/{info,updates} "$root/var/lib/handout/audit"
touch "$root"/var/lib/dpkg/{available,status} "$root/var/lib/handout/audit/a.jsonl"
of_root() { dpkg --root="$root" --force-depends,script-chrootless,confold --log=/dev/null "$@" >"$work/dpkg" 2>&1 || bad "dpkg $*: $(<"$work/dpkg")"; }
of_root --install "$package"
[[ -z $(find "$root/etc/systemd" -name 'handout*' 2>/dev/null) ]] || bad "the service is enabled by the installation"
[[ $(stat -c %a "$root/usr/bin/handout") == 755 && $(stat -c %a "$root/etc/handout/config.toml") == 644 ]] || bad "modes of the files"
grep -q '^ExecStart=/usr/bin/handout run ' "$root/usr/lib/systemd/system/handout.service" || bad "the unit does not start /usr/bin/handout"
HANDOUT_STATE_DIR="$work/state" "$root/usr/bin/handout" audit key --config "$root/etc/handout/config.toml" >/dev/null || bad "the program does not read the configuration of the package"
cmp -s config.toml "$root/etc/handout/config.toml" || bad "the configuration is not config.toml"

echo '# edited' >>"$root/etc/handout/config.toml"
of_root --install "$package"
grep -q '^# edited$' "$root/etc/handout/config.toml" || bad "an upgrade overwrites the configuration"
of_root --remove handout
[[ ! -e $root/usr/bin/handout && -e $root/etc/handout/config.toml ]] || bad "a removal leaves the program, or takes the configuration"
of_root --purge handout
[[ ! -e $root/etc/handout/config.toml ]] || bad "a purge leaves the configuration"
[[ -e $root/var/lib/handout/audit/a.jsonl ]] || bad "a purge takes the audit log"

# Every crate that is linked has a licence text, or says which licence it has.
tar -xzf "$archive" -C "$work"
folder=$(echo "$work"/handout-*)
for file in handout config.toml systemd/handout.service LICENSE-MIT LICENSE-APACHE README.md licences.txt.gz handout.1.gz; do
    [[ -s $folder/$file ]] || bad "$archive has no $file"
done
gunzip "$folder/licences.txt.gz"
grep -q '^aws-lc-sys [0-9.]*: LICENSE$' "$folder/licences.txt" || bad "the licence of aws-lc-sys is missing"
cmp -s "$folder/handout" <(dpkg-deb --fsys-tarfile "$package" | tar -xO ./usr/bin/handout) || bad "the two packages have not the same program"
echo "package: lintian is content; installed, upgraded, removed and purged; $(du -h "$package" | cut -f1)"
