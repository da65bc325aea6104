#include "troupe/models/loading/pickle.hpp"

#include <bit>
#include <cstring>
#include <optional>
#include <string_view>
#include <unordered_map>

namespace troupe::models {

namespace {

/// Many times those of any model's weights.
constexpr size_t most_values = 5'000'000;

caf::error bad(const std::string& what) {
  return caf::make_error(ec::bad_model, "its pickle " + what);
}

/// The machine that a pickle is a program for.
class unpickler {
public:
  explicit unpickler(std::span<const std::byte> bytes) : rest_(bytes) {}

  caf::expected<pickle> run() {
    while (!done_ && !error_) {
      uint8_t instruction = 0;
      if (!take(instruction))
        return bad("ends in the middle: fetch the file again");
      step(instruction);
      if (out_.values.size() > most_values || stack_.size() > most_values)
        return bad("holds more values than any model has weights");
    }
    if (error_)
      return *error_;
    out_.root = stack_.back();
    return std::move(out_);
  }

private:
  template <class T>
  pickle_ptr make(T content) {
    auto& out = out_.values.emplace_back();
    out.content = std::move(content);
    return &out;
  }

  void fail(const std::string& what) {
    if (!error_)
      error_ = bad(what);
  }

  template <class T>
  bool take(T& to) {
    if (rest_.size() < sizeof to) {
      fail("ends in the middle: fetch the file again");
      return false;
    }
    std::memcpy(&to, rest_.data(), sizeof to);
    rest_ = rest_.subspan(sizeof to);
    return true;
  }

  std::string take_text(uint64_t count) {
    if (count > rest_.size()) {
      fail("ends in the middle: fetch the file again");
      return {};
    }
    std::string out{reinterpret_cast<const char*>(rest_.data()), static_cast<size_t>(count)};
    rest_ = rest_.subspan(static_cast<size_t>(count));
    return out;
  }

  std::string take_line() {
    std::string_view all{reinterpret_cast<const char*>(rest_.data()), rest_.size()};
    auto end = all.find('\n');
    if (end == std::string_view::npos) {
      fail("ends in the middle: fetch the file again");
      return {};
    }
    auto out = take_text(end);
    rest_ = rest_.subspan(1);
    return out;
  }

  template <class T>
  T number() {
    T out{};
    take(out);
    return out;
  }

  void push(pickle_ptr value) { stack_.push_back(value); }

  pickle_ptr pop() {
    // Nothing below the innermost mark may be taken.
    if (stack_.size() <= (marks_.empty() ? 0 : marks_.back())) {
      fail("takes more values than it has made");
      return make(std::monostate{});
    }
    auto out = stack_.back();
    stack_.pop_back();
    return out;
  }

  pickle_ptr top() {
    if (stack_.size() <= (marks_.empty() ? 0 : marks_.back())) {
      fail("takes more values than it has made");
      return make(std::monostate{});
    }
    return stack_.back();
  }

  pickle_sequence pop_to_mark() {
    if (marks_.empty()) {
      fail("has no mark where it needs one");
      return {};
    }
    pickle_sequence out{stack_.begin() + static_cast<ptrdiff_t>(marks_.back()), stack_.end()};
    stack_.resize(marks_.back());
    marks_.pop_back();
    return out;
  }

  void push_tuple(size_t count) {
    pickle_sequence items(count);
    for (auto i = count; i-- > 0;)
      items[i] = pop();
    push(make(std::move(items)));
  }

  void push_integer(size_t bytes) {
    uint64_t value = 0;
    if (bytes > sizeof value)
      return fail("holds an integer of more than 64 bits");
    const auto text = take_text(bytes);
    if (text.size() < bytes)
      return;
    std::memcpy(&value, text.data(), text.size());
    // Little-endian two's complement of any length.
    if (!text.empty() && bytes < sizeof value && (text.back() & 0x80) != 0)
      value |= ~uint64_t{0} << (8 * bytes);
    push(make(static_cast<int64_t>(value)));
  }

  void push_real() {
    uint64_t bits = 0;
    take(bits);
    push(make(std::bit_cast<double>(__builtin_bswap64(bits))));
  }

  void push_global(std::string module, std::string name) {
    push(make(pickle_global{std::move(module), std::move(name)}));
  }

  void push_stack_global() {
    auto name = pop(), module = pop();
    auto *n = name->as<std::string>(), *m = module->as<std::string>();
    if (!n || !m)
      return fail("names a class by something else than text");
    push_global(*m, *n);
  }

  void call() {
    auto arguments = pop(), what = pop();
    auto* global = what->as<pickle_global>();
    auto* items = arguments->as<pickle_sequence>();
    if (!global || !items)
      return fail("calls something that is no named function");
    if (global->full() == "collections.OrderedDict" && items->empty())
      return push(make(pickle_dict{}));
    push(make(pickle_call{*global, *items}));
  }

