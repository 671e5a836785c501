#include "plugin/register.h"

#include <cstdio>
#include <exception>
#include <map>
#include <memory>
#include <mutex>
#include <new>

#include "env/rocksdb_file_system.h"
#include "env/rocksdb_status.h"
#include "plugin/dio_uri.h"
#include "rocksdb/convenience.h"
#include "rocksdb/version.h"

namespace diofs {

using rocksdb::Env;
using rocksdb::FileSystem;
using rocksdb::ObjectLibrary;
using rocksdb::Status;

namespace {

// The registry puts the URI behind what it is told.
Status MakeFileSystem(const std::string& uri,
                      std::unique_ptr<FileSystem>* file_system) {
  return Guarded(std::string(), [&] {
    VolumeOptions options;
    Result parsed = ParseDioUri(uri, &options);
    if (parsed.ok()) *file_system = std::make_unique<DioFileSystem>(options);
    return parsed;
  });
}

Status MakeEnv(const std::string& uri, std::unique_ptr<Env>* env) {
  std::unique_ptr<FileSystem> made;
  Status status = MakeFileSystem(uri, &made);
  if (!status.ok()) return status;
  const std::shared_ptr<FileSystem> file_system = std::move(made);
  // Nobody prepares what an Env of RocksDB wraps before it is used.
  status = file_system->PrepareOptions(rocksdb::ConfigOptions());
  if (status.ok()) *env = rocksdb::NewCompositeEnv(file_system);
  return status;
}

// The message without the code in front, which the registry puts there again.
void TellError(const Status& status, std::string* error) noexcept {
  try {
    *error =
        status.getState() == nullptr ? status.ToString() : status.getState();
  } catch (const std::bad_alloc&) {
    *error = "no memory";
  }
}

// Only parses: options may still follow, as in id=dio:///x;create=4G.
FileSystem* FileSystemFactory(const std::string& uri,
                              std::unique_ptr<FileSystem>* guard,
                              std::string* error) {
  const Status status = MakeFileSystem(uri, guard);
  if (!status.ok()) TellError(status, error);
  return guard->get();
}

// Not guarded: what loads an Env from an option string has no place to keep it.
Env* EnvFactory(const std::string& uri, std::unique_ptr<Env>*,
                std::string* error) {
  return DioEnv(uri, error);
}

int RegisterOrComplain(ObjectLibrary* library) {
  try {
    std::string refusal;
    const int factories =
        RegisterDio(library, rocksdb::GetRocksVersionAsString(), &refusal);
    if (!refusal.empty()) fprintf(stderr, "diofs: %s\n", refusal.c_str());
    return factories;
  } catch (const std::exception& exception) {
    fprintf(stderr, "diofs: not registered: %s\n", exception.what());
    return 0;
  }
}

// For LD_PRELOAD and for programs linked to the library: there is nobody to
// call. RocksDB's registry is ready, for its library is loaded before this one.
const int registered_when_loaded =
    RegisterOrComplain(ObjectLibrary::Default().get());

}  // namespace

int RegisterDio(ObjectLibrary* library, const std::string& running_version,
                std::string* refusal) {
  const std::string minor =
      std::to_string(ROCKSDB_MAJOR) + "." + std::to_string(ROCKSDB_MINOR);
  if (running_version.compare(0, minor.size() + 1, minor + ".") != 0) {
    *refusal = "not registered: built for RocksDB " + minor +
               ", but this program runs " + running_version +
               "; rebuild the plugin against that version";
    return 0;
  }
  // The bare word and whatever follows the scheme, so that a malformed URI gets
  // a message of ours and not a null pointer or the default Env.
  ObjectLibrary::PatternEntry pattern("dio");
  pattern.AddSeparator(":", false);
  library->AddFactory<FileSystem>(pattern, FileSystemFactory);
  library->AddFactory<Env>(pattern, EnvFactory);
  return 2;
}

Env* DioEnv(const std::string& uri, std::string* error) {
  Status status;
  try {
    static std::mutex* const mutex = new std::mutex;
    static auto* const envs = new std::map<std::string, std::unique_ptr<Env>>;
    std::lock_guard<std::mutex> lock(*mutex);
    std::unique_ptr<Env>& env = (*envs)[uri];
    if (env == nullptr) status = MakeEnv(uri, &env);
    if (status.ok()) return env.get();
  } catch (const std::exception& exception) {
    status = Unexpected(exception, uri);
  }
  TellError(status, error);
  return nullptr;
}

}  // namespace diofs

int register_dio_plugin(rocksdb::ObjectLibrary& library, const std::string&) {
  return diofs::RegisterOrComplain(&library);
}
