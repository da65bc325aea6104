#include "troupe/runtime/help.hpp"

#include <algorithm>
#include <cstdlib>
#include <vector>

#include <CLI/CLI.hpp>
#include <sys/ioctl.h>
#include <unistd.h>

#include "troupe/config/options.hpp"

namespace troupe::runtime {

namespace {

constexpr size_t flag_column = 34;

class formatter : public CLI::Formatter {
public:
  explicit formatter(size_t width) : width_{width} { column_width(flag_column); }

  std::string make_option(const CLI::Option* option, bool positional) const override {
    auto name = make_option_name(option, positional);
    if (!option->get_type_name().empty())
      name += ' ' + option->get_type_name();
    return entry(name, option->get_description());
  }

  std::string make_subcommand(const CLI::App* sub) const override {
    return entry(sub->get_name(), sub->get_description());
  }

  std::string make_description(const CLI::App* app) const override {
    return wrapped(app->get_description(), width_) + '\n';
  }

  std::string make_footer(const CLI::App* app) const override {
    auto text = app->get_footer();
    return text.empty() ? text : '\n' + wrapped(text, width_) + '\n';
  }

private:
  std::string entry(const std::string& name, const std::string& text) const {
    auto out = "  " + name;
    if (text.empty())
      return out + '\n';
    if (out.size() + 1 > flag_column)
      out += '\n' + std::string(flag_column, ' ');
    else
      out.resize(flag_column, ' ');
    return out + wrapped(text, width_ - flag_column, flag_column) + '\n';
  }

  size_t width_;
};

/// The flag of `app` that `word` resembles, or the -o that sets the option it resembles, or
/// nothing.
std::string meant_by(const CLI::App& app, std::string word) {
  constexpr size_t longest = 60; // nobody misspells more than that, and the search is quadratic
  word.resize(std::min(word.find('='), word.size()));
  word.erase(0, std::min(word.find_first_not_of('-'), word.size()));
  if (word.empty() || word.size() > longest)
    return {};
  std::string best;
  auto best_distance = std::max<size_t>(2, word.size() / 4) + 1;
  for (const auto* option : app.get_options())
    for (const auto& name : option->get_lnames())
      if (auto d = config::edit_distance(word, name); d < best_distance) {
        best_distance = d;
        best = "--" + name;
      }
  if (!best.empty())
    return best;
  std::replace(word.begin(), word.end(), '-', '_');
  auto key = config::nearest_key(word);
  return key.empty() ? std::string{} : "-o " + std::string{key} + "=VALUE";
}

} // namespace

std::string wrapped(std::string_view text, size_t width, size_t indent) {
  std::string out;
  size_t used = 0;
  auto line_break = [&] {
    out += '\n';
    used = 0;
  };
  auto put = [&](std::string_view word, size_t gap) {
    if (used > 0 && used + gap + word.size() > width) {
      line_break();
      gap = 0;
    }
    if (used == 0 && !out.empty())
      out.append(indent, ' ');
    out.append(gap, ' ').append(word);
    used += gap + word.size();
  };
  size_t gap = 0;
  while (!text.empty()) {
    if (text.front() == '\n') {
      line_break();
      gap = 0;
      text.remove_prefix(1);
    } else if (text.front() == ' ') {
      ++gap;
      text.remove_prefix(1);
    } else {
      auto end = std::min(text.find_first_of(" \n"), text.size());
      put(text.substr(0, end), gap);
      gap = 0;
      text.remove_prefix(end);
    }
  }
  return out;
}

size_t help_width() {
  size_t columns = 0;
  if (const char* given = std::getenv("COLUMNS"))
    columns = std::strtoul(given, nullptr, 10);
  winsize size{};
  if (columns == 0 && ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) == 0)
    columns = size.ws_col;
  return columns == 0 ? 100 : std::clamp<size_t>(columns, 72, 120);
}

std::shared_ptr<CLI::FormatterBase> help_formatter(size_t width) {
  return std::make_shared<formatter>(width);
}

std::string help_command(const CLI::App& app) {
  auto chosen = app.get_subcommands();
  return "`troupe " + (chosen.empty() ? "" : chosen.front()->get_name() + ' ') + "--help`";
}

namespace {

/// "usage: troupe serve [FLAG ...] [PATH]"
std::string usage_of(const CLI::App& command) {
  auto out = "usage: troupe " + command.get_name() + " [FLAG ...]";
  for (const auto* option :
       command.get_options([](const CLI::Option* o) { return o->get_positional(); }))
    out += " [" + option->get_type_name() + ']';
  return out;
}

} // namespace

std::string complaint_about_words(const CLI::App& app) {
  auto words = app.remaining(true);
  if (words.empty())
    return {};
  auto is_flag = [](const std::string& word) { return word.size() > 1 && word[0] == '-'; };
  auto flag = std::find_if(words.begin(), words.end(), is_flag);
  auto word = flag == words.end() ? words.front() : *flag;
  auto named = '"' + word.substr(0, 80) + '"';
  auto chosen = app.get_subcommands();
  if (chosen.empty())
    return named + (is_flag(word) ? " is not a flag of `troupe` itself" : " is not a subcommand") +
           "; " + help_command(app) + " lists what there is";
  if (flag == words.end())
    return named + " is one argument too many; " + help_command(app) + " says what there may be";
  auto meant = meant_by(*chosen.front(), word);
  return named + " is not a flag of `troupe " + chosen.front()->get_name() + "`; " +
         (meant.empty() ? "" : "did you mean " + meant + "? ") + help_command(app) +
         " lists them all\n" + usage_of(*chosen.front());
}

} // namespace troupe::runtime
