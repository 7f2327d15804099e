#!/usr/bin/env bash
# Judges what `make package` made.
#
#   tests/package.sh target/package
#   tests/package.sh target/package-arm64    its programs run by an emulator; PROGRAM= from which all of it was made
#
# lintian has no error and no warning, neither has the manual page, and three shells load the completions. The package is installed, upgraded, removed and purged in a clean root
# (tests/package/root.sh). The bills of materials and licence texts are complete (tests/package/materials.py), and the image runs confined (tests/package/image.py). All of it is made
# once more, with the same bytes. Wants Debian, root, and `tests/setup.sh package`. ONLY= some of: package materials image again.
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
folder=$1 python=.test/package/bin/python
only() { [[ -z ${ONLY:-} || " $ONLY " == *" $1 "* ]]; }
packages=("$folder"/*.deb) archives=("$folder"/*.tar.gz) images=("$folder"/*.oci.tar)
for found in "${packages[*]}" "${archives[*]}" "${images[*]}"; do
    [[ -f $found ]] || bad "expected one .deb, one .tar.gz and one .oci.tar in $folder"
done
package=${packages[0]} archive=${archives[0]} image=${images[0]}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
tar -xzf "$archive" -C "$work"
unpacked=$(echo "$work"/handout-*)
gunzip "$unpacked"/{licences.txt,sbom.cdx.json}.gz "$unpacked"/man/*.gz

of_package() {
    mkdir "$work/deb"
    dpkg-deb -x "$package" "$work/deb"
    tests/package/lint.sh "$package" || bad "the package is not as Debian wants it"
    grep -q '^Runs the daemon: .* exits$' "$unpacked/man/handout.1" || bad "the manual page does not describe handout run"
    grep -q '^HANDOUT AUDIT VERIFY\|^.SH HANDOUT AUDIT VERIFY' "$unpacked/man/handout-audit.1" || bad "the manual page of handout audit does not describe verify"
    for page in "$unpacked"/man/*.1; do
        [[ -s $work/deb/usr/share/man/man1/$(basename "$page").gz ]] || bad "the package has no $(basename "$page")"
    done
    # The completions of the package do something in the shells that they are for.
    (cd "$work/deb" && zsh -fc 'fpath=(usr/share/zsh/vendor-completions $fpath); autoload -Uz compinit; compinit -D; [[ $_comps[handout] == _handout ]]; autoload +X -Uz _handout') ||
        bad "zsh does not load the completions"
    said=$(HOME=$work fish --no-config -c "source $work/deb/usr/share/fish/vendor_completions.d/handout.fish; complete -C 'handout job sub'")
    [[ $said == submit* ]] || bad "fish does not complete handout job submit: $said"
    cmp -s "$unpacked/handout" "$work/deb/usr/bin/handout" || bad "the package and the tarball have not the same program"
    cmp -s "$unpacked/sbom.cdx.json" <(gunzip -c "$work/deb/usr/share/doc/handout/sbom.cdx.json.gz") || bad "the package and the tarball have not the same bill of materials"
    tests/package/root.sh "$package"
}

of_materials() {
    for file in handout config.toml systemd/handout.service LICENSE-MIT LICENSE-APACHE README.md licences.txt sbom.cdx.json man/handout.1; do
        [[ -s $unpacked/$file ]] || bad "$archive has no $file"
    done
    cmp -s "$unpacked/sbom.cdx.json" "$(ls "$folder"/*.cdx.json | grep -v -- -image)" || bad "the tarball has another bill of materials"
    "$python" tests/package/materials.py "$folder" "$unpacked"
}

# The same bytes from the same program, in another place, time zone and language, with other rights for new files.
made_again() {
    (umask 077 && TZ=Asia/Tokyo LC_ALL=C "$python" deploy/package/build.py "${PROGRAM:-${CARGO_TARGET_DIR:-target}/dist/handout}" "$work/again" >/dev/null)
    for file in "$folder"/*; do
        cmp "$file" "$work/again/$(basename "$file")" || bad "$(basename "$file") has other bytes when it is made again"
    done
    echo "package: made again, all files have the same bytes"
}

if only libraries; then tests/package/libraries.sh "$unpacked/handout" "$(dpkg-deb -f "$package" Depends)"; fi
if only package; then of_package; fi
if only materials; then of_materials; fi
if only image; then "$python" tests/package/image.py "$image"; fi
if only again; then made_again; fi
echo "package: judged; $(du -h "$package" | cut -f1) .deb, $(du -h "$archive" | cut -f1) .tar.gz, $(du -h "$image" | cut -f1) .oci.tar"
