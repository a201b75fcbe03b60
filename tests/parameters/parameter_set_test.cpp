// SPDX-FileCopyrightText: The dpopt authors
// SPDX-License-Identifier: Apache-2.0
#include "dpopt/parameters/parameter_set.hpp"

#include "support/catch.hpp"

#include <algorithm>
#include <array>
#include <list>
#include <memory>
#include <span>
#include <string>
#include <vector>

using namespace dpopt;

namespace {

// A view of the user's own: other member types, and the name in a std::string.
struct my_tensor {
  using value_type = float;
  std::string name;
  std::vector<float>& storage;
  std::span<float> value{storage};
  std::span<float> gradient{};
};

using views = std::vector<parameter_view<double>>;

} // namespace

TEST_CASE("a set keeps order, names, values and sizes") {
  std::array<double, 4> a{};
  std::array<double, 2> b{};
  std::array<double, 2> gradient_of_b{};
  const parameter_set<double> set(views{{"first", a}, {"second", b, gradient_of_b}});
  CHECK_NOTHROW(set.validate());
  REQUIRE(set.count() == 2);
  CHECK(set[0].name == "first");
  CHECK(set[0].size() == 4);
  CHECK(set[0].value.data() == a.data());
  CHECK(set[0].gradient.empty());
  CHECK(set[1].name == "second");
  CHECK(set[1].gradient.data() == gradient_of_b.data());
  const std::vector<parameter_info> infos = set.infos();
  REQUIRE(infos.size() == 2);
  CHECK(infos[0].name == "first");
  CHECK(infos[0].size == 4);
  CHECK(infos[1].name == "second");
  CHECK(infos[1].size == 2);
}

TEST_CASE("names are copied: the caller's strings may die") {
  std::array<double, 1> a{};
  auto name = std::make_unique<std::string>("a name that is too long to be kept inside a string object");
  const parameter_set<double> set(views{{*name, a}});
  std::fill(name->begin(), name->end(), '?');
  name.reset();
  CHECK(set[0].name == "a name that is too long to be kept inside a string object");
  CHECK(set.infos()[0].name == set[0].name);
}

TEST_CASE("any range of any type with the members of a view will do") {
  std::vector<float> storage(3, 1.0F);
  std::list<my_tensor> tensors;
  tensors.push_back({.name = "mine", .storage = storage});
  const parameter_set<float> set(tensors);
  CHECK_NOTHROW(set.validate());
  CHECK(set[0].name == "mine");
  CHECK(set[0].value.data() == storage.data());
}

TEST_CASE("scalar parameters and parameters without elements are parameters") {
  std::array<double, 1> scalar{};
  const parameter_set<double> set(views{{"scalar", scalar}, {"nothing", {}}});
  CHECK_NOTHROW(set.validate());
  CHECK(set[0].size() == 1);
  CHECK(set[1].size() == 0);
}

TEST_CASE("construction does not throw on bad content, validate() does") {
  std::array<double, 3> a{};
  std::array<double, 3> b{};
  std::array<double, 2> short_gradient{};
  SECTION("no parameter at all") {
    const parameter_set<double> set(views{});
    CHECK_THROWS_AS(set.validate(), invalid_argument);
    CHECK_THROWS_WITH(set.validate(), "parameters: the list is empty; give at least one parameter");
  }
  SECTION("an empty name") {
    const parameter_set<double> set(views{{"a", a}, {"", b}});
    CHECK_THROWS_AS(set.validate(), invalid_argument);
    CHECK_THROWS_WITH(set.validate(), "parameters: a name is empty; bounds and errors go by name");
  }
  SECTION("one name for two parameters") {
    const parameter_set<double> set(views{{"layer", a}, {"layer", b}});
    CHECK_THROWS_AS(set.validate(), invalid_argument);
    CHECK_THROWS_WITH(set.validate(), "parameters: two are named 'layer'; give each its own name");
  }
  SECTION("a gradient of another size") {
    const parameter_set<double> set(views{{"layer", a, short_gradient}});
    CHECK_THROWS_AS(set.validate(), invalid_argument);
    CHECK_THROWS_WITH(set.validate(),
                      "parameter 'layer': gradient holds 2 elements and value 3; give equal sizes or no "
                      "gradient");
  }
}
