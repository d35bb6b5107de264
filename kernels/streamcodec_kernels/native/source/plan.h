// A step as plain data: laid out by streamcodec/native_layout.py for one number of streams and frames, run here.
//
// Rows lie as in torch's executor, [stream, row, channel]. All sizes and distances count values, but for a leaf's
// `offset`: these are floats, and numbers in bfloat16 where something is halved (see halves.h). Memory that is written to
// reaches 64 bytes further than its last row, so that whole vectors can be read.
#pragma once

#include <stdint.h>

#if defined(_WIN32)
#define EXPORTED extern "C" __declspec(dllexport)
#else
#define EXPORTED extern "C" __attribute__((visibility("default")))
#endif

// Whether the set amx is compiled, which processors with AMX have under Linux.
#if defined(__x86_64__) && defined(__linux__) && (__GNUC__ >= 12 || __clang_major__ >= 13)
#define COMPILES_TILES 1
#else
#define COMPILES_TILES 0
#endif

enum Kind : int64_t {
    COPY, PRODUCT, DOT, DEPTHWISE, NORMALISE, LSTM, BAND_FEATURES, BAND_GAINS, LAYER_NORM, ATTENTION, LOW_PRODUCT,
    GATED_SILU, NOISE, LOCAL_ATTENTION, LAPPED, OVERLAP_ADD, INT8_PRODUCT
};
enum Activation : int64_t { NONE, ELU, TANH, SILU, SNAKE, GELU, LEAKY_RELU, GELU_TANH, HARDTANH };
enum Padding : int64_t { CONSTANT, REFLECT, REPLICATE };

// A number in IEEE's half precision. Each is one of float's too, the subnormal ones as well.
struct Half {
    uint16_t bits;
};

// Rows of one network's buffer: `history` old ones, then new ones; see streamcodec/program.py.
struct Buffer {
    float *memory;
    int64_t rows, history, channels, stream;
    int64_t rate, lag, length;                       // where it stands, and which of the plan's lengths is its signal's
    int64_t padding, left, right, extend, stride;    // how rows outside the signal are made
    int64_t halved;                                  // whether its values are in bfloat16
};

// A leaf of the state: copied from there to `before` ahead of the operation `first`; behind the operation `last` from
// `after` back, if the call keeps states; else to `room`, [stream, count], until it is to be kept. Before and behind others
// may have its memory. Rounded to bfloat16, where it is halved.
struct Leaf {
    float *before;
    const float *after;
    float *room;
    int64_t stream, count, offset, halved, first, last;
};

struct Length {
    int64_t source, up, add, down, extend;
};

// A part of the windows that lie side by side in a product.
struct Segment {
    const float *first;
    int64_t row, stream, width, halved;
};

// The rows of a buffer that windows are of, side by side: `taps` rows `dilation` apart, every `stride` rows from `first` on.
struct Source {
    const float *first;
    int64_t stream, channels, stride, taps, dilation, halved;
};

// How many of its rows are in `windows` windows.
static inline int64_t source_rows(const Source &source, int64_t windows) {
    return (windows - 1) * source.stride + (source.taps - 1) * source.dilation + 1;
}

// Where results go; alpha, inverse: [columns], of Snake.
struct Target {
    float *first;
    int64_t row, stream, buffer, activation, halved;
    const float *alpha, *inverse;
};

// rows: of the result, of each stream; columns: of a row. weights: panels of a product (see product.h), else as the
// operation says; start: what a product begins with instead of the bias; add: what is added to the result.
struct Operation {
    int64_t kind, rows, columns;
    const Segment *segments;
    int64_t segment_count;
    const Target *targets;
    int64_t target_count;
    const float *weights, *bias;
    const int8_t *int8_weights;           // of a product, instead of `weights`, which may be missing: see product.h
    const float *start;
    int64_t start_row, start_stream;
    const float *add;
    int64_t add_row, add_stream;
    int64_t taps, tap;                    // of a depthwise convolution: how many, and how far apart
    const float *recurrent;               // of an LSTM: panels, gates [stream, row, 4 H], state [stream, H]
    const int8_t *int8_recurrent;         // likewise
    float *gates, *hidden, *cell;
    int64_t heads, reach;                 // of an attention; of one within windows: how many rows a window has
    int64_t keys, values;                 // where its rings lie in a stream's state, in bytes
    int64_t looks;                        // whether it makes the angles and counts the rows, for others too
    int64_t *heard;                       // [stream, 2]: rows before this step, and after it; of noise too
    const double *frequencies;            // [d / 2]
    float *angles;                        // cosines and sines of the rows' places, [stream, row, 2, d / 2]
    float *turned;                        // room for a query, and for the keys of the rows, [stream, row, columns]
    float *scores;                        // room for `reach` scores
    int64_t lag, rate;                    // of the input of an LSTM, an attention or noise
    int64_t seed;                         // of noise
    int64_t inner, outer;                 // of a lapped transform: two factors of its hop
    float *row;                           // room for one row, and for what a lapped transform is made of
    const int64_t *bands;                 // first columns of the bands, and their end
    int64_t band_count;
    const uint16_t *low_weights;          // of a product in bfloat16: see low_precision.h
    const int8_t *int8_tiles;             // of a product in whole numbers: see int8_tiles.h
    const int8_t *recurrent_tiles;        // of an LSTM, likewise
    int64_t terms, halves_term;           // how many terms a value has, and how far apart they lie
    int64_t halves_rows;                  // there is room for what so many rows of the result are made of
    const Source *sources;                // whose rows are rounded; none: windows are
    int64_t source_count;
    float numbers[4];
};

