#!/usr/bin/env bash
# Makes a Debian machine ready to run Gristmill as a service: a user, /opt/gristmill with its environment, the units.
#   sudo bash infra/bootstrap.sh            from a checkout
#   sudo bash infra/bootstrap.sh --dry-run  say what would be done
# Doing it again brings everything up to date. GRISTMILL_PREFIX puts it all below another folder (no user, no units
# are started then): for images and tests.
set -euo pipefail

prefix=${GRISTMILL_PREFIX:-}
dry_run=
[[ "${1:-}" == --dry-run ]] && dry_run=1
here=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)

run() {
  echo "+ $*"
  [[ -n $dry_run ]] || "$@"
}

if [[ -z $dry_run && -z $prefix && $(id -u) != 0 ]]; then
  echo "infra/bootstrap.sh: run it as root (sudo bash infra/bootstrap.sh), or look at it with --dry-run" >&2
  exit 2
fi

if [[ -z $prefix ]]; then
  run apt-get update -qq
  run apt-get install -y -qq --no-install-recommends python3 python3-venv python3-dev gcc make bubblewrap libseccomp2
  id gristmill >/dev/null 2>&1 || run useradd --system --create-home --home-dir /var/lib/gristmill gristmill
fi
run install -d -m 755 "$prefix/opt/gristmill" "$prefix/etc/gristmill" "$prefix/etc/systemd/system"
for folder in schemas operators pipelines cluster jobs infra requirements; do
  run cp -r "$here/$folder" "$prefix/opt/gristmill/"
done
for file in pyproject.toml Makefile README.md LICENSE; do
  run cp "$here/$file" "$prefix/opt/gristmill/"
done
[[ -n ${GRISTMILL_NO_SETUP:-} ]] || run make --no-print-directory -C "$prefix/opt/gristmill" setup
for unit in gristmill-nightly@.service gristmill-nightly@.timer; do
  run install -m 644 "$here/infra/systemd/$unit" "$prefix/etc/systemd/system/$unit"
done
if [[ -z $prefix ]] && command -v systemctl >/dev/null; then
  run systemctl daemon-reload
fi
echo "Ready. A job's nights: put it into $prefix/etc/gristmill/NAME.yaml, then"
echo "  systemctl enable --now gristmill-nightly@NAME.timer"
