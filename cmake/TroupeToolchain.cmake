# What all of our targets share: the include root, warnings, sanitizers, ccache, a fast linker.

if(NOT CMAKE_BUILD_TYPE)
  set(CMAKE_BUILD_TYPE Release CACHE STRING "" FORCE)
endif()

# "troupe/actors/..." resolves through this link, so that a host's own config/ never collides.
set(TROUPE_INCLUDE_DIR ${CMAKE_BINARY_DIR}/include)
file(MAKE_DIRECTORY ${TROUPE_INCLUDE_DIR})
file(CREATE_LINK ${CMAKE_SOURCE_DIR} ${TROUPE_INCLUDE_DIR}/troupe SYMBOLIC)

find_program(CCACHE ccache)
if(CCACHE)
  set(CMAKE_CXX_COMPILER_LAUNCHER
      ${CMAKE_COMMAND} -E env CCACHE_SLOPPINESS=pch_defines,time_macros,include_file_mtime,include_file_ctime
      CCACHE_BASEDIR=${CMAKE_SOURCE_DIR} CCACHE_NOHASHDIR=1 ${CCACHE})
endif()

find_program(MOLD_LINKER ld.mold)
find_program(LLD_LINKER ld.lld)
if(MOLD_LINKER)
  add_link_options(-fuse-ld=mold)
elseif(LLD_LINKER)
  add_link_options(-fuse-ld=lld)
endif()

if(TROUPE_SANITIZE)
  # CAF 0.17 trips -fsanitize=null on valid code and g++ 12 warns falsely under sanitizers.
  add_compile_options(-fsanitize=${TROUPE_SANITIZE} -fno-omit-frame-pointer
                      $<$<CXX_COMPILER_ID:GNU>:-Wno-maybe-uninitialized> $<$<CXX_COMPILER_ID:GNU>:-Wno-tsan>)
  if(TROUPE_SANITIZE MATCHES "undefined")
    add_compile_options(-fno-sanitize=null)
  endif()
  add_link_options(-fsanitize=${TROUPE_SANITIZE})
endif()

# troupe_library(name SOURCES ... LINKS ...): one folder's static library. What links to CAF, by way
# of troupe_config, takes the precompiled headers.
function(troupe_library name)
  cmake_parse_arguments(arg "" "" "SOURCES;LINKS;PRIVATE_LINKS" ${ARGN})
  add_library(${name} STATIC ${arg_SOURCES})
  target_include_directories(${name} PUBLIC $<BUILD_INTERFACE:${TROUPE_INCLUDE_DIR}>)
  target_link_libraries(${name} PUBLIC ${arg_LINKS} PRIVATE ${arg_PRIVATE_LINKS})
  troupe_warnings(${name})
  if(arg_LINKS MATCHES "caf::|troupe_(config|step|models|actors|http|dialects|scheduling)")
    troupe_use_headers(${name} library_headers)
  endif()
endfunction()

function(troupe_warnings target)
  # clang only builds the fuzz targets; what it would warn of is judged with g++.
  if(CMAKE_CXX_COMPILER_ID STREQUAL "GNU")
    target_compile_options(${target} PRIVATE -Wall -Wextra -Werror -Wno-psabi)
  endif()
  if(CCACHE)
    target_compile_options(${target} PRIVATE -fpch-preprocess)
  endif()
endfunction()
