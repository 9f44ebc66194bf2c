#pragma once

// build_plan for Python: NumPy arrays in, a nested dict of NumPy arrays out.

#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>
#include <nanobind/stl/optional.h>
#include <nanobind/stl/string.h>

#include <algorithm>
#include <exception>
#include <initializer_list>
#include <memory>
#include <optional>
#include <string>
#include <utility>

#include "relational/plan.h"
#include "relational/plan_threads.h"

namespace jaxdirect::relational {

namespace plan_internal {

namespace nb = nanobind;
using InputInts = nb::ndarray<const int32_t, nb::ndim<1>, nb::c_contig, nb::device::cpu>;

// A NumPy array [.., columns] that keeps the vector alive; nothing is copied.
template <typename T>
nb::object to_numpy(PlanVector<T>&& numbers, std::size_t columns = 1) {
  auto owner = std::make_unique<PlanVector<T>>(std::move(numbers));
  const std::size_t shape[] = {owner->size() / columns, columns};
  T* data = owner->data();
  const nb::capsule capsule(owner.get(), [](void* vector) noexcept {
    const std::unique_ptr<PlanVector<T>> last(static_cast<PlanVector<T>*>(vector));
  });
  owner.release();
  return nb::ndarray<nb::numpy, T>(data, columns == 1 ? 1 : 2, shape, capsule).cast();
}

inline nb::dict to_dict(PlanLists&& lists) {
  nb::dict out;
  out["indptr"] = to_numpy(std::move(lists.indptr));
  out["indices"] = to_numpy(std::move(lists.indices));
  out["items"] = to_numpy(std::move(lists.items), 4);
  out["heavy"] = to_numpy(std::move(lists.heavy), 3);
  out["num_partials"] = lists.num_partials;
  return out;
}

inline nb::dict to_dict(PlanTiles&& tiles) {
  nb::dict out;
  out["nodes"] = to_numpy(std::move(tiles.nodes));
  out["weight_of"] = to_numpy(std::move(tiles.weight_of));
  out["far"] = to_dict(std::move(tiles.far));
  out["far_edges"] = to_numpy(std::move(tiles.far_edges));
  out["weight_tiles"] = to_numpy(std::move(tiles.weight_tiles));
  out["chunks"] = to_numpy(std::move(tiles.chunks), 3);
  out["chunk_indptr"] = to_numpy(std::move(tiles.chunk_indptr));
  out["num_direct"] = tiles.num_direct;
  return out;
}

inline nb::dict to_dict(PlanSums&& sums) {
  nb::dict out;
  out["tiles"] = to_dict(std::move(sums.tiles));
  out["into"] = to_dict(std::move(sums.into));
  out["outof"] = to_dict(std::move(sums.outof));
  out["far_scale"] = to_numpy(std::move(sums.far_scale));
  out["into_scale"] = to_numpy(std::move(sums.into_scale));
  out["outof_scale"] = to_numpy(std::move(sums.outof_scale));
  return out;
}

// src_tiles and dst_tiles are None where they are the tiles of the sums.
inline nb::dict to_dict(PlanAttention&& attention) {
  nb::dict out;
  const auto unless = [](bool shared, PlanTiles&& tiles) -> nb::object {
    if (shared) return nb::none();
    return to_dict(std::move(tiles));
  };
  out["src_tiles"] = unless(attention.shares_src_tiles, std::move(attention.src_tiles));
  out["dst_tiles"] = unless(attention.shares_dst_tiles, std::move(attention.dst_tiles));
  out["src_slots"] = to_numpy(std::move(attention.src_slots));
  out["dst_slots"] = to_numpy(std::move(attention.dst_slots));
  out["far_dst_slots"] = to_numpy(std::move(attention.far_dst_slots));
  out["src_rows"] = to_dict(std::move(attention.src_rows));
  out["dst_rows"] = to_dict(std::move(attention.dst_rows));
  out["pair_relation"] = to_numpy(std::move(attention.pair_relation));
  out["pair_type"] = to_numpy(std::move(attention.pair_type));
  return out;
}

inline nb::dict to_dict(Plan&& plan, bool attention, bool types) {
  nb::dict out;
  out["edge_ids"] = to_numpy(std::move(plan.edge_ids));
  out["incoming"] = to_dict(std::move(plan.incoming));
  out["outgoing"] = to_dict(std::move(plan.outgoing));
  out["outgoing_edges"] = to_numpy(std::move(plan.outgoing_edges));
  out["relation_edges"] = to_numpy(std::move(plan.relation_edges));
  out["relation_sources"] = to_numpy(std::move(plan.relation_sources));
  out["relation_destinations"] = to_numpy(std::move(plan.relation_destinations));
  out["sums"] = to_dict(std::move(plan.sums));
  out["attention"] = nb::none();
  if (attention) out["attention"] = to_dict(std::move(plan.attention));
  out["node_tiles"] = nb::none();
  if (types) out["node_tiles"] = to_dict(std::move(plan.node_tiles));
  return out;
}

}  // namespace plan_internal

// Values are in range (the caller has looked). `on_step` is called with the name of each stage
// before it begins; what it raises ends the build.
inline nanobind::dict plan_graph(plan_internal::InputInts src, plan_internal::InputInts dst,
                                 plan_internal::InputInts etype,
                                 std::optional<plan_internal::InputInts> ntype, int64_t num_nodes,
                                 int64_t num_relations, int64_t num_types, int64_t compaction,
                                 bool attention, int64_t pad_edges, int64_t num_threads,
                                 nanobind::callable on_step) {
  namespace nb = nanobind;
  PlanInput input;
  input.num_edges = static_cast<int64_t>(src.size());
  input.num_nodes = num_nodes;
  input.num_relations = num_relations;
  input.num_types = num_types;
  input.attention = attention;
  input.pad_edges = pad_edges;
  input.src = src.data();
  input.dst = dst.data();
  input.etype = etype.data();
  if (ntype) input.ntype = ntype->data();
  const auto same = [&](const plan_internal::InputInts& array) {
    return array.size() == src.size();
  };
  if (!same(dst) || !same(etype)) throw nb::value_error("build_plan: lengths must be equal");
  if (ntype && static_cast<int64_t>(ntype->size()) != num_nodes) {
    throw nb::value_error("build_plan: ntype must have num_nodes elements");
  }
  if (compaction < 0 || compaction > 2) {
    throw nb::value_error("build_plan: compaction must be 0, 1 or 2");
  }
  input.compaction = static_cast<Compaction>(compaction);

  Plan plan;
  Status status = Status::ok();
  std::exception_ptr raised;
  {
    const nb::gil_scoped_release released;
    PlanThreads threads(num_threads);
    const auto step = [&](const std::string& name) {
      const nb::gil_scoped_acquire acquired;
      try {
        on_step(name);
        return true;
      } catch (const nb::python_error&) {
        raised = std::current_exception();
        return false;
      }
    };
    status = build_plan(threads.executor(), input, step, &plan);
  }
  if (raised) std::rethrow_exception(raised);
  if (!status.is_ok()) throw nb::value_error(status.message().c_str());
  return plan_internal::to_dict(std::move(plan), attention, ntype.has_value());
}

inline void add_plan(nanobind::module_& m) {
  using nanobind::arg;
  m.attr("PLAN_STEPS") = kPlanSteps;
  m.def("build_plan", &plan_graph, arg("src"), arg("dst"), arg("etype"), arg("ntype").none(),
        arg("num_nodes"), arg("num_relations"), arg("num_types"), arg("compaction"),
        arg("attention"), arg("pad_edges"), arg("num_threads"), arg("on_step"));
}

}  // namespace jaxdirect::relational
