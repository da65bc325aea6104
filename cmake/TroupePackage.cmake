# `make package`: troupe_VERSION_ARCH.deb (program, library, manual) and troupe-dev_VERSION_ARCH.deb.
set(CPACK_GENERATOR DEB)
set(CPACK_PACKAGE_NAME troupe)
set(CPACK_PACKAGE_VERSION ${PROJECT_VERSION})
set(CPACK_PACKAGE_DIRECTORY ${CMAKE_BINARY_DIR})
set(CPACK_PACKAGING_INSTALL_PREFIX /usr)
set(CPACK_STRIP_FILES ON)
set(CPACK_COMPONENTS_ALL runtime dev)
set(CPACK_COMPONENTS_GROUPING IGNORE)
set(CPACK_DEB_COMPONENT_INSTALL ON)
set(CPACK_DEBIAN_PACKAGE_MAINTAINER "Troupe maintainers <maintainers@troupe.invalid>")
set(CPACK_DEBIAN_PACKAGE_CONTROL_STRICT_PERMISSION ON)
set(CPACK_PRE_BUILD_SCRIPTS ${CMAKE_CURRENT_LIST_DIR}/package/tidy.cmake)

set(CPACK_DEBIAN_RUNTIME_PACKAGE_NAME troupe)
set(CPACK_DEBIAN_RUNTIME_FILE_NAME DEB-DEFAULT)
set(CPACK_DEBIAN_RUNTIME_PACKAGE_SECTION net)
set(CPACK_DEBIAN_RUNTIME_PACKAGE_SHLIBDEPS ON)
# Packages of host applications take their dependency from `shlibs`.
file(WRITE ${CMAKE_BINARY_DIR}/package/shlibs
  "libtroupe ${PROJECT_VERSION_MAJOR}.${PROJECT_VERSION_MINOR} troupe (>= ${PROJECT_VERSION})\n")
set(CPACK_DEBIAN_RUNTIME_PACKAGE_CONTROL_EXTRA
    ${CMAKE_BINARY_DIR}/package/shlibs ${CMAKE_CURRENT_LIST_DIR}/package/triggers)
set(CPACK_COMPONENT_RUNTIME_DESCRIPTION
"Serves over HTTP in the LMI and OpenAI dialects, from one process made of
actors, with continuous batching. This package holds the server, its manual and
the library of applications that embed it.")

set(CPACK_DEBIAN_DEV_PACKAGE_NAME troupe-dev)
set(CPACK_DEBIAN_DEV_FILE_NAME DEB-DEFAULT)
set(CPACK_DEBIAN_DEV_PACKAGE_SECTION libdevel)
set(CPACK_DEBIAN_DEV_PACKAGE_DEPENDS "troupe (= ${PROJECT_VERSION}), libcaf-dev (>= 0.17.6)")
set(CPACK_COMPONENT_DEV_DESCRIPTION
"Headers, CMake and pkg-config files and examples for CAF applications that run
a Troupe engine in their own actor system.")

if(TARGET troupe_cuda)
  list(APPEND CPACK_COMPONENTS_ALL cuda)
  set(CPACK_DEBIAN_CUDA_PACKAGE_NAME troupe-cuda)
  set(CPACK_DEBIAN_CUDA_FILE_NAME DEB-DEFAULT)
  set(CPACK_DEBIAN_CUDA_PACKAGE_DEPENDS "troupe (= ${PROJECT_VERSION})")
  set(CPACK_COMPONENT_CUDA_DESCRIPTION "The backend that Troupe opens where there is an NVIDIA GPU.")
endif()
include(CPack)
