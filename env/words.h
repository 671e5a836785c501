#ifndef DIOFS_ENV_WORDS_H_
#define DIOFS_ENV_WORDS_H_

#include <initializer_list>
#include <string>
#include <string_view>
#include <utility>

namespace diofs {

// The words for a value that is one of several, as people write it and as it is
// shown to them. A constant.
template <typename T>
using Words = std::initializer_list<std::pair<const char*, T>>;

// False, changing nothing, where `text` is none of them.
template <typename T>
bool FindWord(const Words<T>& words, std::string_view text, T* value) {
  for (const auto& [word, meaning] : words) {
    if (text != word) continue;
    *value = meaning;
    return true;
  }
  return false;
}

// Empty where there is no word for `value`.
template <typename T>
std::string WordFor(const Words<T>& words, T value) {
  for (const auto& [word, meaning] : words) {
    if (meaning == value) return word;
  }
  return std::string();
}

// "auto|none|async", for messages.
template <typename T>
std::string ListWords(const Words<T>& words, const char* separator = "|") {
  std::string list;
  for (const auto& [word, meaning] : words) {
    list += (list.empty() ? "" : separator) + std::string(word);
  }
  return list;
}

}  // namespace diofs

#endif  // DIOFS_ENV_WORDS_H_
