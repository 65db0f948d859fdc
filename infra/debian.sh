#!/usr/bin/env bash
# Installs the Debian packages that the tests need. Does nothing when they are there; where it can't install (not root, not
# Debian), it says what is missing and lets the tests go on: those that need it fail and say so.
set -euo pipefail

packages=(
  bubblewrap # generated programs run in a sandbox
  libseccomp2 # behind a filter of system calls
  chromium # the report is opened in a real browser (tests marked "browser")
  slurm-wlm # jobs are submitted to a Slurm of one node (tests marked "slurm")
  munge # Slurm's authentication
  postgresql # the catalogue is kept in a real PostgreSQL (tests marked "postgresql")
)

installed() {
  command -v dpkg-query >/dev/null &&
    [[ "$(dpkg-query --show --showformat='${db:Status-Status}' "$1" 2>/dev/null)" == installed ]]
}

missing=()
for package in "${packages[@]}"; do
  installed "$package" || missing+=("$package")
done

if ((${#missing[@]} == 0)); then
  exit 0
fi
if ! command -v apt-get >/dev/null; then
  echo "infra/debian.sh: not installed, and there is no apt-get here: ${missing[*]}. Tests that need them will fail." >&2
  exit 0
fi
if [[ "$(id -u)" != 0 ]]; then
  echo "infra/debian.sh: not installed: ${missing[*]}. Tests that need them will fail; to install them:" >&2
  echo "  sudo apt-get update && sudo apt-get install -y --no-install-recommends ${missing[*]}" >&2
  exit 0
fi

echo "infra/debian.sh: installing ${missing[*]}" >&2
export DEBIAN_FRONTEND=noninteractive
apt-get update -qq
apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
