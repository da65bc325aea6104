#include "troupe/config/render.hpp"

#include <algorithm>

namespace troupe::config {

namespace {

std::string fallback_text(const option& o) {
  return o.fallback.empty() ? "unset" : std::string{o.fallback};
}

/// A pipe would end the cell of a Markdown table.
std::string cell(std::string text) {
  for (size_t at = 0; (at = text.find('|', at)) != std::string::npos; at += 2)
    text.insert(at, 1, '\\');
  return text;
}

std::string code(std::string_view text) {
  return text.empty() ? std::string{} : '`' + std::string{text} + '`';
}

/// The variables that win over files as code, without what they put behind the value.
std::string overrides_cell(const option& o) {
  std::string out;
  auto rest = o.overrides;
  while (!rest.empty()) {
    auto end = std::min(rest.find(' '), rest.size());
    auto name = rest.substr(0, end);
    out += (out.empty() ? "" : ", ") + code(name.substr(0, name.find('+'))) + " (wins over files)";
    rest.remove_prefix(std::min(end + 1, rest.size()));
  }
  return out;
}

/// The environment variables of an option as code, the strongest first.
std::string variables_cell(const option& o) {
  auto out = code(variable_of(o));
  auto rest = o.variables;
  while (!rest.empty()) {
    auto end = std::min(rest.find(' '), rest.size());
    out += (out.empty() ? "" : ", ") + code(rest.substr(0, end));
    rest.remove_prefix(std::min(end + 1, rest.size()));
  }
  if (!o.overrides.empty())
    out += (out.empty() ? "" : ", ") + overrides_cell(o);
  return out;
}

std::string meaning_of(const option& o) {
  auto out = std::string{o.help};
  if (!o.alias.empty())
    out += "; " + code(o.alias) + " is another name for it in files";
  return out;
}

std::string flags_cell(const option& o) {
  return o.letter.empty() ? code(o.flag) : code(o.flag) + ", " + code(o.letter);
}

void append_section(std::string& out, std::string_view title, std::string_view lead, scope level) {
  out += "\n## ";
  out += title;
  out += "\n\n";
  out += lead;
  out += "\n\n| key | flag | variable | allowed | default | meaning |\n|---|---|---|---|---|---|\n";
  for (auto& o : option_table)
    if (o.level == level)
      out += "| " + code(o.key) + " | " + flags_cell(o) + " | " + variables_cell(o) + " | " +
             cell(allowed(o)) + " | " + cell(fallback_text(o)) + " | " + cell(meaning_of(o)) +
             " |\n";
}

std::string shown_text(const option& o, const value& v) {
  auto text = to_text(o, v);
  return o.secret && text != o.fallback ? "***" : text;
}

std::string padded(std::string text, size_t width) {
  text.resize(std::max(width, text.size()), ' ');
  return text;
}

} // namespace

std::string help_text(const option& o) {
  auto out = std::string{o.help} + ".\nAllowed: " + allowed(o) + "; default: " + fallback_text(o) +
             "\nKey " + std::string{o.key};
  if (auto variable = variable_of(o); !variable.empty())
    out += ", variable " + variable;
  return out;
}

std::string options_table(const settings& values) {
  size_t widest_key = 0, widest_value = 0;
  for (size_t i = 0; i < option_table.size(); ++i) {
    widest_key = std::max(widest_key, option_table[i].key.size());
    widest_value = std::max(widest_value, shown_text(option_table[i], values.at(i)).size());
  }
  widest_value = std::min<size_t>(widest_value, 32);
  std::string out;
  for (size_t i = 0; i < option_table.size(); ++i) {
    auto& o = option_table[i];
    auto text = values.at(i).index() == 0 ? "unset" : shown_text(o, values.at(i));
    out += padded(std::string{o.key}, widest_key + 2) + padded(std::move(text), widest_value + 2) +
           values.origin_at(i).where + '\n';
  }
  return out;
}

std::string options_markdown() {
  std::string out = R"(# Options

This page is printed by `troupe options --markdown` from the table in `config/option_table.hpp`; a test compares the two.
`troupe options` shows the values that are in force, and where each of them comes from.

## Where settings come from

Settings of the **server**, the strongest first:

1. variables of SageMaker, as far as the table below names them;
2. variables `SERVING_KEY`, then the short-hands in the table below;
3. flags of `troupe serve`;
4. the config file: `--config-file FILE`, else `$MODEL_SERVER_HOME/conf/config.properties`, else `$MODEL_SERVER_HOME/config.properties`
   (`MODEL_SERVER_HOME` is the current directory unless it is set);
5. the default.

Settings of a **model**, the strongest first:

1. arguments of the call that registers the model;
2. flags of `troupe serve`, among them `-o KEY=VALUE`, which takes any key;
3. variables of SageMaker, as far as the table below names them;
4. `serving.properties` in the model's folder;
5. variables `OPTION_NAME` for the key `option.name`. A name in capitals is lower-cased, any other is kept as it is;
   `OPTION_ENGINE` and `OPTION_ENTRYPOINT` stand for `engine` and `option.entryPoint`;
6. the short-hands in the table below, the first one that is set;
7. the default.

**Shared** settings belong to a model, and their default is what the server layer says, flags included.

`host` and `port` replace their part of `inference_address`, unless the address comes from a stronger place than they do.

## Which models are served

`troupe serve MODEL` serves that one, and beside it what `-m` and `-s` name. Without it, `load_models` counts: `ALL` takes what is in
`model_store`, `NONE` nothing, and a list the models in it; `HF_MODEL_ID` names one more. A store in which every entry is a folder or an archive holds one model in
each of them, any other store is itself one model. A relative path that is not there is looked for in the store.

A model is a folder, an archive of one (`.zip`, `.tar`, `.tar.gz`, `.tgz`; unpacked once below `download_dir`), the URL of such an archive, or an id of the
Hugging Face hub, which is taken from the cache below `HF_HOME` (or `HF_HUB_CACHE`) or downloaded from `HF_ENDPOINT` with the token `HF_TOKEN`; with `HF_HUB_OFFLINE=1`
only the cache counts. A folder or archive that holds nothing but one folder or one archive stands for that. Its name is the last part of the path with all but
letters, digits and underscores turned into underscores, unless it is given another.

## How values are written

An empty variable counts as unset. `true`, `false` and words may be written in any case, and a `K`, `M`, `G` or `T` behind a number of bytes
stands for powers of 1024. A value that is not allowed ends the start with a message that names the key, the value, its place and what is allowed; all such values are
listed at once. An unknown key is a warning, with the key that resembles it most.

Both files are Java properties: `key = value`, `key: value` or `key value`; comments begin with `#` or `!`, a backslash at the end of a line
goes on with the next one, and `\uXXXX` is a character. They are read as UTF-8.
)";
  append_section(out, "Server", "In `config.properties`.", scope::server);
  append_section(out, "Shared",
                 "In `config.properties` for all models, in `serving.properties` for one.",
                 scope::shared);
  append_section(out, "Model", "In `serving.properties`.", scope::model);
  return out;
}

} // namespace troupe::config
