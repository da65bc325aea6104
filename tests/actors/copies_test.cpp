#include "copies.hpp"

using namespace troupe;
using namespace std::chrono_literals;

namespace {

bool is(const caf::error& err, ec code) {
  return err == caf::make_error(code);
}

using ids = std::vector<std::vector<uint32_t>>;

struct two_gpus : test::copies {};

struct three_gpus : test::copies {
  three_gpus() : copies{3} {}
};

/// Copies of two GPUs each, as tensor_parallel_degree=2 asks for.
struct pairs_of_gpus : test::copies {
  pairs_of_gpus() : copies{4, 2} { chosen = true; }
};

} // namespace

TEST_CASE_METHOD(two_gpus, "a model has a copy on each GPU, and all say the same",
                 "[actors][copies]") {
  start();
  CHECK(workers() == ids{{1}, {2}});
  CHECK(status().groups[1].device == 1);
  CHECK(status().state == model_state::ready);
  CHECK(*room[0] == 0);
  auto texts = undisturbed(12, 20);
  CHECK(steps[1] == 0); // One is enough for one request at a time.
  auto all = put_all(12, 20);
  run_until([&] { return numbers().running.value() == 12; });
  CHECK(numbers().running.value() == 12); // Eight places each.
  run();
  check_all(all, texts);
  CHECK(steps[1] > 0);
}

TEST_CASE_METHOD(two_gpus, "copies load one after the other unless they may side by side",
                 "[actors][copies]") {
  spec.registered.parallel_loading = GENERATE(false, true);
  bool others_serve = false;
  planned = [&](size_t place) {
    if (place == 1)
      others_serve = numbers().epoch.value() > 0;
  };
  start();
  CHECK(others_serve == !spec.registered.parallel_loading);
  CHECK(workers() == ids{{1}, {2}}); // Told when all are there.
}

TEST_CASE_METHOD(two_gpus, "a queue of all copies is full when all of their places are taken",
                 "[actors][copies]") {
  spec.queue_limit = 0;
  start();
  auto all = put_all(17, 20);
  run();
  CHECK(is(all.back()->failure(), ec::queue_full));
  all.pop_back();
  for (auto& seen : all)
    CHECK(seen->complete());
}

TEST_CASE_METHOD(three_gpus, "20 streams notice nothing of scaling up and down",
                 "[actors][copies]") {
  start();
  auto texts = undisturbed(20, 40);
  auto all = put_all(20, 40);
  run_until([&] { return all[19]->tokens().size() == 3; });
  begin_to_scale(0, 0, {1});
  run_until([&] { return all[0]->tokens().size() == 8; });
  begin_to_scale(1, 1, {1});
  begin_to_scale(0, 0, {0, 2}); // The last one that serves stays until the new one does.
  run_until([&] { return all[0]->tokens().size() == 16; });
  begin_to_scale(1, 1);
  auto late = put(request(prompt_of(3), 40));
  run();
  check_all(all, texts);
  CHECK(late->text() == texts[3]);
  CHECK(status().state == model_state::ready);
  for (size_t i = 0; i < 3; ++i)
    CHECK(workers()[i].size() == 1);
}

TEST_CASE_METHOD(two_gpus, "a copy that leaves finishes its streams and gives its memory back",
                 "[actors][copies]") {
  start();
  auto texts = undisturbed(4, 40);
  auto all = put_all(4, 40);
  run_until([&] { return all[3]->tokens().size() == 3; });
  begin_to_scale(0, 0, {1});
  run_until([&] { return all[3]->tokens().size() == 10; });
  auto before = steps[1];
  run();
  check_all(all, texts);
  CHECK(steps[1] > before);
  CHECK(*room[1] == 1);
  CHECK(workers() == ids{{1}, {}});
  CHECK(status().groups[1].max_workers == 0);
  CHECK(status().state == model_state::ready);
  REQUIRE(scale(1, 1, {1}));
  CHECK(workers() == ids{{1}, {3}}); // Ids are not used again.
}

