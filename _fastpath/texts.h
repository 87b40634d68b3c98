/* Distinct pieces of a larger text, numbered in the order first seen. The pieces are not copied: the text outlives the
 * table. A piece has a tag, and counts as the same where tag and bytes are.
 *
 * Open addressing, kept at most half full. The seed keeps a file from choosing what collides. */
#ifndef STEERING_TEXTS_H
#define STEERING_TEXTS_H

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

typedef struct {
    const char *at;
    size_t length;
    uint64_t hash;
    uint32_t tag;
} text_piece;

typedef struct {
    text_piece *pieces; /* by number; room for half as many as there are slots */
    uint32_t *slots;    /* number + 1 of the piece kept there, 0 where empty */
    uint64_t mask;
    uint64_t seed;
    uint32_t count;
} text_table;

/* The seed multiplies, and the upper half of the product comes back: without the seed nobody can tell which words make
 * equal hashes. With a fixed factor, or the lower half alone, some do whatever the seed. */
static inline uint64_t text_mixed(uint64_t seed, uint64_t hash, uint64_t word)
{
    unsigned __int128 product = (unsigned __int128)(hash ^ word) * (seed | 1);
    return (uint64_t)product ^ (uint64_t)(product >> 64);
}

static inline uint64_t text_hash(uint64_t seed, uint32_t tag, const char *at, size_t length)
{
    uint64_t hash = text_mixed(seed, ~seed, (uint64_t)tag << 32 ^ length), word;
    for (; length >= 8; at += 8, length -= 8) {
        memcpy(&word, at, 8);
        hash = text_mixed(seed, hash, word);
    }
    word = 0;
    memcpy(&word, at, length);
    return text_mixed(seed, text_mixed(seed, hash, word), seed);
}

/* Give a table so many slots, a power of two, and put its pieces into them. Returns 0 where there is no memory. */
static inline int texts_resize(text_table *table, uint64_t slots)
{
    text_piece *pieces = realloc(table->pieces, slots / 2 * sizeof *pieces);
    if (pieces == NULL)
        return 0;
    table->pieces = pieces;
    uint32_t *found = calloc(slots, sizeof *found);
    if (found == NULL)
        return 0;
    free(table->slots);
    table->slots = found;
    table->mask = slots - 1;
    for (uint32_t number = 0; number < table->count; number++) {
        uint64_t slot = pieces[number].hash & table->mask;
        while (found[slot])
            slot = (slot + 1) & table->mask;
        found[slot] = number + 1;
    }
    return 1;
}

/* Make an empty table, of memory that is all zeros. Returns 0 where there is no memory; `texts_end` it either way. */
static inline int texts_begin(text_table *table, uint64_t seed)
{
    table->seed = seed;
    return texts_resize(table, 1 << 16);
}

static inline void texts_end(text_table *table)
{
    free(table->pieces);
    free(table->slots);
}

/* Return the number of a piece, or -1 where there is no memory to keep it. */
static inline int64_t texts_number(text_table *table, uint32_t tag, const char *at, size_t length)
{
    uint64_t hash = text_hash(table->seed, tag, at, length), slot = hash & table->mask;
    for (; table->slots[slot]; slot = (slot + 1) & table->mask) {
        const text_piece *other = table->pieces + table->slots[slot] - 1;
        if (other->hash == hash && other->tag == tag && other->length == length &&
            memcmp(other->at, at, length) == 0)
            return table->slots[slot] - 1;
    }
    if (table->count == (table->mask + 1) / 2) {
        if (!texts_resize(table, 2 * (table->mask + 1)))
            return -1;
        slot = hash & table->mask;
        while (table->slots[slot])
            slot = (slot + 1) & table->mask;
    }
    table->pieces[table->count] = (text_piece){at, length, hash, tag};
    table->slots[slot] = ++table->count;
    return table->count - 1;
}

#endif
