#!/usr/bin/env bash
# Print the tests of a room: room-tests.sh ROOM. Without it, those of the rooms that changed: since the branch left main,
# in the working tree, and in files that are new.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

tests_of() {
  local tests
  for tests in "tests/$1" "tests/test_$1.py"; do
    [ ! -e "$tests" ] || echo "$tests"
  done
}

changed_rooms() {
  local since
  since=$(git merge-base HEAD main 2>/dev/null || echo HEAD)
  { git diff --name-only "$since"; git ls-files --others --exclude-standard; } |
    while IFS=/ read -r top second third _; do
      case $top/$second in
        src/*) echo "${third%.py}" ;;
        tests/test_*) second=${second#test_} && echo "${second%.py}" ;;
        tests/conftest.py | tests/helpers | tests/data) echo conftest ;;
        tests/*) echo "$second" ;;
        scripts/* | constraints/*) echo scripts ;;
      esac
    done | sort -u
}

if [ $# -gt 0 ]; then
  found=$(tests_of "$1")
  [ -n "$found" ] || { echo "expected a room with tests in tests/, got $1; see 'ls tests'" >&2 && exit 1; }
  echo "$found"
  exit
fi
found=$(changed_rooms | while read -r room; do tests_of "$room"; done)
[ -n "$found" ] && echo "$found" || echo "No room has changed; name one: make quick ROOM=lesions" >&2
