#!/usr/bin/env bash
# What a build needs and cargo cannot fetch: Rust itself, a C++ compiler, libclang (for RocksDB's bindings).
# Installs the last two through apt when they are missing and root or sudo is at hand; else names the command.
# Prints nothing when everything is there.
set -euo pipefail

say() { printf '%s\n' "$*" >&2; }

if ! command -v cargo >/dev/null 2>&1 && [ ! -x "$HOME/.cargo/bin/cargo" ]; then
  say 'cargo is missing. Install Rust with rustup, then open a new shell:'
  say "  curl --proto '=https' --tlsv1.2 -sSf https://sh.rustup.rs | sh -s -- -y"
  exit 1
fi

has_compiler() { command -v c++ >/dev/null 2>&1 || command -v g++ >/dev/null 2>&1 || command -v clang++ >/dev/null 2>&1; }

has_libclang() {
  if [ -n "${LIBCLANG_PATH:-}" ]; then
    compgen -G "$LIBCLANG_PATH/libclang*.so*" >/dev/null && return 0
    [ -f "$LIBCLANG_PATH" ] && return 0
  fi
  # ldconfig is often outside a user's PATH.
  local ldconfig
  for ldconfig in ldconfig /sbin/ldconfig /usr/sbin/ldconfig; do
    if command -v "$ldconfig" >/dev/null 2>&1; then
      # Taken whole first: a grep that ends early would break the pipe, which pipefail takes for a failure.
      local libraries
      libraries=$("$ldconfig" -p 2>/dev/null || true)
      grep -qE 'libclang(-[0-9.]+)?\.so' <<<"$libraries" && return 0
      break
    fi
  done
  compgen -G '/usr/lib/llvm-*/lib/libclang*.so*' >/dev/null || compgen -G '/usr/lib/*/libclang*.so*' >/dev/null ||
    compgen -G '/usr/lib64/libclang*.so*' >/dev/null || compgen -G '/opt/homebrew/opt/llvm/lib/libclang.dylib' >/dev/null ||
    compgen -G '/Library/Developer/CommandLineTools/usr/lib/libclang.dylib' >/dev/null
}

missing=()
has_compiler || missing+=(g++)
has_libclang || missing+=(libclang-dev)
[ ${#missing[@]} -eq 0 ] && exit 0

if command -v apt-get >/dev/null 2>&1; then
  as_root=()
  if [ "$(id -u)" -ne 0 ]; then
    # A sudo that would ask is asked only where somebody can answer.
    if command -v sudo >/dev/null 2>&1 && { sudo -n true 2>/dev/null || [ -t 0 ]; }; then
      as_root=(sudo)
    else
      say "missing: ${missing[*]}. Install with:"
      say "  sudo apt-get update && sudo apt-get install -y ${missing[*]}"
      exit 1
    fi
  fi
  say "installing what the build needs: ${missing[*]}"
  export DEBIAN_FRONTEND=noninteractive
  "${as_root[@]}" apt-get update -qq >&2
  "${as_root[@]}" apt-get install -y -qq --no-install-recommends "${missing[@]}" >&2
else
  say "missing: ${missing[*]} (as Debian names them). Install a C++17 compiler and libclang with this system's packages,"
  say 'such as `dnf install gcc-c++ clang-devel` or `brew install llvm`; LIBCLANG_PATH names the folder of a libclang elsewhere.'
  exit 1
fi
if ! has_compiler || ! has_libclang; then
  say "apt ended well, but still missing: a C++ compiler or libclang; see the lines above"
  exit 1
fi
