#include "env/metadata_op.h"

#include <cerrno>
#include <cstdio>
#include <utility>

#include "env/coding.h"
#include "env/format.h"

namespace diofs {
namespace {

constexpr size_t kExtentBytes = 16;

static_assert(sizeof(OpType) + 1 + 2 + 4 == kOpHeaderBytes);
static_assert(kMaxNameBytes <= UINT16_MAX);

void PutName(std::string* out, const std::string& name) {
  PutFixed16(out, static_cast<uint16_t>(name.size()));
  out->append(name);
}

void PutExtents(std::string* out, const std::vector<Extent>& extents) {
  PutFixed32(out, static_cast<uint32_t>(extents.size()));
  for (const Extent& extent : extents) {
    PutFixed64(out, extent.start);
    PutFixed64(out, extent.count);
  }
}

void EncodeBody(const MetadataOp& op, std::string* out) {
  switch (op.type) {
    case OpType::kMkdir:
    case OpType::kCreate:
      PutFixed64(out, op.parent);
      PutName(out, op.name);
      PutFixed64(out, op.ino);
      if (op.type == OpType::kCreate) {
        PutFixed8(out, static_cast<uint8_t>(op.kind));
        PutFixed8(out, static_cast<uint8_t>(op.layout));
      }
      PutFixed64(out, op.mtime_us);
      return;
    case OpType::kLink:
      PutFixed64(out, op.ino);
      PutFixed64(out, op.parent);
      PutName(out, op.name);
      return;
    case OpType::kUnlink:
    case OpType::kRmdir:
      PutFixed64(out, op.parent);
      PutName(out, op.name);
      return;
    case OpType::kRename:
      PutFixed64(out, op.parent);
      PutName(out, op.name);
      PutFixed64(out, op.new_parent);
      PutName(out, op.new_name);
      return;
    case OpType::kExtents:
      PutFixed64(out, op.ino);
      PutExtents(out, op.extents);
      return;
    case OpType::kSize:
      PutFixed64(out, op.ino);
      PutFixed64(out, op.size);
      PutFixed64(out, op.mtime_us);
      return;
    case OpType::kTrim:
      PutFixed64(out, op.ino);
      PutFixed64(out, op.size);
      return;
    case OpType::kMtime:
      PutFixed64(out, op.ino);
      PutFixed64(out, op.mtime_us);
      return;
    case OpType::kNextIno:
      PutFixed64(out, op.ino);
      return;
    case OpType::kSegment:
      PutFixed64(out, op.ino);
      PutFixed64(out, op.segment.logical);
      PutFixed64(out, op.segment.position);
      PutFixed64(out, op.segment.generation);
      return;
    case OpType::kLogEnd:
      PutFixed64(out, op.ino);
      PutFixed64(out, op.log_end.logical);
      PutFixed64(out, op.log_end.position);
      PutFixed32(out, op.log_end.chain);
      PutFixed8(out, op.closed ? 1 : 0);
      PutFixed64(out, op.mtime_us);
      return;
  }
}

// Reads the body of one operation; the first thing wrong with it is kept.
class BodyDecoder {
 public:
  explicit BodyDecoder(std::string_view body) : reader_(body) {}

  // Null for a body that its encoder wrote, else what is wrong.
  const char* Decode(MetadataOp* op);

 private:
  void Ino(uint64_t* ino) {
    *ino = reader_.Fixed64();
    if (*ino == 0) Complain("inode number 0");
  }
  void Name(std::string* name);
  void Kind(FileKind* kind);
  void Layout(FileLayout* layout);
  void Flag(bool* flag);
  void Extents(std::vector<Extent>* extents);
  bool DecodeFields(MetadataOp* op);
  void Complain(const char* problem) {
    if (problem_ == nullptr && reader_.ok()) problem_ = problem;
  }

