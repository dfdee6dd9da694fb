#!/usr/bin/env bash
# Create or complete the environment: environment.sh VENV CONSTRAINTS
set -euo pipefail

venv=$1
constraints=$2

# Print the first Python that the program runs on: $PYTHON where it is set, else the default one, else a newer one by name.
find_python() {
  local candidate
  for candidate in ${PYTHON:-python3 python3.13 python3.12 python3.11}; do
    if "$candidate" -c 'import sys; raise SystemExit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' 2>/dev/null; then
      echo "$candidate"
      return
    fi
  done
  echo "expected Python 3.11 to 3.13, got $("${PYTHON:-python3}" --version 2>&1 || true);" \
    "install one, or name it: PYTHON=/path/to/python3.12 make env" >&2
  return 1
}

# Debian packages the venv module by itself.
ensure_venv_module() {
  "$1" -c 'import ensurepip, venv' 2>/dev/null && return
  local package
  package="python$("$1" -c 'import sys; print("%d.%d" % sys.version_info[:2])')-venv"
  if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
    apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$package"
  else
    echo "expected Python's venv module, got none; install it: sudo apt-get install $package" >&2
    return 1
  fi
}

if ! "$venv/bin/python" -c 'import pip' 2>/dev/null; then
  python=$(find_python)
  ensure_venv_module "$python"
  echo "Creating $venv with $("$python" --version)"
  "$python" -m venv --clear "$venv"
fi
# Dependency groups need pip 25.1; older ones come with Python 3.11.
"$venv/bin/python" -m pip install --quiet --no-input --upgrade 'pip>=25.1' --constraint "$constraints"
echo "Installing napari-metastasis and everything around it into $venv"
"$venv/bin/python" -m pip install --quiet --no-input --no-compile --constraint "$constraints" \
  --editable '.[all]' --group dev
# pip would compile on one core. Some packages hold files for other versions of Python, which do not compile here.
"$venv/bin/python" -m compileall -qq -j 0 -x '/tests?/' "$venv/lib" || true
