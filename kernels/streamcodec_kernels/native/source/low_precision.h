// Windows times a matrix in bfloat16, on tiles (AMX). A value or a weight is the sum of TERMS numbers in bfloat16: the
// nearest one, then the nearest one to what is left. Of the products of these terms those are made that are not smaller
// than what the last term lacks: one for one term, three for two, six for three. They are exact, and sums are float32,
// each in one order. So here too a value does not depend on its neighbours.
//
// Three terms are a float32 number itself, down to 2^-102: below that its last bits are smaller than any normal number.
// The three products that are left out are some 2^-26 of the whole, and sums round less often than a chain of fused
// products: a tile adds 32 of them up before it adds to the sum. So the results are float32's, with other last bits.
//
// The matrix lies in panels of WIDE columns, two tiles; a panel holds its rows DEEP at a time, term after term from the last
// one on, of a term first the first tile; a tile holds pairs of rows, [pair, column, 2]. It ends with zeros.
//
// Rounded are the rows of the buffers, once each, and windows are read where they lie among them. Where a window's rows
// fill no whole tiles, or streams have few rows, the windows are rounded instead, side by side. The next terms of all
// lie `halves_term` further.
#pragma once

#include "finishing.h"
#include "product.h"

// Rows of a tile; columns of a panel, two tiles; values of a window that two tiles multiply at once.
static constexpr int64_t TILE = 16, WIDE = 32, DEEP = 32;

// Bytes of a line of a cache.
static constexpr int64_t LINE = 64;

// The most rows that tiles make at once.
static constexpr int64_t LOW_ROWS = 2 * TILE;

// The panels that are made of a row before it is written, where a cache holds the weights.
static constexpr int SIDE_BY_SIDE = 12;

static int64_t low_panel_count(const Operation &op) { return (op.columns + WIDE - 1) / WIDE; }

static bool side_by_side(const Operation &op) {
    return !op.weights && low_panel_count(op) <= SIDE_BY_SIDE && window_width(op) * op.columns <= 2 * HELD;
}

// Rows of the result, of one stream where windows are read where they lie; and the halves that they are made of.
struct Piece {
    Place first;
    int64_t rows;
    const uint16_t *halves;
};

// The most pieces that are multiplied at once.
static constexpr int PIECES = 64;

// A thread's room for halves: of an operation's rows of the result from `first` on, in pieces; and whose weights it has
// gone through already.
struct Room {
    uint16_t *halves;
    const Operation *through;
    int64_t first, rows;
    int count;
    Piece pieces[PIECES];
};

#if HAS_TILES
// The window of a row, side by side, with zeros to the end of the last tile: [width].
template <int TERMS>
TILED static void halve_window(const Operation &op, Place at, uint16_t *to, int64_t width) {
    int64_t done = 0;
    for (int64_t s = 0; s < op.segment_count; ++s) {
        const Segment &segment = op.segments[s];
        const int64_t first = at.stream * segment.stream + at.row * segment.row;
        // What is written beyond the end of a segment is written again by the next one, or by zeros.
        if (segment.halved) memcpy(to + done, (const uint16_t *)segment.first + first, segment.width * sizeof(uint16_t));
        else halve<TERMS>(segment.first + first, to + done, op.halves_term, segment.width);
        done += segment.width;
    }
    for (int t = 0; t < TERMS; ++t) memset(to + t * op.halves_term + done, 0, (width - done) * sizeof(uint16_t));
}

TILED static void set_tiles() {
    alignas(64) uint8_t how[64] = {1};
    for (int tile = 0; tile < 8; ++tile) {
        how[16 + 2 * tile] = 64;
        how[48 + tile] = TILE;
    }
    __asm__ volatile("" : : "r"(how) : "memory");  // some compilers take the call for one that reads 8 bytes
    _tile_loadconfig(how);
}

// A part of the windows of a piece: `width` values, of the next row `row` values further.
struct Stretch {
    const uint16_t *first;
    int64_t row, width;
};

// How far ahead of their use the weights are fetched, in pairs of tiles of one term: into the nearest cache, and into the
// next one. Floats likewise, in values.
static constexpr int LOW_NEAR = 4, LOW_FAR = 16;
static constexpr int64_t FLOATS_NEAR = DEEP * WIDE, FLOATS_FAR = 4 * DEEP * WIDE;

