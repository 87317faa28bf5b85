#!/bin/bash
# Builds the Debian packages fpmd and fpmd-spawn-fcgi, and prints their paths.
#
#   packaging/build-deb.sh [--output DIR] [--version VERSION] [--profile PROFILE]
#
#   --output DIR        where they go; target/package by default
#   --version VERSION   a version other than the changelog's, for trying an upgrade
#   --profile PROFILE   of Cargo, instead of release, for trying the packaging
#
# Needs Rust (from wherever: rustup or Debian), debhelper and dpkg-dev. The sources are copied first, so that nothing is
# written beside them; what git ignores stays out. The same sources give the same bytes.
set -euo pipefail
cd "$(dirname "$0")/.."

target=$(realpath -m "${CARGO_TARGET_DIR:-target}")
output=$target/package version='' profile=release
while (($#)); do
    case $1 in
        --output) output=$(realpath -m "$2") ;;
        --version) version=$2 ;;
        --profile) profile=$2 ;;
        *) sed -n '2,11s/^# \{0,1\}//p' "$0" >&2; exit 2 ;;
    esac
    shift 2
done

build=$target/package/build
rm -rf "$build"
mkdir -p "$build/fpmd" "$output"
git ls-files -z --cached --others --exclude-standard |
    while IFS= read -r -d '' file; do if [[ -e $file ]]; then printf '%s\0' "$file"; fi; done |
    tar --create --null --files-from=- | tar --extract --directory="$build/fpmd"
cd "$build/fpmd"
cp -r packaging/debian debian

if [[ $version ]]; then
    # As of the entry before, so that the bytes do not depend on the day.
    maintainer=$(dpkg-parsechangelog --show-field Maintainer)
    date=$(dpkg-parsechangelog --show-field Date)
    {
        printf 'fpmd (%s) unstable; urgency=medium\n\n' "$version"
        printf '  * Built as another version.\n\n -- %s  %s\n\n' "$maintainer" "$date"
        cat packaging/debian/changelog
    } >debian/changelog
fi

# Rust need not be a Debian package, so dpkg cannot check it.
export CARGO_TARGET_DIR=$target/package/cargo PROFILE=$profile
dpkg-buildpackage --no-check-builddeps --unsigned-source --unsigned-changes --build=binary >"$build/log" 2>&1 </dev/null || {
    tail -n 40 "$build/log" >&2
    echo "build-deb.sh: cannot build the packages; the whole log is $build/log" >&2
    exit 1
}
for package in "$build"/*.deb; do
    mv "$package" "$output/"
    echo "$output/${package##*/}"
done
