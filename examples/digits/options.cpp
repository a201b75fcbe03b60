// SPDX-FileCopyrightText: The dpopt authors
// SPDX-License-Identifier: Apache-2.0
#include "options.hpp"

#include <CLI/CLI.hpp>

#include <algorithm>
#include <cmath>
#include <limits>
#include <sstream>
#include <string>

namespace digits {

int options::steps_per_epoch() const noexcept { return std::max(1, static_cast<int>(std::lround(1 / rate))); }

namespace {

/// A number with least <(=) x <= most, the lower end included or not. Refuses NaN, which CLI11's own ranges let pass.
CLI::Validator number(double least, bool least_allowed, double most, const std::string& text) {
  return {[=](std::string& given) -> std::string {
            double x = 0;
            if (!CLI::detail::lexical_cast(given, x)) return "'" + given + "' is not a number";
            const bool above = least_allowed ? x >= least : x > least;
            return above && x <= most ? std::string() : given + " is not " + text;
          },
          "", "number"};
}

constexpr double largest = std::numeric_limits<float>::max();

void describe(CLI::App& app, options& o) {
  const auto positive = number(0, false, largest, "a finite number above 0");
  const auto count = [](double most) { return number(1, true, most, "a whole number from 1 on that fits"); };

  constexpr auto privacy = "Privacy";
  auto* epsilon =
      app.add_option("--target-epsilon", o.target_epsilon, "epsilon of the whole training; chooses the noise")
          ->check(positive)
          ->capture_default_str()
          ->group(privacy);
  app.add_option("--delta", o.delta, "delta of the same guarantee; below 1 / number of images")
      ->check(number(0, false, 0.5, "a number above 0 and at most 0.5"))
      ->capture_default_str()
      ->group(privacy);
  auto* none = app.add_flag("--no-privacy", o.no_privacy, "for comparison: neither clipping nor noise")->group(privacy);
  none->excludes(epsilon);
  auto* seed = app.add_option("--seed", o.seed,
                              "seed of noise and sampling, for a reproducible run that is no private release "
                              "[absent: a secret one from the operating system]")
                   ->check(number(0, true, 18446744073709551615.0, "a whole number from 0 to 2^64 - 1"))
                   ->group(privacy);
  auto* noise = app.add_option("--noise", o.noise,
                               "counter; secure: noise and sampling from a cipher keyed by the operating system; "
                               "hardened: exact discrete noise of that cipher, on a grid of integers")
                    ->check(CLI::IsMember({"counter", "secure", "hardened"}))
                    ->capture_default_str()
                    ->excludes(none)
                    ->group(privacy);
  app.add_flag_callback(
         "--secure-mode", [&o] { o.noise = "secure"; }, "the same as --noise secure")
      ->excludes(seed)
      ->excludes(noise)
      ->group(privacy);
  app.callback([&o] {
    if (o.seed && o.secure_mode())
      throw CLI::ValidationError("--seed", "--noise " + o.noise +
                                               " draws a key of its own; leave --seed out, or take "
                                               "--noise counter");
  });
  app.add_flag("--show-private", o.show_private,
               "also log training loss, clip fraction and batch size, as private_*: no epsilon covers them")
      ->group(privacy);

  constexpr auto training = "Training";
  app.add_option("--epochs", o.epochs, "expected passes over the training images")
      ->check(count(1e6))
      ->capture_default_str()
      ->group(training);
  app.add_option("--rate", o.rate, "probability of each image to take part in a step; 1 / rate steps are an epoch")
      ->check(number(1e-3, true, 1, "a number from 0.001 to 1"))
      ->capture_default_str()
      ->group(training);
  app.add_option("--learning-rate", o.learning_rate, "of Adam; falls linearly to 0 at the last step")
      ->check(positive)
      ->capture_default_str()
      ->group(training);
  app.add_option("--bounds", o.bounds, "largest norm of an image's gradient: one for all layers, or one a layer")
      ->check(positive)
      ->expected(1, 2)
      ->capture_default_str()
      ->group(training);
  app.add_option("--hidden", o.hidden, "width of the hidden layer")
      ->check(count(4096))
      ->capture_default_str()
      ->group(training);
  app.add_option("--init-seed", o.init_seed, "seed of the initial weights, which are public")
      ->check(number(0, true, 18446744073709551615.0, "a whole number from 0 to 2^64 - 1"))
      ->capture_default_str()
      ->group(training);
  app.add_flag("--materialized", o.materialized, "write per-sample gradients out instead of keeping them in factors")
      ->group(training);

  constexpr auto files = "Input and output";
  app.add_option("--data", o.data, "comma-separated digits, compressed or not")->capture_default_str()->group(files);
  app.add_option("--output", o.output, "folder for log.jsonl, plot.png and plot.svg; '' for none")
      ->capture_default_str()
      ->group(files);
  app.add_option("--json", o.json, "also write the last line of the log to this file")->group(files);
  app.add_option("--progress", o.progress, "auto (a bar on a terminal, else lines), bar, lines or none")
      ->check(CLI::IsMember({"auto", "bar", "lines", "none"}))
      ->capture_default_str()
      ->group(files);
  app.add_flag("--quiet", o.quiet, "print nothing but errors and one line at the end")->group(files);
}

} // namespace

std::optional<int> read_options(int argc, char** argv, bool speak, options& chosen) {
  CLI::App app("Trains a classifier of handwritten digits with differential privacy: one image more or less in the\n"
               "training data changes little in what is published. Start it by mpirun -n RANKS to share the work.\n"
               "Accuracy is measured on a fifth of the images, which is never trained on and not protected.\n",
               "digits");
  app.get_formatter()->column_width(34);
  describe(app, chosen);
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& e) {
    std::ostringstream out, err; // every rank parses, one speaks
    const int code = app.exit(e, out, err);
    if (speak) std::cout << out.str() << std::flush;
    if (speak) std::cerr << err.str() << std::flush;
    return code;
  }
  return std::nullopt;
}

} // namespace digits