// Of how many terms a float is the exact sum; and where several blocks of rows share what floats are split in, the rows of
// a panel that are split at once (also in streamcodec/native_layout.py).
static constexpr int EXACT = 3;
static constexpr int64_t SPLIT_ROWS = 16 * DEEP, SPLIT_SIZE = EXACT * DEEP * WIDE;

// What a block of rows fetches: whether its own weights, which are in no near cache yet; and of those that come after,
// from `next` up to `end`, so many lines of a cache with each product. Several blocks of a panel fetch what comes next
// between them: memory takes its time while they compute.
struct Fetching {
    bool own;
    const uint8_t *next, *end;
    int64_t lines;
};

// The most stretches of a window.
static constexpr int STRETCHES = 64;

// Which term of a weight is multiplied with which of a value, by the number of terms: the largest product last, so that
// a sum loses as little as it can; and each weight's while it is in the tiles.
struct Pair {
    int weight, value;
};
static constexpr int PRODUCTS[] = {0, 1, 3, 6};
static constexpr Pair ORDER[][6] = {
    {}, {{0, 0}}, {{1, 0}, {0, 1}, {0, 0}}, {{2, 0}, {1, 0}, {1, 1}, {0, 1}, {0, 2}, {0, 0}}
};

// Part `part` of `parts` of DEEP rows of a panel in floats, [row, column], as they lie in three terms.
TILED static inline void split(const float *from, uint16_t *to, int part, int parts) {
    for (int i = DEEP * part / parts; i < DEEP * (part + 1) / parts; ++i) {
        const int64_t pair = i / 2, tile = i % 2, first = 2 * pair * WIDE + tile * TILE;
        V terms[EXACT];
        in_three(load(from + first), load(from + first + WIDE), terms);
        for (int t = 0; t < EXACT; ++t)
            store((float *)(to + (EXACT - 1 - t) * DEEP * WIDE + tile * DEEP * TILE + pair * DEEP), terms[t]);
    }
}

// Rows of a panel: in halves; or in floats, which are split into `room` while they are multiplied, side by side for blocks
// that come after, or each in the place of the one before the last.
struct Weights {
    const uint16_t *halves;
    const float *floats;
    uint16_t *room;
    bool side_by_side;
};

// Up to two tiles of rows times a panel: [LOW_ROWS, WIDE], rows `line` apart. Between them rows of a block made before are
// written: the vectors' arithmetic then costs nothing where tiles wait for weights, or for each other. So does that which
// splits the next weights. goes_on: whether sums are added to those that are there.
template <int TERMS, bool SPLITS>
TILED static void tiles(
    const Stretch *stretches, int64_t count, int64_t term, int64_t row, bool two, Fetching &fetching, Weights of,
    float *out, int64_t line, bool goes_on, Finishing &before
) {
    if (goes_on) {
        _tile_loadd(0, out, line * sizeof(float));
        _tile_loadd(1, out + TILE, line * sizeof(float));
        _tile_loadd(2, out + TILE * line, line * sizeof(float));
        _tile_loadd(3, out + TILE * line + TILE, line * sizeof(float));
    } else {
        _tile_zero(0);
        _tile_zero(1);
        _tile_zero(2);
        _tile_zero(3);
    }
    const uint16_t *weights = of.halves;
    const float *floats = of.floats;
    uint16_t *next = of.room;
    if constexpr (SPLITS) split(floats, next, 0, 1);
    for (const Stretch *end = stretches + count; stretches < end; ++stretches) {
        const uint16_t *rows = stretches->first + row * stretches->row, *low = rows + TILE * stretches->row;
        const int64_t step = stretches->row * sizeof(uint16_t);
        for (int64_t k = 0; k < stretches->width; k += DEEP) {
            before.go_on();
            if constexpr (SPLITS) {
                weights = next;
                next = of.side_by_side || next == of.room ? next + SPLIT_SIZE : of.room;
                if (k + DEEP < stretches->width || stretches + 1 < end) floats += DEEP * WIDE;
                __asm__ volatile("" : : : "memory");  // compilers do not see that tiles are read from there
            }
#pragma GCC unroll 6
            for (int i = 0; i < PRODUCTS[TERMS]; ++i) {
                const Pair pair = ORDER[TERMS][i], last = ORDER[TERMS][i ? i - 1 : 0];
                if (i == 0 || pair.weight != last.weight) {
                    if constexpr (!SPLITS)
                        for (const uint16_t *own = weights; fetching.own && own < weights + DEEP * WIDE; own += 32) {
                            __builtin_prefetch(own + LOW_NEAR / TERMS * DEEP * WIDE, 0, 3);
                            __builtin_prefetch(own + LOW_FAR / TERMS * DEEP * WIDE, 0, 2);
                        }
                    _tile_loadd(6, weights, 64);
                    _tile_loadd(7, weights + DEEP * TILE, 64);
                    weights += DEEP * WIDE;
                }
                const bool there = i > 0 && pair.value == last.value;
                if (!there) _tile_loadd(4, rows + pair.value * term + k, step);
                _tile_dpbf16ps(0, 4, 6);
                _tile_dpbf16ps(1, 4, 7);
                if (two) {
                    if (!there) _tile_loadd(5, low + pair.value * term + k, step);
                    _tile_dpbf16ps(2, 5, 6);
                    _tile_dpbf16ps(3, 5, 7);
                }
                if (fetching.next < fetching.end)
                    for (int64_t line = 0; line < fetching.lines; ++line, fetching.next += LINE)
                        __builtin_prefetch(fetching.next, 0, 2);
                if constexpr (SPLITS) {
                    split(floats, next, i, PRODUCTS[TERMS]);
                    constexpr int64_t each = (DEEP * WIDE / LANES + PRODUCTS[TERMS] - 1) / PRODUCTS[TERMS];
                    for (int64_t line = i * each; line < (i + 1) * each; ++line)
                        __builtin_prefetch(floats + FLOATS_NEAR + line * LANES, 0, 3);
                }
            }
        }
    }
    _tile_stored(0, out, line * sizeof(float));
    _tile_stored(1, out + TILE, line * sizeof(float));
    if (two) {
        _tile_stored(2, out + TILE * line, line * sizeof(float));
        _tile_stored(3, out + TILE * line + TILE, line * sizeof(float));
    }
}

