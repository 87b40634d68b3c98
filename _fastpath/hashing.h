/* The hashes that turn the names of titles, services and viewers into numbers. A change moves every title in every cache
 * of a fleet that fills on demand, and makes every holdings file unreadable. */
#ifndef STEERING_HASHING_H
#define STEERING_HASHING_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

/* Return x with every bit mixed into all others (the finalizer of splitmix64: Steele, Lea and Flood, OOPSLA 2014). */
static inline uint64_t mix(uint64_t x)
{
    x = (x ^ x >> 30) * 0xBF58476D1CE4E5B9u;
    x = (x ^ x >> 27) * 0x94D049BB133111EBu;
    return x ^ x >> 31;
}

/* Return a 64-bit hash of bytes and their length, eight bytes at a time. */
static inline uint64_t hash_bytes(const char *data, ptrdiff_t length)
{
    uint64_t state = (uint64_t)length * 0x9E3779B97F4A7C15u;
    while (length > 0) {
        uint64_t word = 0;
        memcpy(&word, data, length < 8 ? (size_t)length : 8);
        state = mix(state ^ word);
        data += 8;
        length -= 8;
    }
    return state;
}

/* Return the key of a service's title in holdings, popularity and misses. The salt is the hash of the service's id.
 * The key is never 0, which marks an empty cell. */
static inline uint64_t content_key(uint64_t key, uint64_t salt)
{
    uint64_t mixed = mix(key ^ salt);
    return mixed ? mixed : 1;
}

#endif
