# What `cmake --install` puts into a prefix: the library, the headers of its
# header set, the program, and what find_package(colonnade) reads.

include(CMakePackageConfigHelpers)

set(config_folder ${CMAKE_INSTALL_LIBDIR}/cmake/colonnade)

# Beside each other in the prefix, and beside the torch of this build.
set_target_properties(colonnade PROPERTIES INSTALL_RPATH_USE_LINK_PATH ON)
install(TARGETS colonnade EXPORT colonnade-targets FILE_SET HEADERS)
if(TARGET colonnade_mpi)  # beside the library, which loads it
  install(TARGETS colonnade_mpi DESTINATION ${CMAKE_INSTALL_LIBDIR})
endif()
if(TARGET colonnade_cli)
  set_target_properties(colonnade_cli PROPERTIES
    INSTALL_RPATH_USE_LINK_PATH ON
    # The second and third are its places in a Python package.
    INSTALL_RPATH
      "$ORIGIN/../${CMAKE_INSTALL_LIBDIR};$ORIGIN/..;$ORIGIN/../../torch/lib")
  install(TARGETS colonnade_cli)
endif()

install(EXPORT colonnade-targets NAMESPACE colonnade::
  DESTINATION ${config_folder})
configure_package_config_file(cmake/colonnade-config.cmake.in
  ${PROJECT_BINARY_DIR}/colonnade-config.cmake
  INSTALL_DESTINATION ${config_folder})
write_basic_package_version_file(
  ${PROJECT_BINARY_DIR}/colonnade-config-version.cmake
  COMPATIBILITY SameMinorVersion)
install(FILES
  ${PROJECT_BINARY_DIR}/colonnade-config.cmake
  ${PROJECT_BINARY_DIR}/colonnade-config-version.cmake
  cmake/FindTorchWheel.cmake
  DESTINATION ${config_folder})