// Where the first row of a row's window lies, from that of the first window on.
static int64_t source_place(const Source &source, Place at) {
    return at.stream * source.stream + at.row * source.stride * source.channels;
}

// How far apart the rows of a buffer lie in a thread's room: an odd number of lines of a cache. The rows of a tile would
// else share a few of its sets.
static int64_t pitch_of(const Source &source) { return source.channels | WIDE; }

// The windows of a piece, where they lie in the halves of the rows of their buffers; returns how many stretches.
static int stretches_of(const Operation &op, const Piece &piece, int64_t width, Stretch *to) {
    if (!op.source_count) {
        to[0] = {piece.halves, width, width};
        return 1;
    }
    int count = 0;
    const uint16_t *halves = piece.halves;
    for (int64_t s = 0; s < op.source_count; ++s) {
        const Source &source = op.sources[s];
        const int64_t pitch = source.halved ? source.channels : pitch_of(source);
        const int64_t together = source.dilation == 1 && pitch == source.channels ? source.taps : 1;
        const uint16_t *first = source.halved ? (const uint16_t *)source.first + source_place(source, piece.first) : halves;
        for (int64_t tap = 0; tap < source.taps; tap += together)
            to[count++] = {first + tap * source.dilation * pitch, source.stride * pitch, together * source.channels};
        if (!source.halved) halves += source_rows(source, piece.rows) * pitch;
    }
    return count;
}

// Make the halves of a piece; returns where those of the next one begin.
template <int TERMS>
static uint16_t *halve_piece(const Operation &op, const Piece &piece, int64_t width, uint16_t *to) {
    if (!op.source_count) {
        Place at = piece.first;
        for (int64_t i = 0; i < piece.rows; ++i, at = after(at, op.rows), to += width)
            halve_window<TERMS>(op, at, to, width);
        return to;
    }
    for (int64_t s = 0; s < op.source_count; ++s) {
        const Source &source = op.sources[s];
        if (source.halved) continue;
        const float *row = source.first + source_place(source, piece.first);
        for (int64_t i = source_rows(source, piece.rows); i > 0; --i, row += source.channels, to += pitch_of(source))
            halve<TERMS>(row, to, op.halves_term, source.channels);
    }
    return to;
}

