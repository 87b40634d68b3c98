/* The lookups of lpm.pyx: plain C over position-independent arrays.
 *
 * Each lookup exists twice from one body: with the instructions of newer x86 (POPCNT; AVX2 for IPv6), and portable.
 * `choose_kernels` picks once, at import, by asking the processor; no build needs -march.
 */
#ifndef STEERING_KERNELS_H
#define STEERING_KERNELS_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "address.h"

#if defined(__x86_64__) && defined(__GNUC__)
#define STEERING_X86 1
#include <immintrin.h>
#endif

#define BATCH 16
#define MAX_LEVELS 10

#define TABLE_MAGIC 0x3142415458465250u /* "PRFXTAB1", little-endian */
#define FORMAT 2
#define PADDING INT64_MAX /* the key behind the last of a node */

/* The start of a block: numbers, and the offsets of its parts in bytes. */
typedef struct {
    uint64_t magic, format, length, zones, wide;
    uint64_t directory, records, record_words, deep, deep_lines;
    uint64_t levels, intervals, leaves, fine, fine_blocks, fine_keys, fine_leaves, fine_count;
    uint64_t level[MAX_LEVELS], nodes[MAX_LEVELS];
} table_header;

typedef struct {
    const uint32_t *directory; /* 2^18 entries, by the top 18 bits: where the record begins, in 8-byte units */
    const uint64_t *records;   /* bitmap of run starts over 64 /24 slots, then one leaf per run */
    const uint64_t *deep;      /* by line of 8: bitmap of run starts over a /24's 256 addresses, then one leaf per run */
    uint32_t zones;            /* a leaf from here on names deep line leaf - zones */
    int wide;                  /* leaves are 4 bytes, else 2 */
} table_v4;

typedef struct {
    const int64_t *level[MAX_LEVELS]; /* nodes of 8 keys, root first; keys are biased to sort as signed */
    int levels;
    uint32_t intervals;
    const uint32_t *leaves; /* one per interval of the upper 64 bits */
    uint32_t zones;         /* a leaf from here on names fine block leaf - zones */
    const uint32_t *fine;   /* by block: its first interval of the lower 64 bits; one more at the end */
    const uint64_t *fine_keys;
    const uint32_t *fine_leaves;
} table_v6;

static inline uint32_t leaf_of(const uint64_t *leaves, uint64_t run, int wide)
{
    return wide ? ((const uint32_t *)leaves)[run] : ((const uint16_t *)leaves)[run];
}

static inline uint64_t popcount_portable(uint64_t x)
{
    x -= x >> 1 & 0x5555555555555555u;
    x = (x & 0x3333333333333333u) + (x >> 2 & 0x3333333333333333u);
    x = (x + (x >> 4)) & 0x0f0f0f0f0f0f0f0fu;
    return x * 0x0101010101010101u >> 56;
}

/* The upper 64 bits as a key that sorts as signed. The highest key pads nodes: the address of all ones is looked
 * up one below it, and the lookup gives it to the last interval. */
static inline int64_t biased(uint64_t high)
{
    return (int64_t)((high == UINT64_MAX ? high - 1 : high) ^ (uint64_t)1 << 63);
}

static inline uint32_t child_portable(const int64_t *node, int64_t key)
{
    uint32_t below = 0;
    for (int i = 0; i < 8; i++)
        below += node[i] <= key;
    return below;
}

static inline uint32_t fine_lookup(const table_v6 *table, uint32_t block, uint64_t low)
{
    uint32_t first = table->fine[block], last = table->fine[block + 1];
    while (last - first > 1) {
        uint32_t middle = first + (last - first) / 2;
        if (table->fine_keys[middle] <= low)
            first = middle;
        else
            last = middle;
    }
    return table->fine_leaves[first];
}

#define LOOKUP_V4(NAME, TARGET, POPCOUNT)                                                                             \
    TARGET static inline uint32_t NAME##_leaf(const table_v4 *table, const uint64_t *record, uint32_t address)        \
    {                                                                                                                 \
        uint64_t starts = record[0] & (~(uint64_t)0 >> (63 - (address >> 8 & 63)));                                   \
        uint64_t run = POPCOUNT(starts) - 1;                                                                          \
        uint32_t leaf = leaf_of(record + 1, run, table->wide);                                                        \
        if (__builtin_expect(leaf >= table->zones, 0)) {                                                              \
            const uint64_t *deep = table->deep + (size_t)(leaf - table->zones) * 8;                                   \
            unsigned word = address >> 6 & 3;                                                                         \
            run = POPCOUNT(deep[word] & (~(uint64_t)0 >> (63 - (address & 63)))) - 1;                                 \
            while (word)                                                                                              \
                run += POPCOUNT(deep[--word]);                                                                        \
            leaf = leaf_of(deep + 4, run, table->wide);                                                               \
        }                                                                                                             \
        return leaf;                                                                                                  \
    }                                                                                                                 \
    TARGET static uint32_t NAME(const table_v4 *table, uint32_t address)                                              \
    {                                                                                                                 \
        return NAME##_leaf(table, table->records + table->directory[address >> 14], address);                         \
    }                                                                                                                 \
    TARGET static void NAME##_many(const table_v4 *table, const unsigned char *packed, uint32_t *zones, size_t count) \
    {                                                                                                                 \
        uint32_t addresses[BATCH];                                                                                    \
        const uint64_t *records[BATCH];                                                                               \
        for (size_t done = 0; done < count; done += BATCH) {                                                          \
            size_t some = count - done < BATCH ? count - done : BATCH;                                                \
            for (size_t i = 0; i < some; i++) {                                                                       \
                addresses[i] = load_big_endian_32(packed + 4 * (done + i));                                           \
                records[i] = table->records + table->directory[addresses[i] >> 14];                                   \
                __builtin_prefetch(records[i]);                                                                       \
            }                                                                                                         \
            for (size_t i = 0; i < some; i++)                                                                         \
                zones[done + i] = NAME##_leaf(table, records[i], addresses[i]);                                       \
        }                                                                                                             \
    }

