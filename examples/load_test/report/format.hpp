#pragma once

#include <string>

/// Numbers as a reader wants them: three significant digits, the unit that fits. For people; JSON
/// and CSV get the full value. Not for NaN, which becomes "-".
namespace troupe::load_test::report {

/// "0.87", "12.3", "1,234", "1.23 M" from ten million on
std::string format_number(double x);

/// "35 us", "12.3 ms", "1.23 s", "2 min 3 s"; "0 ms" for 0.
std::string format_ms(double milliseconds);

/// Of a share: "93 %", "0.4 %".
std::string format_percent(double share);

/// Of a whole number, with thousands apart: "1,234,567".
std::string format_count(unsigned long long x);

/// Seconds as a time on a clock: "0:07", "12:30", "1:02:03".
std::string format_clock(double seconds);

} // namespace troupe::load_test::report