// Columns of the result from `column` on, in whole panels, of up to two tiles of rows from row `row` of a piece on: all
// are made before the first is written, so that rows are written from end to end.
template <int TERMS, int PANELS>
TILED static void low_block(
    const Operation &op, const Piece &piece, const Stretch *stretches, int count, int64_t width, int64_t row, int64_t column,
    Fetching &fetching, Finishing &before, Finishing &made
) {
    const int64_t left = piece.rows - row, here = left < LOW_ROWS ? left : LOW_ROWS;
    const int64_t end = column + PANELS * WIDE < op.columns ? column + PANELS * WIDE : op.columns;
    before.over((end - column + WIDE - 1) / WIDE * (width / DEEP));
    for (int64_t first = column; first < end; first += WIDE) {
        const Weights weights = {op.low_weights + first * width * TERMS, nullptr, nullptr, false};
        float *sums = made.sums + first - column;
        tiles<TERMS, false>(
            stretches, count, op.halves_term, row, here > TILE, fetching, weights, sums, PANELS * WIDE, false, before
        );
    }
    before.finish();
    made.begin(place_of(piece.first.stream * op.rows + piece.first.row + row, op.rows), here, column, end, PANELS * WIDE);
}

// Some columns of a piece. fetching: as the first of its blocks has it; moved on.
template <int TERMS, int PANELS>
static void low_columns(
    const Operation &op, const Piece &piece, int64_t width, int64_t column, Fetching &fetching, Finishing (&two)[2]
) {
    Stretch stretches[STRETCHES];
    const int count = stretches_of(op, piece, width, stretches);
    for (int64_t row = 0; row < piece.rows; row += LOW_ROWS, fetching.own = false) {
        const int last = two[1].left > 0;
        low_block<TERMS, PANELS>(op, piece, stretches, count, width, row, column, fetching, two[last], two[1 - last]);
    }
}

// What of the windows is in the `most` values from value `first` on; returns how many stretches.
static int part_of(const Stretch *all, int count, int64_t first, int64_t most, Stretch *to) {
    int made = 0;
    for (const Stretch *end = all + count; all < end && most > 0; first -= all++->width) {
        if (first >= all->width) continue;
        const int64_t skipped = first > 0 ? first : 0, left = all->width - skipped, here = left < most ? left : most;
        to[made++] = {all->first + skipped, all->row, here};
        most -= here;
    }
    return made;
}

// How many lines are fetched with each of so many products, where `blocks` blocks fetch `bytes` between them.
static int64_t lines_of(int64_t bytes, int64_t products, int64_t blocks) {
    return (bytes / LINE + products * blocks - 1) / (products * blocks);
}

// A panel in floats times the rows of a piece. Several blocks of rows share what is split, part of the panel by part, so
// that a near cache holds it; their sums are kept from part to part.
static void split_columns(
    const Operation &op, const Piece &piece, int64_t width, int64_t column, uint16_t *room, Finishing (&two)[2]
) {
    Stretch all[STRETCHES], part[STRETCHES];
    const int count = stretches_of(op, piece, width, all);
    const int64_t end = column + WIDE < op.columns ? column + WIDE : op.columns, most = SIDE_BY_SIDE * LOW_ROWS;
    for (int64_t first = 0; first < piece.rows; first += most) {
        const int64_t rows = piece.rows - first < most ? piece.rows - first : most;
        const int64_t blocks = (rows + LOW_ROWS - 1) / LOW_ROWS, height = blocks > 1 ? SPLIT_ROWS : width;
        const int64_t ahead = blocks > 1 ? SPLIT_ROWS * WIDE : FLOATS_FAR;
        const int64_t lines = lines_of(DEEP * WIDE * sizeof(float), PRODUCTS[EXACT], blocks);
        const int last = two[1].left > 0;
        Finishing &before = two[last], &made = two[1 - last];
        before.over(blocks * (width / DEEP));
        for (int64_t done = 0; done < width; done += height) {
            const int parts = part_of(all, count, done, height, part);
            const float *floats = op.weights + column * width + done * WIDE;
            const uint8_t *next = (const uint8_t *)(floats + ahead);
            Fetching fetching = {false, next, next + height * WIDE * sizeof(float), lines};
            for (int64_t row = 0; row < rows; row += LOW_ROWS) {
                const auto make = row == 0 ? tiles<EXACT, true> : tiles<EXACT, false>;
                make(
                    part, parts, op.halves_term, first + row, rows - row > TILE, fetching,
                    {room, floats, room, blocks > 1}, made.sums + row * WIDE, WIDE, done > 0, before
                );
            }
        }
        before.finish();
        const int64_t place = piece.first.stream * op.rows + piece.first.row + first;
        made.begin(place_of(place, op.rows), rows, column, end, WIDE);
    }
}

