/* Loads and stores of memory that processes share. Each is one aligned access, so that no reader sees half a value. */
#ifndef STEERING_ATOMICS_H
#define STEERING_ATOMICS_H

#include <stdint.h>

/* A status word, which another process stores to: one aligned 32-bit access, never torn. */
static inline uint32_t load_word(const uint32_t *word)
{
    return __atomic_load_n(word, __ATOMIC_RELAXED);
}

static inline void store_word(uint32_t *word, uint32_t value)
{
    __atomic_store_n(word, value, __ATOMIC_RELAXED);
}

/* Aligned 64-bit numbers that one process stores to and others read: counts, and the keys of small shared tables. */
static inline uint64_t load_cell(const uint64_t *cell)
{
    return __atomic_load_n(cell, __ATOMIC_ACQUIRE);
}

static inline void store_cell(uint64_t *cell, uint64_t value)
{
    __atomic_store_n(cell, value, __ATOMIC_RELEASE);
}

static inline void add_cell(uint64_t *cell, uint64_t more)
{
    store_cell(cell, __atomic_load_n(cell, __ATOMIC_RELAXED) + more);
}

/* What lies beside a key is read before the key is looked at again, and written after it was taken away. */
static inline void fence_reads(void)
{
    __atomic_thread_fence(__ATOMIC_ACQUIRE);
}

static inline void fence_writes(void)
{
    __atomic_thread_fence(__ATOMIC_RELEASE);
}

_Static_assert(__atomic_always_lock_free(sizeof(uint64_t), 0), "cells must be lock-free to be shared between processes");
_Static_assert(__atomic_always_lock_free(sizeof(uint32_t), 0), "words must be lock-free to be shared between processes");

#endif
