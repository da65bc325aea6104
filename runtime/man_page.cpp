#include "troupe/runtime/man_page.hpp"

#include <algorithm>
#include <string_view>

#include <CLI/CLI.hpp>

#include "troupe/config/options.hpp"

namespace troupe::runtime {

namespace {

/// Text as roff prints it unchanged: no requests, no hyphens that copy as something else.
std::string plain(std::string_view text) {
  std::string out;
  bool line_start = true;
  for (char c : text) {
    if (line_start && (c == '.' || c == '\''))
      out += "\\&";
    if (c == '\\')
      out += "\\e";
    else if (c == '-')
      out += "\\-";
    else
      out += c;
    line_start = c == '\n';
  }
  return out;
}

std::string bold(std::string_view text) {
  return text.empty() ? std::string{} : "\\fB" + plain(text) + "\\fR";
}

std::string italic(std::string_view text) {
  return text.empty() ? std::string{} : "\\fI" + plain(text) + "\\fR";
}

std::string sentence(std::string_view text) {
  auto out = plain(text);
  return out.empty() || out.back() == '.' ? out : out + '.';
}

std::string item(const std::string& name, const std::string& text) {
  return ".TP\n" + name + '\n' + text + '\n';
}

/// What the table does not know: arguments and the flags of one command.
std::string own_flags(const CLI::App& command) {
  std::string out;
  for (const auto* option : command.get_options()) {
    if (option->get_group() == "Server" || option->get_group() == "Model")
      continue;
    auto name = option->get_positional() ? italic(option->get_type_name())
                                         : bold(option->get_name(false, true));
    if (!option->get_positional() && !option->get_type_name().empty())
      name += ' ' + italic(option->get_type_name());
    out += item(name, sentence(option->get_description()));
  }
  return out;
}

std::string table_of(config::scope level) {
  std::string out;
  for (const auto& o : config::option_table) {
    if (o.level != level)
      continue;
    auto name = bold(o.key);
    if (!o.flag.empty())
      name += ", " + bold(o.flag) + ' ' + italic("VALUE");
    auto text = sentence(o.help) + " Allowed: " + plain(config::allowed(o)) +
                "; default: " + (o.fallback.empty() ? "unset" : plain(o.fallback)) + '.';
    if (auto variable = config::variable_of(o); !variable.empty())
      text += " Variable " + bold(variable) + '.';
    out += item(name, text);
  }
  return out;
}

} // namespace

std::string man_page(const CLI::App& app) {
  auto commands = app.get_subcommands([](const CLI::App*) { return true; });
  std::string out = ".TH TROUPE 1 \"\" \"troupe " TROUPE_VERSION "\" \"User Commands\"\n"
                    ".SH NAME\ntroupe \\- serve Hugging Face model folders over HTTP\n"
                    ".SH SYNOPSIS\n";
  for (const auto* command : commands)
    out += ".B troupe " + plain(command->get_name()) + "\n[OPTIONS] [PATH]\n.br\n";
  out += ".SH DESCRIPTION\n"
         "One program serves models (folders with config.json, weights and a tokenizer, "
         "archives "
         "of such, or ids of the Hugging Face hub) over HTTP in the LMI and OpenAI dialects, "
         "answers one prompt in the terminal, or says what a folder is "
         "and what it takes.\n"
         ".SH COMMANDS\n";
  for (const auto* command : commands)
    out += ".SS " + plain(command->get_name()) + '\n' + sentence(command->get_description()) +
           '\n' + own_flags(*command);
  out += ".SH OPTIONS\n"
         "Every option can be set by its flag, with \\fB\\-o\\fR \\fIKEY=VALUE\\fR, by a variable "
         "of the "
         "environment, or in the file named below. \\fBtroupe options\\fR shows the values in "
         "force and "
         "where each comes from.\n"
         ".SS Server (config.properties)\n" +
         table_of(config::scope::server) +
         ".SS Shared (config.properties for all models, serving.properties for one)\n" +
         table_of(config::scope::shared) + ".SS Model (serving.properties)\n" +
         table_of(config::scope::model);
  out +=
      ".SH ENVIRONMENT\n" +
      item(bold("HF_MODEL_ID"),
           "A model to serve where PATH is left out: a folder, an archive, or an id of the hub.") +
      item(bold("HF_HOME") + ", " + bold("HF_ENDPOINT") + ", " + bold("HF_TOKEN") + ", " +
               bold("HF_HUB_OFFLINE"),
           "The hub's cache, its address, the token for it, and whether it may be asked.") +
      item(bold("MODEL_SERVER_HOME"),
           "Folder of conf/config.properties; the current directory unless it is set.") +
      item(bold("SERVING_*") + ", " + bold("OPTION_*"), "Options, as named above.");
  out += ".SH FILES\n" +
         item(italic("PATH/serving.properties"), "Options of the model in that folder.") +
         item(italic("conf/config.properties"), "Options of the server.");
  out +=
      ".SH SIGNALS\n" +
      item(bold("SIGINT") + ", " + bold("SIGTERM"),
           "Refuse new requests and let running ones finish within drain_timeout; what still runs "
           "then ends with an error event. A second signal ends it at once.");
  out += ".SH EXIT STATUS\n"
         "0 after a stop by signal or a finished command, 1 when it could not start or failed; the "
         "reason is one sentence on standard error.\n"
         ".SH SEE ALSO\n.BR troupe\\-load (1)\n";
  return out;
}

} // namespace troupe::runtime
