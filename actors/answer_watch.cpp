#include "troupe/actors/answer_watch.hpp"

#include "troupe/actors/stop_matcher.hpp"
#include "troupe/models/tokenizer/stream_decoder.hpp"

namespace troupe {

namespace {

class answer_text final : public watched_text {
public:
  answer_text(std::shared_ptr<const stop_matcher> stops, stream_decoder decoder)
      : stops_(std::move(stops)), decoder_(std::move(decoder)) {}

  watched_text_ptr after(int32_t token) const override {
    auto longer = std::make_shared<answer_text>(*this);
    longer->stopped_ =
        stopped_ || stops_->advance(longer->cursor_, longer->decoder_.push(token)).has_value();
    return longer;
  }

  bool stopped() const override { return stopped_; }

private:
  std::shared_ptr<const stop_matcher> stops_;
  stream_decoder decoder_;
  stop_matcher::cursor cursor_;
  bool stopped_ = false;
};

} // namespace

std::shared_ptr<search_watch> make_watch(const generation_params& params, tokenizer_ptr tok) {
  auto out = std::make_shared<search_watch>();
  if (!params.stop.empty())
    out->text =
        std::make_shared<answer_text>(std::make_shared<const stop_matcher>(params.stop),
                                      stream_decoder{std::move(tok), params.skip_special_tokens});
  return out;
}

} // namespace troupe