TEST_CASE_METHOD(two_gpus, "a copy that leaves is called back, and one that ends makes room first",
                 "[actors][copies]") {
  start();
  auto all = put_all(4, 40);
  run_until([&] { return all[3]->tokens().size() == 3; });
  begin_to_scale(0, 0, {1});
  run_until([&] { return all[3]->tokens().size() == 6; });
  begin_to_scale(1, 1, {1});
  run();
  CHECK(workers() == ids{{1}, {2}});
  begin_to_scale(0, 0, {1}); // Nobody is there, so it ends at once,
  begin_to_scale(1, 1, {1}); // and there is no memory before it has ended.
  run();
  CHECK(workers() == ids{{1}, {3}});
  CHECK(status().state == model_state::ready);
}

TEST_CASE_METHOD(two_gpus, "a stream that a leaving copy cannot finish in time goes on elsewhere",
                 "[actors][copies]") {
  start();
  auto slow = request(prompt_of(1), 400);
  slow.params.top_n = 40; // Heavy events: soon nobody reads as fast.
  slow.read_timeout_ms = 0;
  auto text = generate(slow)->text();
  auto first = put(slow, false);
  auto second = put(slow, false); // On the other copy.
  run();
  auto told = second->tokens().size();
  REQUIRE(!second->complete());
  REQUIRE(scale(0, 0, {1}));
  REQUIRE(status().groups[1].workers.size() == 1);
  CHECK(status().groups[1].workers[0].state == worker_state::unloading);
  advance(std::chrono::milliseconds{leaving_copy_ms});
  CHECK(status().groups[1].workers.empty());
  CHECK(*room[1] == 1);
  CHECK(second->tokens().size() <= told + 1); // Parked still.
  for (auto& seen : {first, second}) {
    seen->grants = true;
    caf::anon_send(seen->request, credit_atom_v, static_cast<uint32_t>(seen->weight()));
  }
  run();
  CHECK(first->text() == text);
  CHECK(second->text() == text);
  check_clean();
}

TEST_CASE_METHOD(two_gpus, "one copy more than there is memory for is refused, and nothing changes",
                 "[actors][copies]") {
  start();
  auto refused = scale(2, 2, {1});
  CHECK(is(refused.error(), ec::out_of_memory));
  CHECK(workers() == ids{{1}, {2}});
  CHECK(status().groups[1].max_workers == 1);
  CHECK(status().state == model_state::ready);
  *room[1] = 1;
  auto done = scale(2, 2, {1});
  REQUIRE(done);
  CHECK(workers() == ids{{1}, {2, 4}});
  CHECK(done->front().groups[1].min_workers == 2);
  CHECK(generate(request("more", 4))->complete());
}

TEST_CASE_METHOD(two_gpus, "a further copy that cannot load leaves the model short of it",
                 "[actors][copies]") {
  *room[1] = 2;
  start();
  on[1]->load_fault = [](uint32_t) {
    return caf::make_error(ec::bad_model, std::string{"the file is gone"});
  };
  REQUIRE(scale(2, 2, {1}));
  CHECK(workers() == ids{{1}, {2}});
  CHECK(status().state == model_state::degraded);
  CHECK(status().problem == "the file is gone");
  CHECK(generate(request("served", 4))->complete());
  on[1]->load_fault = nullptr;
  REQUIRE(scale(2, 2, {1}));
  CHECK(status().state == model_state::ready);
  CHECK(status().problem.empty());
}

TEST_CASE_METHOD(two_gpus, "a first load without room for every copy fails", "[actors][copies]") {
  *room[1] = 0;
  engine = spawn_engine(sys, metrics, settings);
  CHECK(is(load(spec).error(), ec::out_of_memory));
  CHECK(status().state == model_state::failed);
  CHECK(*room[0] == 1);
}

TEST_CASE_METHOD(two_gpus, "devices that a model is not for are refused", "[actors][copies]") {
  start();
  auto gpu = scale(1, 1, {7});
  CHECK(is(gpu.error(), ec::bad_option));
  CHECK(text_of(gpu.error()).find("is for the GPUs 0, 1 (load_on_devices), not for device 7") !=
        std::string::npos);
  CHECK(is(scale(1, 1, {-1}).error(), ec::bad_option));
  CHECK(status().registered.on_devices.empty());
}