  /// Pairs go into the dict on top; whatever else is there takes none.
  void set_items(const pickle_sequence& pairs) {
    auto to = top();
    auto* dict = std::get_if<pickle_dict>(&to->content);
    if (!dict || pairs.size() % 2 != 0)
      return fail("puts items into something that is no dict");
    for (size_t i = 0; i < pairs.size(); i += 2)
      dict->emplace_back(pairs[i], pairs[i + 1]);
  }

  void append(const pickle_sequence& items) {
    auto to = top();
    auto* list = std::get_if<pickle_sequence>(&to->content);
    if (!list)
      return fail("appends to something that is no list");
    list->insert(list->end(), items.begin(), items.end());
  }

  void recall(uint32_t place) {
    auto found = memo_.find(place);
    if (found == memo_.end())
      return fail("refers to a value that it has not made");
    push(found->second);
  }

  void step(uint8_t instruction) {
    switch (instruction) {
    case 0x80: // PROTO
      if (auto version = number<uint8_t>(); version < 2 || version > 5)
        fail("has protocol " + std::to_string(version) + ", which is not read");
      return;
    case 0x95: // FRAME
      number<uint64_t>();
      return;
    case '.':
      top();
      done_ = true;
      return;
    case '(':
      return marks_.push_back(stack_.size());
    case '0':
      pop();
      return;
    case '1':
      pop_to_mark();
      return;
    default:
      break;
    }
    if (!step_of_values(instruction) && !step_of_containers(instruction) &&
        !step_of_names(instruction))
      fail("has the instruction " + std::to_string(instruction) + ", which no weights need");
  }

  bool step_of_values(uint8_t instruction) {
    switch (instruction) {
    case 'N':
      push(make(std::monostate{}));
      return true;
    case 0x88:
    case 0x89:
      push(make(instruction == 0x88));
      return true;
    case 'J':
      push(make(int64_t{number<int32_t>()}));
      return true;
    case 'K':
      push(make(int64_t{number<uint8_t>()}));
      return true;
    case 'M':
      push(make(int64_t{number<uint16_t>()}));
      return true;
    case 0x8a: // LONG1
      push_integer(number<uint8_t>());
      return true;
    case 'G':
      push_real();
      return true;
    case 'X':
    case 'T':
      push(make(take_text(number<uint32_t>())));
      return true;
    case 0x8c: // SHORT_BINUNICODE
    case 'U':
      push(make(take_text(number<uint8_t>())));
      return true;
    default:
      return false;
    }
  }

  bool step_of_containers(uint8_t instruction) {
    switch (instruction) {
    case '}':
      push(make(pickle_dict{}));
      return true;
    case ']':
    case ')':
      push(make(pickle_sequence{}));
      return true;
    case 't':
      push(make(pop_to_mark()));
      return true;
    case 0x85:
    case 0x86:
    case 0x87:
      push_tuple(instruction - 0x84u);
      return true;
    case 's': {
      auto value = pop(), key = pop();
      set_items({key, value});
      return true;
    }
    case 'u':
      set_items(pop_to_mark());
      return true;
    case 'a': {
      auto value = pop();
      append({value});
      return true;
    }
    case 'e':
      append(pop_to_mark());
      return true;
    default:
      return false;
    }
  }

  bool step_of_names(uint8_t instruction) {
    switch (instruction) {
    case 'q':
      memo_[number<uint8_t>()] = top();
      return true;
    case 'r':
      memo_[number<uint32_t>()] = top();
      return true;
    case 0x94: // MEMOIZE
      memo_[static_cast<uint32_t>(memo_.size())] = top();
      return true;
    case 'h':
      recall(number<uint8_t>());
      return true;
    case 'j':
      recall(number<uint32_t>());
      return true;
    case 'c': {
      auto module = take_line();
      push_global(std::move(module), take_line());
      return true;
    }
    case 0x93:
      push_stack_global();
      return true;
    case 'R':
    case 0x81: // NEWOBJ: of a class, with the arguments of its __new__
      call();
      return true;
    case 'b': // BUILD: the state of a module's dict says nothing of its weights.
      pop();
      return true;
    case 'Q':
      push(make(pickle_reference{pop()}));
      return true;
    default:
      return false;
    }
  }

  std::span<const std::byte> rest_;
  std::vector<pickle_ptr> stack_;
  std::vector<size_t> marks_; ///< Heights of the stack.
  std::unordered_map<uint32_t, pickle_ptr> memo_;
  pickle out_;
  bool done_ = false;
  std::optional<caf::error> error_;
};

} // namespace

caf::expected<pickle> read_pickle(std::span<const std::byte> bytes) {
  return unpickler{bytes}.run();
}

} // namespace troupe::models
