#include <algorithm>
#include <deque>

#include "troupe/http/dialects/pipeline.hpp"
#include "troupe/http/json/write.hpp"

namespace troupe::http {

namespace {

class pipeline_writer final : public answer_writer {
public:
  explicit pipeline_writer(pipeline_format format)
      : format_(std::move(format)), ends_(format_.inputs.size()), left_(ends_.size()) {}

  bool streams() const override { return false; }
  std::string_view content_type() const override { return "application/json"; }
  void fail(std::string_view, std::string&) override {}

  void take(size_t part, event_batch& events, std::string& out) override {
    for (auto& end : events.ends)
      ends_[part].push_back(std::move(end));
    if (events.complete && --left_ == 0)
      write(out);
  }

private:
  void append(std::string& out, size_t part, const choice_event& end) const {
    out += "{\"generated_text\":";
    json::append_string(out, format_.full_text ? format_.inputs[part] + end.generated_text
                                               : end.generated_text);
    out += '}';
  }

  void write(std::string& out) {
    out += '[';
    for (size_t part = 0; part < ends_.size(); ++part) {
      out += part > 0 ? ",[" : "[";
      if (format_.sequences == 1)
        out.pop_back();
      for (size_t i = 0; i < ends_[part].size(); ++i) {
        if (i > 0)
          out += ',';
        append(out, part, ends_[part][i]);
      }
      if (format_.sequences > 1)
        out += ']';
    }
    out += ']';
  }

  pipeline_format format_;
  std::vector<std::vector<choice_event>> ends_; ///< By prompt.
  size_t left_;
};

/// A line waits for the slowest prompt; prompts that have ended add nothing to it.
class piece_writer final : public answer_writer {
public:
  piece_writer(size_t prompts, std::vector<std::string> echoes)
      : rows_(prompts), echoes_(std::move(echoes)) {}

  bool streams() const override { return true; }
  std::string_view content_type() const override { return "application/jsonlines"; }

  void take(size_t part, event_batch& events, std::string& out) override {
    auto& row = rows_[part];
    for (auto& event : events.tokens)
      row.pieces.push_back(std::move(event.token.text));
    for (auto& end : events.ends)
      if (!end.tail.empty())
        row.pieces.push_back(std::move(end.tail));
    row.ended = row.ended || events.complete;
    if (!echoes_.empty() && std::any_of(rows_.begin(), rows_.end(), [](const auto& r) {
          return r.ended || !r.pieces.empty();
        })) {
      write(out, std::exchange(echoes_, {}));
    }
    while (line_is_ready())
      write_line(out);
  }

  void fail(std::string_view object, std::string& out) override {
    out += object;
    out += '\n';
  }

private:
  struct row {
    std::deque<std::string> pieces;
    bool ended = false;
  };

  bool line_is_ready() const {
    auto has = [](const row& r) { return !r.pieces.empty(); };
    auto waits = [](const row& r) { return r.pieces.empty() && !r.ended; };
    return std::any_of(rows_.begin(), rows_.end(), has) &&
           std::none_of(rows_.begin(), rows_.end(), waits);
  }

  void write_line(std::string& out) {
    std::vector<std::string> line;
    for (auto& r : rows_) {
      line.push_back(r.pieces.empty() ? std::string{} : std::move(r.pieces.front()));
      if (!r.pieces.empty())
        r.pieces.pop_front();
    }
    write(out, line);
  }

  static void write(std::string& out, const std::vector<std::string>& pieces) {
    out += "{\"outputs\":[";
    for (size_t i = 0; i < pieces.size(); ++i) {
      if (i > 0)
        out += ',';
      json::append_string(out, pieces[i]);
    }
    out += "]}\n";
  }

  std::vector<row> rows_;
  std::vector<std::string> echoes_;
};

} // namespace

std::unique_ptr<answer_writer> make_pipeline_writer(pipeline_format format) {
  return std::make_unique<pipeline_writer>(std::move(format));
}

std::unique_ptr<answer_writer> make_piece_writer(size_t prompts, std::vector<std::string> echoes) {
  return std::make_unique<piece_writer>(prompts, std::move(echoes));
}

} // namespace troupe::http
