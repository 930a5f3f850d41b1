# What a fresh machine lacks, installed once. Sourced by ./run.
#
#   ensure_packages KIND...   the Debian packages of these kinds
#   ensure_torch              sets `torch`, the folder of a fitting wheel
#   ensure_python MODULES     sets `python`, an interpreter that can import that
#                             torch and these ("numpy, pytest, torch"); empty
#                             where there is none
#
# All return at once where there is nothing to do.

fail() {
  echo "run: $*" >&2
  exit 1
}

ensure_packages() {
  local wanted missing installer
  if ! command -v dpkg-query >/dev/null; then
    return 0  # Not Debian: CMake says what it misses.
  fi
  wanted=$(awk -v kinds=" $* " '!/^#/ && NF && index(kinds, " " $2 " ") {
    print $1 }' scripts/debian-packages.txt | sort)
  # shellcheck disable=SC2086,SC2016
  missing=$(comm -23 <(echo "$wanted") \
    <(dpkg-query -W -f '${db:Status-Status} ${Package}\n' $wanted 2>/dev/null |
      sed -n 's/^installed //p' | sort -u) | tr '\n' ' ')
  if [[ -z $missing ]]; then
    return 0
  fi
  if [[ $EUID -eq 0 ]]; then
    installer=(env)
  elif sudo -n true 2>/dev/null; then
    installer=(sudo -n env)
  else
    fail "these Debian packages are missing; install them with
  sudo apt-get update && sudo apt-get install -y ${missing% }
and run this again"
  fi
  echo "Installing Debian packages: $missing"
  "${installer[@]}" apt-get update -qq
  # shellcheck disable=SC2086
  "${installer[@]}" DEBIAN_FRONTEND=noninteractive \
    apt-get install -y -qq --no-install-recommends $missing >/dev/null
}

# Whether the cache folder holds what requirements-torch.txt names now.
torch_is_complete() {
  cmp -s requirements-torch.txt "$1/requirements-torch.txt"
}

# Installs the pinned torch into a folder, which appears whole or not at all.
# Two clones that start at once install it once.
install_torch() {
  local folder=$1 cache part python
  cache=$(dirname "$folder")
  mkdir -p "$cache"
  exec 9>"$cache/lock"
  flock 9
  if ! torch_is_complete "$folder"; then
    for python in python3 /usr/bin/python3; do
      if "$python" -m pip --version >/dev/null 2>&1; then
        break
      fi
    done
    echo "Installing torch into $folder: a download of 0.5 GB, once"
    rm -rf "$cache"/.part-*  # Left by an install that was killed.
    part=$(mktemp -d "$cache/.part-XXXXXX")
    "$python" -m pip install --quiet --no-deps --disable-pip-version-check \
      --root-user-action=ignore \
      --target "$part/new" -r requirements-torch.txt
    cp requirements-torch.txt "$part/new/"
    if [[ -e $folder ]]; then
      mv -T "$folder" "$part/old"
    fi
    mv -T "$part/new" "$folder"
    rm -rf "$part"
  fi
  exec 9>&-
}

ensure_torch() {
  local version folder
  version=$(sed -n 's/^torch==//p' requirements-torch.txt)
  folder=${XDG_CACHE_HOME:-$HOME/.cache}/colonnade/torch-$version
  # FindTorchWheel.cmake decides which torch is taken; only where that would be
  # the cache folder, or none, is one installed.
  torch=$(cmake -P cmake/FindTorchWheel.cmake 2>/dev/null) || true
  if [[ -z ${COLONNADE_TORCH-} && ($torch == "$folder"/* || -z $torch) ]] &&
    ! torch_is_complete "$folder"; then
    install_torch "$folder"
    torch=""
  fi
  if [[ -z $torch ]]; then
    torch=$(cmake -P cmake/FindTorchWheel.cmake)
  fi
}

# Whether an interpreter can make environments and compile extension modules,
# and is the one that the torch in a folder was installed for.
fits_torch() {
  "$1" - "$2" 2>/dev/null <<'END'
import os, sys, sysconfig
import ensurepip, venv
headers = os.path.join(sysconfig.get_path("include"), "Python.h")
binding = "_C" + sysconfig.get_config_var("EXT_SUFFIX")
sys.exit(not (os.path.exists(headers) and
              os.path.exists(os.path.join(sys.argv[1], binding))))
END
}

python_is_complete() {
  cmp -s requirements-python.txt "$1/requirements-python.txt"
}

# Makes the environment of the Python tests; as install_torch does.
install_python() {
  local folder=$1 cache part interpreter packages
  cache=$(dirname "$folder")
  exec 9>"$cache/lock"
  flock 9
  if ! python_is_complete "$folder"; then
    for interpreter in python3 /usr/bin/python3 ''; do
      if [[ -n $interpreter ]] && fits_torch "$interpreter" "$torch"; then
        break
      fi
    done
    if [[ -z $interpreter ]]; then
      fail "no python3 with its headers fits the torch in $torch; remove that
folder and run this again"
    fi
    echo "Installing what the Python tests need into $folder: a download of" \
      "1.5 GB, once"
    part=$(mktemp -d "$cache/.part-XXXXXX")
    "$interpreter" -m venv "$part/new"
    packages=$(echo "$part"/new/lib/python3*/site-packages)
    # The files of torch themselves, at no cost: its libraries look for those of
    # CUDA beside them.
    cp -al "$(dirname "$torch")/." "$packages"
    "$part/new/bin/python" -m pip install --quiet --no-deps \
      --disable-pip-version-check -r requirements-python.txt
    cp requirements-python.txt "$part/new/"
    if [[ -e $folder ]]; then
      mv -T "$folder" "$part/old"
    fi
    mv -T "$part/new" "$folder"
    rm -rf "$part"
  fi
  exec 9>&-
}

ensure_python() {
  local version folder
  version=$(sed -n 's/^torch==//p' requirements-torch.txt)
  folder=${XDG_CACHE_HOME:-$HOME/.cache}/colonnade
  python=""
  if [[ -n ${VIRTUAL_ENV-} && $torch == "$VIRTUAL_ENV"/* ]]; then
    if "$VIRTUAL_ENV/bin/python" -c "import $1" 2>/dev/null; then
      python=$VIRTUAL_ENV/bin/python
    fi
  elif [[ $torch == "$folder/torch-$version/torch" ]]; then
    if ! python_is_complete "$folder/python-$version"; then
      # Not in a condition, where bash would go on after a failure in it.
      install_python "$folder/python-$version" &
      wait $! || echo "The environment of the Python tests cannot be installed"
    fi
    if python_is_complete "$folder/python-$version"; then
      python=$folder/python-$version/bin/python
    fi
  fi
  if [[ -z $python ]]; then
    echo "No Python can import $1: the Python package is left out"
  fi
}
