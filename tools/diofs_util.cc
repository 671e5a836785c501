#include "tools/diofs_util.h"

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdio>
#include <ctime>
#include <nlohmann/json.hpp>

#include "tools/diofs_command.h"

namespace diofs {

namespace {

constexpr std::string_view kUnits = "KMGTPE";
constexpr uint64_t kMicrosPerSecond = 1000000;

// Splits `micros` into the calendar; false where it is out of the calendar.
bool Calendar(uint64_t micros, bool utc, tm* parts) {
  const time_t seconds = static_cast<time_t>(micros / kMicrosPerSecond);
  return (utc ? gmtime_r(&seconds, parts) : localtime_r(&seconds, parts)) !=
         nullptr;
}

std::string FormatCalendar(const tm& parts, const char* format) {
  std::array<char, 64> text;
  return std::string(text.data(),
                     strftime(text.data(), text.size(), format, &parts));
}

// What somebody who sees `error` can do; empty where nobody knows.
std::string Advice(int error, const std::string& path) {
  switch (error) {
    case ENODATA:
      return "make a volume of it with: diofs mkfs " + path;
    case EUCLEAN:
      return "see what is wrong with: diofs fsck " + path;
    case EPROTONOSUPPORT:
      return "use the version of DioFS that made it";
    case EACCES:
    case EPERM:
      return "run as root or as its owner";
    case ENOENT:
      return "check the path";
    case ENOSPC:
      return "make room there, or choose a smaller --size";
    default:
      return std::string();
  }
}

// These have a meaning of their own here, which the context tells; what the
// system says of them only confuses.
bool SpeaksForItself(int error) {
  return error == ENODATA || error == EUCLEAN || error == EPROTONOSUPPORT ||
         error == EINVAL || error == EBUSY;
}

}  // namespace

std::string HumanBytes(uint64_t bytes) {
  if (bytes < 1024) return std::to_string(bytes) + " B";
  double value = static_cast<double>(bytes) / 1024;
  size_t unit = 0;
  // 1023.95 would be shown as 1024.0.
  while (value >= 1023.95 && unit + 1 < kUnits.size()) {
    value /= 1024;
    ++unit;
  }
  std::array<char, 32> text;
  const int length =
      snprintf(text.data(), text.size(), "%.1f %ciB", value, kUnits[unit]);
  return std::string(text.data(), length);
}

std::string ShowBytes(uint64_t bytes) {
  return FLAGS_bytes ? std::to_string(bytes) : HumanBytes(bytes);
}

std::string ShowPercent(uint64_t part, uint64_t whole) {
  if (whole == 0) return "-";
  const double percent =
      100.0 * static_cast<double>(part) / static_cast<double>(whole);
  const uint64_t below = static_cast<uint64_t>(percent);
  return std::to_string(below + (static_cast<double>(below) < percent)) + " %";
}

std::string ShowTime(uint64_t micros) {
  tm parts;
  if (micros == 0 || !Calendar(micros, false, &parts)) return "-";
  return FormatCalendar(parts, "%Y-%m-%d %H:%M:%S");
}

std::string IsoTime(uint64_t micros) {
  tm parts;
  if (!Calendar(micros, true, &parts)) return std::string();
  std::array<char, 16> fraction;
  const int length = snprintf(fraction.data(), fraction.size(), ".%06uZ",
                              static_cast<unsigned>(micros % kMicrosPerSecond));
  return FormatCalendar(parts, "%Y-%m-%dT%H:%M:%S") +
         std::string(fraction.data(), length);
}

std::string Hex(uint64_t value) {
  std::array<char, 24> text;
  const int length = snprintf(text.data(), text.size(), "0x%llx",
                              static_cast<unsigned long long>(value));
  return std::string(text.data(), length);
}

std::string Printable(std::string_view text) {
  std::string shown;
  for (const char c : text) {
    const unsigned char byte = static_cast<unsigned char>(c);
    if (c == '\\') {
      shown += "\\\\";
    } else if (c == '\n') {
      shown += "\\n";
    } else if (byte < 0x20 || byte == 0x7f) {
      std::array<char, 8> escape;
      const int length =
          snprintf(escape.data(), escape.size(), "\\x%02x", byte);
      shown.append(escape.data(), length);
    } else {
      shown += c;
    }
  }
  return shown;
}

std::string FormatTable(const std::vector<std::vector<std::string>>& rows,
                        std::string_view align) {
  std::vector<size_t> widths(align.size(), 0);
  for (const auto& row : rows) {
    for (size_t i = 0; i < row.size(); ++i) {
      widths[i] = std::max(widths[i], row[i].size());
    }
  }
  std::string text;
  for (const auto& row : rows) {
    for (size_t i = 0; i < row.size(); ++i) {
      const std::string padding(widths[i] - row[i].size(), ' ');
      const bool last = i + 1 == row.size();
      text += align[i] == 'r' ? padding + row[i]
                              : row[i] + (last ? std::string() : padding);
      if (!last) text += "  ";
    }
    text += "\n";
  }
  return text;
}

std::string JsonText(const nlohmann::ordered_json& json) {
  return json.dump(2, ' ', false,
                   nlohmann::ordered_json::error_handler_t::replace) +
         "\n";
}

int Print(const std::string& command, const std::string& text) {
  if (fwrite(text.data(), 1, text.size(), stdout) == text.size() &&
      fflush(stdout) == 0) {
    return kExitOk;
  }
  Complain(command, Result::FromErrno("standard output").ToString());
  return kExitFailure;
}

void Complain(const std::string& command, const std::string& message) {
  const std::string line =
      "diofs" + (command.empty() ? "" : " " + command) + ": " + message + "\n";
  fwrite(line.data(), 1, line.size(), stderr);
}

std::string Explain(const std::string& path, const Result& result) {
  std::string what = result.context();
  if (what.empty() || !SpeaksForItself(result.error())) {
    what = result.ToString();
  }
  if (what.find(path) == std::string::npos) what.insert(0, path + ": ");
  const std::string advice = Advice(result.error(), path);
  return Printable(advice.empty() ? what : what + "; " + advice);
}

}  // namespace diofs
