# Read by RocksDB's Makefile and CMake when this tree is its plugin/dio. Its
# CMake searches this file for one line a variable, with exactly " = " between.
# The sources are checked, and with --fix written, by tests/tidy_test.py.
dio_SOURCES =
dio_CXXFLAGS = -Iplugin/dio
dio_LIBS = uring isal
dio_LDFLAGS = -luring -lisal
dio_FUNC = register_dio_plugin
