# Run by CPack on what it is about to pack: manuals and logs of changes as Debian wants them.
string(TIMESTAMP now "%a, %d %b %Y %H:%M:%S +0000" UTC)
file(GLOB_RECURSE files ${CPACK_TEMPORARY_DIRECTORY}/*)
foreach(path ${files})
  get_filename_component(folder ${path} DIRECTORY)
  if(path MATCHES "/doc/troupe/LICENSE$")
    file(REMOVE ${path}) # The copyright file refers to Debian's own copy.
  elseif(path MATCHES "/copyright$")
    file(WRITE ${folder}/changelog
      "troupe (${CPACK_PACKAGE_VERSION}) unstable; urgency=medium\n\n"
      "  * Changes are told in /usr/share/doc/troupe/CHANGELOG.md.\n\n"
      " -- ${CPACK_DEBIAN_PACKAGE_MAINTAINER}  ${now}\n")
    execute_process(COMMAND gzip -9n ${folder}/changelog COMMAND_ERROR_IS_FATAL ANY)
  elseif(path MATCHES "/man1/[^/]*[.]1$")
    execute_process(COMMAND gzip -9n ${path} COMMAND_ERROR_IS_FATAL ANY)
  endif()
endforeach()
