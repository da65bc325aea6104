#pragma once

namespace troupe::models::sampling {

/// The double that the shortest decimal of `value` means: 0.8f gives 0.8, not 0.800000011920929.
/// Requests carry decimals, and transformers computes thresholds like 1 - top_p from them in double
/// before it goes to fp32.
double decimal(float value);

} // namespace troupe::models::sampling
