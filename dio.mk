# Read by RocksDB's Makefile and CMake when this tree is its plugin/dio. Its
# CMake searches this file for one line a variable, with exactly " = " between.
# The sources are checked, and with --fix written, by tests/tidy_test.py.
dio_SOURCES = dio/background_thread.cc dio/bio.cc dio/block_device.cc dio/buffer_arena.cc dio/buffer_pool.cc dio/dio.cc dio/dio_submit.cc dio/discarder.cc dio/flush_epoch.cc dio/fork_guard.cc dio/geometry.cc dio/inflight_writes.cc dio/io_ring.cc dio/open_device.cc dio/plug.cc dio/read_batch.cc dio/result.cc dio/ring_pool.cc dio/sync_device.cc dio/threads_device.cc dio/uring_device.cc env/crc32c.cc env/extent_allocator.cc env/extent_map.cc env/file_kind.cc env/file_reader.cc env/file_writer.cc env/frame_reader.cc env/free_space.cc env/fsck.cc env/journal.cc env/journal_frame.cc env/journal_recovery.cc env/log_frame.cc env/log_plan.cc env/log_walker.cc env/metadata_op.cc env/mount_table.cc env/namespace.cc env/namespace_prepare.cc env/open_file.cc env/region_header.cc env/rocksdb_async_read.cc env/rocksdb_directory.cc env/rocksdb_file_system.cc env/rocksdb_file_system_options.cc env/rocksdb_loaded_file.cc env/rocksdb_random_access_file.cc env/rocksdb_random_rw_file.cc env/rocksdb_sequential_file.cc env/rocksdb_status.cc env/rocksdb_writable_file.cc env/superblock.cc env/volume.cc env/volume_files.cc env/volume_format.cc env/volume_names.cc env/volume_options.cc plugin/dio_c.cc plugin/dio_uri.cc plugin/register.cc
dio_CXXFLAGS = -Iplugin/dio
dio_LIBS = uring isal
dio_LDFLAGS = -luring -lisal
dio_FUNC = register_dio_plugin
