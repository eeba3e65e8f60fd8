// Routes, origins, methods and parts of files, without a network; tests/serve/e2e asks a server that runs.
#include "serve/http_server.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <thread>

#include "base/error.h"
#include "serve/connection_threads.h"

namespace heartmula {
namespace {

using testing::HasSubstr;

class Http : public testing::Test {
 protected:
  HttpServer make(HttpSettings settings = {}) {
    std::vector<Route> routes;
    routes.push_back(
        {.method = "GET", .path = "/things/{id}", .name = "get", .help = {}, .handler = [](const Call& call) {
           return Answer::json({{"id", call.id()}, {"owner", call.owner}});
         }});
    routes.push_back({.method = "POST",
                      .path = "/things",
                      .name = "post",
                      .help = {},
                      .body = {{"type", "object"}},
                      .handler = [](const Call&) -> Answer { throw user_error("no thing"); }});
    routes.push_back(
        {.method = "GET", .path = "/broken", .name = "broken", .help = {}, .handler = [](const Call&) -> Answer {
           throw std::runtime_error("inner secret");
         }});
    return HttpServer(settings, std::move(routes),
                      {.admit =
                           [](const Route&, Call& call) {
                             if (call.header("authorization") == "bad") throw HttpError(401, "no");
                             call.owner = "me";
                           },
                       .answered = [this](const Route*, const Call&, int status) { statuses.push_back(status); }});
  }
  static Call call(const std::string& method, const std::string& path) {
    Call made = {.method = method, .path = {{"path", path}}, .headers = {{"host", "localhost:8080"}}};
    made.body_type = "application/json";
    return made;
  }

  std::vector<int> statuses;
};

TEST_F(Http, finds_the_route_and_its_parts) {
  const HttpServer server = make();
  EXPECT_EQ(server.answer(call("GET", "/things/7")).body, "{\"id\":\"7\",\"owner\":\"me\"}\n");
  EXPECT_EQ(server.answer(call("GET", "/nothing")).status, 404);
  const Answer refused = server.answer(call("PUT", "/things/7"));
  EXPECT_EQ(refused.status, 405);
  EXPECT_THAT(refused.headers, testing::Contains(testing::Pair("Allow", "GET")));
  EXPECT_THAT(statuses, testing::ElementsAre(200, 404, 405));
}

TEST_F(Http, errors_are_one_line_of_json_and_tell_nothing_of_the_inside) {
  const HttpServer server = make();
  EXPECT_EQ(server.answer(call("POST", "/things")).status, 400);
  EXPECT_EQ(server.answer(call("POST", "/things")).body, "{\"error\":\"no thing\"}\n");
  const Answer broken = server.answer(call("GET", "/broken"));
  EXPECT_EQ(broken.status, 500);
  EXPECT_EQ(broken.body.find("secret"), std::string::npos);
  Call without_key = call("GET", "/things/7");
  without_key.headers["authorization"] = "bad";
  EXPECT_EQ(server.answer(without_key).status, 401);
  Call form = call("POST", "/things");
  form.body_type = "text/plain";  // what another site's page can send unasked
  EXPECT_EQ(server.answer(form).status, 415);
}

TEST_F(Http, answers_to_its_own_pages_and_name_alone) {
  const HttpServer server = make();
  const auto status = [&](const std::string& host, const std::string& origin) {
    Call asked = call("GET", "/things/7");
    asked.headers["host"] = host;
    if (!origin.empty()) asked.headers["origin"] = origin;
    return server.answer(asked).status;
  };
  for (const char* host : {"localhost", "localhost:8080", "127.0.0.1:8080", "[::1]:8080", "studio.localhost:1"}) {
    EXPECT_EQ(status(host, ""), 200) << host;
  }
  for (const char* host : {"evil.example", "127.evil.example", "localhost.evil.example", "", "10.0.0.1:8080"}) {
    EXPECT_EQ(status(host, ""), 403) << host;
  }
  EXPECT_EQ(status("localhost:8080", "http://localhost:8080"), 200);
  for (const char* origin : {"http://evil.example", "null", "http://localhost:9090"}) {
    EXPECT_EQ(status("localhost:8080", origin), 403) << origin;
  }
}

TEST_F(Http, a_named_page_elsewhere_may_call) {
  const HttpServer server = make({.cors_origin = "https://music.example"});
  Call asked = call("GET", "/things/7");
  asked.headers["origin"] = "https://music.example";
  EXPECT_EQ(server.answer(asked).status, 200);
  asked.headers["origin"] = "https://other.example";
  EXPECT_EQ(server.answer(asked).status, 403);
}

TEST_F(Http, ends_however_soon_it_is_stopped) {
  for (int i = 0; i < 100; ++i) {
    HttpServer server = make({.port = 0});
    EXPECT_GT(server.bind(), 0);
    server.start();
    server.stop();
  }
}

TEST(Loopback, is_this_machine_alone) {
  for (const char* here : {"127.0.0.1", "127.1.2.3", "::1", "[::1]", "localhost", "a.localhost"}) {
    EXPECT_TRUE(is_loopback(here)) << here;
  }
  for (const char* there : {"0.0.0.0", "::", "10.0.0.1", "127.example", "127.0.0.1.example", "localhost.example", ""}) {
    EXPECT_FALSE(is_loopback(there)) << there;
  }
}

TEST(ByteRanges, are_parts_of_what_is_there) {
  const auto part = [](const char* header) {
    const auto range = parse_range(header, 100);
    return range ? std::pair(range->begin, range->size) : std::pair<size_t, size_t>(0, 0);
  };
  EXPECT_EQ(part("bytes=0-9"), std::pair(size_t{0}, size_t{10}));
  EXPECT_EQ(part("bytes=90-"), std::pair(size_t{90}, size_t{10}));
  EXPECT_EQ(part("bytes=90-1000"), std::pair(size_t{90}, size_t{10}));
  EXPECT_EQ(part("bytes=-30"), std::pair(size_t{70}, size_t{30}));
  EXPECT_EQ(part("bytes=-300"), std::pair(size_t{0}, size_t{100}));
  for (const char* ignored : {"", "bytes=", "bytes=-", "bytes=5-2", "bytes=a-b", "bytes=0-1,3-4", "lines=0-1",
                              "bytes=1-x", "bytes=99999999999999999999-"}) {
    EXPECT_FALSE(parse_range(ignored, 100)) << ignored;
  }
  for (const char* missing : {"bytes=100-", "bytes=100-200", "bytes=-0"}) {
    EXPECT_THROW(parse_range(missing, 100), HttpError) << missing;
  }
}

TEST(ConnectionThreads, all_work_is_done_with_no_more_threads_than_allowed) {
  std::atomic<int> done{0};
  std::atomic<int> inside{0};
  std::atomic<int> most{0};
  {
    ConnectionThreads threads(3);
    for (int i = 0; i < 50; ++i) {
      threads.run([&] {
        const int now = ++inside;
        for (int seen = most; now > seen && !most.compare_exchange_weak(seen, now);) {
        }
        std::this_thread::yield();
        --inside;
        ++done;
      });
    }
  }
  EXPECT_EQ(done, 50);
  EXPECT_LE(most, 3);
}

}  // namespace
}  // namespace heartmula
