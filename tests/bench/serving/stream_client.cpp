// Opens many SSE streams against a server and prints when their tokens came, as one JSON object.
// One thread, epoll, and no JSON parsing: the client must cost little beside the server it
// measures.

#include <algorithm>
#include <charconv>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <iterator>
#include <map>
#include <random>
#include <string>
#include <string_view>
#include <vector>

#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

namespace {

using seconds = double;

seconds now() {
  static const auto begin = std::chrono::steady_clock::now();
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
}

[[noreturn]] void die(const std::string& what) {
  std::fprintf(stderr, "stream_client: %s\n", what.c_str());
  std::exit(1);
}

struct arguments {
  int port = 8080;
  int streams = 16;     ///< Requests in all.
  int concurrency = 0;  ///< At most so many at once; 0 = all.
  double gap = 0;       ///< Seconds between two arrivals.
  std::string arrivals; ///< File with the second of each arrival, one a line; sets `streams`.
  int prompt_tokens = 128;
  int new_tokens = 64;
  int vocabulary = 40000;
  unsigned seed = 1;
  std::string model;
  double probe_at = -1; ///< Second at which one request with probe_tokens enters.
  int probe_tokens = 2000;
  double timeout = 600;
};

arguments parse(int argc, char** argv) {
  arguments a;
  std::map<std::string, std::string> given;
  for (int i = 1; i + 1 < argc; i += 2)
    given[argv[i]] = argv[i + 1];
  auto number = [&](const char* name, auto& target) {
    if (auto i = given.find(name); i != given.end()) {
      target = static_cast<std::remove_reference_t<decltype(target)>>(std::atof(i->second.c_str()));
      given.erase(i);
    }
  };
  number("--port", a.port);
  number("--streams", a.streams);
  number("--concurrency", a.concurrency);
  number("--gap", a.gap);
  number("--prompt-tokens", a.prompt_tokens);
  number("--new-tokens", a.new_tokens);
  number("--vocabulary", a.vocabulary);
  number("--seed", a.seed);
  number("--probe-at", a.probe_at);
  number("--probe-tokens", a.probe_tokens);
  number("--timeout", a.timeout);
  auto text = [&](const char* name, std::string& target) {
    if (auto i = given.find(name); i != given.end()) {
      target = i->second;
      given.erase(i);
    }
  };
  text("--model", a.model);
  text("--arrivals", a.arrivals);
  if (!given.empty() || argc % 2 == 0)
    die("unknown or incomplete argument" + (given.empty() ? "" : " " + given.begin()->first) +
        "; known: --port --streams --concurrency --gap --arrivals --prompt-tokens --new-tokens "
        "--vocabulary "
        "--seed --model --probe-at --probe-tokens --timeout");
  return a;
}

struct stream {
  int fd = -1;
  std::string out;
  size_t sent = 0;
  std::string tail; ///< Unfinished end of what came, so that a needle split over reads is found.
  seconds begin = 0;
  std::vector<float> arrivals; ///< Seconds since `begin` of each token.
  int completion_tokens = -1;
  bool is_probe = false;
  bool ok = false;
};

std::string request_text(const arguments& a, int tokens, std::mt19937& random) {
  std::string body = "{\"prompt\":[";
  for (int i = 0; i < tokens; ++i)
    body +=
        (i ? "," : "") + std::to_string(100 + random() % static_cast<unsigned>(a.vocabulary - 100));
  body += "],\"max_tokens\":" + std::to_string(a.new_tokens) +
          ",\"temperature\":0,\"ignore_eos\":true,\"stream\":true,"
          "\"stream_options\":{\"include_usage\":true}";
  if (!a.model.empty())
    body += ",\"model\":\"" + a.model + "\"";
  body += "}";
  return "POST /v1/completions HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
         "Content-Length: " +
         std::to_string(body.size()) + "\r\n\r\n" + body;
}

/// Counts token events in what came; the usage event and [DONE] are not tokens.
void take(stream& s, std::string_view came, seconds at) {
  static constexpr std::string_view event = "data: ";
  s.tail.append(came);
  std::string_view text = s.tail;
  size_t done = 0;
  for (;;) {
    auto begin = text.find(event, done);
    if (begin == std::string_view::npos)
      break;
    auto end = text.find("\n\n", begin);
    if (end == std::string_view::npos)
      break;
    auto content = text.substr(begin + event.size(), end - begin - event.size());
    if (content.starts_with("[DONE]")) {
      s.ok = true;
    } else if (auto usage = content.find("\"completion_tokens\":");
               usage != std::string_view::npos) {
      std::from_chars(content.data() + usage + 20, content.data() + content.size(),
                      s.completion_tokens);
    } else if (content.find("\"text\"") != std::string_view::npos) {
      s.arrivals.push_back(static_cast<float>(at - s.begin));
    }
    done = end + 2;
  }
  s.tail.erase(0, done);
}

double percentile(std::vector<float>& values, double p) {
  if (values.empty())
    return 0;
  auto rank =
      static_cast<size_t>(std::min<double>(std::ceil(p / 100 * values.size()), values.size()));
  auto at = values.begin() + static_cast<std::ptrdiff_t>(rank ? rank - 1 : 0);
  std::nth_element(values.begin(), at, values.end());
  return *at;
}

std::string spread(std::vector<float> values) {
  char text[160];
  std::snprintf(text, sizeof text, R"({"p50": %.3f, "p90": %.3f, "p99": %.3f, "max": %.3f})",
                percentile(values, 50) * 1e3, percentile(values, 90) * 1e3,
                percentile(values, 99) * 1e3, percentile(values, 100) * 1e3);
  return text;
}

} // namespace

