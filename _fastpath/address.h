/* Text addresses to numbers, strictly: dotted quad without leading zeros, and RFC 4291 section 2.2 (all three
 * forms) without a zone id. Every function reads exactly `length` bytes and returns 1, or 0 for what is no address. */
#ifndef STEERING_ADDRESS_H
#define STEERING_ADDRESS_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

static inline int parse_v4(const char *text, size_t length, uint32_t *address)
{
    if (length < 7 || length > 15)
        return 0;
    const char *end = text + length;
    uint32_t value = 0;
    for (int part = 0; part < 4; part++) {
        unsigned digit = (unsigned)(unsigned char)*text - '0';
        if (digit > 9)
            return 0;
        unsigned octet = digit;
        text++;
        if (text < end && (digit = (unsigned)(unsigned char)*text - '0') <= 9) {
            if (octet == 0)
                return 0;
            octet = octet * 10 + digit;
            text++;
            if (text < end && (digit = (unsigned)(unsigned char)*text - '0') <= 9) {
                octet = octet * 10 + digit;
                text++;
                if (octet > 255)
                    return 0;
            }
        }
        value = value << 8 | octet;
        if (part < 3) {
            if (end - text < 2 || *text != '.')
                return 0;
            text++;
        }
    }
    *address = value;
    return text == end;
}

static inline int hex_digit(char character)
{
    unsigned digit = (unsigned)(unsigned char)character - '0';
    if (digit <= 9)
        return (int)digit;
    unsigned letter = ((unsigned)(unsigned char)character | 0x20) - 'a';
    return letter <= 5 ? (int)letter + 10 : -1;
}

static inline int parse_v6(const char *text, size_t length, uint64_t *high, uint64_t *low)
{
    uint16_t groups[8];
    int count = 0, gap = -1;
    size_t at = 0;
    if (length < 2 || length > 45)
        return 0;
    if (text[0] == ':') {
        if (text[1] != ':')
            return 0;
        gap = 0;
        at = 2;
    }
    while (at < length) {
        size_t start = at;
        unsigned value = 0;
        int digit;
        while (at < length && (digit = hex_digit(text[at])) >= 0) {
            if (at - start == 4)
                return 0;
            value = value << 4 | (unsigned)digit;
            at++;
        }
        if (at < length && text[at] == '.') {
            uint32_t tail;
            if (count > 6 || !parse_v4(text + start, length - start, &tail))
                return 0;
            groups[count++] = (uint16_t)(tail >> 16);
            groups[count++] = (uint16_t)tail;
            break;
        }
        if (at == start || count == 8)
            return 0;
        groups[count++] = (uint16_t)value;
        if (at == length)
            break;
        if (text[at] != ':' || at + 1 == length)
            return 0;
        at++;
        if (text[at] == ':') {
            if (gap >= 0)
                return 0;
            gap = count;
            at++;
        }
    }
    if (gap < 0 ? count != 8 : count == 8)
        return 0;
    /* Groups before the gap fill from the top, groups after it end at the bottom. */
    unsigned __int128 value = 0;
    int head = gap < 0 ? 8 : gap;
    for (int i = 0; i < head; i++)
        value |= (unsigned __int128)groups[i] << (112 - 16 * i);
    for (int i = head; i < count; i++)
        value |= (unsigned __int128)groups[i] << (16 * (count - 1 - i));
    *high = (uint64_t)(value >> 64);
    *low = (uint64_t)value;
    return 1;
}

static inline uint64_t load_big_endian_64(const unsigned char *bytes)
{
    uint64_t value;
    memcpy(&value, bytes, 8);
#if __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
    value = __builtin_bswap64(value);
#endif
    return value;
}

static inline uint32_t load_big_endian_32(const unsigned char *bytes)
{
    uint32_t value;
    memcpy(&value, bytes, 4);
#if __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
    value = __builtin_bswap32(value);
#endif
    return value;
}

#endif
