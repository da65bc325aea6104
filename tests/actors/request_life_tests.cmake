troupe_test(request_text_test SOURCES stop_matcher_test.cpp choice_test.cpp parts_test.cpp
            LINKS troupe_actors)
troupe_test(engine_test SOURCES engine_test.cpp registry_test.cpp request_test.cpp search_test.cpp calls_test.cpp
                                failure_test.cpp messages_test.cpp registration_test.cpp copies_test.cpp
                                copies_failure_test.cpp
            LINKS troupe_actors)
troupe_test(remote_engine_test SOURCES remote_engine_test.cpp LINKS troupe_actors caf::io NO_TSAN)