struct Plan {
    int64_t batch;                        // streams that there is room for
    const Operation *operations;
    int64_t operation_count;
    const Buffer *buffers;
    int64_t buffer_count;
    const Leaf *leaves;                   // in the order of their operations
    int64_t leaf_count;
    const Length *lengths;
    int64_t *signal;                      // room for the length of each signal of a stream, [stream, length]
    int64_t length_count;
    int64_t out;                          // the buffer that holds the output
};

// What a step is given. batch: streams, no more than the plan has room for; position, length: [stream], or null where no
// row touches an edge of its signal.
struct Call {
    int64_t batch;
    const float *x;
    int64_t x_row, x_stream;
    uint8_t *state;
    int64_t state_stream;                 // bytes
    const int64_t *places;                // [stream], which of the states; below 0, to be kept: none
    int64_t keeps;                        // whether the step writes them
    const int64_t *position, *length;
    float *out;                           // [stream, row, channel], without gaps
    uint16_t *halves;                     // room for values in bfloat16
    int64_t shared;                       // whether other threads may help: then `turn` and `done` are used
    uint64_t turn;                        // which operation runs, and above it which of its shares is the next (share.h)
    int64_t done;                         // shares of it that are done
    int64_t *spent;                       // null, or [operations + 1]: the clock's ticks of each are added, of copies last
};

static inline uint8_t *state_of(const Call &call, int64_t stream) {
    return call.state + call.places[stream] * call.state_stream;
}

// Residual quantization, stage after stage: the entry of the highest score, the first of several.
struct Search {
    int64_t rows, stages, size, dimension;
    const float *given;                   // [rows, width]: the rows; null: they are in `values`
    float *values;                        // [rows, width]: what is left of each row
    int64_t width, step;                  // stage i reads the values from i * step on
    const float *scan;                    // [stages, dimension, size], what the values are multiplied with; or the
    const Half *halves;                   // same here, filled up:
    int64_t scan_stage, strip, line;      // how far apart its stages, strips of columns, and rows of a strip are
    int64_t filled;                       // whether the last strip is whole, with zeros beyond the last column
    const float *half_norms;              // [stages, size], taken off the scores, or null
    const float *entries;                 // [stages, size, dimension]
    const float *cross;                   // [stages, dimension, width]: what an entry takes off the values of the later
                                          // stages; null: itself, off the same values
    int64_t *codes;                       // [rows, stages]
};

// A matrix [rows, columns], its rows `line` apart, that is to be numbers [rows, columns] times scales [columns].
struct Int8 {
    int64_t rows, columns, line;
    const float *matrix;
    int8_t *numbers;
    float *scales;
};

// A matrix in whole numbers [rows, columns], times scales [parts, columns] of as many rows each, that is to be packed as
// int8_tiles.h reads it.
struct Tiles {
    int64_t rows, columns, parts;
    const int8_t *numbers;
    const float *scales;
    int8_t *packed;
};

// out = x * weight + bias, or without: [rows, inputs] times [inputs, outputs].
struct Affine {
    int64_t rows, inputs, outputs;
    const float *x, *weight, *bias;
    float *out;
};

// out = the sum of the entries that the codes name; a code that is none adds nothing.
struct Lookup {
    int64_t rows, stages, size, dimension;
    const float *entries;                 // [stages, size, dimension]
    const int64_t *codes;                 // [rows, stages]
    float *out;                           // [rows, dimension]
};

// A stretch of what a stream of a push is given: rows of samples or of codes, behind those of its stretches before.
struct Given {
    const void *first;
    int64_t stream, rows, row, width, column;  // row, column: how far apart two of them are
};

// Where what is made of a stream goes: its codes, [stages, frames], or its samples, in float or rounded to int16.
struct Made {
    void *first;
    int64_t int16;
};

// A push of whole frames of some streams: codes of samples, or samples of codes. One of `search` and `lookup` is null.
// position, length: as a call has them; where they are null, each stream has to be given all its rows, else those that it
// is not given are beyond the end of its signal.
struct Push {
    int64_t batch, frames, samples;       // of each stream
    const Given *given;                   // stream after stream
    int64_t given_count;
    const Made *made;                     // [stream]
    uint8_t *state;
    int64_t state_stream, state_count;    // bytes of one, and how many there are
    const int64_t *places;                // [stream], which of the states
    const int64_t *position, *length;
    float *rows;                          // [stream, samples]: room
    float *latents;                       // [stream, frames, dimension]: room, and where the search or the look-up has them
    int64_t *codes;                       // [stream, frames, stages]: likewise
    const Search *search;
    const Lookup *lookup;
};
