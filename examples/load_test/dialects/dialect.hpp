#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <boost/json/object.hpp>
#include <caf/expected.hpp>

#include "troupe/examples/load_test/dialects/framing.hpp"
#include "troupe/examples/load_test/results.hpp"

namespace troupe::load_test {

/// One message of a conversation.
struct chat_message {
  std::string role;
  std::string content;
};

/// What a request says.
struct prompt {
  std::vector<chat_message> messages; ///< The last one is the user's; plain prompts have one.
  std::vector<int32_t> ids;           ///< In place of text, for dialects that take token ids.
  uint32_t tokens = 0;                ///< As the model counts; 0 = unknown.
  uint32_t output_tokens = 0;         ///< To ask for; 0 = leave it to the server.
};

/// What an answer has said so far.
struct answer_state {
  uint32_t new_tokens = 0;    ///< Events with output since the caller last set it to 0.
  uint32_t prompt_tokens = 0; ///< As the server counts; 0 = not told.
  uint32_t output_tokens = 0; ///< Likewise.
  bool complete = false;      ///< Said that nothing follows.
  bool wants_text = false;
  std::string text;  ///< The output, if wanted.
  std::string error; ///< The server's own words for a failure; not empty: it failed.
};

enum class lmi_format : uint8_t { json, jsonlines, sse };

struct dialect_settings {
  std::string model;
  bool stream = true;
  bool ignore_eos = true; ///< Asks the server to go on to the wanted length.
  lmi_format lmi = lmi_format::jsonlines;
  std::string task = "text-classification";
  std::string mask_token = "[MASK]";
  double temperature = 0;
  boost::json::object extra; ///< Members put over every body.
};

/// How one kind of server is asked, and what its answers mean. Immutable; any thread.
class dialect {
public:
  explicit dialect(dialect_settings settings) : settings_{std::move(settings)} {}
  virtual ~dialect() = default;

  /// "openai-chat", ...
  virtual std::string_view name() const = 0;
  /// E.g. "/v1/chat/completions".
  virtual std::string path() const = 0;
  /// Of the request's Accept header.
  virtual std::string_view accept() const { return "*/*"; }
  /// The answer comes token by token.
  virtual bool streams() const { return settings_.stream; }
  /// `prompt::ids` can be sent.
  virtual bool takes_ids() const { return false; }
  /// `prompt::messages` reach the model's chat template.
  virtual bool is_chat() const { return false; }
  /// It generates text, and so has output tokens.
  virtual bool generates() const { return true; }

  /// The request's body, JSON.
  std::string body(const prompt& p) const;

  /// Reads an event or a line of a streamed answer. Returns false when it is not what the dialect
  /// promises.
  virtual bool read_event(json_view data, answer_state& to) const = 0;
  /// Likewise the document of an answer that comes at once.
  virtual bool read_whole(json_view data, answer_state& to) const = 0;

protected:
  virtual boost::json::object fields(const prompt& p) const = 0;

  dialect_settings settings_;
};

using dialect_ptr = std::shared_ptr<const dialect>;

/// Names of all dialects, in the order in which --help shows them.
inline constexpr std::string_view dialect_names[] = {"openai-chat", "openai", "lmi", "tgi", "task"};
inline constexpr std::string_view task_names[] = {
    "text-classification", "token-classification",     "fill-mask",
    "question-answering",  "table-question-answering", "multiple-choice",
    "feature-extraction",  "text-embedding",           "text2text-generation"};

/// Errors: ec::bad_option for a name that is none.
caf::expected<dialect_ptr> make_dialect(std::string_view name, dialect_settings settings);

dialect_ptr make_openai_chat(dialect_settings settings);
dialect_ptr make_openai(dialect_settings settings);
dialect_ptr make_lmi(dialect_settings settings);
dialect_ptr make_tgi(dialect_settings settings);
dialect_ptr make_task(dialect_settings settings);

/// The text of a conversation for dialects without roles.
std::string joined(const std::vector<chat_message>& messages);

/// The server's own words in an error body of any of the dialects, or the body's begin.
std::string error_text(json_view body);

/// One answer's body: framed, read, judged. Reused from answer to answer. One thread.
class answer_reader final : frame_receiver {
public:
  explicit answer_reader(const dialect& d) : dialect_{d} {}

  /// Forgets the last answer.
  void reset();

  /// The header has come.
  void begin(uint16_t status, std::string_view content_type, bool wants_text);

  /// @param bytes With `json_padding` readable bytes behind them.
  /// @returns How many events with output they completed.
  uint32_t take(std::string_view bytes);

  /// The body is complete.
  void finish();

  /// How the answer is to be judged after `finish`; before it, outcome::ok unless already lost.
  outcome verdict() const { return verdict_; }
  /// In words, when the verdict is a failure.
  const std::string& complaint() const { return complaint_; }
  const answer_state& state() const { return state_; }
  std::string take_text() { return std::move(state_.text); }

private:
  void frame(json_view data) override;
  void fail(outcome o, std::string why);

  const dialect& dialect_;
  framer framer_;
  answer_state state_;
  bool whole_ = false;
  uint16_t status_ = 0;
  outcome verdict_ = outcome::ok;
  std::string complaint_;
};

} // namespace troupe::load_test
