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

# The manual page and completions come out of the program itself, so that they cannot go stale.
set(help_dir ${CMAKE_BINARY_DIR}/man)
file(MAKE_DIRECTORY ${help_dir})
add_custom_command(OUTPUT ${help_dir}/troupe.1 ${help_dir}/troupe.bash ${help_dir}/_troupe
  COMMAND troupe_program options --man > ${help_dir}/troupe.1
  COMMAND troupe_program options --completion bash > ${help_dir}/troupe.bash
  COMMAND troupe_program options --completion zsh > ${help_dir}/_troupe
  DEPENDS troupe_program VERBATIM)
add_custom_target(troupe_man ALL DEPENDS ${help_dir}/troupe.1)
