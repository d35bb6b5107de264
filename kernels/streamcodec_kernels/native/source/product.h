// Windows times a matrix.
//
// The matrix lies in panels: of PANEL vectors of columns each, the last one of as many as are left, and a panel holds
// its rows one after the other. A block of rows of the windows is multiplied with one panel in registers. Every value
// of the result is one chain of fused products, in the order of the matrix's rows, whatever block it is in: so it has
// the same bits in a step of any size and beside any neighbours.
#pragma once

#include "results.h"

// Rows of the result that are made at once, by vectors of the panel: their sums, a row of the panel and one value of
// the windows fill the registers.
#if defined(STREAMCODEC_avx512) || defined(STREAMCODEC_neon)
static constexpr int ROWS[] = {0, 14, 12, 8, 6};
#elif defined(STREAMCODEC_avx2)
static constexpr int ROWS[] = {0, 10, 6};
#else
static constexpr int ROWS[] = {0, 8, 4};
#endif
// How far ahead of their use the weights are fetched, in vectors: into the nearest cache, and into the next one.
static constexpr int NEAR = 64, FAR = 512;

// A panel of more rows than TALL would not stay in a cache until the next block needs it again. So it is taken in parts
// of PART rows, by up to GROUP blocks each, whose sums are kept from part to part. A few blocks take SHORT rows at a
// time, which stay in the nearest cache: they compute hardly longer than it takes to fetch the next ones.
static constexpr int64_t TALL = 2048, PART = 1024, SHORT = 128;
static constexpr int GROUP = 8, FEW_BLOCKS = 4;

// In a panel in int8 each so many rows have their scales before them, a float for each column. So many are made floats at
// once, where more rows are multiplied than NARROW: they stay in the nearest cache.
static constexpr int64_t SCALED = 64;

// The most rows that are multiplied with panels in int8 as they are: one block of them.
#if defined(STREAMCODEC_avx512)
static constexpr int NARROW = 6;
#elif defined(STREAMCODEC_avx2) || defined(STREAMCODEC_neon)
static constexpr int NARROW = 4;
#else
static constexpr int NARROW = 0;
#endif

// The most rows that are multiplied with panels in int8 where there are floats too. From NARROW on both take as long where
// a cache holds them; but between two steps of an engine its other network has taken the caches.
static constexpr int MODEST = 4 * NARROW;

// Rows of a panel: `rows` from `row` on, the first of them times value `first` of segment `segment` of a window.
struct Part {
    int64_t row, rows, segment, first;
};

// What a block fetches for those after it: so many vectors from `from` on for each row of the panel.
struct Ahead {
    const float *from;
    int vectors;
};

template <int ROWS_, int VECTORS>
static void begin(const Operation &op, int64_t column, const Place *places, V (&sums)[ROWS_][VECTORS]) {
    for (int i = 0; i < ROWS_; ++i)
        for (int j = 0; j < VECTORS; ++j) {
            const int64_t first = column + j * LANES;
            if (op.start)
                sums[i][j] = load(op.start + places[i].stream * op.start_stream + places[i].row * op.start_row + first);
            else sums[i][j] = op.bias ? load(op.bias + first) : zero();
        }
}

// Add a part of the panel to the sums of a block. weights: of the part; Number: float or int8_t.
template <int ROWS_, int VECTORS, typename Number>
static void block(
    const Operation &op, const Number *weights, Part part, const Place *places, Ahead ahead, V (&kept)[ROWS_][VECTORS]
) {
    constexpr int EACH = sizeof(float) / sizeof(Number), LINE = EACH * LANES;  // numbers in the room of a vector
    V sums[ROWS_][VECTORS], scales[VECTORS];
    memcpy(sums, kept, sizeof sums);
    if constexpr (EACH > 1)
        for (int j = 0; j < VECTORS; ++j, weights += LINE) scales[j] = load((const float *)weights);
    for (int64_t s = part.segment, k = part.first, left = part.rows; left > 0; ++s, k = 0) {
        const Segment &segment = op.segments[s];
        const float *window[ROWS_];
        for (int i = 0; i < ROWS_; ++i)
            window[i] = segment.first + places[i].stream * segment.stream + places[i].row * segment.row;
        const int64_t end = segment.width < k + left ? segment.width : k + left;
        left -= end - k;
        for (; k < end; ++k) {
            V w[VECTORS];
#pragma GCC unroll 4
            for (int j = 0; j < VECTORS; ++j) {
                w[j] = load(weights + j * LANES);
                if constexpr (EACH > 1) w[j] *= scales[j];
                if (VECTORS > 1 && ROWS_ <= 8 && j % EACH == 0) __builtin_prefetch(weights + NEAR * LINE + j * LANES);
            }
            weights += VECTORS * LANES;
            for (int j = 0; j < ahead.vectors; ++j, ahead.from += LANES) __builtin_prefetch(ahead.from, 0, 2);
#pragma GCC unroll 14
            for (int i = 0; i < ROWS_; ++i) {
                const V x = all(window[i][k]);
#pragma GCC unroll 4
                for (int j = 0; j < VECTORS; ++j) sums[i][j] = fused(x, w[j], sums[i][j]);
            }
        }
    }
    memcpy(kept, sums, sizeof sums);
}