  BoundedReader reader_;
  const char* problem_ = nullptr;
};

void BodyDecoder::Name(std::string* name) {
  const size_t length = reader_.Fixed16();
  const std::string_view bytes = reader_.Bytes(length);
  if (bytes.empty()) return Complain("empty name");
  if (bytes.size() > kMaxNameBytes) return Complain("name too long");
  if (bytes == "." || bytes == "..") return Complain("name . or ..");
  if (bytes.find('/') != bytes.npos || bytes.find('\0') != bytes.npos) {
    return Complain("name with / or NUL");
  }
  name->assign(bytes);
}

void BodyDecoder::Kind(FileKind* kind) {
  const uint8_t value = reader_.Fixed8();
  if (value >= kFileKinds) return Complain("unknown kind of file");
  *kind = static_cast<FileKind>(value);
}

void BodyDecoder::Layout(FileLayout* layout) {
  const uint8_t value = reader_.Fixed8();
  if (value >= kFileLayouts) return Complain("unknown layout of file");
  *layout = static_cast<FileLayout>(value);
}

void BodyDecoder::Flag(bool* flag) {
  const uint8_t value = reader_.Fixed8();
  if (value > 1) return Complain("neither yes nor no");
  *flag = value == 1;
}

void BodyDecoder::Extents(std::vector<Extent>* extents) {
  const uint64_t count = reader_.Fixed32();
  if (!reader_.ok()) return;
  if (count == 0 || count * kExtentBytes != reader_.remaining()) {
    return Complain("count of extents");
  }
  extents->reserve(count);
  for (uint64_t i = 0; i < count; ++i) {
    Extent extent;
    extent.start = reader_.Fixed64();
    extent.count = reader_.Fixed64();
    if (extent.count == 0 || extent.start > UINT64_MAX - extent.count) {
      return Complain("extent out of range");
    }
    extents->push_back(extent);
  }
}

// False for a type that this format does not have.
bool BodyDecoder::DecodeFields(MetadataOp* op) {
  switch (op->type) {
    case OpType::kMkdir:
    case OpType::kCreate:
      Ino(&op->parent);
      Name(&op->name);
      Ino(&op->ino);
      if (op->type == OpType::kCreate) {
        Kind(&op->kind);
        Layout(&op->layout);
      }
      op->mtime_us = reader_.Fixed64();
      return true;
    case OpType::kLink:
      Ino(&op->ino);
      Ino(&op->parent);
      Name(&op->name);
      return true;
    case OpType::kUnlink:
    case OpType::kRmdir:
      Ino(&op->parent);
      Name(&op->name);
      return true;
    case OpType::kRename:
      Ino(&op->parent);
      Name(&op->name);
      Ino(&op->new_parent);
      Name(&op->new_name);
      return true;
    case OpType::kExtents:
      Ino(&op->ino);
      Extents(&op->extents);
      return true;
    case OpType::kSize:
      Ino(&op->ino);
      op->size = reader_.Fixed64();
      op->mtime_us = reader_.Fixed64();
      return true;
    case OpType::kTrim:
      Ino(&op->ino);
      op->size = reader_.Fixed64();
      return true;
    case OpType::kMtime:
      Ino(&op->ino);
      op->mtime_us = reader_.Fixed64();
      return true;
    case OpType::kNextIno:
      Ino(&op->ino);
      return true;
    case OpType::kSegment:
      Ino(&op->ino);
      op->segment.logical = reader_.Fixed64();
      op->segment.position = reader_.Fixed64();
      op->segment.generation = reader_.Fixed64();
      return true;
    case OpType::kLogEnd:
      Ino(&op->ino);
      op->log_end.logical = reader_.Fixed64();
      op->log_end.position = reader_.Fixed64();
      op->log_end.chain = reader_.Fixed32();
      Flag(&op->closed);
      op->mtime_us = reader_.Fixed64();
      return true;
  }
  return false;
}

const char* BodyDecoder::Decode(MetadataOp* op) {
  if (!DecodeFields(op)) return "unknown type";
  if (problem_ != nullptr) return problem_;
  if (!reader_.ok()) return "body too short";
  return reader_.AtEnd() ? nullptr : "body too long";
}

// "parent/name", with everything unprintable as \xNN: a name may be hostile.
std::string Place(uint64_t parent, const std::string& name) {
  std::string out = std::to_string(parent) + "/";
  for (const char c : name) {
    if (c >= 0x20 && c < 0x7f && c != '\\') {
      out.push_back(c);
      continue;
    }
    char escaped[5];
    std::snprintf(escaped, sizeof(escaped), "\\x%02x",
                  static_cast<unsigned>(static_cast<uint8_t>(c)));
    out.append(escaped);
  }
  return out;
}

}  // namespace

void MetadataOp::EncodeTo(std::string* out) const {
  const size_t start = out->size();
  PutFixed8(out, static_cast<uint8_t>(type));
  PutFixed8(out, 0);
  PutFixed16(out, 0);
  PutFixed32(out, 0);
  EncodeBody(*this, out);
  const size_t body_bytes = out->size() - start - kOpHeaderBytes;
  EncodeFixed(&(*out)[start + 4], static_cast<uint32_t>(body_bytes));
}

Result MetadataOp::DecodeFrom(std::string_view* bytes, MetadataOp* op) {
  BoundedReader reader(*bytes);
  *op = MetadataOp();
  op->type = static_cast<OpType>(reader.Fixed8());
  const uint8_t zero8 = reader.Fixed8();
  const uint16_t zero16 = reader.Fixed16();
  const uint32_t body_bytes = reader.Fixed32();
  const std::string_view body = reader.Bytes(body_bytes);
  if (!reader.ok()) {
    return Result::Error(EUCLEAN, "metadata operation cut short");
  }
  const char* problem = "reserved bytes in use";
  if (zero8 == 0 && zero16 == 0) problem = BodyDecoder(body).Decode(op);
  if (problem != nullptr) {
    return Result::Error(EUCLEAN, std::string("metadata operation ") +
                                      OpTypeName(op->type) + ": " + problem);
  }
  bytes->remove_prefix(kOpHeaderBytes + body.size());
  return Result::Ok();
}

std::string MetadataOp::ToString() const {
  std::string out = OpTypeName(type);
  const std::string place = " " + Place(parent, name);
  const std::string number = " " + std::to_string(ino);
  switch (type) {
    case OpType::kMkdir:
      return out + place + " =" + number;
    case OpType::kCreate:
      return out + place + " =" + number + " (" + FileKindName(kind) + ")";
    case OpType::kLink:
      return out + number + " ->" + place;
    case OpType::kUnlink:
    case OpType::kRmdir:
      return out + place;
    case OpType::kRename:
      return out + place + " -> " + Place(new_parent, new_name);
    case OpType::kExtents:
      out += number + ":";
      for (const Extent& extent : extents) {
        out += " " + std::to_string(extent.start) + "+" +
               std::to_string(extent.count);
      }
      return out;
    case OpType::kSize:
      return out + number + ": " + std::to_string(size) + " bytes";
    case OpType::kTrim:
      return out + number + ": " + std::to_string(size) + " blocks";
    case OpType::kMtime:
      return out + number + ": " + std::to_string(mtime_us) + " us";
    case OpType::kNextIno:
      return out + number;
    case OpType::kSegment:
      return out + number + ": from byte " + std::to_string(segment.logical) +
             " on at " + std::to_string(segment.position);
    case OpType::kLogEnd:
      return out + number + ": " + std::to_string(log_end.logical) +
             " bytes up to " + std::to_string(log_end.position) +
             (closed ? ", closed" : "");
  }
  return out;
}

const char* OpTypeName(OpType type) {
  switch (type) {
    case OpType::kMkdir:
      return "mkdir";
    case OpType::kCreate:
      return "create";
    case OpType::kLink:
      return "link";
    case OpType::kUnlink:
      return "unlink";
    case OpType::kRmdir:
      return "rmdir";
    case OpType::kRename:
      return "rename";
    case OpType::kExtents:
      return "extents";
    case OpType::kSize:
      return "size";
    case OpType::kTrim:
      return "trim";
    case OpType::kMtime:
      return "mtime";
    case OpType::kNextIno:
      return "next_ino";
    case OpType::kSegment:
      return "segment";
    case OpType::kLogEnd:
      return "log_end";
  }
  return "unknown";
}

}  // namespace diofs
