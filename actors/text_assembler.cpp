#include "troupe/actors/text_assembler.hpp"

namespace troupe {

void text_assembler::append(std::string_view piece) {
  text_.append(piece);
  if (auto found = rules_->stops.advance(cursor_, piece)) {
    stopped_ = true;
    text_.resize(rules_->include_stop ? found->end : found->begin);
  }
}

void text_assembler::show(size_t end, std::string& shown) {
  shown.append(text_, shown_, end - shown_);
  shown_ = end;
}

void text_assembler::add(std::string_view piece, std::string& shown) {
  append(piece);
  if (!rules_->hold_back)
    shown.append(piece);
  else if (stopped_)
    show(text_.size(), shown);
  else
    // What was held before stays held or is settled by this piece, so this never goes backwards.
    show(text_.size() - rules_->stops.held(cursor_), shown);
}

void text_assembler::close(std::string_view piece, std::string& shown) {
  append(piece);
  if (rules_->hold_back)
    show(text_.size(), shown);
  else
    shown.append(piece);
}

} // namespace troupe
