#include <algorithm>

#include "relational/plan_planner.h"

namespace jaxdirect::relational {

void Planner::order_by_destination() {
  const int src_bits = bits_for(input_.num_nodes);
  records_.resize(num_edges());
  each(num_edges(), [&](int64_t e) {
    records_[e] = {static_cast<uint32_t>(input_.src[e]), static_cast<uint32_t>(input_.dst[e]),
                   static_cast<uint32_t>(input_.etype[e]), static_cast<uint32_t>(e)};
  });
  const auto pair = [src_bits](const Record& record) {
    return static_cast<uint64_t>(record.weight) << src_bits | record.src;
  };
  sort_records(executor_, &records_, &scratch_, src_bits + bits_for(input_.num_relations), pair);
  group_by_relation();
  source_counts_ = count_slots(executor_, records_, relations_, rule(true));
  const auto dst = [](const Record& record) { return record.dst; };
  sort(input_.num_nodes, dst);

  fill_indptr(executor_, records_, input_.num_nodes, dst, &plan_.incoming.indptr);
  pad(&plan_.incoming.indices, num_edges(), room_, -1);
  plan_.edge_ids.resize(room_);
  each(room_, [&](int64_t p) {
    plan_.edge_ids[p] = static_cast<int32_t>(p < num_edges() ? records_[p].edge : p);
    if (p >= num_edges()) return;
    plan_.incoming.indices[p] = static_cast<int32_t>(records_[p].src);
    records_[p].edge = static_cast<uint32_t>(p);
  });
  fill_scales();
}

void Planner::fill_scales() {
  const auto same = [&](int64_t a, int64_t b) {
    return records_[a].dst == records_[b].dst && records_[a].weight == records_[b].weight;
  };
  edge_scale_.resize(num_edges());
  each(num_edges(), [&](int64_t begin) {
    if (begin > 0 && same(begin - 1, begin)) return;
    int64_t end = begin + 1;
    while (end < num_edges() && same(begin, end)) ++end;
    std::fill(edge_scale_.begin() + begin, edge_scale_.begin() + end,
              1.0F / static_cast<float>(end - begin));
  });
}

void Planner::group_by_relation() {
  plan_.relation_edges.assign(input_.num_relations, 0);
  for (int64_t e = 0; e < num_edges(); ++e) ++plan_.relation_edges[input_.etype[e]];
  relations_.resize(input_.num_relations);
  int64_t end = 0;
  for (int64_t r = 0; r < input_.num_relations; ++r) {
    relations_[r].weight = r;
    relations_[r].begin = end;
    relations_[r].end = end += plan_.relation_edges[r];
  }
}

void Planner::order_by_source() {
  const auto src = [](const Record& record) { return record.src; };
  sort(input_.num_nodes, src);
  fill_indptr(executor_, records_, input_.num_nodes, src, &plan_.outgoing.indptr);
  by_source_.resize(num_edges());
  each(num_edges(), [&](int64_t i) { by_source_[i] = static_cast<int32_t>(records_[i].edge); });
  pad(&plan_.outgoing.indices, num_edges(), room_, -1);
  plan_.outgoing_edges.resize(room_);
  for (int64_t p = num_edges(); p < room_; ++p) plan_.outgoing_edges[p] = static_cast<int32_t>(p);

  // Each source's edges in destination order.
  const Ints& indptr = plan_.outgoing.indptr;
  scratch_.resize(num_edges());
  parallel_for(executor_, input_.num_nodes, kGrain / 8, [&](int64_t first, int64_t last) {
    std::copy(records_.begin() + indptr[first], records_.begin() + indptr[last],
              scratch_.begin() + indptr[first]);
    for (int64_t v = first; v < last; ++v) {
      std::sort(scratch_.begin() + indptr[v], scratch_.begin() + indptr[v + 1],
                [](const Record& a, const Record& b) { return a.edge < b.edge; });
    }
    for (int64_t i = indptr[first]; i < indptr[last]; ++i) {
      plan_.outgoing.indices[i] = static_cast<int32_t>(scratch_[i].dst);
      plan_.outgoing_edges[i] = static_cast<int32_t>(scratch_[i].edge);
    }
  });
}

std::vector<Group> Planner::group_by_pair() {
  const auto type = [this](const Record& record) { return input_.ntype[record.src]; };
  sort(input_.num_types, type);
  sort_by_relation();
  PlanAttention& attention = plan_.attention;
  std::vector<Group> pairs;
  const auto add = [&](int64_t relation, int64_t of_type, int64_t begin, int64_t end) {
    attention.pair_relation.push_back(static_cast<int32_t>(relation));
    attention.pair_type.push_back(static_cast<int32_t>(of_type));
    pairs.push_back({static_cast<int64_t>(pairs.size()), begin, end});
  };
  for (const Group& relation : relations_) {
    if (relation.begin == relation.end) add(relation.weight, 0, relation.begin, relation.end);
    for (int64_t begin = relation.begin; begin < relation.end;) {
      const int32_t first_type = type(records_[begin]);
      const auto last =
          std::partition_point(records_.begin() + begin, records_.begin() + relation.end,
                               [&](const Record& record) { return type(record) == first_type; });
      add(relation.weight, first_type, begin, last - records_.begin());
      begin = last - records_.begin();
    }
  }
  return pairs;
}

}  // namespace jaxdirect::relational
