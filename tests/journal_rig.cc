#include "tests/journal_rig.h"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <utility>

#include "dio/buffer_pool.h"
#include "env/file_kind.h"
#include "env/metadata_op.h"

namespace diofs {

Journal::Layout JournalRig::MakeLayout() {
  Journal::Layout layout;
  layout.uuid.fill(0x5a);
  layout.region_bytes = kMinRegionBytes;
  layout.region_offset = {kBlockBytes, kBlockBytes + kMinRegionBytes};
  return layout;
}

JournalRig::JournalRig() : device_(SimDevice::MakeGeometry(kDeviceBytes)) {
  journal_ = std::make_unique<Journal>(&device_, MakeLayout());
  std::string snapshot;
  MetadataOp op;
  op.type = OpType::kNextIno;
  op.ino = 1;
  op.EncodeTo(&snapshot);
  const Result result = journal_->Format({snapshot});
  if (!result.ok()) journal_.reset();
}

JournalRig::JournalRig(std::string image, const Geometry& geometry)
    : device_(std::move(image), geometry) {}

Result JournalRig::Mount(const Journal::RecoveryInput& input) {
  journal_ = std::make_unique<Journal>(&device_, MakeLayout());
  value_ = 0;
  Result result = journal_->Recover(
      input, [this](std::string_view operations) { return Apply(operations); },
      &report_);
  journal_->SetSnapshotSource([this](std::vector<std::string>* chunks) {
    if (before_snapshot) before_snapshot();
    const Lsn lsn = EncodeSnapshot(chunks);
    if (after_snapshot) after_snapshot();
    return lsn;
  });
  return result;
}

Result JournalRig::MountAfterKill() {
  Journal::RecoveryInput input;
  input.same_boot = true;
  return Mount(input);
}

Result JournalRig::MountClean() {
  Journal::RecoveryInput input;
  input.clean_sequence = journal_->next_sequence();
  input.clean_region_nonce = journal_->region_nonce();
  return Mount(input);
}

Lsn JournalRig::Add(size_t padding_bytes) {
  const std::string padding = PaddingOperations(padding_bytes);
  const std::lock_guard<std::mutex> lock(namespace_mutex_);
  std::string transaction;
  MetadataOp op;
  op.type = OpType::kMtime;
  op.ino = ++value_;
  op.EncodeTo(&transaction);
  return journal_->Append(transaction + padding);
}

Result JournalRig::AddAndCommit(CommitLevel level, size_t padding_bytes) {
  const Lsn lsn = Add(padding_bytes);
  ++commits_;
  return journal_->Commit(lsn, level);
}

Lsn JournalRig::EncodeSnapshot(std::vector<std::string>* chunks) {
  const std::lock_guard<std::mutex> lock(namespace_mutex_);
  // An inode number is not 0, so the snapshot of the value says one more.
  std::string snapshot;
  MetadataOp op;
  op.type = OpType::kNextIno;
  op.ino = value_ + 1;
  op.EncodeTo(&snapshot);
  chunks->push_back(snapshot);
  for (size_t done = 0; done < snapshot_padding_bytes;) {
    chunks->push_back(PaddingOperations(
        std::min<size_t>(snapshot_padding_bytes - done, 100000)));
    done += chunks->back().size();
  }
  return journal_->TakeForSnapshot();
}

Result JournalRig::Apply(std::string_view operations) {
  while (!operations.empty()) {
    MetadataOp op;
    Result result = MetadataOp::DecodeFrom(&operations, &op);
    if (!result.ok()) return result;
    if (op.type == OpType::kUnlink) continue;
    if (op.type == OpType::kNextIno) {
      value_ = op.ino - 1;
    } else if (op.ino == value_ + 1) {
      ++value_;
    } else {
      return Result::Error(EUCLEAN, "transaction " + std::to_string(op.ino) +
                                        " behind " + std::to_string(value_));
    }
  }
  return Result::Ok();
}

uint64_t JournalRig::region_offset() const {
  return MakeLayout().region_offset[report_.region];
}

void JournalRig::Poke(uint64_t device_offset, std::string_view bytes) {
  const uint64_t block = device_offset / kBlockBytes * kBlockBytes;
  const size_t span = (device_offset + bytes.size() - block + kBlockBytes - 1) /
                      kBlockBytes * kBlockBytes;
  AlignedBuffer buffer = BufferPool::Get(span);
  Result result = device_.Read(block, buffer.data(), span, kIoClassJournal);
  std::memcpy(buffer.data() + (device_offset - block), bytes.data(),
              bytes.size());
  if (result.ok()) {
    result = device_.Write(block, buffer.data(), span, kIoClassJournal);
  }
  if (result.ok()) result = device_.Flush();
}

std::string JournalRig::Peek(uint64_t device_offset, size_t bytes) {
  return device_.Image().substr(device_offset, bytes);
}

std::string PaddingOperations(size_t bytes) {
  std::string out;
  MetadataOp op;
  op.type = OpType::kUnlink;
  op.parent = 1;
  op.name.assign(200, 'x');
  while (out.size() < bytes) op.EncodeTo(&out);
  return out;
}

}  // namespace diofs
