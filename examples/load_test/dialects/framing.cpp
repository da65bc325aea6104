#include "troupe/examples/load_test/dialects/framing.hpp"

#include <cstring>

namespace troupe::load_test {

void framer::reset(form f) {
  form_ = f;
  carry_.clear();
  data_.clear();
  data_view_ = {};
  has_data_ = false;
  error_event_ = false;
}

bool framer::keep(std::string_view bytes, size_t limit) {
  if (carry_.size() + bytes.size() > limit)
    return false;
  carry_.append(bytes);
  return true;
}

bool framer::take(std::string_view bytes, frame_receiver& to) {
  if (form_ == form::whole)
    return keep(bytes, longest_whole);
  while (!bytes.empty()) {
    const auto* end = static_cast<const char*>(std::memchr(bytes.data(), '\n', bytes.size()));
    if (!end) {
      if (!keep(bytes, longest_frame))
        return false;
      break;
    }
    auto size = static_cast<size_t>(end - bytes.data());
    auto piece = bytes.substr(0, size);
    bytes.remove_prefix(size + 1);
    if (carry_.empty()) {
      if (!line(piece, true, to))
        return false;
    } else {
      if (!keep(piece, longest_frame))
        return false;
      carry_.reserve(carry_.size() + json_padding);
      auto fits = line(carry_, false, to);
      carry_.clear();
      if (!fits)
        return false;
    }
  }
  // The piece is gone after this call, the event's end is still to come.
  if (has_data_ && data_view_.data() != nullptr) {
    data_.assign(data_view_);
    data_view_ = {};
  }
  return true;
}

bool framer::line(std::string_view text, bool in_piece, frame_receiver& to) {
  if (!text.empty() && text.back() == '\r')
    text.remove_suffix(1);
  if (form_ == form::lines) {
    if (!text.empty())
      to.frame({text});
    return true;
  }
  if (text.empty()) {
    dispatch(to);
    return true;
  }
  auto value_of = [&](std::string_view name) {
    auto value = text.substr(name.size());
    if (!value.empty() && value.front() == ' ')
      value.remove_prefix(1);
    return value;
  };
  if (text.starts_with("event:"))
    error_event_ = value_of("event:") == "error";
  if (!text.starts_with("data:"))
    return true;
  auto value = value_of("data:");
  if (!has_data_) {
    has_data_ = true;
    if (in_piece && value.data() != nullptr)
      data_view_ = value;
    else
      data_.assign(value);
    return true;
  }
  if (data_view_.data() != nullptr) {
    data_.assign(data_view_);
    data_view_ = {};
  }
  if (data_.size() + value.size() + 1 > longest_frame)
    return false;
  data_.append(1, '\n').append(value);
  return true;
}

void framer::dispatch(frame_receiver& to) {
  if (has_data_) {
    if (data_view_.data() == nullptr)
      data_.reserve(data_.size() + json_padding);
    to.frame({data_view_.data() != nullptr ? data_view_ : std::string_view{data_}});
  }
  data_.clear();
  data_view_ = {};
  has_data_ = false;
  error_event_ = false;
}

void framer::finish(frame_receiver& to) {
  carry_.reserve(carry_.size() + json_padding);
  if (form_ == form::whole || (form_ == form::lines && !carry_.empty()))
    to.frame({carry_});
  carry_.clear();
}

} // namespace troupe::load_test
