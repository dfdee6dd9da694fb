#!/usr/bin/env bash
# See to the system libraries that a napari window needs, on screen or on a virtual one: install what is missing where
# that is allowed (root on Debian or Ubuntu), else say exactly what is missing and how to get it.
set -euo pipefail

[ "$(uname -s)" = Linux ] || exit 0

# Debian package, and what proves that it is there: a library that the loader knows, a command, or a file.
needed="
xvfb                  command xvfb-run
xauth                 command xauth
libgl1                library libGL.so.1
libgl1-mesa-dri       file    /usr/lib*/dri/swrast_dri.so /usr/lib/*/dri/swrast_dri.so
libegl1               library libEGL.so.1
libopengl0            library libOpenGL.so.0
libglx0               library libGLX.so.0
libxkbcommon-x11-0    library libxkbcommon-x11.so.0
libxcb-cursor0        library libxcb-cursor.so.0
libxcb-icccm4         library libxcb-icccm.so.4
libxcb-image0         library libxcb-image.so.0
libxcb-keysyms1       library libxcb-keysyms.so.1
libxcb-randr0         library libxcb-randr.so.0
libxcb-render-util0   library libxcb-render-util.so.0
libxcb-shape0         library libxcb-shape.so.0
libxcb-xinerama0      library libxcb-xinerama.so.0
libxcb-xkb1           library libxcb-xkb.so.1
libdbus-1-3           library libdbus-1.so.3
libfontconfig1        library libfontconfig.so.1
libglib2.0-0          library libglib-2.0.so.0
"

# ldconfig lies in sbin, which is not on every user's path.
known_libraries=$(PATH="$PATH:/sbin:/usr/sbin" ldconfig -p 2>/dev/null || true)

is_there() {
  local kind=$1
  shift
  case $kind in
    command) command -v "$1" >/dev/null ;;
    library) grep -q -F "$1 " <<<"$known_libraries" ;;
    file) compgen -G "$1" >/dev/null || compgen -G "$2" >/dev/null ;;
  esac
}

find_missing() {
  local package kind first second
  while read -r package kind first second; do
    [ -n "$package" ] || continue
    is_there "$kind" "$first" "$second" || echo "$package"
  done <<<"$needed"
}

missing=$(find_missing | paste -sd ' ')
[ -n "$missing" ] || exit 0

if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
  echo "Installing system libraries: $missing"
  apt-get update -qq
  # shellcheck disable=SC2086  # one word per package
  DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $missing
  exit 0
fi
echo "expected the system libraries that a napari window needs, got none of: $missing (Debian's names);" \
  "install them: sudo apt-get install $missing" >&2
exit 1
