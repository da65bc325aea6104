#include "packing.hpp"

#include <stdexcept>

#include <archive.h>
#include <archive_entry.h>

namespace troupe::test {

namespace {

void check(::archive* a, int outcome) {
  if (outcome < ARCHIVE_WARN)
    throw std::runtime_error(archive_error_string(a));
}

void add(::archive* a, const packed_entry& e) {
  using form = packed_entry::form;
  auto* entry = archive_entry_new();
  archive_entry_set_pathname(entry, e.name.c_str());
  archive_entry_set_perm(entry, 0644);
  archive_entry_set_size(entry, static_cast<la_int64_t>(e.content.size()));
  switch (e.as) {
  case form::file:
    archive_entry_set_filetype(entry, AE_IFREG);
    break;
  case form::folder:
    archive_entry_set_filetype(entry, AE_IFDIR);
    break;
  case form::symlink:
    archive_entry_set_filetype(entry, AE_IFLNK);
    archive_entry_set_symlink(entry, e.target.c_str());
    break;
  case form::hardlink:
    archive_entry_set_filetype(entry, AE_IFREG);
    archive_entry_set_hardlink(entry, e.target.c_str());
    archive_entry_set_size(entry, 0);
    break;
  case form::fifo:
    archive_entry_set_filetype(entry, AE_IFIFO);
    break;
  }
  check(a, archive_write_header(a, entry));
  if (!e.content.empty() && archive_write_data(a, e.content.data(), e.content.size()) < 0)
    throw std::runtime_error(archive_error_string(a));
  archive_entry_free(entry);
}

} // namespace

void pack(const std::string& path, const std::vector<packed_entry>& entries) {
  auto* a = archive_write_new();
  if (path.ends_with(".zip")) {
    check(a, archive_write_set_format_zip(a));
  } else {
    check(a, archive_write_set_format_pax_restricted(a));
    if (path.ends_with("gz"))
      check(a, archive_write_add_filter_gzip(a));
  }
  check(a, archive_write_open_filename(a, path.c_str()));
  for (const auto& e : entries)
    add(a, e);
  check(a, archive_write_close(a));
  archive_write_free(a);
}

} // namespace troupe::test
