#include "troupe/runtime/completion.hpp"

#include <string_view>
#include <vector>

#include <CLI/CLI.hpp>

#include "troupe/config/options.hpp"

namespace troupe::runtime {

namespace {

std::vector<const CLI::App*> commands_of(const CLI::App& app) {
  return app.get_subcommands([](const CLI::App*) { return true; });
}

/// The words that the value of a flag may be, apart by spaces; empty where they are not listed.
std::string words_of(const CLI::Option& flag) {
  std::string out;
  for (const auto& o : config::option_table) {
    if (o.flag.empty() || !flag.check_name(std::string{o.flag}))
      continue;
    if (o.type == config::kind::boolean)
      return "true false";
    auto rest = o.words;
    while (!rest.empty()) {
      auto word = rest.substr(0, rest.find(' '));
      rest.remove_prefix(std::min(word.size() + 1, rest.size()));
      out += (out.empty() ? "" : " ") + std::string{word.substr(0, word.find_first_of("=~"))};
    }
  }
  return out;
}

template <class F>
void each_flag(const CLI::App& command, F&& visit) {
  for (const auto* flag : command.get_options())
    for (const auto& name : flag->get_lnames())
      visit(*flag, std::string{"--"}.append(name));
}

/// As zsh reads it between single quotes and brackets.
std::string zsh_text(std::string_view text) {
  std::string out;
  for (char c : text.substr(0, text.find('\n')))
    if (c == '\'')
      out += "'\\''";
    else if (c == '[' || c == ']' || c == ':' || c == '\\')
      (out += '\\') += c;
    else
      out += c;
  return out;
}

} // namespace

std::string bash_completion(const CLI::App& app) {
  std::string names, flags, values;
  for (const auto* command : commands_of(app)) {
    names += command->get_name() + ' ';
    flags += "    " + command->get_name() + ") words=\"";
    each_flag(*command, [&](const CLI::Option& flag, const std::string& name) {
      flags += name + ' ';
      auto line = "    " + name + ") COMPREPLY=($(compgen -W \"" + words_of(flag) +
                  "\" -- \"$current\")); return ;;\n";
      if (!words_of(flag).empty() && values.find(line) == std::string::npos)
        values += line;
    });
    flags += "\" ;;\n";
  }
  return "# bash completion of troupe\n_troupe() {\n"
         "  local current=${COMP_WORDS[COMP_CWORD]} before=${COMP_WORDS[COMP_CWORD-1]} words=\"\"\n"
         "  if [ \"$COMP_CWORD\" = 1 ]; then\n"
         "    COMPREPLY=($(compgen -W \"" +
         names +
         "--help --version\" -- \"$current\")); return\n  fi\n"
         "  case $before in\n" +
         values + "  esac\n  case ${COMP_WORDS[1]} in\n" + flags +
         "  esac\n  case $current in\n"
         "    -*) COMPREPLY=($(compgen -W \"$words\" -- \"$current\")) ;;\n"
         "    *) COMPREPLY=($(compgen -f -- \"$current\")) ;;\n  esac\n}\n"
         "complete -o filenames -F _troupe troupe\n";
}

std::string zsh_completion(const CLI::App& app) {
  std::string names, cases;
  for (const auto* command : commands_of(app)) {
    names += " '" + command->get_name() + ':' + zsh_text(command->get_description()) + '\'';
    cases += "  " + command->get_name() + ") _arguments";
    each_flag(*command, [&](const CLI::Option& flag, const std::string& name) {
      cases += " \\\n    '" + name + '[' + zsh_text(flag.get_description()) + ']';
      if (auto words = words_of(flag); !words.empty())
        cases += ":value:(" + words + ')';
      else if (flag.get_items_expected_max() > 0)
        cases += ":value:_files";
      cases += '\'';
    });
    cases += " \\\n    '*:folder:_files -/' ;;\n";
  }
  return "#compdef troupe\nlocal -a commands\ncommands=(" + names +
         ")\nif (( CURRENT == 2 )); then\n  _describe command commands\n  return\nfi\n"
         "local command=$words[2]\nshift words\n(( CURRENT-- ))\ncase $command in\n" +
         cases + "esac\n";
}

} // namespace troupe::runtime
