#include "plugin/dio_uri.h"

#include <cerrno>
#include <set>
#include <utility>

#include "env/volume_options.h"

namespace diofs {

namespace {

Result Malformed(std::string_view what) { return Result::Error(EINVAL, what); }

int HexDigit(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  if (c >= 'a' && c <= 'f') return c - 'a' + 10;
  if (c >= 'A' && c <= 'F') return c - 'A' + 10;
  return -1;
}

Result PercentDecode(std::string_view text, std::string* decoded) {
  decoded->clear();
  for (size_t i = 0; i < text.size(); ++i) {
    char c = text[i];
    if (c == '%') {
      const int high = i + 2 < text.size() ? HexDigit(text[i + 1]) : -1;
      const int low = i + 2 < text.size() ? HexDigit(text[i + 2]) : -1;
      if (high < 0 || low < 0) {
        return Malformed("\"" + std::string(text) +
                         "\": a % takes two hexadecimal digits");
      }
      c = static_cast<char>(high * 16 + low);
      i += 2;
    }
    if (c == '\0') {
      return Malformed("\"" + std::string(text) + "\": holds a NUL byte");
    }
    decoded->push_back(c);
  }
  return Result::Ok();
}

Result ParsePath(std::string_view text, VolumeOptions* options) {
  constexpr const char* kForm =
      "write dio:///absolute/path, with three slashes";
  if (text.empty()) return Malformed(std::string("empty path; ") + kForm);
  if (text.front() != '/') {
    return Malformed("relative path \"" + std::string(text) + "\"; " + kForm);
  }
  return PercentDecode(text, &options->path);
}

Result ParseOptions(std::string_view query, VolumeOptions* options) {
  std::set<std::string_view> seen;
  while (true) {
    const size_t end = query.find('&');
    const std::string_view option = query.substr(0, end);
    const size_t equals = option.find('=');
    if (equals == std::string_view::npos || equals == 0) {
      return Malformed("option \"" + std::string(option) +
                       "\" is not of the form name=value");
    }
    const std::string_view name = option.substr(0, equals);
    std::string value;
    Result good = PercentDecode(option.substr(equals + 1), &value);
    if (good.ok()) good = SetVolumeOption(name, value, options);
    if (!good.ok()) return good;
    if (!seen.insert(name).second) {
      return Malformed("option \"" + std::string(name) + "\" is given twice");
    }
    if (end == std::string_view::npos) return Result::Ok();
    query.remove_prefix(end + 1);
  }
}

Result Parse(std::string_view uri, VolumeOptions* options) {
  constexpr std::string_view kPrefix = "dio://";
  if (uri.substr(0, kPrefix.size()) != kPrefix) {
    return Malformed("does not begin with dio://");
  }
  uri.remove_prefix(kPrefix.size());
  if (uri.find('#') != std::string_view::npos) {
    return Malformed("has a fragment; a # in a name is written %23");
  }
  const size_t question = uri.find('?');
  Result good = ParsePath(uri.substr(0, question), options);
  if (!good.ok() || question == std::string_view::npos) return good;
  return ParseOptions(uri.substr(question + 1), options);
}

}  // namespace

Result ParseDioUri(std::string_view uri, VolumeOptions* options) {
  VolumeOptions parsed = *options;
  Result good = Parse(uri, &parsed);
  if (good.ok()) *options = std::move(parsed);
  return good;
}

}  // namespace diofs
