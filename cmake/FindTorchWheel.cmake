# Finds LibTorch inside a PyTorch wheel. Needs no CUDA toolkit and no Python.
#
# Looks in this order, and takes the first that holds torch >= 2.11:
#   TorchWheel_ROOT       cache variable: the folder `torch` of a wheel
#   COLONNADE_TORCH       environment variable, the same
#   VIRTUAL_ENV           the active virtual environment
#   the cache folder      where ./run installs the pinned version
# The first two are a request: a torch there that is too old is an error.
#
# Targets  TorchWheel::c10, TorchWheel::cpu; where the wheel has them,
#          TorchWheel::cuda (CUDA's own headers not included) and
#          TorchWheel::python (Python's headers not included)
# Result   TorchWheel_ROOT, TorchWheel_VERSION
#
# `cmake -P FindTorchWheel.cmake` prints the folder that would be taken.

set(_torch_minimum 2.11)

# The version of the wheel at `root`, without a local part; empty if none.
function(_torch_version root result)
  set(version "")
  if(EXISTS "${root}/version.py" AND EXISTS "${root}/lib/libtorch_cpu.so")
    file(STRINGS "${root}/version.py" line REGEX "^__version__ = ")
    string(REGEX REPLACE ".*'([0-9.]+).*" "\\1" version "${line}")
  endif()
  set(${result} "${version}" PARENT_SCOPE)
endfunction()

# Where ./run puts the pinned torch; empty outside of the project's tree.
function(_torch_cache_folder result)
  set(folder "")
  set(pins "${CMAKE_CURRENT_FUNCTION_LIST_DIR}/../requirements-torch.txt")
  if(EXISTS "${pins}")
    file(STRINGS "${pins}" pin REGEX "^torch==")
    string(REPLACE "torch==" "" version "${pin}")
    set(cache "$ENV{XDG_CACHE_HOME}")
    if(cache STREQUAL "")
      set(cache "$ENV{HOME}/.cache")
    endif()
    set(folder "${cache}/colonnade/torch-${version}/torch")
  endif()
  set(${result} "${folder}" PARENT_SCOPE)
endfunction()

# Sets TorchWheel_ROOT, TorchWheel_VERSION and, where there is no torch to
# take, TorchWheel_PROBLEM in the caller.
function(_torch_find)
  set(root "")
  set(problem "")
  foreach(requested IN ITEMS "${TorchWheel_ROOT}" "$ENV{COLONNADE_TORCH}")
    if(requested AND NOT root)
      set(root "${requested}")
      _torch_version("${root}" version)
      if(NOT version)
        set(problem "there is no torch wheel in ${root}; set TorchWheel_ROOT \
or the environment variable COLONNADE_TORCH to the folder `torch` of a wheel, \
which holds version.py and lib/libtorch_cpu.so")
      elseif(version VERSION_LESS _torch_minimum)
        set(problem "${root} is torch ${version}, too old; Colonnade needs \
torch ${_torch_minimum} or later (pip install 'torch>=${_torch_minimum}')")
      endif()
    endif()
  endforeach()
  if(NOT root)
    file(GLOB candidates LIST_DIRECTORIES ON
      "$ENV{VIRTUAL_ENV}/lib/python3*/site-packages/torch")
    if("$ENV{VIRTUAL_ENV}" STREQUAL "")
      set(candidates "")
    endif()
    _torch_cache_folder(cache_folder)
    foreach(candidate IN LISTS candidates cache_folder)
      _torch_version("${candidate}" version)
      if(version AND version VERSION_GREATER_EQUAL _torch_minimum)
        set(root "${candidate}")
        break()
      endif()
    endforeach()
    if(NOT root)
      set(problem "there is no torch >= ${_torch_minimum} in the active \
virtual environment or in ${cache_folder}; set TorchWheel_ROOT or the \
environment variable COLONNADE_TORCH to the folder `torch` of a wheel, or let \
./run install it")
    endif()
  endif()
  set(TorchWheel_ROOT "${root}" PARENT_SCOPE)
  set(TorchWheel_VERSION "${version}" PARENT_SCOPE)
  set(TorchWheel_PROBLEM "${problem}" PARENT_SCOPE)
endfunction()

_torch_find()

if(CMAKE_SCRIPT_MODE_FILE STREQUAL CMAKE_CURRENT_LIST_FILE)
  if(TorchWheel_PROBLEM)
    message(FATAL_ERROR "TorchWheel: ${TorchWheel_PROBLEM}")
  endif()
  execute_process(COMMAND "${CMAKE_COMMAND}" -E echo "${TorchWheel_ROOT}")
  return()
endif()

set(_torch_include "${TorchWheel_ROOT}/include")
set(_torch_lib "${TorchWheel_ROOT}/lib")
if(TorchWheel_PROBLEM)
  set(_torch_include "")
endif()

include(FindPackageHandleStandardArgs)
find_package_handle_standard_args(TorchWheel
  REQUIRED_VARS TorchWheel_ROOT _torch_include
  VERSION_VAR TorchWheel_VERSION
  REASON_FAILURE_MESSAGE "TorchWheel: ${TorchWheel_PROBLEM}")

if(TorchWheel_FOUND)
  # Stays what it is when CMake runs again in another environment.
  set(TorchWheel_ROOT "${TorchWheel_ROOT}" CACHE PATH
    "The folder `torch` of a PyTorch wheel")
endif()

if(TorchWheel_FOUND AND NOT TARGET TorchWheel::cpu)
  function(_torch_target name file)
    add_library(TorchWheel::${name} SHARED IMPORTED)
    set_target_properties(TorchWheel::${name} PROPERTIES
      IMPORTED_LOCATION "${_torch_lib}/${file}")
    target_include_directories(TorchWheel::${name} SYSTEM INTERFACE
      "${_torch_include}" "${_torch_include}/torch/csrc/api/include")
  endfunction()

  _torch_target(c10 libc10.so)
  _torch_target(cpu libtorch_cpu.so)
  target_link_libraries(TorchWheel::cpu INTERFACE TorchWheel::c10)
  target_compile_features(TorchWheel::cpu INTERFACE cxx_std_20)
  # Without it the headers of c10d hide what the wheel's library has.
  target_compile_definitions(TorchWheel::cpu INTERFACE USE_DISTRIBUTED)
  # libtorch_cpu.so names CUDA libraries that it finds by its own rpath.
  target_link_options(TorchWheel::cpu INTERFACE LINKER:--allow-shlib-undefined)

  if(EXISTS "${_torch_lib}/libtorch_cuda.so")
    _torch_target(cuda libtorch_cuda.so)
    _torch_target(c10_cuda libc10_cuda.so)
    target_link_libraries(TorchWheel::cuda INTERFACE
      TorchWheel::cpu TorchWheel::c10_cuda)
    # Nothing calls into it: it registers its kernels as it is loaded.
    target_link_options(TorchWheel::cuda INTERFACE LINKER:--no-as-needed)
  endif()

  if(EXISTS "${_torch_lib}/libtorch_python.so")
    _torch_target(python libtorch_python.so)
    target_link_libraries(TorchWheel::python INTERFACE TorchWheel::cpu)
  endif()
endif()
