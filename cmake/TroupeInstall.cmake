# What `make install` puts where, in two parts: `runtime` runs servers and applications, `dev` builds
# applications. Included last, because some of it depends on which targets there are.
include(CMakePackageConfigHelpers)
include(GNUInstallDirs)

# The headers a host needs: these and whatever of ours they include.
set(public_headers)
set(open_headers runtime/embed.hpp actors/telemetry/log.hpp)
while(open_headers)
  list(POP_FRONT open_headers header)
  list(APPEND public_headers ${header})
  set_property(DIRECTORY APPEND PROPERTY CMAKE_CONFIGURE_DEPENDS ${CMAKE_SOURCE_DIR}/${header})
  file(STRINGS ${CMAKE_SOURCE_DIR}/${header} includes REGEX "^#include \"troupe/")
  foreach(line ${includes})
    string(REGEX REPLACE "^#include \"troupe/([^\"]+)\".*" "\\1" included "${line}")
    if(NOT included IN_LIST public_headers AND NOT included IN_LIST open_headers)
      list(APPEND open_headers ${included})
    endif()
  endforeach()
endwhile()
foreach(header ${public_headers})
  get_filename_component(folder ${header} DIRECTORY)
  install(FILES ${CMAKE_SOURCE_DIR}/${header} COMPONENT dev
          DESTINATION ${CMAKE_INSTALL_INCLUDEDIR}/troupe/${folder})
endforeach()

install(TARGETS troupe_program RUNTIME DESTINATION ${CMAKE_INSTALL_BINDIR} COMPONENT runtime)
install(FILES packaging/systemd/troupe.service COMPONENT runtime DESTINATION lib/systemd/system)
install(TARGETS troupe_shared
        LIBRARY DESTINATION ${CMAKE_INSTALL_LIBDIR} COMPONENT runtime NAMELINK_COMPONENT dev)
install(FILES ${CMAKE_BINARY_DIR}/man/troupe.1 DESTINATION ${CMAKE_INSTALL_MANDIR}/man1 COMPONENT runtime)
install(FILES ${CMAKE_BINARY_DIR}/man/troupe.bash RENAME troupe COMPONENT runtime
        DESTINATION ${CMAKE_INSTALL_DATADIR}/bash-completion/completions)
install(FILES ${CMAKE_BINARY_DIR}/man/_troupe COMPONENT runtime
        DESTINATION ${CMAKE_INSTALL_DATADIR}/zsh/vendor-completions)
if(TARGET troupe_load_program)
  set(load_page ${CMAKE_BINARY_DIR}/man/troupe-load.1)
  add_custom_command(OUTPUT ${load_page}
    COMMAND ${CMAKE_SOURCE_DIR}/tools/help_to_man $<TARGET_FILE:troupe_load_program> troupe-load
            "measure a server of language models under load" > ${load_page}.partial
    COMMAND ${CMAKE_COMMAND} -E rename ${load_page}.partial ${load_page}
    DEPENDS troupe_load_program ${CMAKE_SOURCE_DIR}/tools/help_to_man VERBATIM)
  add_custom_target(troupe_load_man ALL DEPENDS ${load_page})
  install(TARGETS troupe_load_program RUNTIME DESTINATION ${CMAKE_INSTALL_BINDIR} COMPONENT runtime)
  install(FILES ${load_page} DESTINATION ${CMAKE_INSTALL_MANDIR}/man1 COMPONENT runtime)
endif()
# Opened at run time from ../lib beside the program, where there is a GPU.
if(TARGET troupe_cuda)
  install(TARGETS troupe_cuda LIBRARY DESTINATION ${CMAKE_INSTALL_LIBDIR} COMPONENT cuda NAMELINK_SKIP)
endif()

install(FILES CHANGELOG.md README.md LICENSE cmake/package/copyright COMPONENT runtime
        DESTINATION ${CMAKE_INSTALL_DATADIR}/doc/troupe)
install(DIRECTORY docs/ COMPONENT runtime DESTINATION ${CMAKE_INSTALL_DATADIR}/doc/troupe/docs
        FILES_MATCHING PATTERN "*.md" PATTERN "decisions" EXCLUDE PATTERN "man" EXCLUDE)
install(DIRECTORY examples/embed examples/remote_client COMPONENT dev
        DESTINATION ${CMAKE_INSTALL_DATADIR}/doc/troupe-dev/examples)
install(FILES cmake/package/copyright COMPONENT dev
        DESTINATION ${CMAKE_INSTALL_DATADIR}/doc/troupe-dev)

set(package_dir ${CMAKE_INSTALL_LIBDIR}/cmake/troupe)
configure_package_config_file(${CMAKE_SOURCE_DIR}/cmake/troupeConfig.cmake.in
  ${CMAKE_BINARY_DIR}/troupeConfig.cmake
  INSTALL_DESTINATION ${package_dir}
  PATH_VARS CMAKE_INSTALL_INCLUDEDIR CMAKE_INSTALL_LIBDIR)
write_basic_package_version_file(${CMAKE_BINARY_DIR}/troupeConfigVersion.cmake
  COMPATIBILITY SameMinorVersion)
install(FILES ${CMAKE_BINARY_DIR}/troupeConfig.cmake ${CMAKE_BINARY_DIR}/troupeConfigVersion.cmake
        ${CMAKE_SOURCE_DIR}/cmake/FindCAF.cmake
        DESTINATION ${package_dir} COMPONENT dev)
configure_file(${CMAKE_SOURCE_DIR}/cmake/troupe.pc.in ${CMAKE_BINARY_DIR}/troupe.pc @ONLY)
install(FILES ${CMAKE_BINARY_DIR}/troupe.pc DESTINATION ${CMAKE_INSTALL_LIBDIR}/pkgconfig COMPONENT dev)

include(TroupePackage)
