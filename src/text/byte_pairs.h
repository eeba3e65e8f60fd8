// Byte-pair encoding: the pairs of tokens that are merged, and the merging.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <utility>
#include <vector>

#include "text/hash_index.h"

namespace heartmula {

/// Merges by rank.
class MergeTable {
 public:
  struct Merge {
    int32_t left;
    int32_t right;
    int32_t merged;
  };

  explicit MergeTable(size_t count) : index_(count) { merges_.reserve(count); }

  /// A pair that comes again counts with its later rank, as in the library.
  void add(const Merge& merge) {
    const int32_t rank = static_cast<int32_t>(merges_.size());
    merges_.push_back(merge);
    index_.set(hash(merge.left, merge.right), rank, IsSame{*this, merge.left, merge.right});
  }

  /// The rank of the pair, or HashIndex::kNone.
  int32_t find(int32_t left, int32_t right) const { return index_.find(hash(left, right), IsSame{*this, left, right}); }
  int32_t merged(int32_t rank) const { return merges_[static_cast<size_t>(rank)].merged; }

 private:
  static uint64_t hash(int32_t left, int32_t right) {
    const uint64_t key = (static_cast<uint64_t>(left) << 32) | static_cast<uint32_t>(right);
    const uint64_t product = key * 0x9E3779B97F4A7C15;
    return product ^ (product >> 32);
  }

  /// Whether a rank is this pair's.
  struct IsSame {
    const MergeTable& table;
    int32_t left;
    int32_t right;
    bool operator()(int32_t rank) const {
      const Merge& merge = table.merges_[static_cast<size_t>(rank)];
      return merge.left == left && merge.right == right;
    }
  };

  std::vector<Merge> merges_;
  HashIndex index_;
};

/// Merges the pair of lowest rank, leftmost first, until none is left: O(n log n) in the length of the piece.
class Merger {
 public:
  explicit Merger(const MergeTable& table) : table_(table) {}

  /// Appends what `symbols` become to `ids`.
  void merge(const std::vector<int32_t>& symbols, std::vector<int32_t>& ids) {
    const int32_t count = static_cast<int32_t>(symbols.size());
    nodes_.clear();
    for (int32_t i = 0; i < count; ++i) {
      nodes_.push_back({symbols[static_cast<size_t>(i)], i - 1, i + 1 < count ? i + 1 : HashIndex::kNone});
    }
    for (int32_t i = 0; i + 1 < count; ++i) consider(i);
    while (!candidates_.empty()) {
      std::pop_heap(candidates_.begin(), candidates_.end(), comes_later);
      const Candidate best = candidates_.back();
      candidates_.pop_back();
      if (rank_at(best.left) == best.rank) apply(best);
    }
    for (int32_t i = 0; i != HashIndex::kNone && count > 0; i = node(i).next) ids.push_back(node(i).id);
  }

 private:
  struct Node {
    int32_t id;  // HashIndex::kNone once it is part of its left neighbour
    int32_t previous;
    int32_t next;
  };
  struct Candidate {
    int32_t rank;
    int32_t left;  // index of a node
  };

  static bool comes_later(const Candidate& a, const Candidate& b) {
    return std::pair(a.rank, a.left) > std::pair(b.rank, b.left);
  }

  Node& node(int32_t i) { return nodes_[static_cast<size_t>(i)]; }

  /// The rank of the pair that begins at `left`, or HashIndex::kNone.
  int32_t rank_at(int32_t left) {
    const Node& l = node(left);
    return l.id == HashIndex::kNone || l.next == HashIndex::kNone ? HashIndex::kNone
                                                                  : table_.find(l.id, node(l.next).id);
  }

  void consider(int32_t left) {
    const int32_t rank = rank_at(left);
    if (rank == HashIndex::kNone) return;
    candidates_.push_back({rank, left});
    std::push_heap(candidates_.begin(), candidates_.end(), comes_later);
  }

  void apply(const Candidate& candidate) {
    Node& left = node(candidate.left);
    Node& right = node(left.next);
    left.id = table_.merged(candidate.rank);
    left.next = right.next;
    right.id = HashIndex::kNone;
    if (left.next != HashIndex::kNone) node(left.next).previous = candidate.left;
    if (left.previous != HashIndex::kNone) consider(left.previous);
    consider(candidate.left);
  }

  const MergeTable& table_;
  std::vector<Node> nodes_;
  std::vector<Candidate> candidates_;
};

}  // namespace heartmula