// A block of `rows` rows, of at most as many as ROWS_ says, through a part of the panel; then what follows its last one.
template <int ROWS_, int VECTORS, typename Number>
static void block_of(
    int rows, const Operation &op, const Number *weights, int64_t column, Part part, bool last, const Place *places,
    Ahead ahead, V *kept
) {
    if constexpr (ROWS_ > 1) {
        if (rows < ROWS_)
            return block_of<ROWS_ - 1, VECTORS>(rows, op, weights, column, part, last, places, ahead, kept);
    }
    auto &sums = *(V(*)[ROWS_][VECTORS])kept;
    if (part.row == 0) begin(op, column, places, sums);
    block(op, weights, part, places, ahead, sums);
    if (last) finish_block(op, places, column, kept, ROWS_, VECTORS);
}

// What follows a part, of at most `rows` rows.
static Part next_part(const Operation &op, Part part, int64_t rows) {
    part.row += part.rows;
    part.first += part.rows;
    while (part.segment < op.segment_count && part.first >= op.segments[part.segment].width)
        part.first -= op.segments[part.segment++].width;
    part.rows = rows;
    return part;
}

// Rows of a panel in int8, behind their scales, as floats: [rows, VECTORS * LANES].
template <int VECTORS>
static void widen(const int8_t *from, int64_t rows, float *to) {
    V scales[VECTORS];
    for (int j = 0; j < VECTORS; ++j, from += sizeof(V)) scales[j] = load((const float *)from);
    for (; rows > 0; --rows)
#pragma GCC unroll 4
        for (int j = 0; j < VECTORS; ++j, from += LANES, to += LANES) store(to, load(from) * scales[j]);
}

// How many numbers a panel has for each column: its rows, and the scales of those in int8.
template <typename Number>
static int64_t panel_height(int64_t width) {
    return sizeof(Number) == 1 ? width + (width + SCALED - 1) / SCALED * (int64_t)sizeof(float) : width;
}

// One panel of `width` rows with all rows of the windows, in blocks of about the same size. A single block fetches its
// own weights; several, which find theirs in a cache but for the first, fetch between them what comes next. Panels in
// int8 are taken part by part: as they are by a block of few rows, else as floats by all blocks.
template <int VECTORS, typename Number>
static void panel(
    const Operation &op, const Number *weights, int64_t width, int64_t column, Place next, int64_t count, bool fetches
) {
    constexpr bool FLOATS = sizeof(Number) == sizeof(float);
    constexpr int MOST = ROWS[VECTORS], FEW = NARROW < MOST ? NARROW : MOST;
    Place places[GROUP][MOST];
    V kept[GROUP][MOST * VECTORS];
    int rows[GROUP];
    alignas(64) float wide[FLOATS ? 1 : SCALED * VECTORS * LANES];
    const int64_t blocks = (count + MOST - 1) / MOST;
    const int64_t height =
        !FLOATS ? SCALED : blocks == 1 ? width : blocks <= FEW_BLOCKS ? SHORT : width > TALL ? PART : width;
    for (int64_t made = 0; made < blocks; made += GROUP) {
        const int group = blocks - made < GROUP ? (int)(blocks - made) : GROUP;
        for (int b = 0; b < group; ++b) {
            rows[b] = (int)(count * (made + b + 1) / blocks - count * (made + b) / blocks);
            for (int i = 0; i < rows[b]; ++i, next = after(next, op.rows)) places[b][i] = next;
        }
        const int share = group < VECTORS ? (VECTORS + group - 1) / group : 1;
        for (Part part = {0, height, 0, 0}; part.row < width; part = next_part(op, part, height)) {
            const Number *here = weights + panel_height<Number>(part.row) * VECTORS * LANES;
            if (part.rows > width - part.row) part.rows = width - part.row;
            const bool last = part.row + part.rows == width;
            if constexpr (!FLOATS)
                if (count > FEW) widen<VECTORS>(here, part.rows, wide);
            for (int b = 0; b < group; ++b) {
                if constexpr (FLOATS) {
                    const float *beyond = here + (blocks == 1 ? FAR : part.rows * (VECTORS + b * share)) * LANES;
                    const Ahead ahead = {beyond, fetches && made == 0 && b * share < VECTORS ? share : 0};
                    block_of<MOST, VECTORS>(rows[b], op, here, column, part, last, places[b], ahead, kept[b]);
                } else {
                    const Ahead ahead = {(const float *)(here + FAR * 4 * LANES), fetches && made == 0 && b == 0};
                    if (count > FEW)
                        block_of<MOST, VECTORS>(
                            rows[b], op, (const float *)wide, column, part, last, places[b], ahead, kept[b]
                        );
                    else block_of<FEW, VECTORS>(rows[b], op, here, column, part, last, places[b], ahead, kept[b]);
                }
            }
        }
    }
}

