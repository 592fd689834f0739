#include "catalog/edit.h"

#include <gtest/gtest.h>

namespace millstream {
namespace {

Node Yaml(const std::string& text) {
  Faults faults;
  Node node = ParseYaml(text, "", faults);
  EXPECT_TRUE(faults.empty());
  return node;
}

const char* kRoot =
    "streams: {orders: {}}\npipelines:\n  p:\n    from: orders\n    filters:\n      - a: one\n      - b: "
    "two\n"
    "      - c: {exec: {command: [cat]}}\n    to: [drop]\n";

std::string Order(const Result<Node>& root) {
  if (!root) return root.error().message();
  std::string names;
  if (const Node* filters = root->Find("pipelines")->Find("p")->Find("filters"))
    for (const Node& entry : filters->items)
      names += entry.members[0].first + "=" + entry.members[0].second.scalar + " ";
  return names;
}

TEST(Edit, FiltersAreAddedChangedMovedAndRemoved) {
  Node root = Yaml(kRoot);
  EXPECT_EQ(Order(EditFilter(root, {"p", "b", ScalarNode("three"), "", "", false})), "a=one b=three c= ");
  EXPECT_EQ(Order(EditFilter(root, {"p", "d", ScalarNode("new"), "", "", true})), "a=one b=two c= d=new ");
  EXPECT_EQ(Order(EditFilter(root, {"p", "d", ScalarNode("new"), "a", "", true})), "d=new a=one b=two c= ");
  EXPECT_EQ(Order(EditFilter(root, {"p", "d", ScalarNode("new"), "", "a", true})), "a=one d=new b=two c= ");
  EXPECT_EQ(Order(EditFilter(root, {"p", "a", std::nullopt, "", "c", false})), "b=two c= a=one ");
  EXPECT_EQ(Order(EditFilter(root, {"p", "c", std::nullopt, "a", "", false})), "c= a=one b=two ");
  EXPECT_EQ(Order(RemoveFilter(root, "p", "b")), "a=one c= ");
  EXPECT_EQ(Order(EditFilter(root, {"p", "a", ScalarNode("x"), "", "", true})),
            "pipeline p has a filter 'a' already; `filter set` changes it");
  EXPECT_EQ(Order(EditFilter(root, {"q", "a", ScalarNode("x"), "", "", false})), "no pipeline 'q'");
  EXPECT_EQ(Order(EditFilter(root, {"p", "a", std::nullopt, "", "zz", false})), "no filter 'zz'");
  EXPECT_EQ(Order(RemoveFilter(root, "p", "zz")), "no filter 'zz'");
}

TEST(Edit, ItemsComeAndGo) {
  Node root = Yaml(kRoot);
  auto added = EditItem(root, "sources", "s", Yaml("{from: {file: x}, to: orders}"));
  ASSERT_TRUE(added);
  EXPECT_NE(FindPath(*added, "sources.s"), nullptr);
  auto removed = EditItem(*added, "pipelines", "p", std::nullopt);
  ASSERT_TRUE(removed);
  EXPECT_EQ(FindPath(*removed, "pipelines.p"), nullptr);
  EXPECT_EQ(EditItem(root, "pipelines", "pp", std::nullopt).error().message(), "no pipeline 'pp'");
}

TEST(Edit, ProgramsAreThoseThatFilesName) {
  Node root = Yaml(kRoot);
  EXPECT_EQ(UnknownPrograms(root, {}), std::vector<std::string>{"pipelines.p.filters.c"});
  EXPECT_TRUE(UnknownPrograms(root, {&root}).empty());
  auto other = EditFilter(root, {"p", "c", Yaml("{exec: {command: [rm]}}"), "", "", false});
  EXPECT_EQ(UnknownPrograms(*other, {&root}).size(), 1u);
  EXPECT_NE(EtagOf(*FindPath(root, "pipelines.p.filters.c")),
            EtagOf(*FindPath(*other, "pipelines.p.filters.c")));
}

}  // namespace
}  // namespace millstream