int main(int argc, char** argv) {
  auto a = parse(argc, argv);
  rlimit files{};
  getrlimit(RLIMIT_NOFILE, &files);
  files.rlim_cur = files.rlim_max;
  setrlimit(RLIMIT_NOFILE, &files);
  std::vector<seconds> due;
  if (!a.arrivals.empty()) {
    std::ifstream in{a.arrivals};
    for (seconds at = 0; in >> at;)
      due.push_back(at);
    if (due.empty() || !std::is_sorted(due.begin(), due.end()))
      die("no ascending numbers in " + a.arrivals);
    a.streams = static_cast<int>(due.size());
  }
  std::mt19937 random{a.seed};
  std::vector<stream> all(static_cast<size_t>(a.streams + (a.probe_at >= 0 ? 1 : 0)));
  for (auto& s : all) {
    s.is_probe = a.probe_at >= 0 && &s == &all.back();
    s.out = request_text(a, s.is_probe ? a.probe_tokens : a.prompt_tokens, random);
    s.arrivals.reserve(static_cast<size_t>(a.new_tokens) + 2);
  }
  int epoll = epoll_create1(0);
  size_t opened = 0, running = 0, finished = 0, failed = 0;
  bool probe_sent = a.probe_at < 0;
  const auto ordinary = static_cast<size_t>(a.streams);
  const auto limit = a.concurrency > 0 ? static_cast<size_t>(a.concurrency) : all.size();
  const auto begin = now();
  seconds probe_begin = 0, probe_first = 0;

  auto open = [&](stream& s) {
    s.fd = socket(AF_INET, SOCK_STREAM, 0);
    int one = 1;
    setsockopt(s.fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_port = htons(static_cast<uint16_t>(a.port));
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    if (connect(s.fd, reinterpret_cast<sockaddr*>(&address), sizeof address) != 0)
      die(std::string{"cannot connect: "} + std::strerror(errno));
    fcntl(s.fd, F_SETFL, O_NONBLOCK);
    s.begin = now();
    epoll_event e{};
    e.events = EPOLLIN | EPOLLOUT;
    e.data.ptr = &s;
    epoll_ctl(epoll, EPOLL_CTL_ADD, s.fd, &e);
    ++running;
  };
  auto close_stream = [&](stream& s) {
    close(s.fd);
    s.fd = -1;
    --running;
    ++finished;
    if (!s.ok)
      ++failed;
  };

  std::vector<epoll_event> events(1024);
  std::vector<char> buffer(256 * 1024);
  std::string first_error;
  while (finished < all.size()) {
    auto elapsed = now() - begin;
    if (elapsed > a.timeout)
      die("not finished after " + std::to_string(a.timeout) + " s");
    while (opened < ordinary && running < limit &&
           elapsed >= (due.empty() ? static_cast<double>(opened) * a.gap : due[opened]))
      open(all[opened++]);
    if (!probe_sent && elapsed >= a.probe_at) {
      probe_sent = true;
      open(all.back());
      probe_begin = now();
    }
    bool waits = (opened < ordinary && running < limit) || !probe_sent;
    int n = epoll_wait(epoll, events.data(), static_cast<int>(events.size()), waits ? 1 : 100);
    auto at = now();
    for (int i = 0; i < n; ++i) {
      auto& s = *static_cast<stream*>(events[static_cast<size_t>(i)].data.ptr);
      if (s.fd < 0)
        continue;
      if (s.sent < s.out.size()) {
        auto wrote = send(s.fd, s.out.data() + s.sent, s.out.size() - s.sent, MSG_NOSIGNAL);
        if (wrote > 0)
          s.sent += static_cast<size_t>(wrote);
        if (s.sent == s.out.size()) {
          epoll_event e{};
          e.events = EPOLLIN;
          e.data.ptr = &s;
          epoll_ctl(epoll, EPOLL_CTL_MOD, s.fd, &e);
        }
      }
      auto got = recv(s.fd, buffer.data(), buffer.size(), 0);
      if (got > 0) {
        take(s, {buffer.data(), static_cast<size_t>(got)}, at);
        if (s.is_probe && probe_first == 0 && !s.arrivals.empty())
          probe_first = at;
        if (s.arrivals.empty() && first_error.empty() &&
            s.tail.find(" 200 ") == std::string::npos && s.tail.size() > 12)
          first_error = s.tail.substr(0, 400);
        if (s.ok)
          close_stream(s);
      } else if (got == 0 || (errno != EAGAIN && errno != EWOULDBLOCK)) {
        close_stream(s);
      }
    }
  }
  const auto elapsed = now() - begin;

  std::vector<float> first, gaps, gaps_during;
  size_t tokens = 0;
  double last_first = 0, first_end = 1e30;
  size_t decode_tokens = 0;
  for (auto& s : all) {
    if (s.is_probe || s.arrivals.empty())
      continue;
    tokens +=
        s.completion_tokens > 0 ? static_cast<size_t>(s.completion_tokens) : s.arrivals.size();
    first.push_back(s.arrivals.front());
    last_first = std::max<double>(last_first, s.begin + s.arrivals.front());
    first_end = std::min<double>(first_end, s.begin + s.arrivals.back());
    for (size_t i = 1; i < s.arrivals.size(); ++i) {
      auto when = s.begin + s.arrivals[i];
      auto gap = s.arrivals[i] - s.arrivals[i - 1];
      (probe_first > 0 && when > probe_begin && when <= probe_first ? gaps_during : gaps)
          .push_back(gap);
    }
  }
  for (auto& s : all)
    for (auto t : s.arrivals)
      if (!s.is_probe && s.begin + t > last_first && s.begin + t <= first_end)
        ++decode_tokens;
  rusage use{};
  getrusage(RUSAGE_SELF, &use);
  auto cpu = static_cast<double>(use.ru_utime.tv_sec + use.ru_stime.tv_sec) +
             static_cast<double>(use.ru_utime.tv_usec + use.ru_stime.tv_usec) * 1e-6;
  std::printf(
      "{\"streams\": %zu, \"failed\": %zu, \"tokens\": %zu, \"seconds\": %.4f, "
      "\"tokens_per_s\": %.1f, \"decode_tokens_per_s\": %.1f, \"all_first_tokens_s\": %.4f, "
      "\"ttft_ms\": %s, \"itl_ms\": %s, \"itl_during_probe_ms\": %s, \"probe_ttft_s\": %.4f, "
      "\"client_cpu_s\": %.3f}\n",
      all.size(), failed, tokens, elapsed, static_cast<double>(tokens) / elapsed,
      first_end > last_first ? static_cast<double>(decode_tokens) / (first_end - last_first) : 0,
      last_first - begin, spread(first).c_str(), spread(gaps).c_str(), spread(gaps_during).c_str(),
      probe_first > 0 ? probe_first - probe_begin : 0, cpu);
  if (failed)
    std::fprintf(stderr, "stream_client: %zu streams failed; the first said: %s\n", failed,
                 first_error.c_str());
  return failed ? 1 : 0;
}
