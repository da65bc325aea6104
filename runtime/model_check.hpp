#pragma once

#include <string>
#include <vector>

#include "troupe/models/inspect.hpp"
#include "troupe/runtime/model_setup.hpp"

/// `troupe check`: what a model's folder and settings would lead to, without loading it.
namespace troupe::runtime {

/// Something that is worth a sentence.
struct finding {
  enum class weight : uint8_t {
    note,    ///< Good to know.
    warning, ///< Works, but probably not as meant.
    error,   ///< Cannot be served.
  };
  weight as = weight::note;
  std::string text; ///< One sentence.
};

/// What `troupe check` says of one model.
struct model_report {
  std::string url;
  prepared_model model;          ///< As far as it could be prepared.
  models::folder_report folder;  ///< Empty where there is no folder.
  std::vector<finding> findings; ///< The heaviest first.

  bool has(finding::weight as) const;
};

/// Looks at a model without loading it. Archives are unpacked, but nothing is downloaded. Never
/// fails: what is wrong stands in the findings.
model_report check_model(const config::model_request& request, const config::sources& from,
                         const config::settings& server);

/// Settings of a model that contradict each other, or that others leave without effect.
/// @param context Of the model, in tokens; 0: not known.
std::vector<finding> contradictions(const config::settings& model, const config::settings& server,
                                    uint32_t context);

/// The report as lines of text.
std::string render(const model_report& report);

} // namespace troupe::runtime
