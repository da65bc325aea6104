#include "troupe/models/tokenizer/sentencepiece_model.hpp"

#include <cmath>
#include <cstring>
#include <optional>
#include <unordered_set>

#include "troupe/models/tokenizer/conversion_parts.hpp"
#include "troupe/models/tokenizer/utf8.hpp"

namespace troupe::tokenizing {

namespace {

/// SentencePiece itself trains pieces of 16 characters; this bounds the search for merges.
constexpr size_t max_piece_bytes = 512;

/// One field of a message: its number and what it holds.
struct field {
  uint64_t number = 0;
  uint64_t value = 0;     ///< Of a varint, or the bits of a fixed one.
  std::string_view bytes; ///< Of a message or a text.
  bool has_bytes = false;
};

/// Walks over the fields of one message. Source: protobuf.dev, "Encoding".
class fields {
public:
  fields(std::string_view message, const char* whole) : left_(message), whole_(whole) {}

  /// The next field; nothing at the end, or where the bytes make no sense (`broken`).
  std::optional<field> next() {
    if (left_.empty() || broken_)
      return std::nullopt;
    at_ = left_.data();
    field out;
    auto tag = varint();
    if (!tag || (*tag >> 3) == 0)
      return fail();
    out.number = *tag >> 3;
    switch (*tag & 7) {
    case 0: {
      auto value = varint();
      if (!value)
        return fail();
      out.value = *value;
      return out;
    }
    case 1:
      return fixed(out, 8);
    case 2: {
      auto size = varint();
      if (!size || *size > left_.size())
        return fail();
      out.bytes = left_.substr(0, *size);
      out.has_bytes = true;
      left_.remove_prefix(*size);
      return out;
    }
    case 5:
      return fixed(out, 4);
    default:
      return fail();
    }
  }

  bool broken() const { return broken_; }
  size_t offset() const { return static_cast<size_t>(at_ - whole_); }

private:
  std::optional<field> fail() {
    broken_ = true;
    return std::nullopt;
  }

  std::optional<uint64_t> varint() {
    uint64_t out = 0;
    for (unsigned shift = 0; shift < 64 && !left_.empty(); shift += 7) {
      const auto byte = static_cast<unsigned char>(left_.front());
      left_.remove_prefix(1);
      out |= uint64_t{byte & 0x7fu} << shift;
      if ((byte & 0x80u) == 0)
        return out;
    }
    return std::nullopt;
  }

  std::optional<field> fixed(field out, size_t size) {
    if (left_.size() < size)
      return fail();
    for (size_t i = size; i-- > 0;)
      out.value = out.value << 8 | static_cast<unsigned char>(left_[i]);
    left_.remove_prefix(size);
    return out;
  }

  std::string_view left_;
  const char* whole_;
  const char* at_ = nullptr;
  bool broken_ = false;
};

class reader {
public:
  reader(std::string_view bytes, const std::filesystem::path& file) : bytes_(bytes), file_(file) {}

  caf::expected<sentencepiece_model> read() {
    fields all{bytes_, bytes_.data()};
    while (auto f = all.next()) {
      caf::error failed;
      if (f->number == 1 && f->has_bytes)
        failed = read_piece(f->bytes);
      else if (f->number == 2 && f->has_bytes)
        failed = read_trainer(f->bytes);
      else if (f->number == 3 && f->has_bytes)
        failed = read_normalizer(f->bytes);
      if (failed)
        return failed;
    }
    if (all.broken())
      return nonsense(all);
    if (out_.pieces.empty())
      return unconvertible(file_, "is no SentencePiece model: it has no pieces");
    if (out_.unknown_id >= out_.pieces.size())
      return unconvertible(file_, "names piece " + std::to_string(out_.unknown_id) +
                                      " for unknown text, but has only " +
                                      std::to_string(out_.pieces.size()) + " pieces");
    return std::move(out_);
  }

private:
  caf::error nonsense(const fields& f) const {
    return unconvertible(file_, "is no whole SentencePiece model: its bytes make no sense from "
                                "offset " +
                                    std::to_string(f.offset()) + " of " +
                                    std::to_string(bytes_.size()));
  }

  caf::error read_piece(std::string_view message) {
    if (out_.pieces.size() == max_vocabulary)
      return unconvertible(file_, "has more than " + std::to_string(max_vocabulary) + " pieces");
    sentencepiece_model::piece p;
    fields all{message, bytes_.data()};
    while (auto f = all.next()) {
      if (f->number == 1 && f->has_bytes) {
        p.text.assign(f->bytes);
      } else if (f->number == 2 && !f->has_bytes) {
        const auto bits = static_cast<uint32_t>(f->value);
        std::memcpy(&p.score, &bits, sizeof bits);
      } else if (f->number == 3 && !f->has_bytes) {
        p.type = static_cast<sentencepiece_model::piece_type>(f->value);
      }
    }
    if (all.broken())
      return nonsense(all);
    auto wrong = [&](const std::string& what) {
      return unconvertible(file_, "piece " + std::to_string(out_.pieces.size()) + " " + what);
    };
    std::string valid;
    utf8::append_valid(valid, p.text);
    if (p.text.empty() || p.text.size() > max_piece_bytes || valid != p.text)
      return wrong("is no UTF-8 text of 1 to " + std::to_string(max_piece_bytes) + " bytes");
    if (!std::isfinite(p.score))
      return wrong("(\"" + p.text.substr(0, 80) + "\") has a score that is no finite number");
    if (!seen_.insert(p.text).second)
      return wrong("(\"" + p.text.substr(0, 80) + "\") is there twice");
    out_.pieces.push_back(std::move(p));
    return {};
  }

  caf::error read_trainer(std::string_view message) {
    fields all{message, bytes_.data()};
    while (auto f = all.next()) {
      if (f->number == 3 && !f->has_bytes)
        out_.model = static_cast<sentencepiece_model::kind>(f->value);
      else if (f->number == 40 && !f->has_bytes)
        out_.unknown_id = f->value;
      else if (f->number == 45 && f->has_bytes)
        out_.unknown_text.assign(f->bytes);
    }
    return all.broken() ? nonsense(all) : caf::error{};
  }

  caf::error read_normalizer(std::string_view message) {
    fields all{message, bytes_.data()};
    while (auto f = all.next())
      if (f->number == 2 && f->has_bytes)
        out_.charsmap.assign(f->bytes);
    return all.broken() ? nonsense(all) : caf::error{};
  }

  std::string_view bytes_;
  const std::filesystem::path& file_;
  sentencepiece_model out_;
  std::unordered_set<std::string> seen_;
};

} // namespace

caf::expected<sentencepiece_model> read_sentencepiece(std::string_view bytes,
                                                      const std::filesystem::path& file) {
  return reader{bytes, file}.read();
}

} // namespace troupe::tokenizing
