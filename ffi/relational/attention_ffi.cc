#include "relational/attention.h"
#include "relational/decode.h"

namespace jaxdirect::relational {

struct AttentionAttrs {
  int64_t score;
  int64_t heads;
  int64_t columns;
  int64_t num_partials;
  double negative_slope;
};

namespace {

// What the forward and the backward have in common.
template <typename Args>
void decode_rows(Decoder* decoder, ffi::AnyBuffer rows, ffi::AnyBuffer queries,
                 ffi::AnyBuffer query_rows, const AttentionAttrs& attrs, int64_t num_nodes,
                 int64_t num_edges, Args* args) {
  args->type = decoder->float_type("rows", rows);
  args->score = static_cast<Score>(attrs.score);
  args->heads = attrs.heads;
  args->columns = attrs.columns;
  args->negative_slope = static_cast<float>(attrs.negative_slope);
  args->num_slots = decoder->rows(rows);
  args->width = decoder->columns(rows);
  args->num_queries = decoder->rows(queries);
  args->query_width = decoder->columns(queries);
  decoder->require(rows.dimensions().size() == 2, "rows", "[num_slots, width]");
  decoder->require(queries.dimensions().size() == 2, "queries", "[num_queries, width]");
  decoder->require(attrs.score == 0 || attrs.score == 1, "score", "0 or 1");
  decoder->require(attrs.heads >= 1 && attrs.columns >= 0 && attrs.columns % attrs.heads == 0,
                   "heads", "a divisor of columns");
  const bool additive = args->score == Score::kAdditive;
  const int64_t least = additive ? attrs.columns + attrs.heads : 2 * attrs.columns;
  decoder->require(args->width >= least, "rows' width", "columns + heads, or 2 * columns");
  decoder->require(args->query_width >= (additive ? attrs.heads : attrs.columns), "queries' width",
                   "heads, or columns");
  args->rows = rows.untyped_data();
  args->queries = decoder->floats("queries", queries, -1, args->query_width);
  if (additive) {
    args->query_rows = decoder->ints("query_rows", query_rows, num_edges);
  } else {
    decoder->require(args->num_queries == num_nodes, "queries", "[num_nodes, columns]");
  }
}

ffi::Error handle(NativeContext context, ffi::AnyBuffer rows, ffi::AnyBuffer queries,
                  ffi::AnyBuffer query_rows, ffi::AnyBuffer indptr, ffi::AnyBuffer indices,
                  ffi::AnyBuffer items, ffi::AnyBuffer heavy, ffi::Result<ffi::AnyBuffer> out,
                  ffi::Result<ffi::AnyBuffer> log_sum_exp, ffi::Result<ffi::AnyBuffer> partials,
                  AttentionAttrs attrs) {
  Decoder decoder("attention");
  AttentionArgs args;
  args.lists = decoder.lists(indptr, indices, items, heavy, attrs.num_partials);
  decode_rows(&decoder, rows, queries, query_rows, attrs, args.lists.num_rows,
              args.lists.num_entries, &args);
  args.out =
      const_cast<void*>(decoder.floats("the result", *out, args.lists.num_rows, args.columns));
  args.log_sum_exp = decoder.float32s("log_sum_exp", *log_sum_exp, args.lists.num_rows, args.heads);
#ifdef JAXDIRECT_CUDA_MODULE
  args.partials = decoder.float32s("partials", *partials, args.lists.num_partials,
                                   partial_width(args.columns, args.heads));
#else
  (void)partials;
#endif
  if (!decoder.status().is_ok()) return to_ffi(decoder.status());
  return to_ffi(attention(to_context(context), args));
}

ffi::Error handle_backward(NativeContext context, ffi::AnyBuffer rows, ffi::AnyBuffer queries,
                           ffi::AnyBuffer query_rows, ffi::AnyBuffer cotangent, ffi::AnyBuffer out,
                           ffi::AnyBuffer log_sum_exp, ffi::AnyBuffer indptr,
                           ffi::AnyBuffer indices, ffi::AnyBuffer items, ffi::AnyBuffer edges,
                           ffi::Result<ffi::AnyBuffer> rows_grad,
                           ffi::Result<ffi::AnyBuffer> score_grad,
                           ffi::Result<ffi::AnyBuffer> stats, AttentionAttrs attrs) {
  Decoder decoder("attention gradient");
  AttentionBackwardArgs args;
  args.num_nodes = decoder.rows(cotangent);
  args.lists.num_rows = decoder.rows(indptr) - 1;
  args.lists.num_entries = decoder.rows(indices);
  args.lists.num_items = decoder.rows(items);
  decode_rows(&decoder, rows, queries, query_rows, attrs, args.num_nodes, args.lists.num_entries,
              &args);
  decoder.require(args.lists.num_rows == args.num_slots, "indptr", "[num_slots + 1]");
  args.lists.indptr = decoder.ints("indptr", indptr, -1);
  args.lists.indices = decoder.ints("indices", indices, -1);
  args.lists.items = decoder.ints("items", items, -1, 4);
  args.edges = decoder.ints("edges", edges, args.lists.num_entries);
  args.cotangent = decoder.floats("cotangent", cotangent, -1, args.columns);
  args.out = decoder.floats("out", out, args.num_nodes, args.columns);
  args.log_sum_exp = decoder.float32s("log_sum_exp", log_sum_exp, args.num_nodes, args.heads);
  args.stats = decoder.float32s("stats", *stats, args.num_nodes, 2 * args.heads);
  args.rows_grad =
      const_cast<void*>(decoder.floats("rows' gradient", *rows_grad, args.num_slots, args.width));
  args.score_grad = decoder.float32s("score_grad", *score_grad, args.lists.num_entries, args.heads);
  if (!decoder.status().is_ok()) return to_ffi(decoder.status());
  return to_ffi(attention_backward(to_context(context), args));
}

}  // namespace

XLA_FFI_DEFINE_HANDLER_SYMBOL(jaxdirect_relational_attention, handle,
                              ffi::Ffi::Bind()
                                  .Ctx<ContextBinding>()
                                  .Arg<ffi::AnyBuffer>()  // rows
                                  .Arg<ffi::AnyBuffer>()  // queries
                                  .Arg<ffi::AnyBuffer>()  // query_rows
                                  .Arg<ffi::AnyBuffer>()  // indptr
                                  .Arg<ffi::AnyBuffer>()  // indices
                                  .Arg<ffi::AnyBuffer>()  // items
                                  .Arg<ffi::AnyBuffer>()  // heavy
                                  .Ret<ffi::AnyBuffer>()  // out
                                  .Ret<ffi::AnyBuffer>()  // log_sum_exp
                                  .Ret<ffi::AnyBuffer>()  // partials
                                  .Attrs<AttentionAttrs>(),
                              kRecordable);

XLA_FFI_DEFINE_HANDLER_SYMBOL(jaxdirect_relational_attention_backward, handle_backward,
                              ffi::Ffi::Bind()
                                  .Ctx<ContextBinding>()
                                  .Arg<ffi::AnyBuffer>()  // rows
                                  .Arg<ffi::AnyBuffer>()  // queries
                                  .Arg<ffi::AnyBuffer>()  // query_rows
                                  .Arg<ffi::AnyBuffer>()  // cotangent
                                  .Arg<ffi::AnyBuffer>()  // out
                                  .Arg<ffi::AnyBuffer>()  // log_sum_exp
                                  .Arg<ffi::AnyBuffer>()  // indptr
                                  .Arg<ffi::AnyBuffer>()  // indices
                                  .Arg<ffi::AnyBuffer>()  // items
                                  .Arg<ffi::AnyBuffer>()  // edges
                                  .Ret<ffi::AnyBuffer>()  // rows_grad
                                  .Ret<ffi::AnyBuffer>()  // score_grad
                                  .Ret<ffi::AnyBuffer>()  // stats
                                  .Attrs<AttentionAttrs>(),
                              kRecordable);

}  // namespace jaxdirect::relational

XLA_FFI_REGISTER_STRUCT_ATTR_DECODING(jaxdirect::relational::AttentionAttrs,
                                      xla::ffi::StructMember<int64_t>("score"),
                                      xla::ffi::StructMember<int64_t>("heads"),
                                      xla::ffi::StructMember<int64_t>("columns"),
                                      xla::ffi::StructMember<int64_t>("num_partials"),
                                      xla::ffi::StructMember<double>("negative_slope"));