#define LOOKUP_V6(NAME, TARGET, CHILD)                                                                                \
    TARGET static inline uint32_t NAME##_leaf(const table_v6 *table, size_t place, uint64_t low)                      \
    {                                                                                                                 \
        uint32_t leaf = table->leaves[place - 1];                                                                     \
        return __builtin_expect(leaf >= table->zones, 0) ? fine_lookup(table, leaf - table->zones, low) : leaf;       \
    }                                                                                                                 \
    TARGET static uint32_t NAME(const table_v6 *table, uint64_t high, uint64_t low)                                   \
    {                                                                                                                 \
        int64_t key = biased(high);                                                                                   \
        size_t node = 0;                                                                                              \
        int last = table->levels - 1;                                                                                 \
        for (int level = 0; level < last; level++)                                                                    \
            node = node * 9 + CHILD(table->level[level] + node * 8, key);                                             \
        __builtin_prefetch(table->leaves + node * 8);                                                                 \
        size_t place = node * 8 + CHILD(table->level[last] + node * 8, key);                                          \
        return NAME##_leaf(table, high == UINT64_MAX ? table->intervals : place, low);                                \
    }                                                                                                                 \
    TARGET static void NAME##_many(const table_v6 *table, const unsigned char *packed, uint32_t *zones, size_t count) \
    {                                                                                                                 \
        int64_t keys[BATCH];                                                                                          \
        size_t nodes[BATCH];                                                                                          \
        int last = table->levels - 1;                                                                                 \
        for (size_t done = 0; done < count; done += BATCH) {                                                          \
            size_t some = count - done < BATCH ? count - done : BATCH;                                                \
            const unsigned char *batch = packed + 16 * done;                                                          \
            for (size_t i = 0; i < some; i++) {                                                                       \
                keys[i] = biased(load_big_endian_64(batch + 16 * i));                                                 \
                nodes[i] = 0;                                                                                         \
            }                                                                                                         \
            for (int level = 0; level < last; level++)                                                                \
                for (size_t i = 0; i < some; i++) {                                                                   \
                    nodes[i] = nodes[i] * 9 + CHILD(table->level[level] + nodes[i] * 8, keys[i]);                     \
                    __builtin_prefetch(table->level[level + 1] + nodes[i] * 8);                                       \
                }                                                                                                     \
            for (size_t i = 0; i < some; i++) {                                                                       \
                nodes[i] = nodes[i] * 8 + CHILD(table->level[last] + nodes[i] * 8, keys[i]);                          \
                if (load_big_endian_64(batch + 16 * i) == UINT64_MAX)                                                 \
                    nodes[i] = table->intervals;                                                                      \
                __builtin_prefetch(table->leaves + nodes[i] - 1);                                                     \
            }                                                                                                         \
            for (size_t i = 0; i < some; i++)                                                                         \
                zones[done + i] = NAME##_leaf(table, nodes[i], load_big_endian_64(batch + 16 * i + 8));               \
        }                                                                                                             \
    }

LOOKUP_V4(v4_portable, , popcount_portable)
LOOKUP_V6(v6_portable, , child_portable)

#ifdef STEERING_X86
__attribute__((target("avx2"))) static inline uint32_t child_avx2(const int64_t *node, int64_t key)
{
    __m256i wanted = _mm256_set1_epi64x(key);
    __m256i near = _mm256_cmpgt_epi64(_mm256_loadu_si256((const __m256i *)node), wanted);
    __m256i far = _mm256_cmpgt_epi64(_mm256_loadu_si256((const __m256i *)(node + 4)), wanted);
    unsigned above = (unsigned)_mm256_movemask_pd(_mm256_castsi256_pd(near));
    above |= (unsigned)_mm256_movemask_pd(_mm256_castsi256_pd(far)) << 4;
    return (uint32_t)__builtin_ctz(above | 0x100);
}

LOOKUP_V4(v4_popcnt, __attribute__((target("popcnt"))), (uint64_t)__builtin_popcountll)
LOOKUP_V6(v6_avx2, __attribute__((target("avx2"))), child_avx2)
#endif

typedef struct {
    uint32_t (*v4)(const table_v4 *, uint32_t);
    uint32_t (*v6)(const table_v6 *, uint64_t, uint64_t);
    void (*v4_many)(const table_v4 *, const unsigned char *, uint32_t *, size_t);
    void (*v6_many)(const table_v6 *, const unsigned char *, uint32_t *, size_t);
    const char *name;
} kernels;

/* Return the fastest lookups that this processor runs, or the portable ones. */
static inline kernels choose_kernels(int portable)
{
    kernels chosen = {v4_portable, v6_portable, v4_portable_many, v6_portable_many, "portable"};
#ifdef STEERING_X86
    __builtin_cpu_init();
    if (!portable && __builtin_cpu_supports("popcnt") && __builtin_cpu_supports("avx2")) {
        kernels modern = {v4_popcnt, v6_avx2, v4_popcnt_many, v6_avx2_many, "popcnt+avx2"};
        chosen = modern;
    }
#else
    (void)portable;
#endif
    return chosen;
}

#endif
