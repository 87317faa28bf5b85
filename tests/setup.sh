#!/bin/bash
# Installs by name what the tests need besides Rust: FastCGI workers of several languages, web servers, the original
# spawn-fcgi, tools. Quick and silent when everything is there; needs root only when a package is missing.
# Python packages go into target/test-python, Node's into target/test-node, the Go programs into target/test-go.
set -euo pipefail
cd "$(dirname "$0")/.."

packages=(
    gcc libc6-dev libfcgi-dev               # C workers, compiled by the tests
    php-cgi libfcgi-perl perl fcgiwrap      # workers
    python3 python3-venv python3-pip        # flup, Flask, uvicorn and others live in a virtual environment
    ruby ruby-fcgi nodejs npm golang-go     # workers: pure Ruby, node-fastcgi, net/http/fcgi
    nginx-light lighttpd apache2-bin haproxy caddy curl # the servers in front, and who asks them
    spawn-fcgi libfcgi-bin                  # the original, and cgi-fcgi
    zsh fish                                # completion
    debhelper dpkg-dev lintian debootstrap systemd-container # packages built, checked, and installed in a container
    acl strace mandoc procps util-linux     # getfacl, system calls counted, manual pages checked, unshare
    libfaketime                             # a wall clock that leaps
)
installed() {
    dpkg-query --show --showformat='${db:Status-Status}\n' "$1" 2>/dev/null | grep -qx installed
}
missing=()
for package in "${packages[@]}"; do
    # Any flavour of nginx serves, and any source of Node.
    if [[ $package == nginx-light && -x /usr/sbin/nginx ]]; then continue; fi
    if [[ $package == npm && -x /usr/bin/npm ]]; then continue; fi
    installed "$package" || missing+=("$package")
done
if ((${#missing[@]})); then
    if ((EUID != 0)); then
        echo "setup.sh: not installed: ${missing[*]}; run this as root once" >&2
        exit 1
    fi
    export DEBIAN_FRONTEND=noninteractive
    apt-get update --quiet </dev/null
    # The tests start their own servers: the packages' services stay off, unless the machine has a policy of its own.
    policy=/usr/sbin/policy-rc.d
    if [[ ! -e $policy ]]; then
        printf '#!/bin/sh\nexit 101\n' >"$policy"
        chmod 755 "$policy"
        trap 'rm -f "$policy"' EXIT
    fi
    apt-get install --quiet --yes --no-install-recommends "${missing[@]}" </dev/null
fi

target="${CARGO_TARGET_DIR:-target}"
mkdir -p "$target"
target="$(realpath "$target")"

# Debian's own Python, so that the version is the distribution's whatever else is on the path.
venv="$target/test-python"
if ! cmp --silent tests/fixtures/requirements.txt "$venv/requirements.txt"; then
    rm -rf "$venv"
    /usr/bin/python3 -m venv "$venv"
    "$venv/bin/pip" install --quiet --disable-pip-version-check --no-input --use-pep517 -r tests/fixtures/requirements.txt </dev/null
    cp tests/fixtures/requirements.txt "$venv/requirements.txt"
fi

node="$target/test-node"
if ! cmp --silent tests/fixtures/node/package.json "$node/installed.json"; then
    rm -rf "$node"
    mkdir "$node"
    cp tests/fixtures/node/package.json "$node/"
    npm install --prefix "$node" --silent --no-audit --no-fund </dev/null
    cp tests/fixtures/node/package.json "$node/installed.json"
fi

go="$target/test-go"
for program in worker recipe; do
    if [[ ! -x $go/$program || tests/fixtures/go/$program.go -nt $go/$program ]]; then
        mkdir -p "$go"
        GOCACHE="$go/cache" GO111MODULE=off CGO_ENABLED=0 \
            /usr/bin/go build -trimpath -o "$go/$program" "tests/fixtures/go/$program.go" </dev/null
    fi
done
rm -rf "$go/cache"
