# Compiles through ccache where it is there, so that every clone and worktree
# of the project shares one cache: paths are taken relative to the source
# folder, and a precompiled header counts by its content.

find_program(COLONNADE_CCACHE ccache)
if(COLONNADE_CCACHE AND NOT CMAKE_CXX_COMPILER_LAUNCHER)
  set(CMAKE_CXX_COMPILER_LAUNCHER
    ${CMAKE_COMMAND} -E env
    CCACHE_BASEDIR=${PROJECT_SOURCE_DIR}
    CCACHE_NOHASHDIR=true
    CCACHE_SLOPPINESS=pch_defines,time_macros,include_file_mtime,include_file_ctime
    ${COLONNADE_CCACHE})
endif()
