// What `_control` says of sandboxes is what was written, and the catalog names those that there are.
#include "catalog/sandbox.h"

#include <gtest/gtest.h>

#include "catalog/control.h"

namespace millstream {
namespace {

SandboxRecord Record() {
  SandboxRecord record;
  record.as_of = "orders/0:17";
  record.ends = {{"orders", {{0, 18}, {1, 9}}}, {"_control", {{0, 4}}}};
  record.expires_us = 1'700'000'000'000'000;
  record.disk_bytes = 10ull << 30;
  record.with_files = true;
  return record;
}

ControlEvent Event(ControlKind kind, const std::string& name) {
  ControlEvent event;
  event.kind = kind, event.name = name, event.who = "ann@host", event.when_us = 1'690'000'000'000'000;
  if (kind == ControlKind::kSandboxCreated) event.sandbox = Record();
  return event;
}

TEST(Sandbox, ItsEventReadsBack) {
  const std::string json = Event(ControlKind::kSandboxCreated, "trial").ToJson("ab");
  EXPECT_NE(
      json.find(
          R"("name":"trial","sandbox":{"as_of":"orders/0:17","ends":{"_control":{"0":4},"orders":{"0":18,"1":9}},)"
          R"("expires":"2023-11-14T22:13:20Z","disk":10737418240,"files":true,"allow_exec":false}})"),
      std::string::npos)
      << json;
  auto back = ParseControlEvent(json);
  ASSERT_TRUE(back.has_value()) << back.error().ToString();
  EXPECT_EQ(back->sandbox.ends, Record().ends);
  EXPECT_EQ(back->ToJson("ab"), json);
  std::string damaged = json;
  damaged.replace(damaged.find("2023-11-14"), 4, "soon");
  EXPECT_EQ(ParseControlEvent(damaged).error().code(), Code::kCorrupt);
}

TEST(Sandbox, TheCatalogHasThoseThatThereAre) {
  Catalog catalog;
  auto append = [&](ControlKind kind, const std::string& name) {
    ASSERT_TRUE(catalog.Replay(catalog.Seal(Event(kind, name))).ok());
  };
  append(ControlKind::kSandboxCreated, "one");
  append(ControlKind::kSandboxCreated, "two");
  append(ControlKind::kSandboxCreated, "three");
  append(ControlKind::kSandboxDropped, "one");
  append(ControlKind::kSandboxExpired, "three");
  ASSERT_EQ(catalog.sandboxes().size(), 1u);
  const SandboxRecord& record = catalog.sandboxes().at("two");
  EXPECT_EQ(record.name, "two");
  EXPECT_EQ(record.who, "ann@host");
  EXPECT_EQ(record.created_us, 1'690'000'000'000'000);
  append(ControlKind::kSandboxCreated, "one");
  EXPECT_EQ(catalog.sandboxes().size(), 2u);
}

}  // namespace
}  // namespace millstream
