troupe_test(interfaces_test SOURCES interfaces_test.cpp LINKS troupe_step)
