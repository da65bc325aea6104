# What a host application gets: one shared library, the public headers, a CMake package.
include(CMakePackageConfigHelpers)
include(GNUInstallDirs)

add_library(troupe_shared SHARED ${CMAKE_CURRENT_LIST_DIR}/embed.cpp)
set_target_properties(troupe_shared PROPERTIES OUTPUT_NAME troupe VERSION ${PROJECT_VERSION}
                      SOVERSION ${PROJECT_VERSION_MAJOR}.${PROJECT_VERSION_MINOR})
target_link_libraries(troupe_shared PRIVATE troupe_http troupe_actors troupe_models)
target_include_directories(troupe_shared PRIVATE ${TROUPE_INCLUDE_DIR})
# The Rust archive exports the names of its own C libraries, which must not reach a host.
target_link_options(troupe_shared PRIVATE -Wl,--exclude-libs,libtroupe_tokenizer_shim.a)
troupe_warnings(troupe_shared)

# The headers a host needs, nothing that includes torch, Beast or spdlog.
set(public_headers
  config/error.hpp config/rate_limit.hpp models/step.hpp models/stage.hpp models/activation.hpp
  actors/generation.hpp actors/interfaces.hpp actors/inspect.hpp actors/scheduling/sequence.hpp
  actors/telemetry/metrics.hpp actors/telemetry/log.hpp
  http/error_rates.hpp http/settings.hpp http/server.hpp runtime/embed.hpp)

install(TARGETS troupe_program RUNTIME DESTINATION ${CMAKE_INSTALL_BINDIR})
install(TARGETS troupe_shared
        LIBRARY DESTINATION ${CMAKE_INSTALL_LIBDIR})
if(TARGET troupe_cuda)
  # Opened at run time, from ../lib of the program or from beside libtroupe.so.
  install(TARGETS troupe_cuda LIBRARY DESTINATION ${CMAKE_INSTALL_LIBDIR})
endif()
foreach(header ${public_headers})
  get_filename_component(folder ${header} DIRECTORY)
  install(FILES ${CMAKE_SOURCE_DIR}/${header} DESTINATION ${CMAKE_INSTALL_INCLUDEDIR}/troupe/${folder})
endforeach()

configure_package_config_file(${CMAKE_SOURCE_DIR}/cmake/troupeConfig.cmake.in
  ${CMAKE_BINARY_DIR}/troupeConfig.cmake
  INSTALL_DESTINATION ${CMAKE_INSTALL_LIBDIR}/cmake/troupe
  PATH_VARS CMAKE_INSTALL_INCLUDEDIR CMAKE_INSTALL_LIBDIR)
write_basic_package_version_file(${CMAKE_BINARY_DIR}/troupeConfigVersion.cmake
  COMPATIBILITY SameMinorVersion)
install(FILES ${CMAKE_BINARY_DIR}/troupeConfig.cmake ${CMAKE_BINARY_DIR}/troupeConfigVersion.cmake
        ${CMAKE_SOURCE_DIR}/cmake/FindCAF.cmake
        DESTINATION ${CMAKE_INSTALL_LIBDIR}/cmake/troupe)
