#pragma once

#include <memory>
#include <string>
#include <string_view>

namespace CLI {
class App;
class FormatterBase;
} // namespace CLI

/// What the program says about its own command line: help that fits the terminal, and one sentence
/// about what was mistyped.
namespace troupe::runtime {

/// `text` broken between words into lines of at most `width` bytes, the second and later ones
/// indented by `indent` spaces; its own line breaks stay, and a longer word has a line of its own.
std::string wrapped(std::string_view text, size_t width, size_t indent = 0);

/// Columns for help: COLUMNS, else those of the terminal, else 100; always between 72 and 120.
size_t help_width();

/// Lays out --help with a column of flags and one of wrapped text.
std::shared_ptr<CLI::FormatterBase> help_formatter(size_t width);

/// "`troupe serve --help`" when that subcommand was chosen, "`troupe --help`" when none was.
std::string help_command(const CLI::App& app);

/// A sentence about the words that neither `app` nor its chosen subcommand understood, with the
/// flag that was probably meant; empty when every word was understood.
std::string complaint_about_words(const CLI::App& app);

} // namespace troupe::runtime
