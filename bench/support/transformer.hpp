// SPDX-FileCopyrightText: The dpopt authors
// SPDX-License-Identifier: Apache-2.0
/// @file
/// Layers of a transformer encoder in Eigen, normalized before attention and before the two dense layers (four times as
/// wide, ReLU), with a dense layer to 64 classes at each position. Inputs are vectors, as an embedding would give them.
#pragma once

#include "support/attention.hpp"
#include "support/dense.hpp"
#include "support/layer_norm.hpp"

#include <cstddef>
#include <cstdlib>
#include <deque>
#include <optional>
#include <string>

namespace bench {

class transformer {
public:
  struct shape {
    isize layers, width, heads, positions, batch;

    [[nodiscard]] std::string name() const {
      return "transformer " + std::to_string(layers) + "x d=" + std::to_string(width) +
             " T=" + std::to_string(positions) + " B=" + std::to_string(batch);
    }
  };

  explicit transformer(const shape& s) : shape_(s) {
    std::srand(1); // Eigen's random numbers
    x_ = matrix::Random(s.batch * s.positions, s.width);
    e_ = x_;
    for (isize l = 0; l < s.layers; ++l) blocks_.emplace_back(all_, "block" + std::to_string(l), s);
    head_.emplace(all_, "head", s.batch, s.positions, s.width, 64);
  }
  transformer(const transformer&) = delete;
  transformer& operator=(const transformer&) = delete;

  [[nodiscard]] parameter_list& parameters() { return all_; }
  [[nodiscard]] isize batch() const { return shape_.batch; }
  [[nodiscard]] isize bytes() const {
    isize n = x_.size() + e_.size() + all_.numbers() + head_->numbers();
    for (const block& b : blocks_) n += b.numbers();
    return n * static_cast<isize>(sizeof(float));
  }

  void forward() {
    for (std::size_t l = 0; l < blocks_.size(); ++l) blocks_[l].forward(input(l));
    head_->forward(blocks_.back().down.y);
  }
  /// A sample's loss is the mean over its positions.
  [[nodiscard]] double loss() const { return cross_entropy(head_->y) / static_cast<double>(shape_.positions); }

  template <class Visit>
  void backward(float scale, const Visit& visit) {
    dense& head = *head_;
    differentiate_cross_entropy(head.y, scale / static_cast<float>(shape_.positions), head.e);
    head.backward(blocks_.back().down.y, visit);
    head.propagate(e_);
    for (std::size_t l = blocks_.size(); l-- > 0;) blocks_[l].backward(e_, visit);
  }

private:
  struct block {
    block(parameter_list& all, const std::string& name, const shape& s)
        : first(all, name + ".norm1", s.batch, s.positions, s.width),
          q(all, name + ".q", s.batch, s.positions, s.width, s.width),
          k(all, name + ".k", s.batch, s.positions, s.width, s.width),
          v(all, name + ".v", s.batch, s.positions, s.width, s.width),
          heads(s.batch, s.positions, s.heads, s.width / s.heads),
          o(all, name + ".o", s.batch, s.positions, s.width, s.width),
          second(all, name + ".norm2", s.batch, s.positions, s.width),
          up(all, name + ".up", s.batch, s.positions, s.width, 4 * s.width),
          down(all, name + ".down", s.batch, s.positions, 4 * s.width, s.width), of_heads(o.y) {}

    void forward(const matrix& x) {
      first.forward(x);
      for (dense* const one : {&q, &k, &v}) one->forward(first.y);
      heads.forward(q.y, k.y, v.y);
      o.forward(heads.y);
      o.y += x;
      second.forward(o.y);
      up.forward(second.y);
      up.y = up.y.cwiseMax(0.0F);
      down.forward(up.y);
      down.y += o.y;
    }

    /// @param e derivative by the output on entry, by the input on return.
    template <class Visit>
    void backward(matrix& e, const Visit& visit) {
      down.e = e;
      down.backward(up.y, visit);
      down.propagate(up.e);
      mask_by(up.y, up.e);
      up.backward(second.y, visit);
      up.propagate(second.e);
      second.backward(visit);
      second.add_propagated(e);
      o.e = e;
      o.backward(heads.y, visit);
      o.propagate(of_heads);
      heads.propagate(of_heads, q.y, k.y, v.y, q.e, k.e, v.e);
      first.e.setZero();
      for (dense* const one : {&v, &k, &q}) {
        one->backward(first.y, visit);
        one->add_propagated(first.e);
      }
      first.backward(visit);
      first.add_propagated(e);
    }

    [[nodiscard]] isize numbers() const {
      isize n = first.numbers() + heads.numbers() + second.numbers() + of_heads.size();
      for (const dense* const one : {&q, &k, &v, &o, &up, &down}) n += one->numbers();
      return n;
    }

    layer_norm first;
    dense q, k, v;
    attention heads;
    dense o;
    layer_norm second;
    dense up, down;
    matrix of_heads; // derivative by the heads' output
  };

  [[nodiscard]] const matrix& input(std::size_t l) const { return l == 0 ? x_ : blocks_[l - 1].down.y; }

  shape shape_;
  parameter_list all_;
  matrix x_;
  matrix e_; // derivative by what passes between layers
  std::deque<block> blocks_;
  std::optional<dense> head_; // made last
};

} // namespace bench
