#ifndef DIOFS_TOOLS_DIOFS_UTIL_H_
#define DIOFS_TOOLS_DIOFS_UTIL_H_

#include <cstdint>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <string_view>
#include <vector>

#include "dio/result.h"

namespace diofs {

// "4.0 GiB".
std::string HumanBytes(uint64_t bytes);
// As HumanBytes, or the plain number where --bytes was given.
std::string ShowBytes(uint64_t bytes);
// "37 %" of a whole; rounded up, so that "0 %" means none.
std::string ShowPercent(uint64_t part, uint64_t whole);
// "2024-05-31 17:02:11" in local time; "-" for 0.
std::string ShowTime(uint64_t micros);
// "2024-05-31T15:02:11.123456Z".
std::string IsoTime(uint64_t micros);
// "0x1f".
std::string Hex(uint64_t value);
// What may go to a terminal: control characters and backslashes as \n, \x1b.
std::string Printable(std::string_view text);

// Columns as wide as they need to be, two spaces apart. `align` has an 'l' or
// 'r' for each column.
std::string FormatTable(const std::vector<std::vector<std::string>>& rows,
                        std::string_view align);

// Indented, with a newline; bytes that are no UTF-8 are replaced.
std::string JsonText(const nlohmann::ordered_json& json);

// Writes `text` to standard output, whole. The exit code: 0, or 1 after one
// line on standard error.
int Print(const std::string& command, const std::string& text);

// One line on standard error: "diofs COMMAND: message".
void Complain(const std::string& command, const std::string& message);

// What went wrong with the volume at `path` and, where it is known, what to do.
std::string Explain(const std::string& path, const Result& result);

}  // namespace diofs

#endif  // DIOFS_TOOLS_DIOFS_UTIL_H_