// Make the halves of the rows of the result from `next` on, of at most `rows`, that are multiplied at once.
template <int TERMS>
static void fill_room(const Operation &op, Place next, int64_t rows, int64_t width, Room &room) {
    uint16_t *halves = room.halves;
    room.count = 0, room.rows = 0, room.first = next.stream * op.rows + next.row;
    while (rows > 0 && room.count < PIECES) {
        const int64_t left = op.rows - next.row, here = op.source_count && left < rows ? left : rows;
        Piece &piece = room.pieces[room.count++] = {next, here, halves};
        halves = halve_piece<TERMS>(op, piece, width, halves);
        room.rows += here;
        rows -= here;
        next = {next.stream + 1, 0};
    }
}

// What the blocks of a room fetch that are multiplied with a panel, or with all: what comes after it, in as many bytes as
// they read. A single block fetches its own alone. first: row of the room, of `rows` in all.
template <int TERMS>
static Fetching fetching_of(
    const Operation &op, int64_t width, int64_t panel, int64_t first, int64_t rows, const Room &room
) {
    if (op.weights) return {};  // see split_columns
    const bool whole = side_by_side(op);
    int64_t blocks = whole ? (rows + LOW_ROWS - 1) / LOW_ROWS : 0;
    for (int p = 0; p < room.count && !whole; ++p) blocks += (room.pieces[p].rows + LOW_ROWS - 1) / LOW_ROWS;
    const int64_t lines = blocks > 1 ? lines_of(TERMS * DEEP * WIDE * sizeof(uint16_t), PRODUCTS[TERMS], blocks) : 0;
    const int64_t panels = whole ? low_panel_count(op) : 1, done = whole ? first / LOW_ROWS : 0;
    const int64_t size = panels * width * WIDE * TERMS * sizeof(uint16_t);
    const uint8_t *next = (const uint8_t *)(op.low_weights + (panel + panels) * width * WIDE * TERMS);
    return {true, next + done * panels * (width / DEEP) * PRODUCTS[TERMS] * lines * LINE, next + size, lines};
}

// Some of the panels, with the rows of the result from `first` up to `end`, of `all`.
template <int TERMS>
TILED static void low_product(
    const Operation &op, int64_t first, int64_t end, int64_t all, int64_t from, int64_t to, Room &room
) {
    const int64_t width = (window_width(op) + DEEP - 1) / DEEP * DEEP, step = side_by_side(op) ? SIDE_BY_SIDE : 1;
    alignas(64) float sums[2][LOW_ROWS * SIDE_BY_SIDE * WIDE];
    Finishing two[2] = {{op, sums[0]}, {op, sums[1]}};
    bool fresh = room.through != &op;
    room.through = &op;
    set_tiles();
    for (; first < end; first += room.rows, fresh = false) {
        const int64_t rows = end - first < op.halves_rows ? end - first : op.halves_rows;
        if (room.rows != rows || room.first != first) fill_room<TERMS>(op, place_of(first, op.rows), rows, width, room);
        for (int64_t panel = from; panel < to; panel += step) {
            Fetching fetching = fetching_of<TERMS>(op, width, panel, first, all, room);
            fetching.own = step == 1 || fresh;
            for (int p = 0; p < room.count; ++p) {
                const Piece &piece = room.pieces[p];
                if (op.weights)
                    split_columns(op, piece, width, panel * WIDE, room.halves + EXACT * op.halves_term, two);
                else if (step > 1) low_columns<TERMS, SIDE_BY_SIDE>(op, piece, width, panel * WIDE, fetching, two);
                else low_columns<TERMS, 1>(op, piece, width, panel * WIDE, fetching, two);
            }
        }
    }
    two[0].finish();
    two[1].finish();
    _tile_release();
}
#else
template <int TERMS>
static void low_product(const Operation &, int64_t, int64_t, int64_t, int64_t, int64_t, Room &) {}
#endif
