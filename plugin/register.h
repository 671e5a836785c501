#ifndef DIOFS_PLUGIN_REGISTER_H_
#define DIOFS_PLUGIN_REGISTER_H_

#include <string>

#include "rocksdb/env.h"
#include "rocksdb/utilities/object_registry.h"

namespace diofs {

// Adds the FileSystem and Env factories for dio:// to `library`; returns how
// many. 0, with the reason in *refusal, where the RocksDB that runs is not of
// the minor version this was compiled for: its classes are laid out otherwise.
int RegisterDio(rocksdb::ObjectLibrary* library,
                const std::string& running_version, std::string* refusal);

// The Env for `uri`, mounted; one per URI and process, never destroyed. Null,
// with the reason in *error, where that fails. Thread-safe.
rocksdb::Env* DioEnv(const std::string& uri, std::string* error);

}  // namespace diofs

// What RocksDB's own build calls (dio_FUNC in dio.mk).
extern "C" __attribute__((visibility("default"))) int register_dio_plugin(
    rocksdb::ObjectLibrary& library, const std::string& argument);

#endif  // DIOFS_PLUGIN_REGISTER_H_
