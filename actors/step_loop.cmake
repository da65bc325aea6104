# The step loop: a scheduler and the shards it drives.
troupe_library(troupe_step_loop
  SOURCES scheduler.cpp shard.cpp
  LINKS troupe_scheduling troupe_telemetry troupe_step)
