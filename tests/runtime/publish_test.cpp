#include <catch2/catch.hpp>

#include <sys/socket.h>
#include <unistd.h>

#include <arpa/inet.h>

#include <array>
#include <chrono>
#include <fstream>
#include <random>

#include <caf/io/all.hpp>

#include "troupe/runtime/embed.hpp"

using namespace troupe;
using namespace std::chrono_literals;

namespace {

struct networked : caf::actor_system_config {
  networked() {
    configure(*this);
    configure_network(*this);
    set("scheduler.policy", caf::atom("sharing"));
    set("scheduler.max-threads", 2);
  }
};

/// A published engine with the dummy model, in an actor system of its own.
class publishing {
public:
  publishing() {
    REQUIRE(load_model(system, engine, "dummy", ""));
    auto bound = publish_engine(system, engine, 0);
    REQUIRE(bound);
    port = *bound;
  }
  ~publishing() { stop_engine(engine); }

  networked config;
  caf::actor_system system{config};
  engine_actor engine = start_engine(system);
  uint16_t port = 0;
};

/// A client in another actor system; connected over TCP, as another process would be.
class remote {
public:
  explicit remote(uint16_t port) : engine{remote_engine(system, "127.0.0.1", port)} {}

  /// The error that the engine answers with, or none.
  template <class Answer, class... Ts>
  caf::error answer(Ts&&... xs) {
    caf::scoped_actor self{system};
    caf::error result;
    self->request(*engine, 10s, std::forward<Ts>(xs)...)
        .receive([](const Answer&) {}, [&](caf::error& why) { result = std::move(why); });
    return result;
  }

  bool answers() { return engine && !answer<std::vector<model_status>>(status_atom_v); }

  networked config;
  caf::actor_system system{config};
  caf::expected<engine_actor> engine;
};

int connect_to(uint16_t port) {
  int fd = ::socket(AF_INET, SOCK_STREAM, 0);
  sockaddr_in where{};
  where.sin_family = AF_INET;
  where.sin_port = htons(port);
  where.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  REQUIRE(::connect(fd, reinterpret_cast<sockaddr*>(&where), sizeof where) == 0);
  return fd;
}

ec code_of_engine(const caf::expected<engine_actor>& engine) {
  return engine ? ec::none : code_of(engine.error());
}

} // namespace

TEST_CASE("a published engine answers other processes but lets none of them manage it",
          "[runtime][publish]") {
  publishing here;
  remote there{here.port};
  REQUIRE(there.engine);
  CHECK(there.answers());
  model_spec spec;
  spec.name = "second";
  spec.load.dummy = true;
  CHECK(code_of(there.answer<model_status>(load_atom_v, spec)) == ec::unauthorized);
  CHECK(code_of(there.answer<model_status>(unload_atom_v, std::string{"dummy"})) ==
        ec::unauthorized);
  CHECK(code_of(there.answer<done_atom>(drain_atom_v, uint32_t{0})) == ec::unauthorized);
  caf::anon_send(*there.engine, route_atom_v, std::string{"dummy"}, std::string{});
  CHECK(there.answers());
  caf::anon_send_exit(*there.engine, caf::exit_reason::user_shutdown);
  CHECK(there.answers());
  CHECK(code_of(there.answer<tokenize_answer>(tokenize_request{"nobody", {}})) ==
        ec::model_not_found);
}

TEST_CASE("a port without an engine is refused with an error that says so", "[runtime][publish]") {
  publishing here;
  auto other = here.system.spawn(
      [](event_sink::pointer) -> event_sink::behavior_type { return {[](const event_batch&) {}}; });
  auto answer = here.system.middleman().publish(other, 0, "127.0.0.1");
  REQUIRE(answer);
  remote wrong_kind{*answer};
  CHECK(code_of_engine(wrong_kind.engine) == ec::unreachable);
  REQUIRE(!wrong_kind.engine);
  CHECK(text_of(wrong_kind.engine.error()).find("another kind of actor") != std::string::npos);
  auto wrong_handle =
      wrong_kind.system.middleman().remote_actor<event_sink>("127.0.0.1", here.port);
  CHECK(!wrong_handle);
  remote nobody{1};
  CHECK(code_of_engine(nobody.engine) == ec::unreachable);
  remote right{here.port};
  CHECK(right.answers());
  caf::anon_send_exit(other, caf::exit_reason::user_shutdown);
}

TEST_CASE("a peer of another version is refused", "[runtime][publish]") {
  publishing here;
  networked other;
  other.set("middleman.app-identifiers", std::vector<std::string>{"troupe-0.0"});
  caf::actor_system system{other};
  auto engine = remote_engine(system, "127.0.0.1", here.port);
  CHECK(code_of_engine(engine) == ec::unreachable);
  remote same{here.port};
  CHECK(same.answers());
}

TEST_CASE("malformed bytes cost a peer its connection and nobody else anything",
          "[runtime][publish]") {
  publishing here;
  std::mt19937 random{7};
  for (int round = 0; round < 60; ++round) {
    int fd = connect_to(here.port);
    std::vector<unsigned char> bytes(random() % 400);
    for (auto& byte : bytes)
      byte = static_cast<unsigned char>(random());
    // Some begin like headers of the protocol, so that their payloads are looked at, too.
    if (round % 2 == 0 && bytes.size() > 32) {
      std::fill(bytes.begin(), bytes.begin() + 32, static_cast<unsigned char>(0));
      bytes[0] = static_cast<unsigned char>(round / 2 % 8);
      bytes[7] = static_cast<unsigned char>(bytes.size() - 32);
    }
    CHECK(::send(fd, bytes.data(), bytes.size(), MSG_NOSIGNAL) >= 0);
    ::close(fd);
  }
  remote there{here.port};
  CHECK(there.answers());
}

TEST_CASE("a peer cannot claim memory by announcing long messages", "[runtime][publish]") {
  publishing here;
  auto resident = [] {
    std::ifstream status{"/proc/self/statm"};
    size_t all = 0, pages = 0;
    status >> all >> pages;
    return pages * static_cast<size_t>(::sysconf(_SC_PAGESIZE));
  };
  auto before = resident();
  std::vector<int> peers;
  for (int i = 0; i < 4; ++i) {
    std::array<unsigned char, caf::io::basp::header_size> header{};
    header[0] = 0x02;                                                     // a direct message
    std::fill_n(header.begin() + 4, 4, static_cast<unsigned char>(0x7f)); // of 2 GiB
    std::fill_n(header.begin() + 24, 8, static_cast<unsigned char>(1));
    peers.push_back(connect_to(here.port));
    CHECK(::send(peers.back(), header.data(), header.size(), MSG_NOSIGNAL) == 32);
  }
  remote there{here.port};
  CHECK(there.answers());
  CHECK(resident() < before + (256u << 20));
  for (auto fd : peers)
    ::close(fd);
}

TEST_CASE("an address that cannot be listened on is named", "[runtime][publish]") {
  publishing here;
  auto taken = publish_engine(here.system, here.engine, here.port);
  REQUIRE(!taken);
  CHECK(code_of(taken.error()) == ec::bad_option);
  CHECK(text_of(taken.error()).find("127.0.0.1:" + std::to_string(here.port)) != std::string::npos);
  CHECK(!publish_engine(here.system, here.engine, 0, "203.0.113.7"));
  struct offline : caf::actor_system_config {
    offline() { configure(*this); }
  } config;
  caf::actor_system alone{config};
  auto engine = start_engine(alone);
  auto refused = publish_engine(alone, engine, 0);
  CHECK((!refused && text_of(refused.error()).find("configure_network") != std::string::npos));
  stop_engine(engine);
}
