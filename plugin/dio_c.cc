// The entry for C and for languages that speak to RocksDB through its C API.

#include <cstdlib>
#include <cstring>
#include <new>
#include <string>

#include "plugin/register.h"
#include "rocksdb/c.h"
#include "rocksdb/env.h"

namespace {

// As RocksDB's C functions report: a string of malloc(), the caller's to free.
void SaveError(char** error, const char* message) {
  free(*error);
  *error = strdup(message);
}

rocksdb_env_t* CreateEnv(const char* uri, char** error);

}  // namespace

// The volume of a dio:// URI as the argument of rocksdb_options_set_env. Null
// with *error set where it cannot be mounted. rocksdb_env_destroy() frees the
// handle; the volume stays mounted until the process ends.
extern "C" __attribute__((visibility("default"))) rocksdb_env_t* dio_create_env(
    const char* uri, char** error);

rocksdb_env_t* dio_create_env(const char* uri, char** error) {
  try {
    return CreateEnv(uri, error);
  } catch (const std::bad_alloc&) {
    SaveError(error, "out of memory");
    return nullptr;
  }
}

namespace {

rocksdb_env_t* CreateEnv(const char* uri, char** error) {
  std::string message;
  rocksdb::Env* const env = diofs::DioEnv(uri, &message);
  if (env == nullptr) {
    SaveError(error, (std::string(uri) + ": " + message).c_str());
    return nullptr;
  }
  // The type is RocksDB's own and incomplete here. A handle for the default Env
  // is one that rocksdb_env_destroy() does not delete the Env of; all that is
  // left to do is to point it elsewhere.
  rocksdb_env_t* const handle = rocksdb_create_default_env();
  rocksdb::Env* held = nullptr;
  memcpy(&held, handle, sizeof(held));
  if (held != rocksdb::Env::Default()) {
    rocksdb_env_destroy(handle);
    SaveError(error, "rocksdb_env_t is not laid out as this plugin knows it");
    return nullptr;
  }
  memcpy(static_cast<void*>(handle), &env, sizeof(env));
  return handle;
}

}  // namespace
