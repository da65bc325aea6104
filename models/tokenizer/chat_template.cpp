#include "troupe/models/tokenizer/chat_template.hpp"

#include <algorithm>

#include "troupe/models/tokenizer/files.hpp"
#include "troupe/models/tokenizer/rust.hpp"
#include "troupe/models/tokenizer/settings.hpp"

namespace troupe {

using tokenizing::rust_string;
using tokenizing::slice;

namespace {

namespace fs = std::filesystem;
/// The longest templates that are published have some 20 KiB.
constexpr size_t most_template_bytes = 1 << 20;

using sources = std::vector<std::pair<std::string, std::string>>;

/// The templates that lie in files of their own; they go before those in tokenizer_config.json.
/// Source: transformers, tokenization_utils_base.py, _from_pretrained.
caf::expected<sources> read_template_files(const fs::path& folder) {
  sources found;
  std::error_code failed;
  if (auto path = folder / "chat_template.jinja"; fs::exists(path, failed)) {
    auto text = tokenizing::read_text(path);
    if (!text)
      return text.error();
    found.emplace_back("default", std::move(*text));
  }
  std::vector<fs::path> more;
  for (fs::directory_iterator i{folder / "additional_chat_templates", failed}, end;
       !failed && i != end; i.increment(failed))
    if (i->path().extension() == ".jinja")
      more.push_back(i->path());
  std::sort(more.begin(), more.end());
  for (auto& path : more) {
    auto text = tokenizing::read_text(path);
    if (!text)
      return text.error();
    found.emplace_back(path.stem().string(), std::move(*text));
  }
  return found;
}

caf::expected<sources> read_sources(const fs::path& folder) {
  auto files = read_template_files(folder);
  if (!files || !files->empty())
    return files;
  for (auto name : {"tokenizer_config.json", "chat_template.json"}) {
    auto path = folder / name;
    auto text = tokenizing::read_text_if_there(path);
    if (!text)
      return text.error();
    auto listed = tokenizing::read_templates(*text, path.string());
    if (!listed || !listed->empty())
      return listed;
  }
  return sources{};
}

} // namespace

void chat_template::handle_deleter::operator()(tt_template* t) const {
  tt_template_free(t);
}

chat_template::~chat_template() = default;

caf::expected<caf::unit_t> chat_template::add(std::string name, std::string_view source,
                                              const std::string& roles_json) {
  tt_template* raw = nullptr;
  rust_string err;
  auto code = tt_template_compile(slice(source), slice(roles_json), &raw, err.out());
  entry e{std::move(name), std::unique_ptr<tt_template, handle_deleter>{raw}};
  if (code != 0)
    return caf::make_error(ec::template_failed, "the chat template does not compile: " + err.str());
  entries_.push_back(std::move(e));
  return caf::unit;
}

caf::expected<chat_template_ptr> chat_template::open(const fs::path& folder, const tokenizer& tok) {
  auto found = read_sources(folder);
  if (!found)
    return found.error();
  if (found->empty())
    return chat_template_ptr{};
  std::shared_ptr<chat_template> result{new chat_template};
  auto roles = tokenizing::roles_as_json(tok.roles());
  for (auto& [name, source] : *found)
    if (auto added = result->add(name, source, roles); !added)
      return caf::make_error(ec::bad_model, "chat template `" + name + "` of " + folder.string() +
                                                ": " + text_of(added.error()));
  return chat_template_ptr{std::move(result)};
}

caf::expected<chat_template_ptr> chat_template::open_file(const fs::path& file,
                                                          const tokenizer& tok) {
  auto source = tokenizing::read_text(file, most_template_bytes);
  if (!source)
    return source.error();
  auto made = compile(*source, tok);
  if (!made)
    return caf::make_error(ec::bad_model, file.string() + ": " + text_of(made.error()));
  return made;
}

caf::expected<chat_template_ptr> chat_template::compile(std::string_view source,
                                                        const tokenizer& tok) {
  std::shared_ptr<chat_template> result{new chat_template};
  if (auto added = result->add("default", source, tokenizing::roles_as_json(tok.roles())); !added)
    return added.error();
  return chat_template_ptr{std::move(result)};
}

caf::expected<const chat_template::entry*> chat_template::choose(std::string_view name,
                                                                 std::string_view context) const {
  auto find = [this](std::string_view wanted) -> const entry* {
    auto named = [&](const entry& e) { return e.name == wanted; };
    auto i = std::find_if(entries_.begin(), entries_.end(), named);
    return i == entries_.end() ? nullptr : &*i;
  };
  const entry* chosen = nullptr;
  if (!name.empty())
    chosen = find(name);
  else if (entries_.size() == 1 && entries_[0].name == "default")
    chosen = &entries_[0];
  else if (auto tools = find("tool_use"); tools && tokenizing::has_tools(context))
    chosen = tools;
  else
    chosen = find("default");
  if (chosen)
    return chosen;
  std::string known;
  for (auto& e : entries_)
    known += (known.empty() ? "" : ", ") + e.name;
  return caf::make_error(ec::invalid_request, "the model has no chat template `" +
                                                  std::string{name.empty() ? "default" : name} +
                                                  "`, but: " + known);
}

caf::expected<std::string> chat_template::render(std::string_view context,
                                                 std::string_view name) const {
  return render_at(-1, context, name);
}

caf::expected<std::string> chat_template::render_at(int64_t now, std::string_view context,
                                                    std::string_view name) const {
  auto chosen = choose(name, context);
  if (!chosen)
    return chosen.error();
  rust_string text, err;
  auto code =
      tt_template_render((*chosen)->handle.get(), slice(context), now, text.out(), err.out());
  if (code == TT_BAD_INPUT)
    return caf::make_error(ec::invalid_request, err.str());
  if (code != 0)
    return caf::make_error(ec::template_failed, err.str());
  return text.str();
}

std::vector<std::string> chat_template::names() const {
  std::vector<std::string> out;
  for (auto& e : entries_)
    out.push_back(e.name);
  return out;
}

} // namespace troupe
