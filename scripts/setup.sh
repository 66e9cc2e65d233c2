#!/usr/bin/env bash
# Make .venv with everything in it, build the web console, see to a browser. Safe to repeat: what is done is skipped.
#
# Honoured: pip's own configuration (index-url, cert, proxy), PIP_*, UV_*, HTTP(S)_PROXY, SSL_CERT_FILE, npm's .npmrc.
set -euo pipefail
cd "$(dirname "$0")/.."
stamps=.venv/.setup
say() { printf '\033[2m== %s\033[0m\n' "$*"; }

python=${PYTHON:-python3}
"$python" - <<'PY' || { echo "Narf needs Python 3.11 or newer; name one: make setup PYTHON=/path/to/python3.11" >&2; exit 1; }
import sys; sys.exit(sys.version_info < (3, 11))
PY

[ -x .venv/bin/python ] || { say "making .venv"; "$python" -m venv .venv; }
mkdir -p "$stamps"
pip() { .venv/bin/python -m pip --disable-pip-version-check "$@"; }
done_for() { [ -f "$stamps/$1" ] && [ "$(cat "$stamps/$1")" = "$2" ]; }
sum() { cat "$@" | sha256sum | cut -d' ' -f1; }

key=$(sum torch.txt)
if ! done_for torch "$key"; then
  say "installing torch (the largest part)"
  pip install --quiet -r torch.txt
  echo "$key" > "$stamps/torch"
fi

key=$(sum requirements.lock torch.txt)
if ! done_for packages "$key"; then
  say "installing packages"
  pip install --quiet "$(grep -oE '^uv==[0-9.]+' requirements.lock)"
  # uv does not read pip's configuration; a bank has set its index, certificate and proxy there.
  index=$(pip config get global.index-url 2>/dev/null || pip config get user.index-url 2>/dev/null || true)
  index=${PIP_INDEX_URL:-$index}
  cert=${PIP_CERT:-$(pip config get global.cert 2>/dev/null || true)}
  proxy=${PIP_PROXY:-$(pip config get global.proxy 2>/dev/null || true)}
  [ -z "$index" ] || export UV_DEFAULT_INDEX=${UV_DEFAULT_INDEX:-$index}
  [ -z "$cert" ] || export SSL_CERT_FILE=${SSL_CERT_FILE:-$cert}
  [ -z "$proxy" ] || export HTTPS_PROXY=${HTTPS_PROXY:-$proxy} HTTP_PROXY=${HTTP_PROXY:-$proxy}
  # Compiled now, on all cores: where Python may not write beside its modules (PYTHONDONTWRITEBYTECODE, a read-only
  # installation) each start would compile them anew, which is half of `narf up`.
  .venv/bin/uv pip install --quiet --compile-bytecode --python .venv/bin/python --no-deps --require-hashes -r requirements.lock
  echo "$key" > "$stamps/packages"
fi

key=$(sum pyproject.toml)
if ! done_for narf "$key"; then
  say "installing narf"
  # With its build tool from the lock's own index settings, and without touching what the lock installed.
  pip install --quiet --no-deps --editable .
  .venv/bin/python -m compileall -q -j 0 src/narf
  echo "$key" > "$stamps/narf"
fi

if [ -x scripts/web.sh ]; then
  key=$(git ls-files -s web 2>/dev/null | sha256sum | cut -d' ' -f1)$(git diff HEAD -- web 2>/dev/null | sha256sum | cut -d' ' -f1)
  if ! done_for web "$key" || [ ! -f src/narf/control/page/index.html ]; then
    say "building the web console"
    scripts/web.sh build
    echo "$key" > "$stamps/web"
  fi
fi

if ! command -v chromium >/dev/null && ! command -v google-chrome >/dev/null; then
  if command -v apt-get >/dev/null && [ "$(id -u)" = 0 ]; then
    say "installing Chromium for the browser tests"
    (apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends chromium) >/dev/null 2>&1 \
      || echo "Chromium could not be installed; the browser tests need it: apt-get install chromium" >&2
  else
    echo "The browser tests need Chromium: sudo apt-get install chromium" >&2
  fi
fi
say "ready: .venv/bin/narf"
