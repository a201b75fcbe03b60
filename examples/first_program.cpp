#include <dpopt/dpopt.hpp>
#include <iostream>

int main() {
  std::vector<float> x{1, 2, 2, 1, 3, 1, 0, 1}, y{4, 5, 7, 1}, w(2), per_sample(8); // y = 2 x0 + x1
  std::vector<dpopt::parameter_view<float>> model{{"w", w}};
  dpopt::distributed_per_layer_optimizer optimizer(
      model, dpopt::sgd{.learning_rate = 0.1},
      {.noise_multiplier = 1.0, .max_grad_norm = 1.0, .expected_batch_size = 4});
  for (int step = 0; step < 50; ++step) {
    for (std::size_t i = 0; i < 8; ++i) { // row i / 2 is the gradient of sample i / 2 by itself
      const std::size_t first = i / 2 * 2;
      per_sample[i] = (w[0] * x[first] + w[1] * x[first + 1] - y[i / 2]) * x[i];
    }
    optimizer.begin({.samples = 4});
    optimizer.gradient_ready(0, dpopt::materialized(per_sample.data(), 4, 2));
    optimizer.step(); // clip, sum, reduce, add noise, divide, update, account
  }
  std::cout << "w = " << w[0] << ", " << w[1] << "; " << optimizer.privacy_statement(1e-5) << '\n';
}
