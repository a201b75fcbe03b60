// SPDX-FileCopyrightText: The dpopt authors
// SPDX-License-Identifier: Apache-2.0
#include "dpopt/clipping/per_group.hpp"

#include "support/catch.hpp"

#include <string>
#include <utility>
#include <vector>

using namespace dpopt;

namespace {
const std::vector<parameter_info> parameters = {
    {"conv1.weight", 12}, {"conv1.bias", 3}, {"conv2.weight", 5}, {"fc.weight", 4}, {"scale", 1}};

per_group bound(per_group clipper) {
  clipper.bind(parameters);
  return clipper;
}
std::string by_kind(const parameter_info& p) {
  return p.name.find("bias") != std::string_view::npos ? "biases" : "others";
}
} // namespace

TEST_CASE("groups are given by names and patterns, each with a bound of its own") {
  const per_group clipper = bound({{"convolutions", {"conv?.*"}, 3}, {"head", {"fc.weight", "scale"}, 4}});
  CHECK(clipper.groups() == 2);
  const isize expected[] = {0, 0, 0, 1, 1};
  for (isize p = 0; p < 5; ++p) CHECK(clipper.group_of(p) == expected[p]);
  CHECK(clipper.bound(0) == 3);
  CHECK(clipper.bound(1) == 4);
  CHECK(clipper.rule(0).bound == 3);
  CHECK(clipper.rule(1).bound == 4);
  CHECK(clipper.group_name(0) == "convolutions");
  CHECK(clipper.group_name(1) == "head");
}

TEST_CASE("the sensitivity is the root of the sum of the groups' squared bounds") {
  const per_group clipper = bound({{"convolutions", {"conv*"}, 3}, {"head", {"fc*", "scale"}, 4}});
  CHECK(clipper.sensitivity(neighbouring::add_remove) == 5);
  CHECK(clipper.sensitivity(neighbouring::zero_out) == 5);
  CHECK(clipper.sensitivity(neighbouring::replace_one) == 10);
}

TEST_CASE("a group may list one parameter twice") { CHECK(bound({{"all", {"*", "scale"}, 1}}).groups() == 1); }

TEST_CASE("a function may name the group of each parameter") {
  const per_group clipper = bound({by_kind, {{"biases", 4}, {"others", 3}}});
  CHECK(clipper.groups() == 2);
  CHECK(clipper.group_name(0) == "others"); // in the order of their first parameter
  CHECK(clipper.group_of(1) == 1);
  CHECK(clipper.group_of(4) == 0);
  CHECK(clipper.bound(0) == 3);
  CHECK(clipper.bound(1) == 4);
  CHECK(bound({by_kind, 0.5}).bound(1) == 0.5);
  CHECK(bound({by_kind, {1, 2}}).bound(1) == 2);
}

TEST_CASE("weight and bias of a layer are one group") {
  const per_group clipper = bound(weight_and_bias({{"conv1", 1}, {"conv2", 2}, {"fc", 3}, {"scale", 4}}));
  CHECK(clipper.groups() == 4);
  const isize expected[] = {0, 0, 1, 2, 3};
  for (isize p = 0; p < 5; ++p) CHECK(clipper.group_of(p) == expected[p]);
  CHECK(clipper.bound(3) == 4);
  const std::vector<parameter_info> deep = {{"block.1.weight", 1}, {"block.1.bias", 1}, {"block.2.weight", 1}};
  per_group nested = weight_and_bias(1.0);
  nested.bind(deep);
  CHECK(nested.groups() == 2);
  CHECK(nested.group_name(1) == "block.2");
}

TEST_CASE("a parameter in no group or in two is named in the error") {
  CHECK_THROWS_AS(bound({{"head", {"fc*"}, 1}}), invalid_argument);
  CHECK_THROWS_WITH(bound({{"convolutions", {"conv*"}, 3}, {"head", {"fc*"}, 4}}),
                    "per_group: parameter 'scale' belongs to no group; add a pattern for it");
  CHECK_THROWS_WITH(bound({{"convolutions", {"conv*"}, 3}, {"weights", {"*.weight"}, 4}, {"rest", {"scale"}, 1}}),
                    "per_group: parameter 'conv1.weight' belongs to groups 'convolutions' and 'weights'; make their "
                    "patterns disjoint");
  CHECK_THROWS_WITH(bound({[](const parameter_info&) { return std::string(); }, 1.0}),
                    "per_group: parameter 'conv1.weight' was given no group; name one");
}

TEST_CASE("a group without parameters, given twice or without a bound is named in the error") {
  CHECK_THROWS_WITH(bound({{"all", {"*"}, 1}, {"head", {"hed*"}, 2}}),
                    "per_group: no parameter belongs to group 'head'; correct its patterns or remove it");
  CHECK_THROWS_WITH(bound({{"all", {"conv*"}, 1}, {"all", {"*"}, 2}}),
                    "per_group: group 'all' is given twice; put its patterns in one");
  CHECK_THROWS_WITH(bound({{"all", {"*"}, 0}}), "max_grad_norm of group 'all' is 0; give a finite bound above 0");
  CHECK_THROWS_WITH(bound({{"all", {"*"}}}), "max_grad_norm of group 'all' is nan; give a finite bound above 0");
  CHECK_THROWS_AS(bound({}), invalid_argument);
  CHECK_THROWS_WITH(bound({}), "per_group: there are no groups; list them or give a function that names them");
  CHECK_THROWS_WITH(bound({by_kind, {{"biases", 4}, {"weights", 3}}}), "max_grad_norm: no group is named 'weights'");
  CHECK_THROWS_WITH(bound({by_kind, {{"biases", 4}}}), "max_grad_norm: no bound for 'others'; add one");
  CHECK_THROWS_WITH(bound({by_kind, {1, 2, 3}}),
                    "max_grad_norm: 3 bounds for 2 groups; give one for all, one each, or name them");
}

TEST_CASE("the description, which ranks compare, holds groups, members and bounds") {
  const auto by_list = bound({{"convolutions", {"conv*"}, 3}, {"rest", {"fc*", "scale"}, 0.1}}).describe();
  CHECK(by_list ==
        "per_group(convolutions: [conv1.weight, conv1.bias, conv2.weight] max_grad_norm=3; rest: [fc.weight, scale] "
        "max_grad_norm=0.1)");
  CHECK(bound({by_kind, 1.0}).describe() !=
        bound(weight_and_bias(1.0)).describe()); // functions are told apart by what they do
}
