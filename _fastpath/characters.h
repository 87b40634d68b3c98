/* Classes of bytes that readers of requests ask for, a bit each; one table, so that a test is one load. */
#ifndef STEERING_CHARACTERS_H
#define STEERING_CHARACTERS_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

enum {
    IN_NAME = 1,        /* a header's name: a token, RFC 9110 5.6.2 */
    IN_VALUE = 2,       /* a header's value: RFC 9110 5.5, without DEL */
    IN_QUERY = 4,       /* a request target: RFC 3986 3.3 and 3.4 */
    IN_ID = 8,          /* the id of a pathway: letters, digits, ".", "_", "-" */
    SPACE = 16,         /* ASCII white space, as Python's str.strip has it */
    LATIN_1_SPACE = 32, /* the same of Latin-1, in which headers are read */
};

static const uint8_t CHARACTERS[256] = {
    0, 0, 0, 0, 0, 0, 0, 0, 0, 50, 48, 48, 48, 48, 0, 0,
    0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 48, 48, 48, 48,
    50, 7, 2, 3, 7, 7, 7, 7, 6, 6, 7, 7, 6, 15, 15, 6,
    15, 15, 15, 15, 15, 15, 15, 15, 15, 15, 6, 6, 2, 6, 2, 6,
    6, 15, 15, 15, 15, 15, 15, 15, 15, 15, 15, 15, 15, 15, 15, 15,
    15, 15, 15, 15, 15, 15, 15, 15, 15, 15, 15, 2, 2, 2, 3, 15,
    3, 15, 15, 15, 15, 15, 15, 15, 15, 15, 15, 15, 15, 15, 15, 15,
    15, 15, 15, 15, 15, 15, 15, 15, 15, 15, 15, 2, 3, 2, 7, 0,
    2, 2, 2, 2, 2, 34, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2,
    2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2,
    34, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2,
    2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2,
    2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2,
    2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2,
    2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2,
    2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2,
};

/* Whether eight bytes are all ASCII without "%" and "+", which a percent-encoded value may have for others. */
static inline int are_plain(const char *bytes)
{
    const uint64_t ones = 0x0101010101010101, tops = 0x8080808080808080;
    uint64_t word, percents, pluses;
    memcpy(&word, bytes, 8);
    percents = word ^ '%' * ones;
    pluses = word ^ '+' * ones;
    return !((word | ((percents - ones) & ~percents) | ((pluses - ones) & ~pluses)) & tops);
}

static inline int is_in(char character, int classes)
{
    return CHARACTERS[(uint8_t)character] & classes;
}

/* Tell whether a header's name or value is this one, in any case. */
static inline int is_name(const char *text, const char *lower, ptrdiff_t length)
{
    for (ptrdiff_t i = 0; i < length; i++)
        if ((text[i] >= 'A' && text[i] <= 'Z' ? text[i] | 0x20 : text[i]) != lower[i])
            return 0;
    return 1;
}

#endif
