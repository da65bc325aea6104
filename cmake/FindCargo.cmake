# find_package(Cargo 1.85): the first cargo that is new enough, which need not be the first on the
# PATH (Debian's plain one is too old), and the rustc beside it. Gives Cargo_EXECUTABLE and
# Cargo_RUSTC. tools/stages/rust.sh looks at the same places.
if(NOT Cargo_EXECUTABLE)
  find_program(Cargo_ON_PATH cargo)
  foreach(candidate ${Cargo_ON_PATH} $ENV{HOME}/.cargo/bin/cargo /usr/bin/cargo)
    get_filename_component(folder ${candidate} DIRECTORY)
    if(EXISTS ${candidate} AND EXISTS ${folder}/rustc)
      execute_process(COMMAND ${candidate} --version OUTPUT_VARIABLE text ERROR_QUIET)
      string(REGEX MATCH "[0-9]+\\.[0-9]+\\.[0-9]+" version "${text}")
      if(version VERSION_GREATER_EQUAL "${Cargo_FIND_VERSION}")
        set(Cargo_EXECUTABLE ${candidate} CACHE FILEPATH "cargo that builds the tokenizer")
        set(Cargo_RUSTC ${folder}/rustc CACHE FILEPATH "rustc that belongs to it")
        set(Cargo_VERSION ${version} CACHE INTERNAL "")
        break()
      endif()
    endif()
  endforeach()
  unset(Cargo_ON_PATH CACHE)
endif()
include(FindPackageHandleStandardArgs)
find_package_handle_standard_args(Cargo REQUIRED_VARS Cargo_EXECUTABLE Cargo_RUSTC
  VERSION_VAR Cargo_VERSION
  REASON_FAILURE_MESSAGE "install Debian's cargo-web and rustc-web, or run `make build`, which does")
