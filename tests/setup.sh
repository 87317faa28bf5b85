#!/bin/bash
# Installs by name what the tests need besides Rust: FastCGI workers of several languages, nginx, the original
# spawn-fcgi, tools. Quick and silent when everything is there; needs root only when a package is missing.
# The Python packages go into target/test-python and nowhere else.
set -euo pipefail
cd "$(dirname "$0")/.."

packages=(
    gcc libc6-dev libfcgi-dev               # C workers, compiled by the tests
    php-cgi libfcgi-perl perl fcgiwrap      # workers
    python3 python3-venv python3-pip        # flup, flipflop and uvicorn live in a virtual environment
    nginx-light curl                        # the web server in front, and who asks it
    spawn-fcgi libfcgi-bin                  # the original, and cgi-fcgi
    acl strace mandoc procps util-linux     # getfacl, system calls counted, manual pages checked, unshare
)
installed() {
    dpkg-query --show --showformat='${db:Status-Status}\n' "$1" 2>/dev/null | grep -qx installed
}
missing=()
for package in "${packages[@]}"; do
    # Any flavour of nginx serves.
    if [[ $package == nginx-light && -x /usr/sbin/nginx ]]; then continue; fi
    installed "$package" || missing+=("$package")
done
if ((${#missing[@]})); then
    if ((EUID != 0)); then
        echo "setup.sh: not installed: ${missing[*]}; run this as root once" >&2
        exit 1
    fi
    export DEBIAN_FRONTEND=noninteractive
    apt-get update --quiet </dev/null
    apt-get install --quiet --yes --no-install-recommends "${missing[@]}" </dev/null
fi

# Debian's own Python, so that the version is the distribution's whatever else is on the path.
venv="${CARGO_TARGET_DIR:-target}/test-python"
if ! cmp --silent tests/fixtures/requirements.txt "$venv/requirements.txt"; then
    rm -rf "$venv"
    mkdir -p "$(dirname "$venv")"
    /usr/bin/python3 -m venv "$venv"
    "$venv/bin/pip" install --quiet --disable-pip-version-check --no-input --use-pep517 -r tests/fixtures/requirements.txt </dev/null
    cp tests/fixtures/requirements.txt "$venv/requirements.txt"
fi
