// SPDX-FileCopyrightText: The dpopt authors
// SPDX-License-Identifier: Apache-2.0
// A memory resource of the user's: all memory of the device comes from it and goes back to it, and what it refuses
// changes nothing.
#include "support/device_trainer.hpp"

#include "support/catch.hpp"

#include "dpopt/accumulation/integer_grid.hpp"
#include "dpopt/clipping/flat.hpp"
#include "dpopt/clipping/per_layer.hpp"
#include "dpopt/optimizers/sgd.hpp"
#include "support/toy_training.hpp"

#include <cstddef>
#include <map>
#include <memory>
#include <new>
#include <string>
#include <utility>
#include <vector>

using namespace dpopt;
using namespace dpopt::test;
using testing::device_trainer;
using testing::recording_api;

namespace {

/// Counts, and throws at the allocation that a test chooses, as rmm does: a std::bad_alloc that names nothing.
struct counting_memory {
  struct told {
    recording_api device;
    std::map<void*, std::pair<std::size_t, int>> live; // bytes and stream
    isize asked = 0;
    isize refuses = -1;
    bool wrong = false; // something came back otherwise than it was taken
  };
  std::shared_ptr<told> state = std::make_shared<told>();

  void* allocate(std::size_t bytes, int stream) {
    if (state->asked++ == state->refuses) throw std::bad_alloc();
    void* const p = state->device.allocate(bytes, stream, "the user's memory");
    state->live[p] = {bytes, stream};
    return p;
  }
  void deallocate(void* p, std::size_t bytes, int stream) noexcept {
    const auto at = state->live.find(p);
    if (at == state->live.end() || at->second != std::pair(bytes, stream)) {
      state->wrong = true;
      return;
    }
    state->live.erase(at);
    state->device.deallocate(p, bytes, stream);
  }
};

/// The recording device, whose memory is the user's, as cuda_api's is.
class api_with_memory : public recording_api {
public:
  explicit api_with_memory(counting_memory memory) : recording_api(memory.state->device), memory_(std::move(memory)) {}
  [[nodiscard]] void* allocate(std::size_t bytes, int s, cuda::call_site call) {
    return cuda::allocate_from(memory_, bytes, s, call);
  }
  void deallocate(void* p, std::size_t bytes, int s) noexcept { memory_.deallocate(p, bytes, s); }

private:
  counting_memory memory_;
};
static_assert(cuda::MemoryResource<counting_memory, int> && cuda::DeviceApi<api_with_memory>);

const expected_batch scaling{.expected_batch_size = across_ranks{8.0}};
const counter_gaussian no_noise{.noise_multiplier = 0}; // so that a step that was given up leaves nothing to see

/// Of three steps, the second larger than the first.
const microbatches of_step[] = {{{0}}, {{1, 2}}, {{3}}};

/// Trains three steps, making a step again when it failed. Values must stay when one fails. @return the values; empty
/// where the optimizer could not be made.
template <class Clipper>
std::vector<double> train(const Clipper& clipper, const counting_memory& memory, std::string& problem) {
  toy_model<double> model(toy_sizes());
  toy_feeder<double> feeder;
  const auto untouched = model.all_values();
  try {
    device_trainer opt(model.views(), dp_options{}, api_with_memory(memory), clipper, no_noise, scaling,
                       cuda::integer_grid{}, sgd{.learning_rate = 0.1}, cuda::serial{});
    for (isize s = 0; s < 3; ++s) {
      const auto before = model.all_values();
      const isize asked = memory.state->asked;
      try {
        feeder.feed(opt, s, of_step[s]);
        opt.step();
      } catch (const cuda::device_error& e) {
        problem = e.what();
        if (model.all_values() != before) problem += "; values changed";
        feeder.feed(opt, s, of_step[s]);
        opt.step();
      }
      if (s == 2 && memory.state->asked != asked) problem += "; a step without need asked for memory";
    }
  } catch (const error& e) {
    if (model.all_values() != untouched) problem = "values changed; ";
    problem += e.what();
    return {};
  }
  return model.all_values();
}

template <class Clipper>
void check_refusals(const Clipper& clipper) {
  std::string problem;
  const counting_memory all;
  const auto undisturbed = train(clipper, all, problem);
  REQUIRE(problem.empty());
  REQUIRE(all.state->asked > 4);
  CHECK(all.state->live.empty());
  CHECK_FALSE(all.state->wrong);
  CHECK(all.state->device.count(recording_api::kind::allocate) == all.state->asked); // none from elsewhere
  CHECK(all.state->device.live_allocations() == 0);
  isize in_steps = 0;
  for (isize k = 0; k < all.state->asked; ++k) {
    const counting_memory memory;
    memory.state->refuses = k;
    problem.clear();
    const auto values = train(clipper, memory, problem);
    INFO("allocation " << k << ": " << problem);
    CHECK_THAT(problem, contains_text(" (device_") && contains_text(" bytes: std::bad_alloc"));
    CHECK(problem.find("values changed") == std::string::npos);
    CHECK(memory.state->live.empty());
    CHECK_FALSE(memory.state->wrong);
    CHECK(memory.state->device.live_allocations() == 0);
    if (values.empty()) continue;
    ++in_steps;
    const bool same = values == undisturbed;
    CHECK(same);
  }
  CHECK(in_steps > 0);
}

} // namespace

TEST_CASE(
    "all memory of a device is the user's resource's, and whichever allocation it refuses, by name, costs nothing") {
  check_refusals(flat{1.5});
  check_refusals(per_layer{.max_grad_norm = 0.5});
}