static int64_t window_width(const Operation &op) {
    int64_t width = 0;
    for (int64_t s = 0; s < op.segment_count; ++s) width += op.segments[s].width;
    return width;
}

// Some of the panels of `all` with `count` rows from `first` on. again: how often the step has used these weights
// already. It goes through them to and fro, and so begins with those that a cache still holds.
template <typename Number>
static void panels_of(
    const Operation &op, const Number *all, int64_t width, Place first, int64_t count, int64_t again, int64_t begin,
    int64_t end
) {
    const int64_t columns = PANEL * LANES;
    for (int64_t i = begin; i < end; ++i) {
        const int64_t column = (again % 2 ? end - 1 - i : i) * columns;
        const int64_t vectors = (op.columns - column + LANES - 1) / LANES;
        const Number *weights = all + column * panel_height<Number>(width);
        if (vectors == 1) panel<1>(op, weights, width, column, first, count, !again);
        else if (vectors == 2 || PANEL == 2) panel<2>(op, weights, width, column, first, count, !again);
#if PANEL == 4
        else if (vectors == 3) panel<3>(op, weights, width, column, first, count, !again);
        else panel<4>(op, weights, width, column, first, count, !again);
#endif
    }
}

static void panels(
    const Operation &op, int64_t width, Place first, int64_t count, int64_t again, int64_t begin, int64_t end
) {
    if constexpr (NARROW > 0)
        if (op.int8_weights && (count <= MODEST || !op.weights))
            return panels_of(op, op.int8_weights, width, first, count, again, begin, end);
    panels_of(op, op.weights, width, first, count, again, begin, end);
}

static int64_t panel_count(const Operation &op) { return (op.columns + PANEL * LANES - 1) / (PANEL * LANES); }

// Weights that a cache holds are used for so many rows at a time, whose results then are written side by side.
static constexpr int64_t HELD = 1 << 17, TOGETHER = 168;

static bool held(const Operation &op) { return window_width(op) * op.columns <= HELD; }

static void product(const Operation &op, int64_t batch, int64_t again = 0) {
    const int64_t width = window_width(op), count = batch * op.rows, most = held(op) ? TOGETHER : count;
    for (int64_t done = 0; done < count; done += most) {
        const int64_t rows = count - done < most ? count - done : most;
        panels(op, width, place_of(done, op.rows), rows, again, 0, panel_count(op));
    }
}

// A product with one column: vectors along the windows. weights: [K].
static void dot(const Operation &op, Range part) {
    for (Place at = part.first; before(at, part.end); at = after(at, op.rows)) {
        V even = zero(), odd = zero();
        const float *weights = op.weights;
        for (int64_t s = 0; s < op.segment_count; ++s) {
            const Segment &segment = op.segments[s];
            const float *window = segment.first + at.stream * segment.stream + at.row * segment.row;
            int64_t k = 0;
            for (; k + 2 * LANES <= segment.width; k += 2 * LANES) {
                even = fused(load(window + k), load(weights + k), even);
                odd = fused(load(window + k + LANES), load(weights + k + LANES), odd);
            }
            for (; k < segment.width; k += LANES) {
                const int64_t left = segment.width - k < LANES ? segment.width - k : LANES;
                even = fused(load_some(window + k, left), load_some(weights + k, left), even);
            }
            weights += segment.width;
        }
        finish(op, at, 0, all(sum(even + odd) + (op.bias ? op.bias[0] : 0.0f)));
    }
}
