troupe_test(interfaces_test SOURCES interfaces_test.cpp LINKS troupe_step)
troupe_test(scheduler_test
  SOURCES scheduler_test.cpp scheduler_ahead_test.cpp scheduler_departure_test.cpp
          scheduler_failure_test.cpp
  LINKS troupe_step_loop)
troupe_test(shard_test SOURCES shard_test.cpp shard_idle_test.cpp LINKS troupe_step_loop)
troupe_test(metrics_test SOURCES metrics_test.cpp LINKS troupe_telemetry)
