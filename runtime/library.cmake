# What a host application links: one shared library with everything behind the public headers. The
# archives go in whole, because hosts call functions that nothing in here calls.
set(public_archives troupe_http troupe_dialects troupe_actors troupe_step_loop troupe_step
    troupe_telemetry troupe_config)
add_library(troupe_shared SHARED ${CMAKE_CURRENT_LIST_DIR}/embed.cpp ${CMAKE_CURRENT_LIST_DIR}/publish.cpp)
set_target_properties(troupe_shared PROPERTIES OUTPUT_NAME troupe VERSION ${PROJECT_VERSION}
                      SOVERSION ${PROJECT_VERSION_MAJOR}.${PROJECT_VERSION_MINOR})
target_link_libraries(troupe_shared PRIVATE
  -Wl,--whole-archive ${public_archives} -Wl,--no-whole-archive troupe_models caf::io)
target_include_directories(troupe_shared PRIVATE ${TROUPE_INCLUDE_DIR})
target_compile_definitions(troupe_shared PRIVATE TROUPE_VERSION="${PROJECT_VERSION}")
# The Rust archive exports the names of its own C libraries, which must not reach a host.
target_link_options(troupe_shared PRIVATE -Wl,--exclude-libs,libtroupe_tokenizer_shim.a)
troupe_warnings(troupe_shared)

# The manual page comes out of the program itself, so that it cannot go stale.
set(man_page ${CMAKE_BINARY_DIR}/man/troupe.1)
file(MAKE_DIRECTORY ${CMAKE_BINARY_DIR}/man)
add_custom_command(OUTPUT ${man_page}
  COMMAND troupe_program options --man > ${man_page}.partial
  COMMAND ${CMAKE_COMMAND} -E rename ${man_page}.partial ${man_page}
  DEPENDS troupe_program VERBATIM)
add_custom_target(troupe_man ALL DEPENDS ${man_page})
