# Takes the torch that the Python package is to be used with: the one that the
# interpreter Python_EXECUTABLE imports, or that is installed beside it (a build
# that pip isolates does not see that on its path).
find_package(Python 3.10 REQUIRED COMPONENTS Interpreter)
execute_process(
  COMMAND "${Python_EXECUTABLE}" -c "
import importlib.util, os, sysconfig
found = importlib.util.find_spec('torch')
folder = os.path.dirname(found.origin) if found else os.path.join(
    sysconfig.get_path('platlib'), 'torch')
print(folder if os.path.exists(os.path.join(folder, 'version.py')) else '')"
  OUTPUT_VARIABLE python_torch OUTPUT_STRIP_TRAILING_WHITESPACE
  COMMAND_ERROR_IS_FATAL ANY)
if(python_torch)
  set(TorchWheel_ROOT "${python_torch}")
endif()
