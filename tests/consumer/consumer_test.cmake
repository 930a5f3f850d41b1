# Builds tests/consumer against this build of the library and runs it.
#
#   cmake -DWAY=find_package|add_subdirectory -DSOURCE=<project>
#     -DBUILD=<its build folder> -DFOLDER=<to work in> -DOPTIONS=<of cmake>
#     -P consumer_test.cmake

function(run)
  execute_process(COMMAND ${ARGN} COMMAND_ECHO STDOUT
    COMMAND_ERROR_IS_FATAL ANY)
endfunction()

file(REMOVE_RECURSE "${FOLDER}")
set(configure ${CMAKE_COMMAND} -G Ninja -S "${SOURCE}/tests/consumer"
  -B "${FOLDER}/build" ${OPTIONS})

if(WAY STREQUAL "find_package")
  run(${CMAKE_COMMAND} --install "${BUILD}" --prefix "${FOLDER}/prefix")
  file(GLOB_RECURSE private "${FOLDER}/prefix/*/detail/*")
  if(private)
    message(FATAL_ERROR "install: ${private} is in the prefix; what is in a \
folder detail/ belongs to no header set")
  endif()
  run(${configure} "-DCMAKE_PREFIX_PATH=${FOLDER}/prefix")
  run(${CMAKE_COMMAND} --build "${FOLDER}/build")
else()
  # To compile the whole library again would double the build. So here it is
  # configured, one of its sources is compiled, and the consumer is compiled
  # and linked by the command of its own build, with the library of ours.
  run(${configure} "-DCOLONNADE_SOURCE=${SOURCE}"
    -DCMAKE_DISABLE_PRECOMPILE_HEADERS=ON)
  run(${CMAKE_COMMAND} --build "${FOLDER}/build" --target
    colonnade/colonnade/CMakeFiles/colonnade.dir/core/version.cpp.o
    CMakeFiles/consumer.dir/main.cpp.o)
  file(GLOB libraries "${BUILD}/colonnade/libcolonnade.so*")
  file(COPY ${libraries} DESTINATION "${FOLDER}/build/colonnade/colonnade")
  execute_process(COMMAND ninja -C "${FOLDER}/build" -t commands consumer
    OUTPUT_VARIABLE commands COMMAND_ERROR_IS_FATAL ANY)
  string(REGEX MATCH "[^\n]* -o consumer [^\n]*" link "${commands}")
  execute_process(COMMAND sh -c "${link}" COMMAND_ECHO STDOUT
    WORKING_DIRECTORY "${FOLDER}/build" COMMAND_ERROR_IS_FATAL ANY)
endif()

run("${FOLDER}/build/consumer")