TEST_CASE_METHOD(two_gpus, "without a worker anywhere a model is stopped, device by device",
                 "[actors][copies]") {
  start();
  REQUIRE(scale(0, 0, {0}));
  CHECK(status().state == model_state::ready);
  REQUIRE(scale(0, 0, {1}));
  CHECK(status().state == model_state::stopped);
  CHECK(status().groups.size() == 2);
  CHECK(is(generate(request("none", 1))->failure(), ec::no_workers));
  CHECK(*room[0] == 1);
  CHECK(*room[1] == 1);
  REQUIRE(scale(1, 1, {1}));
  CHECK(workers() == ids{{}, {1}});
  CHECK(*room[0] == 1); // The plan's claim is gone, too.
  CHECK(generate(request("one", 3))->complete());
  CHECK(steps[0] == 0);
  REQUIRE(scale(1, 1));
  CHECK(workers() == ids{{2}, {1}});
}

TEST_CASE_METHOD(two_gpus, "copies beyond the minimum end after a rest and come back for a crowd",
                 "[actors][copies]") {
  spec.registered.max_idle_seconds = 60;
  start();
  REQUIRE(scale(0, 1));
  CHECK(workers() == ids{{1}, {2}}); // Within the limits, so nothing changes at once.
  generate(request("a", 3));
  advance(59s);
  CHECK(workers() == ids{{1}, {2}});
  advance(2s);
  CHECK(workers() == ids{{1}, {}}); // The last one stays.
  advance(10min);
  CHECK(workers() == ids{{1}, {}});
  CHECK(*room[1] == 1);
  auto texts = undisturbed(20, 20);
  const auto before = steps[1];
  auto all = put_all(20, 20); // More than a copy takes.
  run();
  check_all(all, texts);
  CHECK(workers() == ids{{1}, {3}});
  CHECK(steps[1] >= before + 20); // It has taken over some of those that waited.
  advance(61s);
  CHECK(workers() == ids{{1}, {}});
}

TEST_CASE_METHOD(two_gpus, "a copy that was busy lately stays", "[actors][copies]") {
  spec.registered.max_idle_seconds = 60;
  spec.registered.gpu_min_workers = 0;
  spec.registered.gpu_max_workers = 1;
  start();
  CHECK(workers() == ids{{1}, {}}); // No more than needed, from the beginning.
  auto all = put_all(9, 20);
  run();
  REQUIRE(workers() == ids{{1}, {2}});
  advance(50s);
  put_all(2, 20);
  run();
  advance(50s);
  CHECK(workers() == ids{{1}, {2}});
  advance(20s);
  CHECK(workers() == ids{{1}, {}});
}

TEST_CASE_METHOD(pairs_of_gpus, "copies of several GPUs are counted together", "[actors][copies]") {
  SECTION("by default each group has one") {
    start();
    CHECK(workers() == ids{{1}, {2}});
    CHECK(status().groups[1].device == 2);
    CHECK(status().groups[1].devices == std::vector<int32_t>{2, 3});
    CHECK(status().registered.max_workers == 2);
  }
  SECTION("maxWorkers is an upper bound") {
    spec.registered.gpu_max_workers = 1;
    start();
    CHECK(workers() == ids{{1}, {}});
    REQUIRE(scale(2, 2));
    CHECK(workers() == ids{{1}, {2}});
    REQUIRE(scale(0, 0, {1})); // Any GPU names its group.
    CHECK(workers() == ids{{}, {2}});
  }
}

TEST_CASE_METHOD(two_gpus, "calls without rolling batch run in the batches of each copy",
                 "[actors][copies][calls]") {
  spec.call_batch = 1;
  start();
  auto call = [&](std::string id) {
    auto r = request("abc", 30);
    r.id = std::move(id);
    return put(std::move(r));
  };
  auto first = call("a");
  auto second = call("b");
  auto third = call("c");
  auto also_second = call("b");
  run_until([&] { return first->tokens().size() == 4; });
  CHECK(!second->tokens().empty());
  CHECK(!also_second->tokens().empty()); // One call, one batch.
  CHECK(third->tokens().empty());
  run();
  for (auto& seen : {first, second, third, also_second})
    CHECK(seen->text() == first->text());
  CHECK(first->complete());
}
